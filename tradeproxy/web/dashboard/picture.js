// The life of an order as a picture: time from left to right, what is filled as growing bars.

import { toneOf } from "./event.js";
import { make, moment, word } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600;
const BASE = 84;
const TOP = 8;
const HEIGHT = 88;
const LEAST = 16; // between two events, if there is room
const LAST = 40; // behind the last event
const LISTED = 100;

const EXECUTIONS = new Set(["fill", "partial_fill"]);

/**
 * Return the place of each time (ms, ascending) from 0 to `width`: in proportion, but at least
 * `least` apart if there is room for that. Times that are no number are those before them.
 */
export function place(times, width, least = LEAST) {
  if (!times.length) return [];
  const known = times.map((time, index) => times.slice(0, index + 1).findLast(Number.isFinite));
  const first = known.find(Number.isFinite) ?? 0;
  const span = Math.max(0, ...known.filter(Number.isFinite)) - first;
  const gap = Math.min(least, width / times.length);
  let before = -gap;
  const places = known.map((time) => {
    const fair = span > 0 && time !== undefined ? ((time - first) / span) * width : 0;
    before = Math.max(fair, before + gap);
    return before;
  });
  const scale = Math.min(1, width / Math.max(1, before));
  return places.map((each) => each * scale);
}

/** Return the bars and marks of a timeline: `x`, `width`, `height` from 0 to 1, `tone`, `says`. */
export function measure(timeline, whole, now) {
  const times = timeline.map(({ time }) => Date.parse(time));
  const places = place(times, WIDTH - LAST);
  const amounts = timeline.map(({ filled_qty: filled }) => Math.max(0, Number(filled) || 0));
  const most = Math.max(Number(whole) || 0, ...amounts);
  return timeline.map((entry, index) => ({
    x: places[index],
    width: (places[index + 1] ?? WIDTH) - places[index],
    height: most ? amounts[index] / most : 0,
    isFill: EXECUTIONS.has(entry.event),
    tone: toneOf(word(entry.event)),
    time: moment(times[index], now),
    says: describe(entry, whole),
  }));
}

function describe({ qty, price, filled_qty: filled }, whole) {
  const part = word(qty) && `${word(qty)}${word(price) && ` at ${word(price)}`}`;
  const sum = Number(filled) && `filled ${word(filled)}${word(whole) && ` of ${word(whole)}`}`;
  return [part, sum].filter(Boolean).join(" · ");
}

/** Return the picture of an order with its `timeline`, and its steps as a list. */
export function draw(order, now) {
  const whole = word(order.qty);
  const steps = measure(order.timeline, whole, now);
  const svg = document.createElementNS(SVG, "svg");
  set(svg, { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const names = order.timeline.map(({ event }) => word(event));
  const end = steps.at(-1).says || "nothing filled";
  svg.setAttribute("aria-label", `from ${names.at(0)} to ${names.at(-1)}: ${end}`);
  for (const [index, step] of steps.entries()) {
    const title = `${step.time} ${names[index]} ${step.says}`;
    const height = step.height * (BASE - TOP);
    const tone = step.isFill ? step.tone : "over";
    if (height) {
      const bar = { x: step.x, y: BASE - height, width: Math.max(1, step.width - 1), height };
      svg.append(shape("rect", bar, tone, title));
    }
    const x = step.x + 1;
    svg.append(shape("line", { x1: x, x2: x, y1: TOP, y2: BASE }, step.tone, title));
  }
  const axis = make("div", "axis", make("span", "", steps[0].time));
  if (steps.length > 1) axis.append(make("span", "", steps.at(-1).time));
  const cut = Math.max(0, steps.length - LISTED);
  const listed = steps.slice(cut).map((step, index) => item(step, names[cut + index]));
  const list = make("ol", "steps", ...listed);
  if (cut) list.prepend(make("li", "quiet", `${cut} earlier events are not listed`));
  return [svg, axis, list];
}

function item({ time, tone, says }, name) {
  const badge = make("span", "badge", name || "?");
  badge.dataset.tone = tone;
  return make("li", "", make("span", "quiet", time), badge, make("span", "", says));
}

function shape(name, attributes, tone, says) {
  const element = document.createElementNS(SVG, name);
  set(element, attributes);
  element.setAttribute("data-tone", tone);
  const title = document.createElementNS(SVG, "title");
  title.textContent = says;
  element.append(title);
  return element;
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
}
