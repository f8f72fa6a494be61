// The accounts: whether each stream is up, when the last event came, and whether events were lost.

import { Chart } from "./chart.js";
import { count, duration, latency, make, moment, plural, say } from "./text.js";
import { Trouble } from "./trouble.js";

const MANY = 4; // accounts from which each is a row
const FIRST = ["paper", "live"];

const GOOD = new Set(["recovered"]);
const BAD = new Set(["lost"]);

/** Return names of accounts in the order of the page: paper, live, then the others by name. */
export function sortNames(names) {
  const place = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
  return [...names].sort((one, other) => place(one) - place(other) || (one < other ? -1 : 1));
}

export class Accounts {
  constructor(section, template) {
    this.section = section;
    this.template = template;
    this.cards = new Map();
  }

  /** Show the accounts of /status.json; `clock()` returns the proxy's time in milliseconds. */
  show(accounts, clock) {
    for (const [name, card] of this.cards) {
      if (Object.hasOwn(accounts, name)) continue;
      card.article.remove();
      this.cards.delete(name);
    }
    const names = sortNames(Object.keys(accounts));
    for (const [index, name] of names.entries()) {
      if (!this.cards.has(name)) this.cards.set(name, new Card(this.template, name));
      const card = this.cards.get(name);
      const place = this.section.children[index] ?? null;
      if (place !== card.article) this.section.insertBefore(card.article, place);
      card.show(accounts[name], clock);
    }
    this.section.classList.toggle("compact", names.length >= MANY);
  }

  /** Update the displayed ages. */
  tick() {
    for (const card of this.cards.values()) card.tick();
  }

  /** Show the ages at the proxy's time `now`, as a thing of the past. */
  freeze(now) {
    for (const card of this.cards.values()) card.freeze(now);
  }
}

class Card {
  constructor(template, name) {
    this.article = template.content.cloneNode(true).firstElementChild;
    this.at = {};
    for (const element of this.article.querySelectorAll("[data-is]")) {
      this.at[element.dataset.is] = element;
    }
    this.at.name.textContent = name;
    this.article.dataset.account = name;
    this.trouble = new Trouble(this.at);
    this.events = new Chart(this.at.events, "events in 10 s", 4, count);
    this.latency = new Chart(this.at.latency, "slowest delivery in 10 s", 0.001, latency);
  }

  show(state, clock) {
    this.state = state;
    this.clock = clock;
    const at = this.at;
    const { upstream, series } = state;
    this.article.dataset.state = upstream.state === "down" ? "down" : state.ready ? "up" : "warn";
    this.trouble.show(state, clock());
    say(at.today, count(state.events_today));
    say(at.duplicates, count(state.duplicates));
    say(at.reconnects, count(state.reconnects));
    say(at.clients, count(state.clients));
    const end = Date.parse(series.end);
    this.events.show(series.events, series.step, end, (value, begin) => {
      const events = value === null ? "not known" : plural(value, "event");
      return `${moment(begin, end, false)}: ${events}`;
    });
    this.latency.show(series.latency, series.step, end, (value, begin) => {
      const slowest = value === null ? "nothing delivered" : latency(value);
      return `${moment(begin, end, false)}: ${slowest}`;
    });
    this.#showGaps(state.gaps);
    this.tick();
  }

  tick() {
    if (!this.state) return;
    const now = this.clock();
    const { last_event: last } = this.state;
    this.#showAges(now, "");
    say(this.at.last, last === null ? "none" : `${duration(now - Date.parse(last))} ago`);
    this.#showPart(false);
    this.trouble.tick(now);
  }

  freeze(now) {
    const { last_event: last } = this.state;
    this.#showAges(now, "was ");
    say(this.at.last, last === null ? "none" : `at ${moment(Date.parse(last), now, false)}`);
    this.#showPart(true);
    this.trouble.freeze();
  }

  #showPart(isPast) {
    const { role } = this.state;
    this.at.role.hidden = !role; // a proxy without Redis has no role
    say(this.at.role, role ? part(role, isPast) : "");
  }

  #showAges(now, tense) {
    const { upstream, last_event: last } = this.state;
    const since = duration(now - Date.parse(upstream.since));
    const state = upstream.state === "up" ? "streaming" : "down";
    say(this.at.state, `${tense}${state} for ${since}`);
    this.at.last.title = last ?? "";
  }

  #showGaps(gaps) {
    const { at } = this;
    const lost = gaps.filter((gap) => BAD.has(gap.outcome)).length;
    const open = gaps.filter((gap) => !GOOD.has(gap.outcome) && !BAD.has(gap.outcome)).length;
    const verdict = lost ? `${lost} lost` : open ? `${open} not whole` : "all recovered";
    say(at.gaps, gaps.length ? `${gaps.length}, ${verdict}` : "none");
    at.gaps.dataset.tone = lost ? "bad" : open ? "warn" : gaps.length ? "good" : "";
    at.history.hidden = gaps.length === 0;
    const now = this.clock();
    const items = gaps.toReversed().map((gap) => make("li", "", ...describe(gap, now)));
    // The same gaps read differently in another time zone, and on the next day.
    const shown = JSON.stringify(items.map((item) => item.textContent));
    if (shown === this.shownGaps) return;
    this.shownGaps = shown;
    const [newest] = gaps.slice(-1);
    if (newest) at.summary.replaceChildren("Last gap ", ...describe(newest, now));
    at.list.replaceChildren(...items);
  }
}

/** Describe the role of this node, if several nodes share the account; perhaps as of the past. */
function part({ part, lag }, isPast) {
  if (part === "leader") return isPast ? "this node led" : "this node leads";
  const follows = isPast ? "this node followed" : "this node follows";
  return lag ? `${follows}, ${plural(lag, "event")} behind` : follows;
}

function describe(gap, now) {
  const begin = gap.begin === null ? null : Date.parse(gap.begin);
  const end = gap.end === null ? null : Date.parse(gap.end);
  const badge = make("span", "badge", gap.outcome);
  badge.dataset.tone = GOOD.has(gap.outcome) ? "good" : BAD.has(gap.outcome) ? "bad" : "warn";
  const since = begin === null ? "begin unknown" : moment(begin, now, false);
  const known = begin === null ? "" : duration(end - begin);
  const length = end === null ? "still open" : known;
  const found = `${plural(gap.events, "event")} found`;
  const remedy = BAD.has(gap.outcome) && "compare the positions of your bots with Alpaca's";
  const words = [since, length, found, gap.reason, remedy].filter(Boolean).join(" · ");
  return [badge, words];
}
