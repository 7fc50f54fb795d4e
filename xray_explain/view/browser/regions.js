// The separate regions that the contour surrounds, numbered by what they carry: as xray_explain.evidence.regions has them.
import { fullColour, shownGrid } from "./draw.js";
import { toPane } from "./geometry.js";

const NUMBERED = 9;  // the first; the others have their contour alone

/** The cells of each region at or above a level, corners touching, in reading order. */
function connectedCells(grid, [height, width], level) {
  const seen = new Uint8Array(grid.length), hot = (k) => !seen[k] && grid[k] >= level && grid[k] > 0, regions = [];
  for (let start = 0; start < grid.length; start++) {
    if (!hot(start)) continue;
    const cells = [start];
    seen[start] = 1;
    for (const k of cells) for (let i = -1; i <= 1; i++) for (let j = -1; j <= 1; j++) {
      const row = Math.floor(k / width) + i, column = k % width + j, next = row * width + column;
      if (row < 0 || row >= height || column < 0 || column >= width || !hot(next)) continue;
      seen[next] = 1;
      cells.push(next);
    }
    regions.push(cells);
  }
  return regions;
}

/** Share and extent in cells of each region, the largest share first. */
export function regionsOf(grid, shape, level) {
  const total = grid.reduce((sum, v) => sum + Math.max(v, 0), 0);
  return connectedCells(grid, shape, level).map((cells) => {
    const rows = cells.map((k) => Math.floor(k / shape[1])), columns = cells.map((k) => k % shape[1]);
    return {
      share: cells.reduce((sum, k) => sum + grid[k], 0) / total,
      cells: [Math.min(...columns), Math.min(...rows), Math.max(...columns) + 1, Math.max(...rows) + 1],
    };
  }).sort((a, b) => b.share - a.share);
}

export const shareText = (share) => (share < 0.01 ? "< 1%" : `${Math.round(100 * share)}%`);

/** Left, top, right and bottom in a pane of what covers cells of the grid; null for what it does not show. */
function paneBox(g, maps, [left, top, right, bottom]) {
  const [y0, x0, rows, columns] = maps.box, [h, w] = maps.grid, inPane = (v, side) => Math.min(Math.max(v, 0), side);
  const x = (c) => Math.min(Math.max((c * maps.canvas[1] / w - x0) / columns, 0), 1) * g.columns;
  const y = (r) => Math.min(Math.max((r * maps.canvas[0] / h - y0) / rows, 0), 1) * g.rows;
  if (x(left) >= x(right) || y(top) >= y(bottom)) return null;  // on the canvas's border alone
  const [a, b] = toPane(g, x(left), y(top)), [c, d] = toPane(g, x(right), y(bottom));
  const box = [inPane(a, g.width), inPane(b, g.height), inPane(c, g.width), inPane(d, g.height)];
  return box[0] < box[2] && box[1] < box[3] ? box : "away";
}

/** Number, share and place of the first regions; without those that the pane does not show. */
export function shownRegions(g, maps, look) {
  const regions = regionsOf(shownGrid(maps, look), maps.grid, look.threshold * fullColour(maps, look));
  return regions.map(({ share, cells }) => ({ share, box: paneBox(g, maps, cells) })).filter(({ box }) => box)
    .slice(0, NUMBERED).map(({ share, box }, n) => ({ text: `${n + 1}: ${shareText(share)}`, box }))
    .filter(({ box }) => box !== "away");
}

/** Left and top of words beside a box: right, left, above or below, where they cover least. */
function freePlace([left, top, right, bottom], width, height, g, taken) {
  const gap = height / 3, middle = (left + right - width) / 2, beside = (top + bottom - height) / 2;
  const places = [[right + gap, beside], [left - gap - width, beside], [middle, top - gap - height], [middle, bottom + gap]]
    .filter(([x]) => x >= 0 && x <= g.width - width)
    .map(([x, y]) => [x, Math.min(Math.max(y, 0), g.height - height)]);
  const covered = ([x, y]) => taken.filter(([l, t, r, b]) => x < r && x + width > l && y < b && y + height > t).length;
  return places.sort((a, b) => covered(a) - covered(b))[0] ?? [0, top];
}

/** Words beside each region, dark on white. */
export function drawTags(context, tags, g) {
  const size = Math.round(Math.max(11, 0.02 * Math.max(g.height, g.width))), taken = tags.map(({ box }) => box);
  Object.assign(context, { font: `${size}px "DejaVu Sans", sans-serif`, textAlign: "center", textBaseline: "middle" });
  for (const { text, box } of tags) {
    const width = context.measureText(text).width + 0.6 * size, height = 1.3 * size;
    const [x, y] = freePlace(box, width, height, g, taken);
    taken.push([x, y, x + width, y + height]);
    context.beginPath();
    context.roundRect(x, y, width, height, size / 5);
    context.fillStyle = "#fff";
    context.fill();
    Object.assign(context, { strokeStyle: "#000", lineWidth: 1 });
    context.stroke();
    context.fillStyle = "#101216";
    context.fillText(text, x + width / 2, y + height / 2);
  }
}
