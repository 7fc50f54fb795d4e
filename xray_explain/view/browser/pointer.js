// The pointer and the keys on a pane: left pans, right or with Shift it windows, the wheel zooms; arrows read.
import { peakOf } from "./draw.js";
import { clamp, draggedCentre, toPicture, zoomedCentre } from "./geometry.js";
import { step } from "./controls.js";
import { current } from "./current.js";
import { readout } from "./panes.js";
import { setRuler } from "./ruler.js";
import { layoutOf, lookOf, reset, turn } from "./state.js";

const inRange = ({ min, max }, value) => clamp(value, min, max);

/** Zoom by a factor, holding the point of the picture under (px, py) of the pane; without one, under its middle. */
function zoom(view, factor, px, py) {
  const { picture } = current(view);
  if (!picture) return;
  const g = layoutOf(view, picture), before = view.model.get("zoom");
  const after = inRange(view.config.ranges.zoom, before * factor);
  const centre = zoomedCentre(g, after / before, px ?? g.width / 2, py ?? g.height / 2);
  turn(view, { zoom: after, centre: after === 1 ? [0.5, 0.5] : centre });
}

/** Pan by pixels of the pane. */
function pan(view, dx, dy) {
  const { picture } = current(view);
  if (picture) turn(view, { centre: draggedCentre(layoutOf(view, picture), dx, dy) });
}

/** Widen the window with a drag to the right, raise its level with one downwards. */
function changeWindow(view, dx, dy) {
  const { window, level } = lookOf(view), { ranges } = view.config;
  turn(view, { window: inRange(ranges.window, window + dx / 300), level: inRange(ranges.level, level + dy / 300) });
}

/** Move the reading point by fiftieths of what is seen. */
function movePoint(view, dx, dy) {
  const { picture, maps, look } = current(view);
  if (!maps) return;
  const g = layoutOf(view, picture), by = Math.max(g.width, g.height) / g.scale / 50;
  const [x, y] = view.point ?? peakOf(maps, look);
  view.point = [clamp(x + dx * by, 0, g.columns - 1), clamp(y + dy * by, 0, g.rows - 1)];
  readout(view);
}

/** Set an end of the ruler at the reading point, or where the evidence is highest. */
function measure(view) {
  const { maps, look } = current(view);
  view.point ??= maps && peakOf(maps, look);
  if (view.point) setRuler(view, view.point);
  readout(view);
}

/** Where an event is, in pixels of the pane's canvas. */
function panePoint(view, pane, event) {
  const box = pane.getBoundingClientRect(), ratio = view.canvases[0].width / box.width;
  return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
}

function movePointer(view, pane, event) {
  const { picture } = current(view);
  if (!picture) return;
  const g = layoutOf(view, picture), ratio = g.width / pane.clientWidth;
  const [x, y] = toPicture(g, ...panePoint(view, pane, event));
  view.point = x >= 0 && y >= 0 && x < g.columns && y < g.rows ? [x, y] : null;
  const left = event.buttons & 1, right = event.buttons & 2;
  if (right || (left && event.shiftKey)) changeWindow(view, event.movementX, event.movementY);
  else if (left && !view.measures) pan(view, event.movementX * ratio, event.movementY * ratio);
  readout(view);
}

/** Begin a drag, which measures from here where the ruler is on. */
function takeHold(view, pane, event) {
  pane.setPointerCapture(event.pointerId);
  movePointer(view, pane, event);
  if (view.measures && event.button === 0) view.ruler = view.point && { from: view.point, to: null };
}

/** The end of such a drag; the line stays. */
function letGo(view) {
  if (view.measures && view.ruler && view.point) view.ruler.to ??= view.point;
  readout(view);
}

/** The wheel zooms; where the page itself has to scroll, with Ctrl. */
function turnWheel(view, pane, event) {
  if (view.root.classList.contains("xe-narrow") && !event.ctrlKey) return;
  event.preventDefault();
  zoom(view, Math.exp(-event.deltaY / 400), ...panePoint(view, pane, event));
}

export function listenToPointer(view, pane) {
  pane.addEventListener("pointerdown", (event) => takeHold(view, pane, event));
  pane.addEventListener("pointermove", (event) => movePointer(view, pane, event));
  pane.addEventListener("pointerup", () => letGo(view));
  pane.addEventListener("pointerleave", () => {
    view.point = null;
    readout(view);
  });
  pane.addEventListener("dblclick", () => reset(view));
  pane.addEventListener("contextmenu", (event) => event.preventDefault());
  pane.addEventListener("wheel", (event) => turnWheel(view, pane, event), { passive: false });
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const PANE_KEYS = {
  "+": (view) => zoom(view, 1.25),
  "=": (view) => zoom(view, 1.25),
  "-": (view) => zoom(view, 0.8),
  "0": reset,
  "m": measure,
  "o": (view) => turn(view, { outline: !view.model.get("outline") }),
  "c": (view) => turn(view, { contour: !view.model.get("contour") }),
};

/** What a key does on a pane, or nothing. */
function paneAction(view, { key, shiftKey }) {
  if (Object.hasOwn(ARROWS, key)) {
    const [dx, dy] = ARROWS[key];
    return shiftKey ? () => pan(view, -40 * dx, -40 * dy) : () => movePoint(view, dx, dy);
  }
  if (Object.hasOwn(PANE_KEYS, key)) return () => PANE_KEYS[key](view);
  const number = Number(key);
  if (number >= 1 && number <= view.config.classes.length) return () => turn(view, { class_idx: number - 1 });
  return null;
}

/** What a key does; where nothing on the page has the focus, it is a pane's. */
function keyAction(view, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  if (event.key === "PageDown") return () => step(view, 1);
  if (event.key === "PageUp") return () => step(view, -1);
  const onPane = view.panes.includes(event.target) || !view.root.contains(event.target);
  return onPane && current(view).picture ? paneAction(view, event) : null;
}

function pressKey(view, event) {
  event.stopPropagation();
  const action = view.config && keyAction(view, event);
  if (!action) return;
  action();
  event.preventDefault();
}

/** Keys on the view; on a page of its own from the start, before anything has the focus. Gives what ends it. */
export function listenToKeys(view) {
  const press = (event) => pressKey(view, event);
  view.root.addEventListener("keydown", press);
  if (!document.body.dataset.voila) return () => {};
  const pressBody = (event) => { if (event.target === document.body) press(event); };
  document.addEventListener("keydown", pressBody);
  return () => document.removeEventListener("keydown", pressBody);
}
