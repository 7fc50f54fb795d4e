// What stands beside the panes, in words: numbers as a reader writes them, names, and the line of the read-out.
import { isAbsolute, shareOf, strengthOf, topOf } from "./draw.js";

export const digits = (value) => String(Number(value.toPrecision(3))).replaceAll("-", "−");
export const signed = (value) => (value > 0 ? "+" : "") + digits(value);

/** As `probability_text` has it: never rounded to a certainty. */
export function probability(p) {
  if (p < 0.001) return "< 0.001";
  return p > 0.999 ? "> 0.999" : p.toFixed(3);
}

/** The class that is shown, and the one that it is compared with. */
export const shownName = (classes, look) =>
  classes[look.class_idx] + (look.versus < 0 ? "" : ` against ${classes[look.versus]}`);

/** A word where there is little to see on the scale of all pictures; where there is nothing, the pane says so. */
export function strength(maps, look) {
  const word = strengthOf(maps, look);
  return isAbsolute(maps, look) && topOf(maps, look) > 0 && word !== "localised" ? `, ${word}` : "";
}

/** What a confidence is worth; calibration was fitted on pictures like those of the training. */
export function worth({ unfamiliar, calibrated }) {
  if (unfamiliar) return "not to be trusted";
  return calibrated ? "calibrated" : "not calibrated";
}

/** The caption of the picture's pane. */
export const pictureCaption = ({ name, shape, summary }) =>
  [name, `${shape[1]} × ${shape[0]}`, summary.label && `labelled ${summary.label}`].filter(Boolean).join(" · ");

/** The read-out at a point: `heat` and `grey` (of 65535) hold its one value each. */
export function readoutText(where, [x, y], name, heat, grey) {
  return `${where} x ${Math.floor(x)}, y ${Math.floor(y)}: ${name} ${signed(heat.local[0])}, ` +
    `${Math.round(100 * shareOf(heat, 0))} % of full colour; grey ${(grey / 65535).toFixed(2)}`;
}
