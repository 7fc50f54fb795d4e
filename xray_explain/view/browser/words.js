// What stands beside the panes, in words: numbers as a reader writes them, names, and the line of the read-out.
import { isAbsolute, shareOf, strengthOf, topOf } from "./draw.js";

export const digits = (value) => String(Number(value.toPrecision(3))).replaceAll("-", "−");
export const signed = (value) => (value > 0 ? "+" : "") + digits(value);

/** The class that is shown, and the one that it is compared with; some maps know none. */
export function shownName(classes, maps, look) {
  if (!maps.of_class) return "the picture, no class";
  return classes[look.class_idx] + (look.versus < 0 ? "" : ` against ${classes[look.versus]}`);
}

/** A word where there is little to see on the scale of all pictures; where there is nothing, the pane says so. */
export function strength(maps, look) {
  const word = strengthOf(maps, look);
  return isAbsolute(maps, look) && topOf(maps, look) > 0 && word !== "localised" ? `, ${word}` : "";
}

/** The read-out at a point: `heat` and `grey` (of 65535) hold its one value each. */
export function readoutText(where, [x, y], name, heat, grey) {
  return `${where} x ${Math.floor(x)}, y ${Math.floor(y)}: ${name} ${signed(heat.local[0])}, ` +
    `${Math.round(100 * shareOf(heat, 0))} % of full colour; grey ${(grey / 65535).toFixed(2)}`;
}
