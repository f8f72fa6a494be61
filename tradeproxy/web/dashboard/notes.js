// The lines of the feed about an account's stream and journal, from its proxy_status messages.

import { plural } from "./text.js";

const OUTCOMES = { recovered: "good", lost: "bad" };

export class Notes {
  /** `note(account, text, tone, at)` adds a line; without `at` its time is now. */
  constructor(note) {
    this.note = note;
    this.since = {}; // for "upstream" and "journal" of each account: since when the state is known
  }

  /** Add a line for the `data` of a message if it matters for how to read the events. */
  take(account, data) {
    if (data.event === "upstream" || data.event === "journal") this.#change(account, data);
    else if (data.event === "gap" && data.outcome !== "pending") {
      const reason = data.reason ? `: ${data.reason}` : "";
      const text = `gap ${data.outcome}, ${plural(data.events, "event")} found${reason}`;
      this.note(account, text, OUTCOMES[data.outcome] ?? "warn");
    } else if (data.event === "replay" && data.state === "impossible") {
      this.note(account, `events are missing at this place: ${data.reason}`, "bad");
    }
  }

  // `since` is the time of the first message of a state. A later one has only another reason.
  #change(account, data) {
    const key = `${data.event} ${account}`;
    const isNew = this.since[key] !== data.since;
    this.since[key] = data.since;
    this.note(account, ...describe(data), isNew ? data.since : undefined);
  }
}

/** Return the text and the tone for a state of Alpaca's stream or the journal. */
function describe({ event, state, reason }) {
  if (event === "upstream") {
    if (state === "up") return ["Alpaca's stream is up", "good"];
    return [`Alpaca's stream is down: ${reason}`, "bad"];
  }
  if (state === "durable") {
    return ["events are on the disk again before they are delivered", "good"];
  }
  return [`events are delivered without being on the disk: ${reason}`, "bad"];
}
