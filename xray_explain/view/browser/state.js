// One view on a page: its elements, the model that it shares with Python, and what Python has told of it.
import { layout } from "./geometry.js";
import { PAGE } from "./page.js";

/** What a reader turns: traits of the model, and names of the controls. */
export const TURNED = ["case_idx", "class_idx", "versus", "method", "scale", "interpolation", "colours", "opacity", "threshold",
  "contour", "outline", "window", "level", "zoom", "centre"];

export const one = (view, selector) => view.root.querySelector(selector);
export const all = (view, selector) => [...view.root.querySelectorAll(selector)];

/** An empty view in `el`. */
export function newView(model, el) {
  const root = document.createElement("section");
  root.className = "xe";
  root.setAttribute("aria-label", "Radiograph and evidence");
  root.dataset.lmSuppressShortcuts = "true";  // JupyterLab's single-key commands keep out
  root.innerHTML = PAGE;
  el.append(root);
  return {
    model, root, canvases: [...root.querySelectorAll("canvas")], panes: [...root.querySelectorAll(".xe-pane")],
    config: null,   // what the setup brought: classes, options, ranges, colours
    screen: null,   // all words of Python, and which picture and controls they are of
    pixels: null,   // a picture's greys as a pyramid, under its number
    maps: null,     // its maps of every class, under its number and their method
    point: null,    // x and y of the reading point in the picture
    ruler: null,    // from where to where it measures; `to` is null while it follows the reading point
    measures: false,  // a drag measures, and does not pan
    sampled: null,  // the greys of the pane as it is laid out now
    frame: 0,       // of the drawing that is asked for
    file: null,     // on its way to Python,
    awaits: 0,      // which has it when so many have arrived
  };
}

export const lookOf = ({ model }) => Object.fromEntries(TURNED.map((name) => [name, model.get(name)]));

export function turn({ model }, changes) {
  for (const [name, value] of Object.entries(changes)) model.set(name, value);
  model.save_changes();
}

/** Window, level and zoom as a picture comes with them. */
export function reset(view) {
  if (view.config) turn(view, view.config.untouched);
}

/** How a picture lies in its panes now. */
export const layoutOf = ({ canvases: [canvas], model }, picture) =>
  layout(picture.shape, [canvas.height, canvas.width], model.get("zoom"), model.get("centre"));
