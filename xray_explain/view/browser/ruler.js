// Lengths on the picture: a bar that shows its scale, and a line between two points that a reader sets. Whose
// millimetres they are stands beside every number; a picture without a spacing has pixels.
import { toPane } from "./geometry.js";
import { all, layoutOf } from "./state.js";

/** A length without digits that nobody could measure, as xray_explain.evidence.extent has it. */
export const lengthText = (length) => (length >= 9.95 ? length.toFixed(0) : String(Number(length.toPrecision(2))));

const inWords = (length, spacing) => `${lengthText(length)} ${spacing ? "mm" : "pixels"}`;
const whose = (spacing) => (spacing ? `, ${spacing.words}` : "");

/** The distance of two points of the picture, in mm where its header states a spacing, else in its pixels. */
export const distance = (spacing, [x0, y0], [x1, y1]) =>
  Math.hypot((x1 - x0) * (spacing?.columns ?? 1), (y1 - y0) * (spacing?.rows ?? 1));

/** The largest of 1, 2, 5, 10, 20, 50 … that is no longer. */
export function roundLength(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return power * [5, 2, 1].find((n) => n * power <= most * (1 + 1e-9));
}

/** A bar of at most a quarter of the pane: its share of the pane's width, and its words. */
export function scaleBar(g, spacing) {
  const size = spacing?.columns ?? 1, length = roundLength(g.width / 4 / g.scale * size);
  return { share: length / size * g.scale / g.width, text: `${inWords(length, spacing)}${whose(spacing)}` };
}

/** What the read-out says of the line; "" where there is none. */
export function rulerText({ ruler, point }, { spacing }) {
  const to = ruler && (ruler.to ?? point);
  return to ? `${inWords(distance(spacing, ruler.from, to), spacing)}${whose(spacing)}` : "";
}

/** Set the one end of the line at a point, then the other, then take the line away. */
export function setRuler(view, at) {
  const { ruler } = view;
  if (!ruler) view.ruler = { from: at, to: null };
  else view.ruler = ruler.to ? null : { from: ruler.from, to: at };
}

/** Lay bar and line over both panes, as they are zoomed now. */
export function placeRuler(view, picture) {
  for (const bar of all(view, ".xe-scale")) bar.hidden = !picture;
  const to = picture && view.ruler && (view.ruler.to ?? view.point);
  for (const line of all(view, ".xe-ruler")) line.toggleAttribute("hidden", !to);
  if (!picture) return;
  const g = layoutOf(view, picture), { share, text } = scaleBar(g, picture.spacing);
  for (const bar of all(view, ".xe-scale")) {
    bar.style.setProperty("--length", `${100 * share}%`);
    bar.lastChild.textContent = text;
  }
  if (to) for (const line of all(view, ".xe-ruler")) drawLine(line, g, view.ruler.from, to, rulerText(view, picture));
}

function drawLine(svg, g, from, to, text) {
  const [[x0, y0], [x1, y1]] = [from, to].map(([x, y]) => toPane(g, x, y)), length = Math.hypot(x1 - x0, y1 - y0) || 1;
  const side = [(y0 - y1) / length * g.width / 90, (x1 - x0) / length * g.width / 90];  // of the ticks at both ends
  const tick = (x, y) => `M${x - side[0]} ${y - side[1]}L${x + side[0]} ${y + side[1]}`;
  svg.setAttribute("viewBox", `0 0 ${g.width} ${g.height}`);
  for (const path of svg.querySelectorAll("path"))
    path.setAttribute("d", `M${x0} ${y0}L${x1} ${y1}${tick(x0, y0)}${tick(x1, y1)}`);
  const words = svg.querySelector("text"), right = x1 > g.width / 2;
  words.textContent = text.split(",")[0];
  Object.entries({ x: x1 + (right ? -1 : 1) * g.width / 50, y: y1 + g.width / 40, "font-size": g.width / 36,
    "text-anchor": right ? "end" : "start" }).forEach(([name, value]) => words.setAttribute(name, value));
}
