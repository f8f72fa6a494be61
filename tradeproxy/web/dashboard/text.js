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

const two = (number) => String(number).padStart(2, "0");

/** Format a duration in its largest unit. */
export const roughly = (milliseconds) => duration(milliseconds).split(" ").slice(0, 2).join(" ");

/** Format a time in the local time zone, with the date if it is not today. */
export function moment(milliseconds, now, fine = true) {
  const then = new Date(milliseconds);
  if (Number.isNaN(then.getTime())) return "";
  const clock = `${two(then.getHours())}:${two(then.getMinutes())}:${two(then.getSeconds())}`;
  const time = fine ? `${clock}.${String(then.getMilliseconds()).padStart(3, "0")}` : clock;
  if (then.toDateString() === new Date(now).toDateString()) return time;
  return `${two(then.getMonth() + 1)}-${two(then.getDate())} ${clock}`;
}

/** Format a latency given in seconds. */
export function latency(seconds) {
  const milliseconds = seconds * 1000;
  if (milliseconds < 10) return `${milliseconds.toFixed(1)} ms`;
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  return `${seconds.toFixed(1)} s`;
}
