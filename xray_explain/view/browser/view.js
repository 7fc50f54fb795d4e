// The view in the browser: what a reader turns is a number in the model, and every such change redraws from what is
// here already. Python sends a picture and the evidence once, and does what needs the network or a file.
import { listenToControls } from "./controls.js";
import { announce } from "./current.js";
import { answer } from "./messages.js";
import { redraw, resize } from "./panes.js";
import { listenToKeys, listenToPointer } from "./pointer.js";
import { newView, TURNED } from "./state.js";

/** Follow the size of the view; gives what ends it. */
function followSize(view) {
  const react = () => resize(view), watch = new ResizeObserver(react);
  watch.observe(view.root);
  for (const pane of view.panes) watch.observe(pane);
  addEventListener("resize", react);
  return () => {
    removeEventListener("resize", react);
    watch.disconnect();
  };
}

/** Follow the traits of the model and the messages of Python; gives what ends it. */
function followModel(view) {
  const reactions = TURNED.map((name) => [`change:${name}`, () => {
    announce(view);
    redraw(view);
  }]);
  reactions.push(["msg:custom", (message, buffers) => answer(view, message, buffers)]);
  for (const [event, react] of reactions) view.model.on(event, react);
  return () => { for (const [event, react] of reactions) view.model.off(event, react); };
}

function render({ model, el }) {
  const view = newView(model, el);
  listenToControls(view);
  for (const pane of view.panes) listenToPointer(view, pane);
  const ends = [listenToKeys(view), followSize(view), followModel(view)];
  model.send({ kind: "ready" });
  return () => { for (const end of ends) end(); };
}

export default { render };
