// What may stand on the screen: only what is of this picture and of the controls as they are. Whatever Python has told
// of another state is left out until the rest has come, so no number stands beside a control that it is not of.
import { all, lookOf, one } from "./state.js";

const isReading = ({ file, screen, awaits }) => !!file && screen.arrivals < awaits;

/** What is awaited, in words; "" for nothing. */
function awaited(view) {
  if (!view.screen) return "";
  if (isReading(view)) return `Reading ${view.file.name} …`;
  const differs = (name) => view.screen.look[name] !== view.model.get(name);
  return differs("case_idx") || differs("method") ? "Computing …" : "";
}

/** Say what is awaited, at once; the next drawing says that it has come. */
export function announce(view) {
  const text = awaited(view);
  if (text) sayAwaited(view, text);
}

export function sayAwaited(view, text = awaited(view)) {
  one(view, ".xe-busy").textContent = text;
  view.root.classList.toggle("xe-waits", !!text);
}

/** The look as it is drawn: what a map cannot do is not shown as done, and a doubtful one is faint. */
function drawnLook(look, maps, words, config) {
  const trusted = words?.summary?.trusted ?? true;
  return {
    ...look,
    trusted,
    line: (maps?.of_class && words?.summary?.lines[look.class_idx]) || "solid",
    versus: maps && !maps.of_class ? -1 : look.versus,
    scale: maps && maps.absolute === null ? "image" : look.scale,
    opacity: look.opacity * (trusted ? 1 : config.faint),
  };
}

/** What share each region has; of other controls than these only that it comes. */
const regionWords = (words, measured) => measured ? words.regions : words?.regions && "Evidence by region: …";

/** The picture, its maps, the words and the figures that are of the controls as they are; null for what is not. */
export function current(view) {
  const { screen, pixels, maps, config } = view, look = lookOf(view);
  const words = screen && !isReading(view) && screen.look.case_idx === look.case_idx ? screen : null;
  const picture = words?.number && pixels?.number === words.number ? pixels : null;
  const itsMaps = picture && maps?.number === picture.number && maps.method === look.method ? maps : null;
  const measured = words && Object.keys(words.look).every((name) => words.look[name] === look[name]);
  return {
    picture, words, maps: itsMaps, look: drawnLook(look, itsMaps, words, config),
    figures: measured ? words.figures : words?.figures && "Against the outline: …",
    regions: look.contour ? regionWords(words, measured) : "",
    noMap: words && words.look.method === look.method ? words.no_map : "",
  };
}

export const meters = (view) => all(view, ".xe-classes meter");
