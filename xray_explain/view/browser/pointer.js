// The pointer and the keys on a pane: left pans, right or with Shift it windows, the wheel zooms; arrows read.
import { peakOf } from "./draw.js";
import { clamp, draggedCentre, toPicture, zoomedCentre } from "./geometry.js";
import { step } from "./controls.js";
import { readout } from "./panes.js";
import { layoutOf, lookOf, reset, turn } from "./state.js";

const inRange = ({ min, max }, value) => clamp(value, min, max);

/** Zoom by a factor, holding the point of the picture under (px, py) of the pane; without one, under its middle. */
function zoom(view, factor, px, py) {
  const g = layoutOf(view), before = view.model.get("zoom"), after = inRange(view.config.ranges.zoom, before * factor);
  const centre = zoomedCentre(g, after / before, px ?? g.width / 2, py ?? g.height / 2);
  turn(view, { zoom: after, centre: after === 1 ? [0.5, 0.5] : centre });
}

/** Pan by pixels of the pane. */
const pan = (view, dx, dy) => turn(view, { centre: draggedCentre(layoutOf(view), dx, dy) });

/** Widen the window with a drag to the right, raise its level with one downwards. */
function changeWindow(view, dx, dy) {
  const { window, level } = lookOf(view), { ranges } = view.config;
  turn(view, { window: inRange(ranges.window, window + dx / 300), level: inRange(ranges.level, level + dy / 300) });
}

/** Move the reading point by fiftieths of what is seen. */
function movePoint(view, dx, dy) {
  const g = layoutOf(view), by = Math.max(g.width, g.height) / g.scale / 50;
  const [x, y] = view.point ?? peakOf(view.maps, lookOf(view));
  view.point = [clamp(x + dx * by, 0, g.columns - 1), clamp(y + dy * by, 0, g.rows - 1)];
  readout(view);
}

/** Where an event is, in pixels of the pane's canvas. */
function panePoint(view, pane, event) {
  const box = pane.getBoundingClientRect(), ratio = view.canvases[0].width / box.width;
  return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
}

function movePointer(view, pane, event) {
  if (!view.picture || !view.maps) return;
  const g = layoutOf(view), [x, y] = toPicture(g, ...panePoint(view, pane, event)), ratio = g.width / pane.clientWidth;
  view.point = x >= 0 && y >= 0 && x < g.columns && y < g.rows ? [x, y] : null;
  const left = event.buttons & 1, right = event.buttons & 2;
  if (right || (left && event.shiftKey)) changeWindow(view, event.movementX, event.movementY);
  else if (left) pan(view, event.movementX * ratio, event.movementY * ratio);
  readout(view);
}

function turnWheel(view, pane, event) {
  if (!view.picture) return;
  event.preventDefault();
  zoom(view, Math.exp(-event.deltaY / 400), ...panePoint(view, pane, event));
}

export function listenToPointer(view, pane) {
  pane.addEventListener("pointerdown", (event) => pane.setPointerCapture(event.pointerId));
  pane.addEventListener("pointermove", (event) => movePointer(view, pane, event));
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

function keyAction(view, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  if (event.key === "PageDown") return () => step(view, 1);
  if (event.key === "PageUp") return () => step(view, -1);
  return view.panes.includes(event.target) && view.picture && view.maps ? paneAction(view, event) : null;
}

export function listenToKeys(view) {
  view.root.addEventListener("keydown", (event) => {
    event.stopPropagation();
    const action = keyAction(view, event);
    if (!action) return;
    action();
    event.preventDefault();
  });
}
