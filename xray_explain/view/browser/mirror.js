// Controls and words as the state has them: filled anew at every drawing, so that nothing of a former state stays.
import { meters, sayAwaited } from "./current.js";
import { all, one, TURNED } from "./state.js";
import { digits } from "./words.js";

/** Put a control where its value is. */
function mirror(view, name, value) {
  const control = one(view, `.xe-controls [name="${name}"], header [name="${name}"]`);
  if (!control) return;
  if (control.type === "checkbox") control.checked = value;
  else if (control.value !== String(value)) control.value = value;
  const output = one(view, `[data-of="${name}"]`);
  if (output) output.textContent = name === "zoom" ? `${digits(value)}×` : value.toFixed(2);
}

function mirrorClasses(view, { look, maps }) {
  for (const radio of all(view, '[name="class_idx"]')) radio.checked = Number(radio.value) === look.class_idx;
  const noClass = !!maps && !maps.of_class;
  one(view, ".xe-classes").disabled = one(view, '[name="versus"]').disabled = noClass;
  if (noClass) one(view, '[name="versus"]').value = "";
  one(view, ".xe-classes legend").textContent = noClass ? "This method knows no class" : "Evidence for";
}

/** Every control where its trait is; a map that cannot do what is asked shows what it does. */
export function mirrorAll(view, now) {
  for (const name of TURNED) mirror(view, name, name === "opacity" ? view.model.get(name) : now.look[name]);
  mirrorClasses(view, now);
  one(view, '[name="scale"]').options[0].disabled = !!now.maps && now.maps.absolute === null;
  one(view, '[name="outline"]').disabled = !now.picture?.outlines.length;
}

/** Ranges, choices and classes as Python has them. */
export function fillControls(view, { ranges, options }, rows) {
  for (const [name, range] of Object.entries(ranges)) Object.assign(one(view, `[name="${name}"]`), range);
  for (const [name, list] of Object.entries(options))
    one(view, `[name="${name}"]`).replaceChildren(...list.map(([value, text]) => new Option(text, value)));
  one(view, '[name="case_idx"]').lastChild.disabled = true;  // the reader's own file is chosen by its button
  one(view, ".xe-classes").replaceChildren(one(view, ".xe-classes legend"), ...rows);
}

function note({ text, grave }) {
  const line = document.createElement("li");
  line.textContent = text;
  line.className = grave ? "xe-grave" : "";
  return line;
}

/** Warning, what the model is worth, verdict, probabilities and notes, in the order of their weight. */
function fillVerdict(view, summary) {
  one(view, ".xe-flag").textContent = summary?.warning ?? "";
  one(view, ".xe-worth").textContent = summary?.worth ?? "";
  const text = document.createElement("b");
  text.textContent = summary?.text ?? "";
  one(view, ".xe-verdict").replaceChildren(...(summary ? [text, `, ${summary.confidence}`] : []));
  meters(view).forEach((meter, i) => { meter.value = summary?.scores[i] ?? 0; });
  all(view, ".xe-classes output").forEach((output, i) => { output.textContent = summary?.probabilities[i] ?? ""; });
  one(view, ".xe-notes").replaceChildren(...(summary?.notes ?? []).map(note));
  view.root.classList.toggle("xe-doubt", !!summary && !summary.trusted);
}

/** All words that Python says of this state. */
export function fillWords(view, { words, picture, figures, regions }) {
  sayAwaited(view);
  fillVerdict(view, words?.summary);
  one(view, ".xe-error").textContent = words?.error ?? "";
  one(view, '[data-caption="plain"]').textContent = words?.caption || "Radiograph";
  one(view, ".xe-measured").textContent = figures || "";
  one(view, ".xe-regions").textContent = regions || "";
  view.root.classList.toggle("xe-empty", !picture);
}
