// Evidence and picture to pixels, with the arithmetic of xray_explain.panel, which writes the same as a PNG.
// The evidence is a grid of some ten cells a side, so a control redraws the screen's pixels and asks nobody.

/** Where the centres of a pane's pixels lie along one side of the picture, in the picture's pixels. */
function positions(pane, side, centre, scale) {
  return Float64Array.from({ length: pane }, (_, i) => centre * side + (i + 0.5 - pane / 2) / scale);
}

/** For each position the lower of two neighbouring cells and the share of the upper one; 0.5 is the first centre. */
function taps(at, cells) {
  const low = new Int32Array(at.length), share = new Float32Array(at.length);
  at.forEach((position, i) => {
    const p = Math.min(Math.max(position - 0.5, 0), cells - 1);
    low[i] = Math.min(Math.floor(p), Math.max(cells - 2, 0));
    share[i] = p - low[i];
  });
  return { low, share };
}

/** A grid of `width` columns sampled at rows and columns, linear between centres of cells. */
function sample(grid, width, rows, columns) {
  const out = new Float32Array(rows.low.length * columns.low.length), line = new Float32Array(width + 1);
  let o = 0;
  for (let i = 0; i < rows.low.length; i++) {
    const a = rows.low[i] * width, b = rows.share[i] ? a + width : a, s = rows.share[i];
    for (let j = columns.low[0]; j <= Math.min(columns.low.at(-1) + 1, width - 1); j++) line[j] = grid[a + j] * (1 - s) + grid[b + j] * s;
    for (let j = 0; j < columns.low.length; j++) {
      const k = columns.low[j], t = columns.share[j];
      out[o++] = t ? line[k] * (1 - t) + line[k + 1] * t : line[k];
    }
  }
  return out;
}

/** The picture and its halves, each pixel the mean of four, down to a small one. */
function pyramid(values, width, height) {
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
function sampleGrey(levels, x, y, shape, scale) {
  const own = scale * shape[1] / levels[0].width;  // screen pixels for a pixel of the picture as it was sent
  const n = Math.min(Math.max(Math.floor(Math.log2(1 / own) + 1e-9), 0), levels.length - 1), level = levels[n];
  const f = 2 ** n, [h, w] = shape.map((side, i) => side / [levels[0].height, levels[0].width][i] * f);
  return sample(level.values, level.width, taps(y.map((v) => v / h), level.height), taps(x.map((v) => v / w), level.width));
}

/** The positive evidence of one class, or of one against another, over a pane, 1 where it has full colour. */
function sampleHeat(maps, look, x, y, shape) {
  const [h, w] = maps.grid, [top, left, rows, columns] = maps.box, cells = h * w;
  const own = maps.values.subarray(look.class_idx * cells, (look.class_idx + 1) * cells);
  const other = look.versus < 0 ? null : maps.values.subarray(look.versus * cells, (look.versus + 1) * cells);
  const grid = other ? own.map((v, i) => v - other[i]) : own;
  const ty = taps(y.map((v) => (top + v * rows / shape[0]) * h / maps.canvas[0]), h);
  const tx = taps(x.map((v) => (left + v * columns / shape[1]) * w / maps.canvas[1]), w);
  return { local: sample(grid, w, ty, tx), full: fullColour(maps, look) };
}

/** The highest local logit of what is shown, and the one that has full colour. */
const topOf = (maps, look) => maps.tops[look.class_idx][look.versus < 0 ? maps.tops.length : look.versus];
const isAbsolute = (maps, look) => look.scale === "absolute" && maps.absolute !== null;
const fullColour = (maps, look) => isAbsolute(maps, look) ? maps.absolute : Math.max(topOf(maps, look), 0) || 1;

/** Both panes as RGBA: the windowed picture, and the same under the heat. */
function paint(grey, heat, look, colours, inside, size) {
  const [height, width] = size, plain = new Uint8ClampedArray(4 * width * height), over = new Uint8ClampedArray(plain.length);
  const floor = look.level - look.window / 2;
  for (const pane of [plain, over]) new Uint32Array(pane.buffer).fill(0xff000000);  // opaque black
  for (let i = inside.y[0]; i < inside.y[1]; i++) for (let j = inside.x[0]; j < inside.x[1]; j++) {
    const k = i * width + j, o = 4 * k;
    const v = Math.min(Math.max((grey[k] / 65535 - floor) / look.window, 0), 1);
    const h = Math.min(Math.max(heat.local[k] / heat.full, 0), 1), alpha = look.opacity * h * (2 - h);
    const c = 3 * Math.round(255 * h), kept = 255 * v * (1 - alpha);
    plain[o] = plain[o + 1] = plain[o + 2] = 255 * v;
    over[o] = kept + alpha * colours[c];
    over[o + 1] = kept + alpha * colours[c + 1];
    over[o + 2] = kept + alpha * colours[c + 2];
  }
  return [plain, over];
}

/** The first pixel inside the picture and the first beyond it. */
const within = (at, side) => {
  const inside = (v) => v >= 0 && v < side;
  return [Math.max(at.findIndex(inside), 0), at.findLastIndex(inside) + 1];
};

/** Lines where the heat crosses the threshold: marching squares on every fourth pixel, straight between them. */
function contour(heat, level, size, inside, step = 4) {
  const [height, width] = size, path = new Path2D(), at = (i, j) => heat.local[i * width + j] - level * heat.full;
  for (let i = inside.y[0]; i + step < inside.y[1]; i += step) for (let j = inside.x[0]; j + step < inside.x[1]; j += step) {
    const a = at(i, j), b = at(i, j + step), c = at(i + step, j + step), d = at(i + step, j), cut = [];
    if (a < 0 === b < 0 && b < 0 === c < 0 && c < 0 === d < 0) continue;
    const cross = (p, q, y, x, dy, dx) => { if (p < 0 !== q < 0) cut.push([x + dx * p / (p - q), y + dy * p / (p - q)]); };
    cross(a, b, i, j, 0, step); cross(b, c, i, j + step, step, 0);
    cross(d, c, i + step, j, 0, step); cross(a, d, i, j, step, 0);
    for (let n = 0; n + 1 < cut.length; n += 2) {
      path.moveTo(cut[n][0] + 0.5, cut[n][1] + 0.5);
      path.lineTo(cut[n + 1][0] + 0.5, cut[n + 1][1] + 0.5);
    }
  }
  return path;
}

/** A line on a dark edge, so that it shows on bone and on black. */
function stroke(context, path, colour) {
  for (const [width, style] of [[4, "rgba(0, 0, 0, 0.7)"], [2, colour]]) {
    context.lineWidth = width;
    context.strokeStyle = style;
    context.stroke(path);
  }
}
