// The proxy's clock, from the times in its answers.

const KEPT = 8; // answers
const SPREAD = 2500; // ms by which an answer may be late: it is up to 1 s old, and on its way

export class Clock {
  /** `now()` returns this machine's time in milliseconds. */
  constructor(now = Date.now) {
    this.local = now;
    this.samples = [0];
    this.known = false;
  }

  /** Milliseconds by which the proxy's clock is ahead of this machine's. */
  get ahead() {
    return Math.max(...this.samples); // an answer can be late, but not early
  }

  /** Return the proxy's time in milliseconds. */
  now() {
    return this.local() + this.ahead;
  }

  /** Record the time in an answer that has just arrived. */
  set(time) {
    const sample = time - this.local();
    const isSame = this.known && Math.abs(sample - this.ahead) < SPREAD; // no clock was set
    this.samples = isSame ? [...this.samples.slice(1 - KEPT), sample] : [sample];
    this.known = true;
  }
}
