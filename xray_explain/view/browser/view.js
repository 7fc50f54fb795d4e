// The view in the browser: what a reader turns is a number in the model, and every such change redraws from what is
// here already. Python sends a picture and the evidence once, and does what needs the network or a file.

const TURNED = ["case_idx", "class_idx", "versus", "method", "scale", "colours", "opacity", "threshold", "contour",
  "outline", "window", "level", "zoom", "centre"];

function render({ model, el }) {
  const root = document.createElement("section");
  root.className = "xe";
  root.setAttribute("aria-label", "Radiograph and evidence");
  root.dataset.lmSuppressShortcuts = "true";  // JupyterLab's single-key commands keep out
  root.innerHTML = PAGE;
  el.append(root);
  const $ = (selector) => root.querySelector(selector), all = (selector) => [...root.querySelectorAll(selector)];
  const canvases = all("canvas"), panes = all(".xe-pane");
  let config = null, picture = null, levels = null, maps = null, point = null, sending = null, seen = null, asked = 0;

  // ---- state: names of the model are names of the controls
  const look = () => Object.fromEntries(TURNED.map((name) => [name, model.get(name)]));
  const turn = (changes) => {
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    model.save_changes();
  };
  const busy = (text) => { $(".xe-busy").textContent = text; root.classList.toggle("xe-waits", !!text); };

  const place = (name) => {
    const value = model.get(name), control = $(`.xe-controls [name="${name}"], header [name="${name}"]`);
    if (name === "class_idx") for (const r of all('[name="class_idx"]')) r.checked = Number(r.value) === value;
    if (!control) return;
    if (control.type === "checkbox") control.checked = value;
    else control.value = value;
    const shown = $(`[data-of="${name}"]`);
    if (shown) shown.textContent = name === "zoom" ? `${digits(value)}×` : value.toFixed(2);
  };

  root.addEventListener("input", ({ target }) => {
    if (!TURNED.includes(target.name)) return;
    if (target.name === "case_idx" || target.name === "method") busy("Computing …");
    const number = target.type === "range" || ["case_idx", "class_idx", "versus"].includes(target.name);
    turn({ [target.name]: target.type === "checkbox" ? target.checked : number ? Number(target.value) : target.value });
  });

  // ---- drawing
  const redraw = () => { if (!asked) asked = requestAnimationFrame(() => { asked = 0; draw(); }); };

  const geometry = () => {
    const [rows, columns] = picture.shape, { height, width } = canvases[0], [cx, cy] = model.get("centre");
    const scale = Math.min(height / rows, width / columns) * model.get("zoom");
    return { rows, columns, height, width, cx, cy, scale };
  };

  function draw() {
    if (picture && !maps) return;  // its evidence is the next message
    root.classList.toggle("xe-empty", !picture);
    if (!picture || !canvases[0].width) {
      for (const c of canvases) c.getContext("2d").clearRect(0, 0, c.width, c.height);
      $(".xe-none").hidden = true;
      caption(null);
    } else drawPicture(geometry(), look());
    readout();
    root.dataset.drawn = Number(root.dataset.drawn || 0) + 1;
  }

  function drawPicture(g, now) {
    const size = [g.height, g.width], key = [picture.number, g.scale, g.cx, g.cy, ...size].join();
    if (seen?.key !== key) {
      const x = positions(g.width, g.columns, g.cx, g.scale), y = positions(g.height, g.rows, g.cy, g.scale);
      seen = { key, x, y, inside: { x: within(x, g.columns), y: within(y, g.rows) } };
      seen.grey = sampleGrey(levels, x, y, picture.shape, g.scale);
    }
    const heat = sampleHeat(maps, now, seen.x, seen.y, picture.shape);
    paint(seen.grey, heat, now, config.lut[now.colours], seen.inside, size).forEach((rgba, i) =>
      canvases[i].getContext("2d").putImageData(new ImageData(rgba, g.width, g.height), 0, 0));
    const context = canvases[1].getContext("2d");
    if (now.contour) stroke(context, contour(heat, now.threshold, size, seen.inside), "#ffffff");
    if (now.outline) for (const c of canvases) stroke(c.getContext("2d"), outlines(g), "rgb(64, 240, 255)");
    caption(now);
  }

  const outlines = (g) => {
    const path = new Path2D();
    for (const ring of picture.outlines) {
      ring.forEach(([x, y], i) => path[i ? "lineTo" : "moveTo"](
        (x - g.cx * g.columns) * g.scale + g.width / 2, (y - g.cy * g.rows) * g.scale + g.height / 2));
      path.closePath();
    }
    return path;
  };

  // ---- words about what is drawn
  const naming = (now) => config.classes[now.class_idx] + (now.versus < 0 ? "" : ` against ${config.classes[now.versus]}`);

  function caption(now) {
    if (!now) return $('[data-caption="overlay"]').replaceChildren("Evidence");
    const top = topOf(maps, now), none = top <= 0;
    $(".xe-none").hidden = !none;
    $(".xe-none").textContent = `No positive evidence for ${naming(now)}`;
    const thin = !none && isAbsolute(maps, now) && top / maps.absolute < config.faint ? ", spread thin" : "";
    const bar = document.createElement("i"), lut = config.lut[now.colours];
    bar.className = "xe-bar";
    bar.style.background = `linear-gradient(90deg, ${Array.from({ length: 17 }, (_, i) =>
      `rgb(${lut.slice(3 * Math.min(16 * i, 255), 3 * Math.min(16 * i, 255) + 3).join(" ")})`)})`;
    bar.style.setProperty("--at", `${100 * now.threshold}%`);
    const unit = maps.absolute === null ? "" : "local logits";
    $('[data-caption="overlay"]').replaceChildren(`${naming(now)}${thin}`, " 0 ", bar,
      ` ${none && !isAbsolute(maps, now) ? "–" : digits(fullColour(maps, now))} ${unit}`);
  }

  function readout() {
    for (const cross of all(".xe-cross")) cross.hidden = !point || !picture;
    if (!picture || !maps) return $(".xe-readout").replaceChildren();
    const g = geometry(), now = look(), peak = maps.peaks[now.class_idx][now.versus < 0 ? maps.tops.length : now.versus];
    const [x, y] = point ?? peak.map((v) => v + 0.5), ratio = g.width / panes[0].clientWidth;
    for (const cross of all(".xe-cross")) {
      cross.style.left = `${((x - g.cx * g.columns) * g.scale + g.width / 2) / ratio}px`;
      cross.style.top = `${((y - g.cy * g.rows) * g.scale + g.height / 2) / ratio}px`;
    }
    const { local, full } = sampleHeat(maps, now, [x], [y], picture.shape);
    const [grey] = sampleGrey(levels, [x], [y], picture.shape, 1), share = Math.min(Math.max(local[0] / full, 0), 1);
    const where = point ? "At" : topOf(maps, now) > 0 ? "Highest at" : "At";
    $(".xe-readout").textContent = `${where} x ${Math.floor(x)}, y ${Math.floor(y)}: ${naming(now)} ${signed(local[0])}, ` +
      `${Math.round(100 * share)} % of full colour; grey ${(grey / 65535).toFixed(2)}`;
  }

  function tell(t) {
    $(".xe-verdict").replaceChildren();
    $(".xe-notes").replaceChildren();
    for (const bar of all(".xe-classes meter")) bar.value = 0;
    for (const text of all(".xe-classes output")) text.textContent = "";
    if (!t) return;
    const strong = document.createElement("b");
    strong.textContent = t.prediction;
    // calibration was fitted on pictures like those of the training
    const worth = t.unfamiliar ? "not to be trusted" : t.calibrated ? "calibrated" : "not calibrated";
    $(".xe-verdict").classList.toggle("xe-doubt", t.unfamiliar);
    $(".xe-verdict").append(strong, ` confidence ${probability(t.confidence)}, ${worth}`);
    t.scores.forEach((p, i) => {
      all(".xe-classes meter")[i].value = p;
      all(".xe-classes output")[i].textContent = probability(p);
    });
    t.notes.forEach((text, i) => {
      const line = document.createElement("li");
      line.textContent = text;
      line.className = i < t.warnings ? "xe-warning" : "";
      $(".xe-notes").append(line);
    });
  }

  // ---- what Python says
  const heard = {
    setup(m, [lut]) {
      const levels = new Uint8Array(bytes(lut));
      config = { ...m, lut: Object.fromEntries(m.options.colours.map(([name], i) => [name, levels.subarray(768 * i, 768 * (i + 1))])) };
      for (const [name, list] of Object.entries(m.options))
        $(`[name="${name}"]`).replaceChildren(...list.map(([value, text]) => new Option(text, value)));
      $('[name="case_idx"]').lastChild.disabled = true;  // the reader's own file is chosen by its button
      $(".xe-classes").replaceChildren($(".xe-classes legend"), ...m.classes.map((name, i) => {
        const label = document.createElement("label");
        label.innerHTML = `<input type="radio" value="${i}" name="class_idx"><span></span><meter min="0" max="1"></meter><output></output>`;
        label.querySelector("span").textContent = name;
        label.querySelector("meter").setAttribute("aria-label", `probability of ${name}`);
        return label;
      }));
      $(".xe-model").textContent = [m.model, m.caveat].filter(Boolean).join(": ");
      $(".xe-use").textContent = m.research_use;
      TURNED.forEach(place);
    },
    picture(m, [grey]) {
      picture = m.shape ? { ...m, number: (picture?.number ?? 0) + 1 } : null;
      levels = picture && pyramid(new Uint16Array(bytes(grey)), m.sent[1], m.sent[0]);
      point = seen = maps = null;  // nothing of one picture is drawn on another
      if (!picture) redraw();
      tell(m.told);
      $('[data-caption="plain"]').textContent = picture
        ? [m.name, `${m.shape[1]} × ${m.shape[0]}`, m.told.label && `labelled ${m.told.label}`].filter(Boolean).join(" · ") : "Radiograph";
      $('[name="outline"]').disabled = !m.outlines?.length;
    },
    maps(m, [values]) {
      maps = { ...m, values: new Float32Array(bytes(values)) };
      $('[name="scale"]').options[0].disabled = m.absolute === null;
      busy("");
      redraw();
    },
    figures(m) { $(".xe-measured").textContent = m.text; },
    error(m) {
      $(".xe-error").textContent = m.text;
      if (m.text) { busy(""); redraw(); }
    },
    busy(m) { busy(m.text); },
    async more(m) {  // a piece at a time, so that no message is too large for any server
      const piece = await sending.slice(m.offset, m.offset + config.piece).arrayBuffer();
      model.send({ kind: "piece", offset: m.offset }, undefined, [piece]);
    },
    file(m, [data]) {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([bytes(data)], { type: m.mime }));
      link.download = m.name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    },
    async snippet(m) {
      try { await navigator.clipboard.writeText(m.text); said("Copied"); } catch { prompt("Copy this:", m.text); }
    },
  };
  const listen = (m, buffers) => heard[m.kind]?.(m, buffers ?? []);
  const said = (text) => {
    const button = $('[data-do="py"]');
    button.textContent = text;
    setTimeout(() => { button.textContent = "Copy Python"; }, 1500);
  };

  // ---- files
  const upload = (files) => {
    if (!files.length) return;
    [sending] = files;
    busy(`Reading ${sending.name} …`);
    model.send({ kind: "begin", name: sending.name, size: sending.size, count: files.length });
  };
  $('input[type="file"]').addEventListener("change", ({ target }) => { upload([...target.files]); target.value = ""; });
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) root.addEventListener(kind, (event) => {
    event.preventDefault();
    event.stopPropagation();
    root.classList.toggle("xe-drop", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") upload([...event.dataTransfer.files]);
  });

  // ---- buttons and keys
  const step = (by) => {
    const to = model.get("case_idx") < 0 ? 0 : model.get("case_idx") + by;
    if (!config || to < 0 || to >= config.options.case_idx.length - 1) return;
    busy("Computing …");
    turn({ case_idx: to });
  };
  const reset = () => turn({ zoom: 1, centre: [0.5, 0.5], window: 1, level: 0.5 });
  root.addEventListener("click", ({ target }) => {
    const { step: by, do: what } = target.dataset;
    if (by) step(Number(by));
    else if (what === "reset") reset();
    else if (what) model.send({ kind: what });
  });

  /** Zoom by a factor, holding the point of the picture under (px, py) of the pane. */
  const zoom = (factor, px, py) => {
    const g = geometry(), before = model.get("zoom"), after = Math.min(Math.max(before * factor, 1), 16);
    const hold = (centre, side, p, length) => centre + (p - length / 2) / g.scale * (1 - before / after) / side;
    const centre = [hold(g.cx, g.columns, px ?? g.width / 2, g.width), hold(g.cy, g.rows, py ?? g.height / 2, g.height)];
    turn({ zoom: after, centre: after === 1 ? [0.5, 0.5] : centre.map((v) => Math.min(Math.max(v, 0), 1)) });
  };
  const pan = (dx, dy) => {  // in pixels of the pane
    const g = geometry(), clip = (v) => Math.min(Math.max(v, 0), 1);
    turn({ centre: [clip(g.cx - dx / g.scale / g.columns), clip(g.cy - dy / g.scale / g.rows)] });
  };
  const move = (dx, dy) => {  // the reading point, by fiftieths of what is seen
    const g = geometry(), by = Math.max(g.width, g.height) / g.scale / 50, now = look();
    const from = point ?? maps.peaks[now.class_idx][now.versus < 0 ? maps.tops.length : now.versus].map((v) => v + 0.5);
    point = [Math.min(Math.max(from[0] + dx * by, 0), g.columns - 1), Math.min(Math.max(from[1] + dy * by, 0), g.rows - 1)];
    readout();
  };
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  root.addEventListener("keydown", (event) => {
    event.stopPropagation();
    const { key, target } = event, onPane = panes.includes(target) && picture && maps, arrow = onPane && ARROWS[key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "PageDown" || key === "PageUp") step(key === "PageDown" ? 1 : -1);
    else if (arrow) event.shiftKey ? pan(-40 * arrow[0], -40 * arrow[1]) : move(...arrow);
    else if (onPane && (key === "+" || key === "=")) zoom(1.25);
    else if (onPane && key === "-") zoom(0.8);
    else if (onPane && key === "0") reset();
    else if (onPane && key === "o") turn({ outline: !model.get("outline") });
    else if (onPane && key === "c") turn({ contour: !model.get("contour") });
    else if (onPane && Number(key) >= 1 && Number(key) <= config.classes.length) turn({ class_idx: Number(key) - 1 });
    else return;
    event.preventDefault();
  });

  // ---- the pointer: left pans, right or with Shift it windows, the wheel zooms
  for (const pane of panes) {
    const local = (event) => {
      const box = pane.getBoundingClientRect(), ratio = canvases[0].width / box.width;
      return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
    };
    pane.addEventListener("pointerdown", (event) => { pane.setPointerCapture(event.pointerId); });
    pane.addEventListener("pointermove", (event) => {
      if (!picture || !maps) return;
      const g = geometry(), [px, py] = local(event), ratio = g.width / pane.clientWidth;
      const x = g.cx * g.columns + (px - g.width / 2) / g.scale, y = g.cy * g.rows + (py - g.height / 2) / g.scale;
      point = x >= 0 && y >= 0 && x < g.columns && y < g.rows ? [x, y] : null;
      const windowing = event.buttons & 2 || (event.buttons & 1 && event.shiftKey);
      if (windowing) turn({ window: Math.min(Math.max(model.get("window") + event.movementX / 300, 0.02), 2),
        level: Math.min(Math.max(model.get("level") + event.movementY / 300, 0), 1) });
      else if (event.buttons & 1) pan(event.movementX * ratio, event.movementY * ratio);
      readout();
    });
    pane.addEventListener("pointerleave", () => { point = null; readout(); });
    pane.addEventListener("dblclick", reset);
    pane.addEventListener("contextmenu", (event) => event.preventDefault());
    pane.addEventListener("wheel", (event) => {
      if (!picture) return;
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 400), ...local(event));
    }, { passive: false });
  }

  // ---- size: as tall as the page, or as the notebook's window
  const pixels = (pane) => [pane.clientHeight, pane.clientWidth].map((side) => Math.round(side * devicePixelRatio));
  const resize = () => {
    const notebook = root.closest(".jp-WindowedPanel-outer") ?? root.closest(".jp-Notebook-scroller, .jp-NotebookPanel-notebook");
    const room = notebook ? notebook.clientHeight - 12 : innerHeight - root.getBoundingClientRect().top - scrollY;
    root.style.height = `${Math.min(Math.max(room, 520), 1400)}px`;
    const size = pixels(panes[0]), grown = canvases[0].height !== size[0] || canvases[0].width !== size[1];
    if (!grown || !size[0] || !size[1]) return;
    for (const c of canvases) [c.height, c.width] = size;
    turn({ pane: size });
    redraw();
  };
  const watch = new ResizeObserver(resize);
  watch.observe(root);
  watch.observe(panes[0]);
  addEventListener("resize", resize);

  const changed = TURNED.map((name) => [`change:${name}`, () => { place(name); redraw(); }]);
  for (const [event, react] of changed) model.on(event, react);
  model.on("msg:custom", listen);
  model.send({ kind: "ready" });
  return () => {
    for (const [event, react] of changed) model.off(event, react);
    model.off("msg:custom", listen);
    removeEventListener("resize", resize);
    watch.disconnect();
  };
}

export default { render };
