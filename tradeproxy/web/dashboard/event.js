// The fields of a trade update that the feed shows. Any of them may be missing.

import { plural, word } from "./text.js";

const TONES = {
  fill: "good",
  partial_fill: "part",
  new: "fresh",
  accepted: "fresh",
  pending_new: "fresh",
  replaced: "changed",
  pending_replace: "changed",
  restated: "changed",
  canceled: "over",
  pending_cancel: "over",
  expired: "over",
  done_for_day: "over",
  stopped: "over",
  suspended: "over",
  rejected: "bad",
  order_cancel_rejected: "bad",
  order_replace_rejected: "bad",
  trade_bust: "bad",
  trade_correct: "changed",
};

/** Statuses that no event has as its name. */
const ORDER_TONES = { filled: "good", partially_filled: "part", held: "over", __proto__: null };

/** The event kinds that the filter offers from the start. */
export const KINDS = Object.keys(TONES);

/**
 * Return the fields of an order that are shown in a list of orders. Its status is where the feed
 * has the event.
 */
export function readOrder(account, given) {
  const order = isObject(given) ? given : {};
  const message = { data: { at: order.submitted_at, event: order.status, order } };
  const entry = read(account, message, JSON.stringify(given));
  const [filled, whole] = [word(order.filled_qty), word(order.qty)];
  const isPart = filled && whole && filled !== "0" && filled !== whole;
  const quantity = isPart ? `${filled} of ${whole}` : entry.quantity;
  return { ...entry, id: entry.orderId, status: "", quantity };
}

/**
 * Return the fields of one message that are shown and filtered; `text` is the message as received.
 */
export function read(account, message, text) {
  const data = isObject(message.data) ? message.data : {};
  const order = isObject(data.order) ? data.order : {};
  const legs = Array.isArray(order.legs) ? order.legs : [];
  const event = word(data.event);
  return {
    account,
    text,
    id: word(data.event_id),
    at: word(data.at ?? data.timestamp),
    event,
    tone: toneOf(event),
    recovered: word(message.recovered),
    symbol: word(order.symbol) || underlyings(legs),
    side: word(order.side) || sides(legs),
    quantity: quantity(data, order),
    price: price(data, order),
    status: status(event, order),
    order: word(order.client_order_id) || word(order.id),
    orderId: word(order.id),
  };
}

/** Return the tone of an event or of an order's status. */
export function toneOf(name) {
  return Object.hasOwn(TONES, name) ? TONES[name] : ORDER_TONES[name] ?? "fresh";
}

function isObject(value) {
  return typeof value === "object" && value !== null;
}

/** Statuses that events with other names bring. */
const STATUSES = { fill: "filled", partial_fill: "partially_filled" };

/** Return the order's status, or "" if it only repeats the event. */
function status(event, order) {
  const text = word(order.status);
  return text === event || text === STATUSES[event] ? "" : text;
}

/** An option's symbol: the underlying, the expiry, call or put, and the strike. */
const OPTION = /^([A-Z0-9.]{1,6}?)\d{6}[CP]\d{8}$/;

/** Return the underlyings of a multi-leg order, which has no symbol of its own. */
function underlyings(legs) {
  if (!legs.length) return "";
  const symbols = legs.map((leg) => word(leg?.symbol)).filter(Boolean);
  const names = new Set(symbols.map((symbol) => OPTION.exec(symbol)?.[1] ?? symbol));
  return word([...names, plural(legs.length, "leg")].join(" "));
}

/** Return the sides of a multi-leg order: "buy, sell", or "2 buy, 2 sell". */
function sides(legs) {
  const counts = new Map();
  for (const side of legs.map((leg) => word(leg?.side)).filter(Boolean)) {
    counts.set(side, (counts.get(side) ?? 0) + 1);
  }
  const isPlain = [...counts.values()].every((number) => number === 1);
  const parts = [...counts].map(([side, number]) => (isPlain ? side : `${number}\u00a0${side}`));
  return word(parts.join(", "));
}

function quantity(data, order) {
  const whole = word(order.qty);
  const part = word(data.qty);
  if (part && whole && part !== whole) return `${part} of ${whole}`;
  return part || whole || (word(order.notional) && `$${word(order.notional)}`);
}

function price(data, order) {
  if (word(data.price)) return word(data.price);
  if (word(order.limit_price)) return `limit ${word(order.limit_price)}`;
  if (word(order.stop_price)) return `stop ${word(order.stop_price)}`;
  return word(order.type);
}
