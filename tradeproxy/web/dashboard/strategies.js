// The tab of the strategies: what each realised today as a line, and its positions.

import { drawLine } from "./line.js";
import { amount, count, make, moment, say, word } from "./text.js";

const HEAD = ["Symbol", "Quantity", "Avg price", "P&L today", "P&L"];
const CLASSES = ["symbol", "qty", "price", "today", "total"];
const LIMIT = 100;

export class Strategies {
  constructor(panel, clock) {
    this.cards = panel.querySelector(".cards");
    this.remarks = panel.querySelector(".remarks");
    this.nothing = panel.querySelector(".nothing");
    this.summary = panel.querySelector(".summary");
    this.clock = clock;
  }

  onChange() {}

  request() {
    return ["strategies", { limit: LIMIT }];
  }

  show(page) {
    this.page = page;
    const { strategies, differences, notes, date } = page;
    this.cards.replaceChildren(...strategies.map((strategy) => this.#card(strategy)));
    this.nothing.hidden = strategies.length > 0;
    say(this.nothing, "No strategy has traded yet.");
    say(this.summary, `${describeExtent(page)}trade date ${word(date)}`);
    const now = this.clock();
    const lines = [
      ...differences.map(
        (each) =>
          `${word(each.symbol)}: the account has ${word(each.account_qty)}, all strategies ` +
          `together ${word(each.strategies_qty)}`,
      ),
      ...notes.map(
        (each) =>
          `${moment(Date.parse(each.time), now, false)} ${word(each.kind)} of order ` +
          `${word(each.order_id)}: ${word(each.message)}`,
      ),
    ];
    this.remarks.hidden = !lines.length;
    this.remarks.querySelector("ul").replaceChildren(...lines.map((line) => make("li", "", line)));
  }

  clear(problem) {
    this.page = null;
    this.cards.replaceChildren();
    this.remarks.hidden = true;
    this.nothing.hidden = false;
    say(this.nothing, problem);
    say(this.summary, "");
  }

  redraw() {
    if (this.page) this.show(this.page);
  }

  #card(strategy) {
    const figures = [
      ["P&L today", strategy.realized_intraday_pl],
      ["P&L", strategy.realized_pl],
      ["Fees", strategy.fees],
      ["Fills", strategy.fills],
    ].map(([name, value]) => {
      const shown = make("dd", "", word(value));
      if (name.startsWith("P&L")) colour(shown, value);
      return make("div", "", make("dt", "", name), shown);
    });
    const head = make("div", "bar", make("h2", "", word(strategy.name)));
    const card = make("article", "card", head, make("dl", "", ...figures), this.#line(strategy));
    if (strategy.positions.length) card.append(table(strategy));
    return card;
  }

  #line({ line, name }) {
    const figure = make("figure", "day");
    if (!line.length) {
      figure.append(make("p", "quiet", "nothing realised today"));
      return figure;
    }
    const now = this.clock();
    const ends = [line[0], line.at(-1)].map(([time]) => moment(Date.parse(time), now, false));
    const says = `${word(name)}, realised today: ${word(line.at(-1)[1])}`;
    const axis = make("div", "axis", ...ends.map((end) => make("span", "", end)));
    figure.append(drawLine(line, says), axis);
    return figure;
  }
}

/** Say how much a page has if it is not all: it may end within a strategy. */
export function describeExtent({ strategies, more, next }) {
  if (!more) return "";
  const positions = strategies.at(-1)?.positions.length ?? 0;
  const cut = word(next).includes("\t") ? `, of the last one ${count(positions)} positions` : "";
  return `the first ${count(strategies.length)}${cut}, `;
}

function colour(element, text) {
  if (Number(text)) element.dataset.tone = Number(text) < 0 ? "bad" : "good";
}

function table({ positions, name }) {
  const cells = HEAD.map((title, index) => {
    const cell = make("th", CLASSES[index], title);
    cell.scope = "col";
    return cell;
  });
  const made = make("table", "plain", make("thead", "", make("tr", "", ...cells)));
  made.ariaLabel = `Positions of ${word(name)}`;
  made.append(make("tbody", "", ...positions.map(row)));
  return made;
}

function row(position) {
  const symbol = make("td", "symbol", word(position.symbol));
  if (position.account_flat) {
    const badge = make("span", "badge", "account is flat");
    badge.dataset.tone = "warn";
    symbol.append(" ", badge);
  }
  const [today, total] = [
    ["today", position.realized_intraday_pl],
    ["total", position.realized_pl],
  ].map(([kind, value]) => {
    const cell = make("td", kind, word(value));
    colour(cell, value);
    return cell;
  });
  return make(
    "tr",
    "",
    symbol,
    make("td", "qty", word(position.qty)),
    amount("price", position.avg_entry_price),
    today,
    total,
  );
}
