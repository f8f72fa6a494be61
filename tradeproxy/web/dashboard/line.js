// What was realised in a day as a line of steps.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600;
const HEIGHT = 60;
const EDGE = 3;

/**
 * Return the corners of the line and the height of zero, for pairs of a time and a sum. The line
 * begins at zero, and ends at the right edge.
 */
export function measureLine(points) {
  const times = points.map(([time]) => Date.parse(time));
  const sums = points.map(([, sum]) => Number(sum) || 0);
  const [least, most] = [Math.min(0, ...sums), Math.max(0, ...sums)];
  const scale = most > least ? (HEIGHT - 2 * EDGE) / (most - least) : 0;
  const high = (sum) => round(HEIGHT - EDGE - (sum - least) * scale);
  const span = Math.max(1, times.at(-1) - times[0]);
  const corners = [[0, high(0)]];
  points.forEach((_, index) => {
    const share = (times[index] - times[0]) / span;
    const x = round((0.04 + 0.9 * (Number.isFinite(share) ? share : 0)) * WIDTH);
    corners.push([x, corners.at(-1)[1]], [x, high(sums[index])]);
  });
  corners.push([WIDTH, corners.at(-1)[1]]);
  return { corners, zero: high(0) };
}

const round = (number) => Math.round(number * 10) / 10;

/** Return the picture of at least one point; `says` describes it to those who cannot see it. */
export function drawLine(points, says) {
  const { corners, zero } = measureLine(points);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", says);
  const axis = document.createElementNS(SVG, "line");
  for (const [name, value] of Object.entries({ x1: 0, x2: WIDTH, y1: zero, y2: zero })) {
    axis.setAttribute(name, String(value));
  }
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", corners.map((corner) => corner.join(",")).join(" "));
  line.setAttribute("data-tone", Number(points.at(-1)[1]) < 0 ? "bad" : "good");
  svg.append(axis, line);
  return svg;
}
