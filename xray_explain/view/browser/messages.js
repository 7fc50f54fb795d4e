// What Python says, by the kind of its message: each takes its place whole, and the screen is drawn anew from all of them.
import { pyramid } from "./draw.js";
import { fillControls } from "./mirror.js";
import { classRow } from "./page.js";
import { redraw } from "./panes.js";
import { one } from "./state.js";

const bytes = (array) => array.buffer.slice(array.byteOffset, array.byteOffset + array.byteLength);

/** 256 colours for each of the names, from faint to hot. */
function colourTables(names, buffer) {
  const table = new Uint8Array(bytes(buffer));
  return Object.fromEntries(names.map((name, i) => [name, table.subarray(768 * i, 768 * (i + 1))]));
}

function setUp(view, message, [lut]) {
  view.config = { ...message, lut: colourTables(message.options.colours.map(([name]) => name), lut) };
  view.screen = null;  // which is of other classes
  fillControls(view, message, message.classes.map(classRow));
  one(view, ".xe-model").textContent = message.model;
  one(view, ".xe-use").textContent = message.research_use;
  redraw(view);
}

function takePixels(view, message, [grey]) {
  const [height, width] = message.sent;
  view.pixels = { ...message, levels: pyramid(new Uint16Array(bytes(grey)), width, height) };
}

function takeMaps(view, message, [values]) {
  view.maps = { ...message, values: new Float32Array(bytes(values)) };
}

/** The words come last of all that a state needs. */
function takeScreen(view, message) {
  if (message.number !== view.screen?.number) view.point = view.sampled = view.ruler = null;
  view.screen = message;
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
  pixels: takePixels,
  maps: takeMaps,
  screen: takeScreen,
  more: sendPiece,
  file: (view, message, buffers) => download(message, buffers),
  snippet: copy,
};

export const answer = (view, message, buffers) => ANSWERS[message.kind]?.(view, message, buffers ?? []);
