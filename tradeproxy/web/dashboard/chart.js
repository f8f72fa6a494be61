// A bar chart over time: one bar for each step, the newest on the right.

import { make, say } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 40;
const STEP = 4;

/** Draws into a <figure>; the scale of the chart is never smaller than `least`. */
export class Chart {
  constructor(figure, title, least, write) {
    this.least = least;
    this.write = write;
    this.bars = [];
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.top = make("span", "top");
    this.span = make("span", "");
    figure.replaceChildren(
      make("figcaption", "", make("span", "", title), this.top),
      this.svg,
      make("div", "axis", this.span, make("span", "", "now")),
    );
    this.title = title;
  }

  /** Show `values`, null if nothing was measured; `end` is the end of the last step (ms). */
  show(values, step, end, describe) {
    if (this.bars.length !== values.length) this.#begin(values.length);
    const measured = values.filter((value) => value !== null);
    const highest = Math.max(0, ...measured);
    const scale = Math.max(this.least, highest);
    values.forEach((value, index) => {
      const { rect, title } = this.bars[index];
      const height = value ? Math.max(1.5, (value / scale) * HEIGHT) : 0;
      rect.setAttribute("y", String(HEIGHT - height));
      rect.setAttribute("height", String(height));
      say(title, describe(value, end - (values.length - index) * step * 1000));
    });
    say(this.top, measured.length ? `max ${this.write(highest)}` : "");
    say(this.span, `${Math.round((values.length * step) / 60)} min ago`);
    const label = measured.length ? this.top.textContent : "nothing";
    this.svg.setAttribute("aria-label", `${this.title}: ${label}`);
  }

  #begin(length) {
    this.svg.setAttribute("viewBox", `0 0 ${length * STEP} ${HEIGHT}`);
    this.bars = Array.from({ length }, (_, index) => {
      const rect = document.createElementNS(SVG, "rect");
      const title = document.createElementNS(SVG, "title");
      rect.setAttribute("x", String(index * STEP + 0.5));
      rect.setAttribute("width", String(STEP - 1));
      rect.append(title);
      return { rect, title };
    });
    this.svg.replaceChildren(...this.bars.map((bar) => bar.rect));
  }
}
