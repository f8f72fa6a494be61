// The page: it polls /status.json and follows the stream of every account.

import { Accounts } from "./accounts.js";
import { Clients } from "./clients.js";
import { read } from "./event.js";
import { Feed } from "./feed.js";
import { Stream } from "./stream.js";
import { plural, say } from "./text.js";

const INTERVAL = 2000;
const PATIENCE = 5000;
const TOKEN = "tradeproxy token";

const at = (id) => document.getElementById(id);
const verdict = at("verdict");
const link = at("link");

let ahead = 0; // milliseconds that the proxy's clock is ahead of this machine's
const clock = () => Date.now() + ahead;

const accounts = new Accounts(at("accounts"), at("account-card"));
const clients = new Clients(at("clients-list"), at("clients-summary"));
const feed = new Feed(
  { rows: at("rows"), nothing: at("nothing"), filters: at("filters"), pause: at("pause") },
  clock,
);
const streams = new Map();
const links = new Map();

let token = sessionStorage.getItem(TOKEN) ?? "";
let next; // the timer of the next poll
let looking = false;

async function look() {
  if (looking || at("ask").open) return;
  looking = true;
  const { status, document } = await fetchStatus();
  looking = false;
  if (document) show(document);
  else if (status === 401) ask();
  else if (status) say(verdict, `the proxy answers with HTTP ${status}`);
  // A phone that slept may have lost its connections without a close event. If the proxy does not
  // answer, assume so and reconnect.
  else for (const stream of streams.values()) stream.renew();
  plan();
}

async function fetchStatus() {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const signal = AbortSignal.timeout(PATIENCE);
  try {
    const answer = await fetch("status.json", {
      headers,
      signal,
      cache: "no-store",
      credentials: "omit",
    });
    return { status: answer.status, document: answer.ok ? await answer.json() : null };
  } catch {
    return {};
  }
}

/**
 * Plan the next poll. There is none while all streams are disconnected or the page is hidden; the
 * next connection, or the page becoming visible, polls again.
 */
function plan() {
  clearTimeout(next);
  const isCutOff = links.size > 0 && ![...links.values()].includes("live");
  if (!document.hidden && !isCutOff) next = setTimeout(look, INTERVAL);
}

function show(status) {
  ahead = Date.parse(status.now) - Date.now();
  const names = Object.keys(status.accounts);
  for (const [name, stream] of streams) {
    if (names.includes(name)) continue;
    stream.end();
    streams.delete(name);
    links.delete(name);
  }
  accounts.show(status.accounts, clock);
  clients.show(status.clients, clock(), names.length > 1);
  feed.offerAccounts(names);
  for (const name of names) if (!streams.has(name)) follow(name, status.accounts[name].path);
  conclude(status.accounts);
}

function conclude(states) {
  const troubled = Object.entries(states).filter(([, state]) => !state.ready);
  const down = troubled.some(([, state]) => state.upstream.state === "down");
  const [first] = troubled;
  verdict.dataset.tone = first ? (down ? "bad" : "warn") : "good";
  if (!first) say(verdict, "all is well");
  else if (troubled.length === 1) say(verdict, `${first[0]}: ${first[1].reason}`);
  else say(verdict, `${plural(troubled.length, "account")} in trouble`);
  document.title = first ? `▲ ${first[0]} – tradeproxy` : "tradeproxy";
}

function follow(name, path) {
  const told = {
    event: (message, text) => feed.add(read(name, message, text)),
    status: (data) => {
      tell(name, data);
      look();
    },
    state: (state, wait) => {
      links.set(name, state);
      showLink(wait);
    },
    refused: ask,
  };
  streams.set(name, new Stream(path, token, told));
}

/** Add a proxy_status message to the feed if it matters for how to read the events. */
function tell(name, data) {
  if (data.event === "upstream") {
    if (data.state === "up") feed.note(name, "Alpaca's stream is up", "good");
    else feed.note(name, `Alpaca's stream is down: ${data.reason}`, "bad");
  } else if (data.event === "gap" && data.outcome !== "pending") {
    const tone = { recovered: "good", lost: "bad" }[data.outcome] ?? "warn";
    const reason = data.reason ? `: ${data.reason}` : "";
    feed.note(name, `gap ${data.outcome}, ${plural(data.events, "event")} found${reason}`, tone);
  } else if (data.event === "journal") {
    if (data.state === "durable") {
      feed.note(name, "events are on the disk again before they are delivered", "good");
    } else feed.note(name, `events are delivered without being on the disk: ${data.reason}`, "bad");
  } else if (data.event === "replay" && data.state === "impossible") {
    feed.note(name, `events are missing at this place: ${data.reason}`, "bad");
  }
}

function showLink(wait) {
  const states = [...links.values()];
  const live = states.every((state) => state === "live");
  link.dataset.tone = live ? "good" : "warn";
  if (live) say(link, "connected");
  else if (states.includes("waiting")) {
    say(link, `not connected; next attempt in ${Math.ceil(wait / 1000)} s`);
  } else say(link, "connecting…");
  document.body.classList.toggle("stale", !live);
  if (live) plan();
}

/** Drop all streams and ask for a token; the page starts over with it. */
function ask() {
  for (const stream of streams.values()) stream.end();
  streams.clear();
  links.clear();
  if (token) say(at("ask-reason"), "That token was refused; another one?");
  sessionStorage.removeItem(TOKEN);
  token = "";
  say(verdict, "");
  say(link, "");
  if (!at("ask").open) at("ask").showModal();
}

at("ask").addEventListener("cancel", (event) => event.preventDefault());
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  at("token").value = "";
  sessionStorage.setItem(TOKEN, token);
  at("ask").close();
  look();
});

function wake() {
  if (document.hidden) return;
  for (const stream of streams.values()) stream.hurry();
  look();
}

document.addEventListener("visibilitychange", wake);
addEventListener("online", wake);
setInterval(() => accounts.tick(), 1000);
look();
