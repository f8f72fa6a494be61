// A download of the events that are shown, for a spreadsheet.

const COLUMNS = {
  time: "at",
  account: "account",
  event: "event",
  event_id: "id",
  symbol: "symbol",
  side: "side",
  quantity: "quantity",
  price: "price",
  status: "status",
  order: "order",
  recovered: "recovered",
};

// As `tradeproxy export` does: spreadsheets take a field for a formula by its first character.
const FORMULA = /^(?:\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])/;
const INNER_FORMULA = /([;\t\r\n][^\S\t\r\n]*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])/g;
const NUMBER = /^[+-]?(?:\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|Infinity)$/;
const SPECIAL = /[",;\t\r\n]/;

/** Return the entries as CSV, with a header; no field is a formula in a spreadsheet. */
export function toCsv(entries) {
  const rows = entries.map((entry) => Object.values(COLUMNS).map((name) => cell(entry[name])));
  return [Object.keys(COLUMNS), ...rows].map((row) => `${row.join(",")}\r\n`).join("");
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
