// The trouble of an account: the reason, what to do about it, and the next attempt.

import { findRemedy } from "./remedies.js";
import { duration, moment, say } from "./text.js";

export class Trouble {
  /** `at` has the elements trouble, reason, remedy, attempt and help. */
  constructor(at) {
    this.at = at;
    this.page = at.help.getAttribute("href");
  }

  /** Show the trouble of an account of /status.json, or nothing if it is ready. */
  show(state, now) {
    const { at } = this;
    this.state = state;
    at.trouble.hidden = state.ready;
    if (state.ready) return;
    this.remedy = findRemedy(state.reason);
    // An outage has its age in the card's head. Of other trouble, only the disk's begin is known.
    const isOfDisk = state.upstream.state === "up" && !state.journal.durable;
    const since = isOfDisk ? ` · since ${moment(Date.parse(state.since), now, false)}` : "";
    this.reason = state.reason + since;
    say(at.reason, this.reason);
    say(at.remedy, `What to do: ${this.remedy?.remedy ?? "see the log of the proxy"}.`);
    at.help.setAttribute("href", this.remedy ? `${this.page}#${this.remedy.id}` : this.page);
  }

  /** Show the trouble as one of the past: its remedy may not be the right one any more. */
  freeze() {
    if (this.state.ready) return;
    say(this.at.reason, `was: ${this.reason}`);
    say(this.at.remedy, "");
    say(this.at.attempt, "");
  }

  /** Update the time to the next attempt. */
  tick(now) {
    const { upstream, role } = this.state;
    const isTrying = upstream.state === "down" && role?.part !== "follower";
    const { next_attempt: next } = upstream;
    if (!isTrying || this.remedy?.id === "internal") say(this.at.attempt, "");
    else if (!next || Date.parse(next) <= now) say(this.at.attempt, "Connecting to Alpaca…");
    else {
      const wait = Math.ceil((Date.parse(next) - now) / 1000) * 1000;
      say(this.at.attempt, `Next attempt to connect to Alpaca in ${duration(wait)}.`);
    }
  }
}
