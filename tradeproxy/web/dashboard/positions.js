// The tab of the positions. A difference to what the fills say is marked.

import { amount, make, plural, say, word } from "./text.js";

const FIELDS = ["symbol", "side", "qty", "avg_entry_price", "cost_basis"];

export class Positions {
  constructor(panel) {
    this.rows = panel.querySelector("tbody");
    this.nothing = panel.querySelector(".nothing");
    this.summary = panel.querySelector(".summary");
  }

  onChange() {}

  request() {
    return ["positions", {}];
  }

  show({ positions, complete }) {
    this.rows.replaceChildren(...positions.flatMap(describe));
    this.nothing.hidden = positions.length > 0;
    say(this.nothing, "No position.");
    const differing = positions.filter((position) => position.difference).length;
    const words = [plural(positions.length, "position")];
    if (differing) words.push(`${plural(differing, "difference")} to Alpaca's`);
    if (!complete) words.push("not compared with Alpaca's yet");
    say(this.summary, words.join(", "));
    this.summary.dataset.tone = differing ? "warn" : "";
  }

  clear(problem) {
    this.rows.replaceChildren();
    this.nothing.hidden = false;
    say(this.nothing, problem);
    say(this.summary, "");
  }

  redraw() {}
}

function describe(position) {
  const cells = FIELDS.map((name) => {
    const isMoney = name === "avg_entry_price" || name === "cost_basis";
    return isMoney ? amount(name, position[name]) : make("td", name, word(position[name]));
  });
  cells[1].dataset.side = position.side === "short" ? "sell" : "buy";
  const row = make("tr", "", ...cells);
  if (!position.difference) return [row];
  row.className = "differs";
  const cell = make("td", "", `Difference: ${word(position.difference)}`);
  cell.colSpan = FIELDS.length;
  const note = make("tr", "difference", cell);
  note.dataset.tone = "warn";
  return [row, note];
}
