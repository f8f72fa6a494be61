// The order of the feed: by time over all accounts. The replay of each account arrives in one piece,
// and some events arrive late.

/** The entries of the feed, and those that are not shown yet. */
export class Timeline {
  /** Keeps `limit` entries and at most a quarter more. */
  constructor(limit) {
    this.limit = limit;
    this.entries = []; // oldest first after the next `all` or `forget`
    this.fresh = [];
    this.newest = new Map(); // for each account, the highest time of an entry
    this.count = 0;
  }

  /**
   * Add an entry and give it its `rank`. Without a readable time it comes after what its account
   * has so far. Return the entries that are dropped for it, the oldest by time.
   */
  add(entry, now) {
    const newest = this.newest.get(entry.account);
    const read = Date.parse(entry.at);
    const time = Number.isNaN(read) ? newest ?? now : read;
    this.newest.set(entry.account, Math.max(time, newest ?? time));
    this.count += 1;
    entry.rank = { time, number: this.count };
    this.entries.push(entry);
    this.fresh.push(entry);
    return this.entries.length > this.limit * 1.25 ? this.#forget() : [];
  }

  /** Return the fresh entries, oldest first. They are not fresh any more. */
  take() {
    const taken = this.fresh.sort(compare);
    this.fresh = [];
    return taken;
  }

  /** Return the entries that are not fresh, oldest first. */
  known() {
    const fresh = new Set(this.fresh);
    return this.entries.sort(compare).filter((entry) => !fresh.has(entry));
  }

  #forget() {
    const dropped = this.entries.sort(compare).splice(0, this.entries.length - this.limit);
    const gone = new Set(dropped);
    this.fresh = this.fresh.filter((entry) => !gone.has(entry));
    return dropped;
  }
}

/** Compare two entries by time. Those of one millisecond are in the order in which they arrived. */
export function compare(a, b) {
  return a.rank.time - b.rank.time || a.rank.number - b.rank.number;
}
