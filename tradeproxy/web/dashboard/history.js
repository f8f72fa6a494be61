// The tab of the history: a search in the journal of the proxy.

import { KINDS, read } from "./event.js";
import { List } from "./list.js";
import { count, dayBounds, say } from "./text.js";

const PAGE = 300;
const EMPTY_PAGES = 20; // of 20,000 events each, that one click searches

export class History {
  /** `fetch(page, query)` asks the proxy about the chosen account, as `Pages` does. */
  constructor(panel, clock, details, fetch) {
    this.form = panel.querySelector("form");
    this.summary = panel.querySelector(".summary");
    this.older = panel.querySelector(".more");
    this.list = new List(panel, clock, details);
    this.fetch = fetch;
    this.form.elements.kind.append(...KINDS.map((kind) => new Option(kind)));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.search();
    });
    this.form.addEventListener("change", () => this.search());
    this.older.addEventListener("click", () => this.#read(false));
  }

  /** Search for the newest events that fit. */
  async search() {
    this.cursor = undefined;
    this.total = null;
    await this.#read(true);
  }

  /** Show the times in another zone. A day is one of that zone. */
  redraw() {
    if (this.form.elements.day.value) this.search();
    else this.list.redraw();
  }

  #query() {
    const { symbol, kind, order_id: id, prefix, day } = this.form.elements;
    return {
      symbols: symbol.value.trim().replaceAll(/[\s,]+/g, ",").toUpperCase(),
      events: kind.value,
      order_id: id.value.trim(),
      client_order_id_prefix: prefix.value.trim(),
      ...(day.value && dayBounds(day.value)),
      limit: PAGE,
    };
  }

  async #read(isNew) {
    this.ticket = (this.ticket ?? 0) + 1; // what an earlier search finds is not shown
    const { ticket } = this;
    const query = this.#query();
    if (isNew) this.asked = query;
    this.older.disabled = true;
    say(this.summary, "searching…");
    for (let number = 0; number < EMPTY_PAGES; number += 1) {
      const found = await this.fetch("events", { ...this.asked, cursor: this.cursor });
      if (ticket !== this.ticket) return;
      if (!found.document) {
        this.#fail(found.problem ?? "", isNew);
        return;
      }
      const { events, cursor, more, total } = found.document;
      const entries = events.map((event) => readEvent(found.account, event));
      if (isNew) {
        this.total = total;
        this.list.show(entries);
      } else this.list.append(entries);
      isNew = false;
      this.cursor = cursor;
      this.#conclude(more);
      if (events.length || !more) return;
    }
  }

  #conclude(more) {
    const shown = this.list.length;
    const searched = more ? "the newest events; Older searches on" : "the journal";
    this.list.explain(`Nothing fits in ${searched}.`);
    const total = this.total ?? (more ? null : shown);
    const words = total === null ? ["the newest", shown] : [count(shown), "of", count(total)];
    say(this.summary, words.join(" "));
    this.older.disabled = false;
    this.older.hidden = !more;
  }

  #fail(problem, isNew) {
    if (isNew) {
      this.list.show([]);
      this.list.explain(problem);
      say(this.summary, "");
      this.older.hidden = true;
    } else say(this.summary, problem);
    this.older.disabled = false;
  }
}

/** Return the fields of an element of `/events`. */
export function readEvent(account, { seq, data, recovered }) {
  const message = { data, recovered };
  return { ...read(account, message, JSON.stringify({ seq, ...message })), id: `seq ${seq}` };
}
