// What a reader does to controls, buttons, the worklist and files.
import { announce } from "./current.js";
import { redraw } from "./panes.js";
import { lookOf, one, reset, turn, TURNED } from "./state.js";

/** What a control says, as its trait has it. */
function valueOf(control) {
  if (control.type === "checkbox") return control.checked;
  const number = control.type === "range" || ["case_idx", "class_idx", "versus"].includes(control.name);
  return number ? Number(control.value) : control.value;
}

function takeInput(view, control) {
  if (TURNED.includes(control.name)) turn(view, { [control.name]: valueOf(control) });
}

/** Go to the next picture of the worklist, or the one before. */
export function step(view, by) {
  const { case_idx: now } = lookOf(view), to = now < 0 ? 0 : now + by;
  if (!view.config || to < 0 || to >= view.config.options.case_idx.length - 1) return;
  turn(view, { case_idx: to });
}

/** A drag measures from now on, or pans again. */
function switchRuler(view) {
  view.measures = !view.measures;
  one(view, '[data-do="ruler"]').setAttribute("aria-pressed", view.measures);
  if (!view.measures) view.ruler = null;
  redraw(view);
}

function press(view, { step: by, do: action }) {
  if (by) step(view, Number(by));
  else if (action === "reset") reset(view);
  else if (action === "ruler") switchRuler(view);
  else if (action) view.model.send({ kind: action });
}

/** Announce a reader's file; Python asks for its pieces. Several are none, and Python says so. */
function upload(view, files) {
  if (!files.length) return;
  const [{ name, size }] = files;
  if (files.length === 1) {
    view.file = files[0];
    view.awaits = (view.screen?.arrivals ?? 0) + 1;
    announce(view);
    redraw(view);
  }
  view.model.send({ kind: "begin", name, size, count: files.length });
}

function drag(view, event) {
  event.preventDefault();
  event.stopPropagation();
  view.root.classList.toggle("xe-drop", event.type === "dragenter" || event.type === "dragover");
  if (event.type === "drop") upload(view, [...event.dataTransfer.files]);
}

export function listenToControls(view) {
  view.root.addEventListener("input", ({ target }) => takeInput(view, target));
  view.root.addEventListener("click", ({ target }) => press(view, target.dataset));
  one(view, 'input[type="file"]').addEventListener("change", ({ target }) => {
    upload(view, [...target.files]);
    target.value = "";
  });
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"])
    view.root.addEventListener(kind, (event) => drag(view, event));
}
