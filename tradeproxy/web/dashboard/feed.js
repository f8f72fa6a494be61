// The live feed: the newest event first, filtered, and unchanged while it is paused.

import { KINDS } from "./event.js";
import { parse } from "./json.js";
import { make, moment, say } from "./text.js";

const KEPT = 2000; // events and notes that the filters apply to
const SHOWN = 300;

export class Feed {
  constructor({ rows, nothing, filters, pause }, clock) {
    this.rows = rows;
    this.nothing = nothing;
    this.filters = filters;
    this.pause = pause;
    this.clock = clock;
    this.entries = []; // oldest first
    this.fresh = []; // not shown yet
    this.seen = new Set();
    this.paused = false;
    this.planned = false;
    this.kinds = new Set();
    for (const kind of KINDS) this.#offer(kind);
    filters.addEventListener("submit", (event) => event.preventDefault());
    filters.addEventListener("input", () => this.#redraw());
    pause.addEventListener("click", () => this.#toggle());
    rows.addEventListener("click", ({ target }) => this.#open(target.closest("tr")));
    rows.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target.matches("tr")) this.#open(event.target);
    });
  }

  /** Add an event, unless the feed has it already. */
  add(entry) {
    const key = entry.id && `${entry.account} ${entry.id}`;
    if (key && this.seen.has(key)) return;
    if (key) this.seen.add(key);
    this.#offer(entry.event);
    this.#take(entry);
  }

  /**
   * Add a line about the stream itself, at its place between the events. Without an account it is
   * about all of them.
   */
  note(account, text, tone = "") {
    this.#take({ account, note: text, tone, at: new Date(this.clock()).toISOString() });
  }

  /** Show the account filter if there is more than one account. */
  offerAccounts(names) {
    const { account } = this.filters.elements;
    account.hidden = names.length < 2;
    this.rows.closest("table").classList.toggle("one", names.length < 2);
    const known = new Set(Array.from(account.options, (option) => option.value));
    account.append(...names.filter((name) => !known.has(name)).map((name) => new Option(name)));
  }

  #offer(kind) {
    if (!kind || this.kinds.has(kind) || this.kinds.size > 100) return;
    this.kinds.add(kind);
    this.filters.elements.event.append(new Option(kind));
  }

  #take(entry) {
    this.entries.push(entry);
    this.fresh.push(entry);
    if (this.entries.length > KEPT + KEPT / 4) this.#forget();
    this.#plan();
  }

  #forget() {
    for (const entry of this.entries.splice(0, this.entries.length - KEPT)) {
      if (entry.id) this.seen.delete(`${entry.account} ${entry.id}`);
    }
    if (this.fresh.length > KEPT) this.fresh.splice(0, this.fresh.length - KEPT);
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
    const waiting = this.fresh.filter((entry) => this.#wants(entry)).length;
    return waiting ? `Resume (${waiting} new)` : "Resume";
  }

  #draw() {
    const chosen = this.fresh.filter((entry) => this.#wants(entry)).slice(-SHOWN);
    this.fresh = [];
    this.rows.prepend(...chosen.toReversed().map((entry) => this.#row(entry)));
    while (this.rows.childElementCount > SHOWN) this.rows.lastElementChild.remove();
    this.nothing.hidden = this.rows.childElementCount > 0;
    if (this.entries.length) say(this.nothing, "Nothing of what came fits the filter.");
  }

  #redraw() {
    const waiting = this.paused ? this.fresh : [];
    const unseen = new Set(waiting);
    const shown = this.entries.filter((entry) => !unseen.has(entry));
    this.rows.replaceChildren();
    this.fresh = shown;
    this.#draw();
    this.fresh = waiting;
    say(this.pause, this.#caption());
  }

  #wants(entry) {
    const { account, symbol, event, prefix } = this.filters.elements;
    // A note without an account is about all of them.
    if (account.value && entry.account && entry.account !== account.value) return false;
    if (entry.note) return true;
    if (event.value && entry.event !== event.value) return false;
    if (!entry.order.startsWith(prefix.value)) return false;
    const symbols = symbol.value.toUpperCase().split(/[\s,]+/).filter(Boolean);
    return !symbols.length || symbols.some((begin) => entry.symbol.toUpperCase().startsWith(begin));
  }

  #row(entry) {
    const time = make("td", "time", moment(Date.parse(entry.at), this.clock()));
    time.title = entry.at;
    const account = make("td", "account", entry.account);
    if (entry.note) {
      const row = make("tr", "note", time, account);
      const cell = make("td", "said", entry.note);
      cell.colSpan = 7;
      row.append(cell);
      row.dataset.tone = entry.tone;
      return row;
    }
    const badge = make("span", "badge", ...breakable(entry.event || "?"));
    badge.dataset.tone = entry.tone;
    const event = make("td", "event", badge);
    if (entry.recovered) {
      const late = make("span", "late", "late");
      late.title = `recovered: ${entry.recovered}`;
      event.append(late);
    }
    const order = make("td", "order", entry.order);
    order.title = entry.order;
    const side = make("td", "side", entry.side);
    side.dataset.side = entry.side;
    const row = make(
      "tr",
      "entry",
      time,
      account,
      event,
      make("td", "symbol", entry.symbol),
      side,
      make("td", "qty", entry.quantity),
      make("td", "price", entry.price),
      make("td", "status", entry.status),
      order,
    );
    row.classList.add(...lengths(entry));
    row.tabIndex = 0;
    row.setAttribute("aria-expanded", "false");
    row.entry = entry;
    return row;
  }

  // Show the event's JSON below its row; a second click hides it.
  #open(row) {
    if (!row?.entry || String(getSelection())) return;
    const isOpen = row.getAttribute("aria-expanded") === "true";
    row.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) {
      row.nextElementSibling?.remove();
      return;
    }
    const json = JSON.stringify(parse(row.entry.text), null, 2);
    const cell = make("td", "", make("pre", "", json));
    cell.colSpan = 9;
    row.after(make("tr", "json", cell));
  }
}

// Longer than what its column has room for, in characters, or than the line of a phone.
const LENGTHS = {
  option: ({ symbol }) => symbol.split(" ").some((part) => part.length > 10), // up to 21
  precise: ({ quantity, price }) => quantity.length > 10 || price.length > 12,
  long: ({ event }) => event.length > 14, // order_replace_rejected has 22
  sides: ({ side }) => side.length > 5, // of a multi-leg order
  wide: ({ event, symbol, side, quantity, price }) =>
    Math.max(event.length, 13) + (symbol + side + quantity + price).length > 40,
};

/** Return the classes of a row for which the style sheet makes room. */
function lengths(entry) {
  return Object.keys(LENGTHS).filter((name) => LENGTHS[name](entry));
}

/** Let a name such as order_cancel_rejected take two lines, broken behind an underscore. */
function breakable(name) {
  return name.split(/(?<=_)/).flatMap((part) => [part, document.createElement("wbr")]);
}
