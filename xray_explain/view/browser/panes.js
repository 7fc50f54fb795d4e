// Both panes and what is written on and below them, drawn from what is here already.
import { clamp, toPane } from "./geometry.js";
import {
  contourEnds, contourPath, fullColour, isAbsolute, paint, peakOf, positions, ringsPath, sampleGrey, sampleHeat, stroke,
  topOf, within,
} from "./draw.js";
import { all, layoutOf, lookOf, one, turn } from "./state.js";
import { digits, readoutText, shownName, strength } from "./words.js";

/** Draw at the next frame of the screen, however often it is asked for until then. */
export function redraw(view) {
  view.frame ||= requestAnimationFrame(() => {
    view.frame = 0;
    draw(view);
  });
}

function draw(view) {
  if (view.picture && !view.maps) return;  // its evidence is the next message
  view.root.classList.toggle("xe-empty", !view.picture);
  if (view.picture && view.canvases[0].width) drawPicture(view, layoutOf(view), lookOf(view));
  else clear(view);
  readout(view);
  view.root.dataset.drawn = Number(view.root.dataset.drawn || 0) + 1;
}

function clear(view) {
  for (const canvas of view.canvases) canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  one(view, ".xe-none").hidden = true;
  one(view, '[data-caption="overlay"]').replaceChildren("Evidence");
}

/** Positions and greys of the pane's pixels, which hold until the layout changes. */
function samplePane(view, g) {
  const { picture, levels } = view, key = [picture.number, g.scale, g.cx, g.cy, g.height, g.width].join();
  if (view.sampled?.key === key) return view.sampled;
  const x = positions(g.width, g.columns, g.cx, g.scale), y = positions(g.height, g.rows, g.cy, g.scale);
  const inside = { x: within(x, g.columns), y: within(y, g.rows) };
  view.sampled = { key, x, y, inside, grey: sampleGrey(levels, x, y, picture.shape, g.scale) };
  return view.sampled;
}

function drawPicture(view, g, look) {
  const { x, y, inside, grey } = samplePane(view, g), heat = sampleHeat(view.maps, look, x, y, view.picture.shape);
  const contexts = view.canvases.map((canvas) => canvas.getContext("2d"));
  paint(grey, heat, look, view.config.lut[look.colours], inside, [g.height, g.width]).forEach((rgba, i) =>
    contexts[i].putImageData(new ImageData(rgba, g.width, g.height), 0, 0));
  if (look.contour) stroke(contexts[1], contourPath(contourEnds(heat, look.threshold, g.width, inside)), "#ffffff");
  if (look.outline) {
    const rings = view.picture.outlines.map((ring) => ring.map(([px, py]) => toPane(g, px, py)));
    for (const context of contexts) stroke(context, ringsPath(rings), "rgb(64, 240, 255)");
  }
  captionEvidence(view, look);
}

/** The colours from faint to full, with a mark at the threshold. */
function colourBar(lut, threshold) {
  const colour = (i) => lut.slice(3 * Math.min(i, 255), 3 * Math.min(i, 255) + 3).join(" ");
  const bar = document.createElement("i");
  bar.className = "xe-bar";
  bar.style.background = `linear-gradient(90deg, ${Array.from({ length: 17 }, (_, i) => `rgb(${colour(16 * i)})`)})`;
  bar.style.setProperty("--at", `${100 * threshold}%`);
  return bar;
}

function captionEvidence(view, look) {
  const { maps, config } = view, name = shownName(config.classes, look), none = topOf(maps, look) <= 0;
  one(view, ".xe-none").hidden = !none;
  one(view, ".xe-none").textContent = `No positive evidence for ${name}`;
  const full = none && !isAbsolute(maps, look) ? "–" : digits(fullColour(maps, look));
  const unit = maps.absolute === null ? "" : "local logits";
  one(view, '[data-caption="overlay"]').replaceChildren(
    `${name}${strength(maps, look)}`, " 0 ", colourBar(config.lut[look.colours], look.threshold),
    ` ${full} ${unit}`);
}

/** The read-out at the reading point, or where the evidence is highest. */
export function readout(view) {
  const { maps, picture, point } = view;
  for (const cross of all(view, ".xe-cross")) cross.hidden = !point || !picture;
  if (!picture || !maps) return one(view, ".xe-readout").replaceChildren();
  const look = lookOf(view), [x, y] = point ?? peakOf(maps, look);
  placeCrosses(view, x, y);
  const heat = sampleHeat(maps, look, [x], [y], picture.shape);
  const [grey] = sampleGrey(view.levels, [x], [y], picture.shape, 1);
  const where = !point && topOf(maps, look) > 0 ? "Highest at" : "At";
  one(view, ".xe-readout").textContent = readoutText(where, [x, y], shownName(view.config.classes, look), heat, grey);
}

function placeCrosses(view, x, y) {
  const g = layoutOf(view), [px, py] = toPane(g, x, y), ratio = g.width / view.panes[0].clientWidth;
  for (const cross of all(view, ".xe-cross")) {
    cross.style.left = `${px / ratio}px`;
    cross.style.top = `${py / ratio}px`;
  }
}

/** As tall as the page, or as the notebook's window; the canvases as fine as the screen. */
export function resize(view) {
  const { root, canvases, panes: [pane] } = view;
  const notebook = root.closest(".jp-WindowedPanel-outer")
    ?? root.closest(".jp-Notebook-scroller, .jp-NotebookPanel-notebook");
  const room = notebook ? notebook.clientHeight - 12 : innerHeight - root.getBoundingClientRect().top - scrollY;
  root.style.height = `${clamp(room, 520, 1400)}px`;
  const [height, width] = [pane.clientHeight, pane.clientWidth].map((side) => Math.round(side * devicePixelRatio));
  if ((canvases[0].height === height && canvases[0].width === width) || !height || !width) return;
  for (const canvas of canvases) Object.assign(canvas, { height, width });
  turn(view, { pane: [height, width] });
  redraw(view);
}
