// One account's stream: it comes back by itself, and goes on behind the last event that it has seen.

const FIRST_LOOK = 300; // events, before the first live one
const REFUSED = 4001; // docs/protocol.md
const SHORTEST = 500;
const LONGEST = 8000;

export class Stream {
  /**
   * `told.event(message, text)`, `told.status(data)`, `told.state(state, wait)` and `told.refused()` are called;
   * the state is "connecting", "live", or "waiting" for so many milliseconds.
   */
  constructor(path, token, told) {
    this.path = path;
    this.token = token;
    this.told = told;
    this.cursor = null;
    this.delay = SHORTEST;
    this.#connect();
  }

  /** End it for good. */
  end() {
    this.ended = true;
    clearTimeout(this.timer);
    this.socket.close();
  }

  /** Try at once, if it is waiting for its next attempt. */
  hurry() {
    if (this.timer === undefined || this.ended) return;
    clearTimeout(this.timer);
    this.#connect();
  }

  /** Let go of a connection that may be dead without a word, and come back. */
  renew() {
    this.#over(this.socket);
  }

  #connect() {
    this.timer = undefined;
    const url = new URL(this.path, document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("proxy_status", "1");
    if (this.cursor) url.searchParams.set("since_id", this.cursor);
    else url.searchParams.set("replay", String(FIRST_LOOK));
    this.told.state("connecting", 0);
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.onopen = () => {
      socket.send(JSON.stringify({ action: "auth", key: "dashboard", secret: this.token || "none" }));
    };
    socket.onmessage = ({ data }) => socket === this.socket && this.#take(data);
    socket.onclose = ({ code }) => this.#over(socket, code);
  }

  #take(text) {
    const message = JSON.parse(text);
    if (message.stream === "trade_updates") {
      // One without a cursor is not on the disk yet; it may come again, and the feed knows it by its event_id.
      if (message.cursor) this.cursor = message.cursor;
      this.told.event(message, text);
    } else if (message.stream === "proxy_status") {
      const { data } = message;
      if (data.cursor) this.cursor = data.cursor;
      if (data.event === "hello") {
        this.delay = SHORTEST;
        this.told.state("live", 0);
      }
      this.told.status(data);
    }
  }

  #over(socket, code) {
    if (socket !== this.socket || this.timer !== undefined || this.ended) return;
    this.socket = null;
    socket.close();
    if (code === REFUSED) {
      this.ended = true;
      this.told.refused();
      return;
    }
    const wait = this.delay * (0.75 + Math.random() / 2);
    this.delay = Math.min(this.delay * 2, LONGEST);
    this.timer = setTimeout(() => this.#connect(), wait);
    this.told.state("waiting", wait);
  }
}
