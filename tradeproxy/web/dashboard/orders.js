// The tab of the orders: a status, a symbol, and as many as the reader wants.

import { readOrder } from "./event.js";
import { List } from "./list.js";
import { plural, say } from "./text.js";

const PAGE = 100;
const MOST = 500; // what one page of the proxy has
const PAUSE = 300; // ms after the last key

export class Orders {
  constructor(panel, clock, details) {
    this.form = panel.querySelector("form");
    this.summary = panel.querySelector(".summary");
    this.more = panel.querySelector(".more");
    this.list = new List(panel, clock, details);
    this.limit = PAGE;
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.more.addEventListener("click", () => {
      this.limit = Math.min(this.limit + PAGE, MOST);
      this.ask();
    });
  }

  /** Call `ask()` when the reader wants something else. */
  onChange(ask) {
    this.ask = ask;
    this.form.addEventListener("input", () => {
      this.limit = PAGE;
      clearTimeout(this.timer);
      this.timer = setTimeout(ask, PAUSE);
    });
  }

  /** Return the page of the proxy and its parameters. */
  request() {
    const { status, symbol } = this.form.elements;
    const symbols = symbol.value.trim().replaceAll(/[\s,]+/g, ",").toUpperCase();
    return ["orders", { status: status.value, symbols, limit: this.limit }];
  }

  /** Show a page. */
  show({ orders, more }, account) {
    this.list.explain("No order fits.");
    this.list.show(orders.map((order) => readOrder(account, order)));
    const shown = plural(orders.length, "order");
    const rest = this.limit < MOST ? "" : ": choose a status or a symbol";
    say(this.summary, more ? `the newest ${shown}${rest}` : shown);
    this.more.hidden = !more || this.limit >= MOST;
  }

  /** Show nothing, and why. */
  clear(problem) {
    this.list.show([]);
    this.list.explain(problem);
    say(this.summary, "");
    this.more.hidden = true;
  }

  /** Show the times in another zone. */
  redraw() {
    this.list.redraw();
  }
}
