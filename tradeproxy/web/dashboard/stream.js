// One account's stream: it reconnects by itself and resumes after the last event that it received.

import { backoff } from "./contact.js";
import { parse } from "./json.js";

const FIRST_LOOK = 300; // events, before the first live one
const REFUSED = 4001; // docs/protocol.md

export class Stream {
  /**
   * Calls `told.heard()` for every message, `told.event(message, text)`, `told.status(data)`,
   * `told.state(state, wait)` and `told.refused()`. The state is "connecting", "live", "waiting"
   * for the next attempt in `wait` milliseconds, or "resting" until `hurry()`.
   */
  constructor(path, token, told) {
    this.path = path;
    this.token = token;
    this.told = told;
    this.cursor = null;
    this.failures = 0;
    this.#connect();
  }

  /** Close the stream; it does not reconnect. */
  end() {
    this.ended = true;
    clearTimeout(this.timer);
    this.socket?.close();
  }

  /** Reconnect at once if there is no connection. */
  hurry() {
    if (this.socket || this.ended) return;
    clearTimeout(this.timer);
    this.#connect();
  }

  /** Drop the connection, which may be dead without a close event, until `hurry()`. */
  rest() {
    if (this.ended) return;
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.failures = 0;
    this.told.state("resting", 0);
  }

  #connect() {
    const url = new URL(this.path, document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("proxy_status", "1");
    url.searchParams.set("dashboard", "1"); // not counted as a client
    if (this.cursor) url.searchParams.set("since_id", this.cursor);
    else url.searchParams.set("replay", String(FIRST_LOOK));
    this.told.state("connecting", 0);
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.onopen = () => {
      const secret = this.token || "none";
      socket.send(JSON.stringify({ action: "auth", key: "dashboard", secret }));
    };
    socket.onmessage = ({ data }) => socket === this.socket && this.#take(data);
    socket.onclose = ({ code }) => this.#over(socket, code);
  }

  #take(text) {
    this.told.heard();
    const message = parse(text);
    if (message.stream === "trade_updates") {
      // An event without a cursor is not on the disk yet. It may arrive again; the feed recognizes
      // it by its event_id.
      if (message.cursor) this.cursor = message.cursor;
      this.told.event(message, text);
    } else if (message.stream === "proxy_status") {
      const { data } = message;
      if (data.cursor) this.cursor = data.cursor;
      // Not at `hello`: while the journal cannot be read, the proxy closes behind it, every time.
      if (data.event === "replay" && data.state !== "begun") {
        this.failures = 0;
        this.told.state("live", 0);
      }
      this.told.status(data);
    }
  }

  #over(socket, code) {
    if (socket !== this.socket || this.ended) return;
    this.socket = null;
    if (code === REFUSED) {
      this.ended = true;
      this.told.refused();
      return;
    }
    this.failures += 1;
    const wait = backoff(this.failures);
    this.timer = setTimeout(() => this.#connect(), wait);
    this.told.state("waiting", wait);
  }
}
