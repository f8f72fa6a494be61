// A table of entries, newest first: the orders or the history. The feed has its own.

import { makeRow, nextRow } from "./row.js";
import { TabStop } from "./tabstop.js";
import { say } from "./text.js";

export class List {
  /** `section` has a `tbody` and an element of the class `nothing`. */
  constructor(section, clock, details) {
    this.rows = section.querySelector("tbody");
    this.nothing = section.querySelector(".nothing");
    this.clock = clock;
    this.details = details;
    this.rows.addEventListener("click", ({ target }) => {
      if (!String(getSelection())) details.toggle(target.closest("tr"));
    });
    this.tabStop = new TabStop(this.rows, (row, wanted) => details.toggle(row, wanted));
  }

  /** The number of entries that are shown. */
  get length() {
    return this.rows.querySelectorAll("tr.entry").length;
  }

  /** Show these entries. A row that is the same stays, and so do its details. */
  show(entries) {
    const wanted = new Set(entries.map(({ id }) => id));
    const known = new Map();
    for (const row of this.rows.querySelectorAll("tr.entry")) {
      if (wanted.has(row.entry.id)) known.set(row.entry.id, row);
      else {
        this.tabStop.leave(row);
        remove(row); // first: a row that is moved loses the focus
      }
    }
    const focused = document.activeElement?.closest("tr.entry")?.entry.id;
    let next = this.rows.firstElementChild;
    for (const entry of entries) {
      const old = known.get(entry.id);
      if (old && old.entry.text === entry.text && old.entry.account === entry.account) {
        if (old === next) next = nextRow(old);
        else this.#move(old, next);
        continue;
      }
      const row = makeRow(entry, this.clock());
      this.rows.insertBefore(row, next);
      if (!old) continue;
      if (old.ariaExpanded === "true") this.details.toggle(row, true);
      if (old === next) next = nextRow(old);
      remove(old);
      if (entry.id === focused) row.focus();
    }
    this.tabStop.renew();
    this.nothing.hidden = this.length > 0;
  }

  /** Add entries behind those that are shown. */
  append(entries) {
    this.rows.append(...entries.map((entry) => makeRow(entry, this.clock())));
    this.tabStop.renew();
    this.nothing.hidden = this.length > 0;
  }

  /** Say why there is no row. */
  explain(text) {
    say(this.nothing, text);
  }

  /** Make every row anew: the time zone has changed. */
  redraw() {
    const entries = Array.from(this.rows.querySelectorAll("tr.entry"), (row) => row.entry);
    this.rows.replaceChildren();
    this.append(entries);
  }

  #move(row, next) {
    const details = row.nextElementSibling;
    this.rows.insertBefore(row, next);
    if (details?.matches(".details")) this.rows.insertBefore(details, next);
  }
}

function remove(row) {
  if (row.nextElementSibling?.matches(".details")) row.nextElementSibling.remove();
  row.remove();
}
