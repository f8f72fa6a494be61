// The live feed: the newest event of all accounts first, filtered, and unchanged while it is paused.

import { KINDS } from "./event.js";
import { Filters } from "./filters.js";
import { makeRow, nextRow } from "./row.js";
import { TabStop } from "./tabstop.js";
import { make, moment, say } from "./text.js";
import { Timeline, compare } from "./timeline.js";

const KEPT = 2000; // events and notes that the filters apply to
const SHOWN = 300;

export class Feed {
  /** `details` shows and hides what is below a row. */
  constructor({ rows, nothing, filters, clear, pause }, clock, details) {
    this.rows = rows;
    this.nothing = nothing;
    this.filters = new Filters(filters, clear, KINDS, () => this.redraw());
    this.pause = pause;
    this.clock = clock;
    this.timeline = new Timeline(KEPT);
    this.seen = new Set();
    this.paused = false;
    this.planned = false;
    pause.addEventListener("click", () => this.#toggle());
    rows.addEventListener("click", ({ target }) => {
      if (!String(getSelection())) details.toggle(target.closest("tr"));
    });
    this.tabStop = new TabStop(rows, (row, wanted) => details.toggle(row, wanted));
  }

  /** Add an event. Return whether it fits the filters; not if the feed has it already. */
  add(entry) {
    const key = entry.id && `${entry.account} ${entry.id}`;
    if (key && this.seen.has(key)) return false;
    if (key) this.seen.add(key);
    this.filters.offerKind(entry.event);
    this.#take(entry);
    return this.filters.fit(entry);
  }

  /**
   * Add a line about the stream itself, at its place between the events. Without an account it is
   * about all of them, and without a time about now.
   */
  note(account, text, tone = "", at = new Date(this.clock()).toISOString()) {
    this.#take({ account, note: text, tone, at });
  }

  /** Return the events that are shown, the newest first. */
  shown() {
    return Array.from(this.rows.querySelectorAll("tr.entry"), (row) => row.entry);
  }

  /** Show the account filter if there is more than one account. */
  offerAccounts(names) {
    this.filters.offerAccounts(names);
    this.rows.closest("table").classList.toggle("one", names.length < 2);
  }

  #take(entry) {
    for (const { account, id } of this.timeline.add(entry, this.clock())) {
      if (id) this.seen.delete(`${account} ${id}`);
    }
    this.#plan();
  }

  // Redraw at most once in 60 ms: a batch may have thousands of events.
  #plan() {
    if (this.planned) return;
    this.planned = true;
    setTimeout(() => {
      this.planned = false;
      if (this.paused) say(this.pause, this.#caption());
      else this.#draw();
    }, 60);
  }

  #toggle() {
    this.paused = !this.paused;
    this.pause.setAttribute("aria-pressed", String(this.paused));
    say(this.pause, this.#caption());
    if (!this.paused) this.#draw();
  }

  #caption() {
    if (!this.paused) return "Pause";
    const waiting = this.timeline.fresh.filter((entry) => this.filters.fit(entry)).length;
    return waiting ? `Resume (${waiting} new)` : "Resume";
  }

  #draw(entries = this.timeline.take()) {
    const chosen = entries.filter((entry) => this.filters.fit(entry)).slice(-SHOWN);
    let next = this.rows.firstElementChild;
    for (const entry of chosen.toReversed()) {
      while (next && compare(next.entry, entry) > 0) next = nextRow(next);
      this.rows.insertBefore(this.#row(entry), next);
    }
    while (this.rows.childElementCount > SHOWN) {
      this.tabStop.leave(this.rows.lastElementChild);
      this.rows.lastElementChild.remove();
    }
    this.tabStop.renew();
    this.nothing.hidden = this.rows.childElementCount > 0;
    if (this.timeline.count) say(this.nothing, "Nothing of what came fits the filter.");
  }

  /** Show the chosen events again: the filters or the way they are shown have changed. */
  redraw() {
    this.rows.replaceChildren();
    this.#draw(this.timeline.known());
    if (this.paused) say(this.pause, this.#caption());
    else this.#draw();
  }

  #row(entry) {
    if (entry.note) {
      const time = make("td", "time", moment(Date.parse(entry.at), this.clock()));
      time.title = entry.at;
      const account = make("td", "account", entry.account);
      const row = make("tr", "note", time, account);
      const cell = make("td", "said", entry.note);
      cell.colSpan = 7;
      row.append(cell);
      row.tabIndex = -1;
      row.ariaLevel = "1";
      row.dataset.tone = entry.tone;
      row.entry = entry;
      return row;
    }
    return makeRow(entry, this.clock());
  }
}
