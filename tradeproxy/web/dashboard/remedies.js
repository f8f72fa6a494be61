// What to do about each reason that the proxy gives for trouble: the table "What is wrong" of
// docs/operations.md. "…" stands for any text, and "xx" for two digits.

export const REMEDIES = [
  {
    id: "starting",
    says: ["not connected yet", "connecting"],
    cause: "the proxy has just started, or this node has just begun to lead",
    remedy: "wait some seconds",
  },
  {
    id: "http-proxy-refuses",
    says: ["cannot connect: the HTTP proxy …: it answers …"],
    cause:
      "the HTTP proxy on the way to Alpaca refuses the connection; after 401 or 407, its user " +
      "and password are missing or wrong",
    remedy:
      "correct HTTPS_PROXY, or ask the operator of the HTTP proxy to allow CONNECT to Alpaca's " +
      "hosts on port 443",
  },
  {
    id: "http-proxy",
    says: ["cannot connect: the HTTP proxy …: …"],
    cause: "it cannot be reached, does not answer in time, or is no HTTP proxy",
    remedy: "check the address in HTTPS_PROXY, and that the HTTP proxy runs",
  },
  {
    id: "network",
    says: ["cannot connect: …", "no answer to … in time", "HTTP 5xx at the handshake"],
    cause: "Alpaca or the network to it is down",
    remedy:
      "nothing; see Alpaca's status page. The log, with several nodes the leader's, has the time " +
      "of the next attempt",
  },
  {
    id: "stream",
    says: [
      "connection lost",
      "no pong in time",
      "closed by Alpaca with code …",
      "Alpaca answers with another account than before",
    ],
    cause: "the stream ended a moment ago; the last, as its keys were replaced by another account's",
    remedy: "nothing; if it repeats, check this machine's network",
  },
  {
    id: "keys",
    says: [
      "login refused: ALPACA_… is not accepted",
      "HTTP 401 at the handshake",
      "HTTP 403 at the handshake",
    ],
    cause: "wrong or regenerated keys, or paper keys at the live URL",
    remedy:
      "set both keys of the account. The proxy retries after one to two minutes, and reads .env " +
      "and the key files again; a reload, with several nodes the leader's, retries at once. Keys " +
      "in the environment need a restart",
  },
  {
    id: "login",
    says: ["login refused for an unknown reason"],
    cause: "Alpaca's reply has another message; the log quotes it",
    remedy: "read the line Alpaca's reply to the login. The proxy waits as for another connection",
  },
  {
    id: "connection",
    says: [
      "HTTP 429 at the handshake: another connection holds this account's stream",
      "connection limit: …",
    ],
    cause: "another connection uses this account",
    remedy: "stop the other program, or connect it to the proxy",
  },
  {
    id: "tls",
    says: [
      "TLS failed: …",
      "the server's certificate is for another name",
      "the server's certificate has no valid subjectAltName",
    ],
    cause: "something between here and Alpaca, or this machine's trust store or clock",
    remedy: "set SSL_CERT_FILE for a company's own authority; correct the clock",
  },
  {
    id: "server",
    says: [
      "no WebSocket handshake",
      "HTTP … at the handshake",
      "the answer to the handshake is too long",
      "Alpaca broke the WebSocket protocol",
      "a message over the limit of its bytes or fragments",
      "Alpaca does not list trade_updates among our streams",
    ],
    cause: "the server is not Alpaca: a captive portal, a wrong ALPACA_URL",
    remedy: "check the URL and the network",
  },
  {
    id: "disk",
    says: ["the journal is not durable: disk full: …"],
    cause: "the disk with the file that is named is full",
    remedy: "free space there at once",
  },
  {
    id: "inodes",
    says: ["the journal is not durable: disk full, no inode is free: …"],
    cause: "the disk has room, but not for another file",
    remedy: "remove files there",
  },
  {
    id: "journal",
    says: ["the journal is not durable: …: another tradeproxy uses it"],
    cause: "the lock file was removed under the running proxy, and another proxy took the journal",
    remedy: "stop the other one; this one then begins a new journal",
  },
  {
    id: "redis",
    says: [
      "the journal is not durable: Redis is away: …",
      "Redis is away: …",
      "Redis could not be reached in time to renew the lease",
      "the journal is not durable: Redis has not been reached yet",
    ],
    cause: "with several nodes: Redis or the network to it is down; its error follows",
    remedy: "repair Redis. Events wait until it is back",
  },
  {
    id: "reading",
    says: [
      "the journal is not durable: it has not all been read yet",
      "… no node has begun it yet",
    ],
    cause: "a node is starting",
    remedy: "wait some seconds",
  },
  {
    id: "missing",
    says: ["the journal is not durable: too many events are missing in it"],
    cause:
      "another program has removed over 100,000 entries from the log in Redis, or has changed " +
      "its numbers",
    remedy: "delete the key tradeproxy:{<account>}:stream: a new log begins",
  },
  {
    id: "storage",
    says: ["the journal is not durable: …"],
    cause:
      "what is named: a path that is no directory or cannot be written to, too many open " +
      "files, a faulty disk, or another program that locks the file",
    remedy:
      "see dmesg; stop the other program, such as a copying backup or an open sqlite3. The " +
      "proxy retries every second",
  },
  {
    id: "leader",
    says: ["no node holds the connection to Alpaca at the moment", "the lease was lost", "stopped"],
    cause: "a node stopped, and the next one has not taken over yet",
    remedy: "wait ten seconds; then find out why no node can lead",
  },
  {
    id: "gap",
    says: ["events may have been missed, and are not found yet"],
    cause: "the stream is back; the backfill is still running",
    remedy: "wait some minutes; then see the gap",
  },
  {
    id: "waiting",
    says: ["new events wait for older ones"],
    cause:
      "the proxy asks Alpaca for missed events; new ones wait at most PROXY_RECOVERY_DEADLINE " +
      "(5 s)",
    remedy: "nothing",
  },
  {
    id: "mute",
    says: [
      "the stream is mute: only the regular check finds events",
      "the stream was mute; it is opened again",
    ],
    cause: "Alpaca's stream answers pings and brings no events",
    remedy: "nothing; if it lasts, tell Alpaca",
  },
  {
    id: "trade-log",
    says: ["the trade log is not written: …"],
    cause: "the folder of PROXY_TRADE_LOG: a full disk, a missing volume, or wrong permissions",
    remedy: "repair what is named; nothing is lost while the journal has the events",
  },
  {
    id: "internal",
    says: ["an error of the proxy's own: see its log"],
    cause: "a bug; /healthz is 503 too if the proxy has stopped retrying",
    remedy: "restart it, and report the traceback",
  },
];

/** Return the first entry that fits a reason, or undefined. */
export function findRemedy(reason) {
  return REMEDIES.find(({ says }) => says.some((pattern) => fits(pattern, reason)));
}

function fits(pattern, reason) {
  const escaped = pattern.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const source = escaped.replaceAll("…", ".*").replaceAll("xx", "\\d\\d");
  return new RegExp(`^${source}$`, "s").test(reason);
}
