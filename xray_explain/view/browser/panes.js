// Both panes and what is written on and below them, drawn from what may stand on the screen now.
import { current } from "./current.js";
import { clamp, toPane } from "./geometry.js";
import {
  contourEnds, contourPath, DASHES, fullColour, isAbsolute, joinedLines, linesPath, paint, peakOf, positions, ringsPath,
  sampleGrey, sampleHeat, stroke, topOf, within,
} from "./draw.js";
import { fillWords, mirrorAll } from "./mirror.js";
import { drawTags, shownRegions } from "./regions.js";
import { placeRuler, rulerText } from "./ruler.js";
import { all, layoutOf, one, turn } from "./state.js";
import { digits, readoutText, shownName, strength } from "./words.js";

/** Draw at the next frame of the screen, however often it is asked for until then. */
export function redraw(view) {
  view.frame ||= requestAnimationFrame(() => {
    view.frame = 0;
    draw(view);
  });
}

/** Everything on the screen, from the state and from nothing else. */
function draw(view) {
  if (!view.config) return;
  const now = current(view);
  mirrorAll(view, now);
  fillWords(view, now);
  if (now.picture && view.canvases[0].width) drawPicture(view, now);
  else for (const canvas of view.canvases) canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  captionEvidence(view, now);
  readout(view, now);
  view.root.dataset.drawn = Number(view.root.dataset.drawn || 0) + 1;
}

/** Positions and greys of the pane's pixels, which hold until the layout changes. */
function samplePane(view, picture, g) {
  const key = [picture.number, g.scale, g.cx, g.cy, g.height, g.width].join();
  if (view.sampled?.key === key) return view.sampled;
  const x = positions(g.width, g.columns, g.cx, g.scale), y = positions(g.height, g.rows, g.cy, g.scale);
  const inside = { x: within(x, g.columns), y: within(y, g.rows) };
  view.sampled = { key, x, y, inside, grey: sampleGrey(picture.levels, x, y, picture.shape, g.scale) };
  return view.sampled;
}

/** The heat over a pane; none where there are no maps. */
const heatOver = ({ maps, look, picture }, x, y) => maps
  ? sampleHeat(maps, look, x, y, picture.shape)
  : { local: new Float32Array(x.length * y.length), full: 1 };

function drawPicture(view, now) {
  const { picture, look, maps } = now, g = layoutOf(view, picture), { x, y, inside, grey } = samplePane(view, picture, g);
  const heat = heatOver(now, x, y), contexts = view.canvases.map((canvas) => canvas.getContext("2d"));
  paint(grey, heat, look, view.config.lut[look.colours], inside, [g.height, g.width]).forEach((rgba, i) =>
    contexts[i].putImageData(new ImageData(rgba, g.width, g.height), 0, 0));
  const lined = maps && look.contour, step = look.interpolation === "nearest" ? 1 : 4;  // a square has corners
  if (lined) {
    const ends = contourEnds(heat, look.threshold, g.width, inside, step), broken = look.line !== "solid";
    stroke(contexts[1], broken ? linesPath(joinedLines(ends)) : contourPath(ends), "#ffffff", DASHES[look.line]);
  }
  if (look.outline) {
    const rings = picture.outlines.map((ring) => ring.map(([px, py]) => toPane(g, px, py)));
    for (const context of contexts) stroke(context, ringsPath(rings), "rgb(64, 240, 255)");
  }
  if (lined && look.trusted) drawTags(contexts[1], shownRegions(g, maps, look), g);
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

const UNIT = "A local logit is what the score of the class would be if the whole picture looked like this place";

/** Where the contour runs. */
const lineText = (maps, look) => look.contour ? `, line at ${digits(look.threshold * fullColour(maps, look))}` : "";

/** What the map shows, on what scale; or that there is none. */
function captionEvidence(view, { picture, maps, look, noMap }) {
  const { config } = view, nothing = one(view, ".xe-none"), caption = one(view, '[data-caption="overlay"]');
  const name = maps && shownName(config.classes, maps, look), none = maps && topOf(maps, look) <= 0;
  nothing.hidden = !none && !(picture && noMap);
  nothing.textContent = none ? `No positive evidence for ${name}` : "No map by this method";
  if (!maps) return caption.replaceChildren("Evidence");
  const full = none && !isAbsolute(maps, look) ? "–" : digits(fullColour(maps, look));
  const unit = maps.absolute === null ? "" : " local logits", bar = colourBar(config.lut[look.colours], look.threshold);
  caption.title = unit && UNIT;
  caption.replaceChildren(`${name}${strength(maps, look)}`, " 0 ", bar, ` ${full}${unit}${none ? "" : lineText(maps, look)}`);
}

/** The read-out at the reading point, or where the evidence is highest. */
export function readout(view, now = current(view)) {
  const { maps, picture, look } = now, { point } = view, line = one(view, ".xe-readout");
  for (const cross of all(view, ".xe-cross")) cross.hidden = !point || !maps;
  placeRuler(view, picture);
  if (!maps) return line.replaceChildren();
  const [x, y] = point ?? peakOf(maps, look), heat = sampleHeat(maps, look, [x], [y], picture.shape);
  placeCrosses(view, picture, x, y);
  const [grey] = sampleGrey(picture.levels, [x], [y], picture.shape, 1);
  const where = !point && topOf(maps, look) > 0 ? "Highest at" : "At";
  const length = rulerText(view, picture);
  line.textContent = length ? `${length}; at x ${Math.floor(x)}, y ${Math.floor(y)}`
    : readoutText(where, [x, y], shownName(view.config.classes, maps, look), heat, grey);
}

function placeCrosses(view, picture, x, y) {
  const g = layoutOf(view, picture), [px, py] = toPane(g, x, y), ratio = g.width / view.panes[0].clientWidth;
  for (const cross of all(view, ".xe-cross")) {
    cross.style.left = `${px / ratio}px`;
    cross.style.top = `${py / ratio}px`;
  }
}

const NARROW = 760;  // pixels; below, everything stands one below the other and the page scrolls

/** As tall as the page, or as the notebook's window; the canvases as fine as the screen. */
export function resize(view) {
  const { root, canvases, panes: [pane] } = view;
  const notebook = root.closest(".jp-WindowedPanel-outer")
    ?? root.closest(".jp-Notebook-scroller, .jp-NotebookPanel-notebook");
  const room = notebook ? notebook.clientHeight - 12 : innerHeight - root.getBoundingClientRect().top - scrollY;
  const narrow = root.parentElement?.clientWidth < NARROW;
  root.classList.toggle("xe-narrow", narrow);
  root.style.height = narrow ? "auto" : `${clamp(room, 520, 1400)}px`;
  const [height, width] = [pane.clientHeight, pane.clientWidth].map((side) => Math.round(side * devicePixelRatio));
  if ((canvases[0].height === height && canvases[0].width === width) || !height || !width) return;
  for (const canvas of canvases) Object.assign(canvas, { height, width });
  turn(view, { pane: [height, width] });
  redraw(view);
}
