// Text and elements. All outside data becomes text nodes: nothing on the page parses HTML, since an
// event or a user agent may hold any text.

const LONGEST = 200;

/** Create an element with a class and children: strings or elements. */
export function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Format a value of an event that should be a string or number; others become "". */
export function word(value) {
  if (typeof value !== "string" && typeof value !== "number") return "";
  const text = String(value);
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

/** Round a computed amount: to 2 decimals from 1000 on, to 4 from 1 on, else to 4 digits. */
export function rounded(text) {
  const number = Number(text);
  if (!/^-?\d+\.\d{5,}$/.test(text) || !Number.isFinite(number)) return text;
  const size = Math.abs(number);
  const fixed = size >= 1 ? number.toFixed(size >= 1000 ? 2 : 4) : number.toPrecision(4);
  return fixed.includes("e") ? text : fixed.replace(/\.?0+$/, "");
}

/** Create a cell with a computed amount, rounded; its title has every digit. */
export function amount(className, value) {
  const cell = make("td", className, rounded(word(value)));
  cell.title = word(value);
  return cell;
}

/** Set an element's text if it differs: rewriting it would clear the user's selection. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const counts = new Intl.NumberFormat("en");

export const count = (number) => counts.format(number);

export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** Format a duration in its two largest units. */
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

const FIELDS = { month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit" };
let fields; // of a time in the chosen zone
let zoneName;

/** Show times in this zone of the IANA database; with "", in the browser's own. */
export function setZone(zone) {
  const timeZone = zone || undefined;
  const options = { ...FIELDS, year: "numeric", second: "2-digit", hourCycle: "h23", timeZone };
  fields = new Intl.DateTimeFormat("en-US", options);
  zoneName = new Intl.DateTimeFormat("en-US", { timeZone, timeZoneName: "short" });
}

setZone("");

/** Return the short name of the chosen zone at a time, such as EDT. */
export function zoneAt(milliseconds) {
  return zoneName.formatToParts(milliseconds).find(({ type }) => type === "timeZoneName").value;
}

function split(milliseconds) {
  const parts = fields.formatToParts(milliseconds);
  return Object.fromEntries(parts.map(({ type, value }) => [type, value]));
}

/**
 * Return the first and the last moment of a day such as 2026-07-24 in the chosen zone, as texts for
 * the proxy, whose times have microseconds.
 */
export function dayBounds(day) {
  const [begin, end] = [midnight(day, 0), midnight(day, 1)];
  return {
    since: new Date(begin).toISOString(),
    until: new Date(end - 1).toISOString().replace("Z", "999Z"),
  };
}

function midnight(day, after) {
  const wanted = Date.parse(`${day}T00:00:00Z`) + after * 86_400_000;
  let time = wanted;
  for (let round = 0; round < 2; round += 1) {
    const { year, month, day: date, hour, minute, second } = split(time);
    time += wanted - Date.UTC(year, month - 1, date, hour, minute, second);
  }
  return time;
}

/** Format a duration in its largest unit. */
export const roughly = (milliseconds) => duration(milliseconds).split(" ").slice(0, 2).join(" ");

/** Format a time in the chosen zone, with the date if it is not today there. */
export function moment(milliseconds, now, fine = true) {
  const date = new Date(milliseconds);
  if (Number.isNaN(date.getTime())) return "";
  const [then, today] = [split(date), split(now)];
  const clock = `${then.hour}:${then.minute}:${then.second}`;
  const isToday = ["year", "month", "day"].every((type) => then[type] === today[type]);
  if (!isToday) return `${then.month}-${then.day} ${clock}`;
  return fine ? `${clock}.${String(date.getUTCMilliseconds()).padStart(3, "0")}` : clock;
}

/** Format a latency given in seconds. */
export function latency(seconds) {
  const milliseconds = seconds * 1000;
  if (milliseconds < 10) return `${milliseconds.toFixed(1)} ms`;
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  return `${seconds.toFixed(1)} s`;
}
