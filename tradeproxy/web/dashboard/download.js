// A download of the events that are shown, for a spreadsheet.

import { parse } from "./json.js";

// Those of `tradeproxy export --format csv`, each with its path in an event's data.
const COLUMNS = {
  time: "at",
  event: "event",
  event_id: "event_id",
  execution_id: "execution_id",
  order_id: "order.id",
  client_order_id: "order.client_order_id",
  symbol: "order.symbol",
  side: "order.side",
  qty: "qty",
  price: "price",
  position_qty: "position_qty",
  type: "order.type",
  order_qty: "order.qty",
  limit_price: "order.limit_price",
  filled_qty: "order.filled_qty",
  filled_avg_price: "order.filled_avg_price",
  status: "order.status",
};

// As `tradeproxy export` does: spreadsheets take a field for a formula by its first character.
const FORMULA = /^(?:[\s\u200b-\u200f\u2060]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])/;
const INNER_FORMULA =
  /([;\t\r\n](?:[^\S\t\r\n]|["\u200b-\u200f\u2060])*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])/g;
const NUMBER = /^[+-]?(?:\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|Infinity)$/;
const SPECIAL = /[",;\t\r\n]/;

/**
 * Return the entries as CSV, with a header; no field is a formula in a spreadsheet. The last columns
 * are the source of an event that the stream missed, the reason that Alpaca gives, and the account.
 */
export function toCsv(entries) {
  const header = [...Object.keys(COLUMNS), "recovered", "reason", "account"];
  return [header, ...entries.map(row)].map((cells) => `${cells.join(",")}\r\n`).join("");
}

function row({ account, recovered, text }) {
  const { data } = parse(text, source);
  const [time, ...others] = Object.values(COLUMNS).map((path) => find(data, path));
  const known = [time || find(data, "timestamp"), ...others, recovered];
  return [...known, find(data, "reason"), account].map(cell);
}

/** Keep a number's digits as Alpaca sent them, where the browser has them. */
function source(key, value, context) {
  return typeof value === "number" ? (context?.source ?? String(value)) : value;
}

function find(data, path) {
  const take = (part, name) => (Object.hasOwn(part ?? {}, name) ? part[name] : null);
  const value = path.split(".").reduce(take, data) ?? "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function cell(value) {
  const text = value.replaceAll(/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g, "\ufffd");
  const begun = FORMULA.test(text) && !NUMBER.test(text) ? `'${text}` : text;
  const safe = begun.replaceAll(INNER_FORMULA, "$1'");
  return SPECIAL.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Let the browser save a text as a file. */
export function save(text, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers ask where to save it
}
