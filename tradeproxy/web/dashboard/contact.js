// Contact with the proxy. Without contact nothing on the page is shown as current.
//
//   state    | the proxy answers | it does not | it wants a token | it is silent
//   ---------|-------------------|-------------|------------------|-------------
//   asking   | current           | lost        | refused          | asking
//   current  | current           | lost        | refused          | asking
//   lost     | current           | lost        | refused          | lost
//   refused  | current           | lost        | refused          | refused
//
// Only "current" has running ages, colours and a verdict of the proxy's. Only "lost" has a
// countdown. A proxy is silent to a page that slept. All times are in milliseconds.

const INTERVAL = 2000;
const SOONEST = 1000; // between two requests, even if the status has changed meanwhile
const HIDDEN = 15000; // the title of a hidden page is still visible
const SILENT = 10000;
const ASLEEP = 90000; // browsers may give a hidden page one timer a minute
const SHORTEST = 500;
const LONGEST = 8000;

const REMEDY =
  "What to do: see whether the proxy runs (tradeproxy status, or its log), and check the network." +
  " This page resumes by itself.";

/** Return the time until the next attempt after so many failures; it varies from page to page. */
export function backoff(failures, random = Math.random) {
  return Math.min(SHORTEST * 2 ** (failures - 1), LONGEST) * (0.75 + random() / 2);
}

export class Contact {
  /** `random()` returns a number from 0 to 1: many pages must not come back at the same time. */
  constructor(random = Math.random) {
    this.random = random;
    this.state = "asking";
    this.heard = null; // the last sign of the proxy; null before the first
    this.reason = "";
    this.failures = 0;
  }

  get isCurrent() {
    return this.state === "current";
  }

  /** Record that anything came from the proxy. */
  hear(now) {
    this.heard = now;
  }

  /** Record an answer with the status; return how long contact was lost, or null. */
  answer(now) {
    const isFound = this.failures > 0 && this.heard !== null;
    const away = isFound ? now - this.heard : null;
    this.state = "current";
    this.failures = 0;
    this.hear(now);
    return away;
  }

  /** Record a failed request; return whether contact is lost by this one. */
  fail(reason) {
    const isNew = this.failures === 0;
    this.state = "lost";
    this.reason = reason;
    this.failures += 1;
    return isNew;
  }

  /** Record that the proxy wants a token, or another one. */
  refuse() {
    this.state = "refused";
  }

  /** Return whether what is shown has become too old to be current, by this call. */
  expire(now, isHidden) {
    const limit = isHidden ? ASLEEP : SILENT;
    if (!this.isCurrent || Math.abs(now - this.heard) < limit) return false;
    this.state = "asking";
    return true;
  }

  /** Return whether connections may have died without a close event. */
  hasSlept(now) {
    return this.heard !== null && Math.abs(now - this.heard) >= ASLEEP;
  }

  /** Return the time until the next request for the status; it varies if contact is lost. */
  delay(isHidden) {
    if (this.state !== "lost") return isHidden ? HIDDEN : INTERVAL;
    return backoff(this.failures, this.random);
  }

  /**
   * Return the time until the next request if the status has changed since the last one, which was
   * `passed` ago. A status message says so, and many may come at once.
   */
  hurry(passed) {
    if (this.state === "lost") return this.delay(false);
    return Math.max(0, SOONEST - passed);
  }

  /**
   * Return what the page says instead of the verdict: a text, a tone, a title and perhaps a remedy;
   * null if what is shown is current.
   * `since` is the time of the last sign of the proxy as a text.
   */
  describe(since) {
    const known = this.heard !== null;
    if (this.state === "lost") {
      const text = known ? `no contact with the proxy since ${since}` : "no contact with the proxy";
      const reason = this.reason && ` (${this.reason})`;
      const title = "✕ no contact – tradeproxy";
      return { text: text + reason, tone: "bad", title, remedy: REMEDY };
    }
    if (this.state === "refused") {
      return { text: "the proxy asks for a token", tone: "warn", title: "▲ token – tradeproxy" };
    }
    if (this.state === "asking") {
      const text = known ? `last contact with the proxy at ${since}` : "asking the proxy…";
      return { text, tone: "over", title: known ? "… tradeproxy" : "tradeproxy" };
    }
    return null;
  }
}
