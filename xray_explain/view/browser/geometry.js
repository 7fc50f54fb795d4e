// Where things lie: a picture in a pane, both in pixels, at any zoom and with any point of the picture in the middle.

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** How a picture of `shape` lies in a pane of `size`, rows and columns each; cx and cy are the middle, in sides. */
export function layout(shape, size, zoom, centre) {
  const [rows, columns] = shape, [height, width] = size, [cx, cy] = centre;
  return { rows, columns, height, width, cx, cy, scale: Math.min(height / rows, width / columns) * zoom };
}

/** From x and y in the picture to those in the pane. */
export const toPane = (g, x, y) =>
  [(x - g.cx * g.columns) * g.scale + g.width / 2, (y - g.cy * g.rows) * g.scale + g.height / 2];

/** From x and y in the pane to those in the picture. */
export const toPicture = (g, px, py) =>
  [g.cx * g.columns + (px - g.width / 2) / g.scale, g.cy * g.rows + (py - g.height / 2) / g.scale];

/** The middle after a zoom by a factor that holds the point of the picture under (px, py) of the pane. */
export function zoomedCentre(g, factor, px, py) {
  const hold = (middle, side, p, length) => middle + (p - length / 2) / g.scale * (1 - 1 / factor) / side;
  return [hold(g.cx, g.columns, px, g.width), hold(g.cy, g.rows, py, g.height)].map((v) => clamp(v, 0, 1));
}

/** The middle after the picture was dragged by so many pixels of the pane. */
export const draggedCentre = (g, dx, dy) =>
  [clamp(g.cx - dx / g.scale / g.columns, 0, 1), clamp(g.cy - dy / g.scale / g.rows, 0, 1)];
