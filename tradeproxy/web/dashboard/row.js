// A row of the feed, the orders or the history, and what is shown below it.

import { make, moment } from "./text.js";

const COLUMNS = 9;

/** Return the row of an entry as event.js and order.js read it; `now` is the proxy's time. */
export function makeRow(entry, now) {
  const time = make("td", "time", moment(Date.parse(entry.at), now));
  time.title = entry.at;
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
    make("td", "account", entry.account),
    event,
    make("td", "symbol", entry.symbol),
    side,
    make("td", "qty", entry.quantity),
    make("td", "price", entry.price),
    make("td", "status", entry.status),
    order,
  );
  row.classList.add(...lengths(entry));
  row.tabIndex = -1; // tabstop.js gives one row 0
  row.ariaLevel = "1";
  row.ariaExpanded = "false";
  row.entry = entry;
  return row;
}

/** Return the row after a row and its details, or null. */
export function nextRow(row) {
  const next = row.nextElementSibling;
  return next?.matches(".details") ? next.nextElementSibling : next;
}

/** Shows and hides the details of rows; `fill(cell, entry)` adds them to a cell. */
export class Details {
  constructor(fill) {
    this.fill = fill;
  }

  /** Show or hide the details below a row; without `wanted`, do the other. */
  toggle(row, wanted) {
    if (!row?.matches(".entry")) return;
    const isOpen = row.ariaExpanded === "true";
    if (isOpen === wanted) return;
    row.ariaExpanded = String(!isOpen);
    if (isOpen) {
      row.nextElementSibling?.remove();
      return;
    }
    const cell = make("td", "");
    cell.colSpan = COLUMNS;
    const details = make("tr", "details", cell);
    details.ariaLevel = "2";
    row.after(details);
    this.fill(cell, row.entry);
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
export function breakable(name) {
  return name.split(/(?<=_)/).flatMap((part) => [part, document.createElement("wbr")]);
}
