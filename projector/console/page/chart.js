// A sparkline of the last two minutes: the newest value at the right, the largest at the top.

import { element } from "./elements.js";

const SPAN_SECONDS = 120;
const PADDING = 5;

function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Draws `points`, pairs of seconds and value, into `container`; `write` turns a value into text. */
export function draw(container, points, write, what) {
  if (!container.firstChild) {
    container.append(
      svg("svg", { role: "img" }),
      element("span", { className: "most" }),
      element("span", { className: "from" }, "2 min ago"),
      element("span", { className: "until" }, "now"),
    );
  }
  const [canvas, most] = container.children;
  const known = points.filter(([, value]) => value !== null);
  const last = points.length ? points[points.length - 1][0] : 0;
  const recent = known.filter(([at]) => at > last - SPAN_SECONDS);
  const top = Math.max(0, ...recent.map(([, value]) => value));
  const { width, height } = canvas.getBoundingClientRect();
  const x = (at) => PADDING + (1 - (last - at) / SPAN_SECONDS) * (width - 2 * PADDING);
  const y = (value) => height - 1 - (top > 0 ? value / top : 0) * (height - 1 - PADDING - 8);
  const shapes = [svg("line", { class: "base", x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5 })];
  if (recent.length > 1) {
    const line = recent.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(" L");
    const [from, until] = [x(recent[0][0]), x(recent[recent.length - 1][0])].map((value) => value.toFixed(1));
    if (top > 0) shapes.push(svg("line", { class: "top-line", x1: 0, x2: width, y1: y(top), y2: y(top) }));
    shapes.push(svg("path", { class: "area", d: `M${from},${height} L${line} L${until},${height} Z` }));
    shapes.push(svg("path", { class: "stroke", d: `M${line}` }));
  }
  if (recent.length) {
    const [at, value] = recent[recent.length - 1];
    shapes.push(svg("circle", { class: "head", cx: x(at), cy: y(value), r: 4 }));
  }
  canvas.replaceChildren(...shapes);
  canvas.setAttribute("aria-label", `${what} of the last two minutes, ${write(top)} at most`);
  most.textContent = top > 0 ? write(top) : "";
}
