// Evidence and picture to pixels, with the arithmetic of xray_explain.view.panes, which writes the same as a PNG.
// The evidence is a grid of some ten cells a side, so a control redraws the screen's pixels and asks nobody.
import { clamp } from "./geometry.js";

/** Where the centres of a pane's pixels lie along one side of the picture, in the picture's pixels. */
export function positions(pane, side, centre, scale) {
  return Float64Array.from({ length: pane }, (_, i) => centre * side + (i + 0.5 - pane / 2) / scale);
}

/** The first pixel inside the picture and the first beyond it. */
export function within(at, side) {
  const inside = (v) => v >= 0 && v < side;
  return [Math.max(at.findIndex(inside), 0), at.findLastIndex(inside) + 1];
}

/** For each position the lower of two neighbouring cells and the share of the upper one; 0.5 is the first centre. */
export function taps(at, cells, nearest = false) {
  if (nearest) return cellsAt(at, cells);
  const low = new Int32Array(at.length), share = new Float32Array(at.length);
  at.forEach((position, i) => {
    const p = clamp(position - 0.5, 0, cells - 1);
    low[i] = Math.min(Math.floor(p), Math.max(cells - 2, 0));
    share[i] = p - low[i];
  });
  return { low, share };
}

/** For each position the cell that it lies in, and nothing of the next. */
const cellsAt = (at, cells) => ({
  low: Int32Array.from(at, (v) => clamp(Math.floor(v), 0, cells - 1)), share: new Float32Array(at.length),
});

/** A grid of `width` columns sampled at rows and columns, linear between centres of cells. */
export function sample(grid, width, rows, columns) {
  const out = new Float32Array(rows.low.length * columns.low.length), line = new Float32Array(width + 1);
  const last = Math.min(columns.low.at(-1) + 1, width - 1);
  let o = 0;
  for (let i = 0; i < rows.low.length; i++) {
    const a = rows.low[i] * width, b = rows.share[i] ? a + width : a, s = rows.share[i];
    for (let j = columns.low[0]; j <= last; j++) line[j] = grid[a + j] * (1 - s) + grid[b + j] * s;
    for (let j = 0; j < columns.low.length; j++) {
      const k = columns.low[j], t = columns.share[j];
      out[o++] = t ? line[k] * (1 - t) + line[k + 1] * t : line[k];
    }
  }
  return out;
}

/** The picture and its halves, each pixel the mean of four, down to a small one. */
export function pyramid(values, width, height) {
  const levels = [{ values, width, height }];
  while (Math.min(width, height) >= 64) {
    const w = width >> 1, h = height >> 1, half = new Float32Array(w * h);
    for (let i = 0, o = 0; i < h; i++)
      for (let j = 0, k = 2 * i * width; j < w; j++, k += 2, o++)
        half[o] = (values[k] + values[k + 1] + values[k + width] + values[k + width + 1]) / 4;
    levels.push({ values: half, width: w, height: h });
    [values, width, height] = [half, w, h];
  }
  return levels;
}

/** Grey values of a pane: the level of the pyramid that is just fine enough, sampled between its pixels. */
export function sampleGrey(levels, x, y, shape, scale) {
  const sent = levels[0], magnified = scale * shape[1] / sent.width;  // screen pixels for one of the picture as sent
  const n = clamp(Math.floor(Math.log2(1 / magnified) + 1e-9), 0, levels.length - 1), level = levels[n];
  const h = shape[0] / sent.height * 2 ** n, w = shape[1] / sent.width * 2 ** n;  // a pixel of the level in the picture
  const rows = taps(y.map((v) => v / h), level.height), columns = taps(x.map((v) => v / w), level.width);
  return sample(level.values, level.width, rows, columns);
}

/** The evidence of the class that is shown, less that of the one it is compared with. */
export function shownGrid(maps, look) {
  const cells = maps.grid[0] * maps.grid[1];
  const ofClass = (c) => maps.values.subarray(c * cells, (c + 1) * cells);
  const shown = ofClass(look.class_idx);
  if (look.versus < 0) return shown;
  const other = ofClass(look.versus);
  return shown.map((v, i) => v - other[i]);
}

/** The evidence over a pane, and the value of it that has full colour. */
export function sampleHeat(maps, look, x, y, shape) {
  const [h, w] = maps.grid, [top, left, rows, columns] = maps.box;
  const nearest = look.interpolation === "nearest";
  const ty = taps(y.map((v) => (top + v * rows / shape[0]) * h / maps.canvas[0]), h, nearest);
  const tx = taps(x.map((v) => (left + v * columns / shape[1]) * w / maps.canvas[1]), w, nearest);
  return { local: sample(shownGrid(maps, look), w, ty, tx), full: fullColour(maps, look) };
}

/** Python lists values by class and by what it is compared with, alone last. */
const pick = (table, look) => table[look.class_idx][look.versus < 0 ? table.length : look.versus];
/** The highest value of what is shown, and the middle of its pixel. */
export const topOf = (maps, look) => pick(maps.tops, look);
export const peakOf = (maps, look) => pick(maps.peaks, look).map((v) => v + 0.5);
/** How much it shows, in Python's words. */
export const strengthOf = (maps, look) => pick(maps.strengths, look);
export const isAbsolute = (maps, look) => look.scale === "absolute" && maps.absolute !== null;
/** The value that has full colour; 1 where nothing is positive. */
export const fullColour = (maps, look) => isAbsolute(maps, look) ? maps.absolute : Math.max(topOf(maps, look), 0) || 1;
/** How much of full colour a value has. */
export const shareOf = ({ local, full }, i) => clamp(local[i] / full, 0, 1);

