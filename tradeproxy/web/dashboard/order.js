// What is below a row: the order's life as a picture, and behind a button the JSON.

import { parse } from "./json.js";
import { draw } from "./picture.js";
import { make, say, word } from "./text.js";

export class OrderDetails {
  /** `pathOf(account)` returns the path of an account's stream, `clock()` the proxy's time. */
  constructor(pages, pathOf, clock) {
    this.pages = pages;
    this.pathOf = pathOf;
    this.clock = clock;
  }

  /** Fill the cell below the row of an entry. */
  fill(cell, entry) {
    const life = make("div", "life", make("p", "quiet", "…"));
    const button = make("button", "", "JSON");
    button.type = "button";
    button.ariaExpanded = "false";
    button.addEventListener("click", () => {
      const isOpen = button.ariaExpanded === "true";
      button.ariaExpanded = String(!isOpen);
      if (isOpen) cell.querySelector("pre").remove();
      else cell.append(make("pre", "", JSON.stringify(parse(entry.text), null, 2)));
    });
    cell.append(life, button);
    this.#show(life, entry);
  }

  async #show(life, { account, orderId }) {
    if (!orderId) {
      say(life.firstElementChild, "This event names no order.");
      return;
    }
    const page = `orders/${encodeURIComponent(orderId)}`;
    const { document: order, problem } = await this.pages.fetch(this.pathOf(account), page);
    if (!order) say(life.firstElementChild, problem ?? "");
    else if (!Array.isArray(order.timeline) || !order.timeline.length) {
      say(life.firstElementChild, "The journal has no event of this order.");
    } else life.replaceChildren(make("p", "", summarize(order)), ...draw(order, this.clock()));
  }
}

/** Return an order in one line. */
export function summarize(order) {
  const limits = [
    word(order.limit_price) && `limit ${word(order.limit_price)}`,
    word(order.stop_price) && `stop ${word(order.stop_price)}`,
  ].filter(Boolean);
  const filled = Number(order.filled_qty)
    ? `filled ${word(order.filled_qty)} at ${word(order.filled_avg_price) || "?"}`
    : "";
  const amount = word(order.qty) || (word(order.notional) && `$${word(order.notional)}`);
  const what = [word(order.side), amount, word(order.symbol)].filter(Boolean).join(" ");
  const status = word(order.status).replaceAll("_", " ");
  return [what, limits.join(", ") || word(order.type), filled, status].filter(Boolean).join(" · ");
}
