// Controls and the traits that they turn, each other's mirror; buttons; the worklist; files.
import { busy, lookOf, one, all, reset, turn, TURNED } from "./state.js";
import { digits } from "./words.js";

/** Put a control where its trait is. */
export function mirror(view, name) {
  const value = view.model.get(name), control = one(view, `.xe-controls [name="${name}"], header [name="${name}"]`);
  if (name === "class_idx")
    for (const radio of all(view, '[name="class_idx"]')) radio.checked = Number(radio.value) === value;
  if (!control) return;
  if (control.type === "checkbox") control.checked = value;
  else control.value = value;
  const output = one(view, `[data-of="${name}"]`);
  if (output) output.textContent = name === "zoom" ? `${digits(value)}×` : value.toFixed(2);
}

/** Ranges, choices and classes as Python has them, and every control where its trait is. */
export function fillControls(view, { ranges, options }, rows) {
  for (const [name, range] of Object.entries(ranges)) Object.assign(one(view, `[name="${name}"]`), range);
  for (const [name, list] of Object.entries(options))
    one(view, `[name="${name}"]`).replaceChildren(...list.map(([value, text]) => new Option(text, value)));
  one(view, '[name="case_idx"]').lastChild.disabled = true;  // the reader's own file is chosen by its button
  one(view, ".xe-classes").replaceChildren(one(view, ".xe-classes legend"), ...rows);
  for (const name of TURNED) mirror(view, name);
}

/** What a control says, as its trait has it. */
function valueOf(control) {
  if (control.type === "checkbox") return control.checked;
  const number = control.type === "range" || ["case_idx", "class_idx", "versus"].includes(control.name);
  return number ? Number(control.value) : control.value;
}

function takeInput(view, control) {
  if (!TURNED.includes(control.name)) return;
  if (control.name === "case_idx" || control.name === "method") busy(view, "Computing …");
  turn(view, { [control.name]: valueOf(control) });
}

/** Go to the next picture of the worklist, or the one before. */
export function step(view, by) {
  const { case_idx: now } = lookOf(view), to = now < 0 ? 0 : now + by;
  if (!view.config || to < 0 || to >= view.config.options.case_idx.length - 1) return;
  busy(view, "Computing …");
  turn(view, { case_idx: to });
}

function press(view, { step: by, do: action }) {
  if (by) step(view, Number(by));
  else if (action === "reset") reset(view);
  else if (action) view.model.send({ kind: action });
}

/** Announce a reader's file; Python asks for its pieces. */
function upload(view, files) {
  if (!files.length) return;
  [view.file] = files;
  busy(view, `Reading ${view.file.name} …`);
  view.model.send({ kind: "begin", name: view.file.name, size: view.file.size, count: files.length });
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