/** A grey in [0, 1] with `window` of the greys, centred on `level`, spread from black to white. */
export const windowed = (grey, { window, level }) => clamp((grey - (level - window / 2)) / window, 0, 1);

/** Both panes as RGBA: the windowed picture, and the same under the heat. */
export function paint(grey, heat, look, colours, inside, size) {
  const [height, width] = size;
  const plain = new Uint8ClampedArray(4 * width * height), over = new Uint8ClampedArray(plain.length);
  for (const pane of [plain, over]) new Uint32Array(pane.buffer).fill(0xff000000);  // opaque black
  for (let i = inside.y[0]; i < inside.y[1]; i++) for (let j = inside.x[0]; j < inside.x[1]; j++) {
    const k = i * width + j, o = 4 * k, v = 255 * windowed(grey[k] / 65535, look);
    const h = shareOf(heat, k), alpha = look.opacity * h * (2 - h), c = 3 * Math.round(255 * h);
    plain[o] = plain[o + 1] = plain[o + 2] = v;
    for (let n = 0; n < 3; n++) over[o + n] = v * (1 - alpha) + alpha * colours[c + n];
  }
  return [plain, over];
}

const UNCUT = [];

/** Where a line crosses one square of marching squares, straight between its corners; points come in pairs. */
export function squareCrossings(above, i, j, step) {
  const a = above(i, j), b = above(i, j + step), c = above(i + step, j + step), d = above(i + step, j);
  if (a < 0 === b < 0 && b < 0 === c < 0 && c < 0 === d < 0) return UNCUT;
  const points = [];
  const cross = (p, q, y, x, dy, dx) => {
    if (p < 0 !== q < 0) points.push([x + dx * p / (p - q), y + dy * p / (p - q)]);
  };
  cross(a, b, i, j, 0, step);
  cross(b, c, i, j + step, step, 0);
  cross(d, c, i + step, j, 0, step);
  cross(a, d, i, j, step, 0);
  return points;
}

/** Ends of the lines where the heat crosses the threshold, in pairs, from every fourth pixel of a pane, or every one. */
export function contourEnds(heat, threshold, width, inside, step = 4) {
  const above = (i, j) => heat.local[i * width + j] - threshold * heat.full, ends = [];
  for (let i = inside.y[0]; i + step < inside.y[1]; i += step)
    for (let j = inside.x[0]; j + step < inside.x[1]; j += step) ends.push(...squareCrossings(above, i, j, step));
  return ends;
}

/** Those lines as a path; a pixel's centre is half a pixel from its corner. */
export function contourPath(ends) {
  const path = new Path2D();
  ends.forEach(([x, y], i) => path[i % 2 ? "lineTo" : "moveTo"](x + 0.5, y + 0.5));
  return path;
}

/** Drawn and left out along a line two pixels wide, by its style: as xray_explain.draw.overlay has them. */
export const DASHES = { solid: [], dashed: [12, 8], dotted: [4, 8] };

/** Those lines joined to long ones, along which dashes can be measured. */
export function joinedLines(ends) {
  const name = ([x, y]) => `${x.toFixed(3)} ${y.toFixed(3)}`, at = new Map(), used = new Uint8Array(ends.length / 2);
  ends.forEach((end, i) => at.set(name(end), [...(at.get(name(end)) ?? []), i]));
  const next = (end) => at.get(name(end)).find((i) => !used[i >> 1]);
  return Array.from(used.keys()).filter((n) => !used[n] && ends.length).map((n) => {
    if (used[n]) return [];
    const line = [ends[2 * n], ends[2 * n + 1]];
    used[n] = 1;
    for (const [last, put] of [[() => line.at(-1), (p) => line.push(p)], [() => line[0], (p) => line.unshift(p)]])
      for (let i = next(last()); i !== undefined; i = next(last())) {
        used[i >> 1] = 1;
        put(ends[i ^ 1]);
      }
    return line;
  }).filter((line) => line.length);
}

/** Lines of points as a path; a pixel's centre is half a pixel from its corner. */
export function linesPath(lines) {
  const path = new Path2D();
  for (const line of lines) line.forEach(([x, y], i) => path[i ? "lineTo" : "moveTo"](x + 0.5, y + 0.5));
  return path;
}

/** Closed rings of points as a path. */
export function ringsPath(rings) {
  const path = new Path2D();
  for (const ring of rings) {
    ring.forEach(([x, y], i) => path[i ? "lineTo" : "moveTo"](x, y));
    path.closePath();
  }
  return path;
}

/** A line on a dark edge, so that it shows on bone and on black. */
export function stroke(context, path, colour, dashes = []) {
  context.setLineDash(dashes);
  for (const [width, style] of [[4, "rgba(0, 0, 0, 0.7)"], [2, colour]]) {
    context.lineWidth = width;
    context.strokeStyle = style;
    context.stroke(path);
  }
}
