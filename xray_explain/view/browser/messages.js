// What Python says, by the kind of its message. A picture and its evidence come once; files go out in pieces.
import { fillControls } from "./controls.js";
import { pyramid } from "./draw.js";
import { classRow } from "./page.js";
import { redraw } from "./panes.js";
import { all, busy, one } from "./state.js";
import { pictureCaption, probability, worth } from "./words.js";

const bytes = (array) => array.buffer.slice(array.byteOffset, array.byteOffset + array.byteLength);

/** 256 colours for each of the names, from faint to hot. */
function colourTables(names, buffer) {
  const table = new Uint8Array(bytes(buffer));
  return Object.fromEntries(names.map((name, i) => [name, table.subarray(768 * i, 768 * (i + 1))]));
}

function setUp(view, message, [lut]) {
  view.config = { ...message, lut: colourTables(message.options.colours.map(([name]) => name), lut) };
  fillControls(view, message, message.classes.map(classRow));
  one(view, ".xe-model").textContent = [message.model, message.caveat].filter(Boolean).join(": ");
  one(view, ".xe-use").textContent = message.research_use;
}

function showPicture(view, message, [grey]) {
  view.picture = message.shape ? { ...message, number: (view.picture?.number ?? 0) + 1 } : null;
  view.levels = view.picture && pyramid(new Uint16Array(bytes(grey)), message.sent[1], message.sent[0]);
  view.point = view.sampled = view.maps = null;  // nothing of one picture is drawn on another
  if (!view.picture) redraw(view);
  showSummary(view, message.summary);
  one(view, '[data-caption="plain"]').textContent = view.picture ? pictureCaption(message) : "Radiograph";
  one(view, '[name="outline"]').disabled = !message.outlines?.length;
}

/** Prediction, confidence, probabilities and notes; without a summary nothing of the former picture's stays. */
function showSummary(view, summary) {
  one(view, ".xe-verdict").replaceChildren();
  one(view, ".xe-notes").replaceChildren();
  all(view, ".xe-classes meter").forEach((meter, i) => { meter.value = summary?.scores[i] ?? 0; });
  all(view, ".xe-classes output").forEach((output, i) => {
    output.textContent = summary ? probability(summary.scores[i]) : "";
  });
  if (!summary) return;
  const prediction = document.createElement("b");
  prediction.textContent = summary.prediction;
  one(view, ".xe-verdict").classList.toggle("xe-doubt", summary.unfamiliar);
  const of = summary.shown ? `likeliest ${summary.shown}` : "confidence";
  one(view, ".xe-verdict").append(prediction, ` ${of} ${probability(summary.confidence)}, ${worth(summary)}`);
  one(view, ".xe-notes").append(...summary.notes.map((text, i) => note(text, i < summary.warnings)));
}

function note(text, warns) {
  const line = document.createElement("li");
  line.textContent = text;
  line.className = warns ? "xe-warning" : "";
  return line;
}

function showMaps(view, message, [values]) {
  view.maps = { ...message, values: new Float32Array(bytes(values)) };
  one(view, '[name="scale"]').options[0].disabled = message.absolute === null;
  busy(view, "");
  redraw(view);
}

function showError(view, { text }) {
  one(view, ".xe-error").textContent = text;
  if (!text) return;
  busy(view, "");
  redraw(view);
}

/** A piece at a time, so that no message is too large for any server. */
async function sendPiece({ model, file, config }, { offset }) {
  const piece = await file.slice(offset, offset + config.piece).arrayBuffer();
  model.send({ kind: "piece", offset }, undefined, [piece]);
}

function download({ name, mime }, [data]) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes(data)], { type: mime }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function copy(view, { text }) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    prompt("Copy this:", text);
    return;
  }
  const button = one(view, '[data-do="py"]');
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy Python"; }, 1500);
}

const ANSWERS = {
  setup: setUp,
  picture: showPicture,
  maps: showMaps,
  figures: (view, { text }) => { one(view, ".xe-measured").textContent = text; },
  error: showError,
  busy: (view, { text }) => busy(view, text),
  more: sendPiece,
  file: (view, message, buffers) => download(message, buffers),
  snippet: copy,
};

export const answer = (view, message, buffers) => ANSWERS[message.kind]?.(view, message, buffers ?? []);
