// The lines of the feed about an account's stream and journal, from its proxy_status messages.

import { plural } from "./text.js";

const OUTCOMES = { recovered: "good", lost: "bad" };

export class Notes {
  /** `note(account, text, tone, at)` adds a line; without `at` its time is now. */
  constructor(note) {
    this.note = note;
    this.known = {}; // for "upstream" and "journal" of each account: the state that is known
  }

  /** Add a line for the `data` of a message if it matters for how to read the events. */
  take(account, data) {
    if (data.event === "upstream" || data.event === "journal") this.#change(account, data);
    else if (data.event === "hello") {
      this.#compare(account, { event: "upstream", ...data.upstream });
      this.#compare(account, { event: "journal", ...data.journal });
    } else if (data.event === "gap" && data.outcome !== "pending") {
      const reason = data.reason ? `: ${data.reason}` : "";
      const text = `gap ${data.outcome}, ${plural(data.events, "event")} found${reason}`;
      this.note(account, text, OUTCOMES[data.outcome] ?? "warn");
    } else if (data.event === "replay" && data.state === "impossible") {
      this.note(account, `events are missing at this place: ${data.reason}`, "bad");
    }
  }

  // `since` is the time of the first message of a state. A later one has only another reason.
  #change(account, data) {
    const known = this.#replace(account, data);
    this.note(account, ...describe(data), known?.since === data.since ? undefined : data.since);
  }

  // A `hello` has states that the page may know, or whose messages it missed.
  #compare(account, data) {
    const known = this.#replace(account, data);
    const isBad = data.state === "down" || data.state === "not durable";
    // Its reason may be another one than at the begin.
    if (isBad && known?.since !== data.since) {
      this.note(account, ...describe(data, "; latest reason: "), data.since);
    } else if (known && known.state !== data.state) {
      this.note(account, ...describe(data), data.since);
    }
  }

  #replace(account, data) {
    const key = `${data.event} ${account}`;
    const known = this.known[key];
    this.known[key] = data;
    return known;
  }
}

/** Return the text and the tone for a state of Alpaca's stream or the journal. */
function describe({ event, state, reason }, colon = ": ") {
  if (event === "upstream") {
    if (state === "up") return ["Alpaca's stream is up", "good"];
    return [`Alpaca's stream is down${colon}${reason}`, "bad"];
  }
  if (state === "durable") {
    return ["events are on the disk again before they are delivered", "good"];
  }
  return [`events are delivered without being on the disk${colon}${reason}`, "bad"];
}
