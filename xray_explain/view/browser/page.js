// The page that the view fills: what there is to turn, with its labels. The ranges of the sliders come from Python.

const slider = (name, label) =>
  `<label class="xe-row"><span>${label}</span><input type="range" name="${name}">
   <output data-of="${name}"></output></label>`;
const choice = (name, label) => `<label class="xe-row"><span>${label}</span><select name="${name}"></select></label>`;
const RULER = `<svg class="xe-ruler" aria-hidden="true" hidden><path/><path/><text/></svg>
  <span class="xe-scale" hidden><i></i><span></span></span>`;
const pane = (name, label, extra = "") => `<figure>
  <div class="xe-pane" tabindex="0" role="application" aria-roledescription="picture"
  aria-label="${label}; arrow keys move the reading point, with Shift they pan, plus, minus and 0 zoom, m sets an end of the ruler">
  <canvas data-pane="${name}"></canvas><i class="xe-cross" hidden></i>${RULER}${extra}
  </div><figcaption data-caption="${name}">${label}</figcaption></figure>`;

const KEYS = `<details class="xe-keys"><summary>Keys</summary><dl>
  <dt>Page Down, Page Up</dt><dd>next picture, the one before</dd>
  <dt>1, 2, 3 …</dt><dd>evidence for a class</dd>
  <dt>arrows</dt><dd>move the reading point; with Shift, pan</dd>
  <dt>+, −, 0</dt><dd>zoom in, out, as it was</dd>
  <dt>c, o</dt><dd>contour, outline</dd>
  <dt>m, m</dt><dd>measure from the reading point to where it is then; again: no more</dd>
  <dt>wheel, drag</dt><dd>zoom, pan; in a narrow window the wheel with Ctrl</dd>
  <dt>right drag</dt><dd>window and level</dd></dl></details>`;
const HEADER = `
<header>
  <span class="xe-group"><button data-step="-1" aria-label="Previous picture" title="Previous picture (Page Up)">‹</button>
  <label>Picture <select name="case_idx"></select></label>
  <button data-step="1" aria-label="Next picture" title="Next picture (Page Down)">›</button></span>
  <label class="xe-file">Choose a file<input type="file" aria-label="Choose a file: DICOM, JPEG, PNG, TIFF, BMP, JPEG 2000 or JPEG XL"></label>
  <span class="xe-muted xe-hint">or drop one here: DICOM, JPEG, PNG, TIFF, BMP, JPEG 2000, JPEG XL</span>${KEYS}<span class="xe-model xe-muted"></span>
</header>`;
const PANES = `
<div class="xe-panes"><p class="xe-error" role="alert"></p><p class="xe-busy" role="status"></p>
  ${pane("plain", "Radiograph")}${pane("overlay", "Evidence", '<p class="xe-none" hidden></p>')}</div>`;
const CONTROLS = `
  <div class="xe-controls">
    ${choice("versus", "Against")}${choice("method", "Method")}${choice("scale", "Scale")}${choice("colours", "Colours")}
    ${choice("interpolation", "Map")}
    ${slider("opacity", "Opacity")}${slider("threshold", "Threshold")}
    ${slider("window", "Window")}${slider("level", "Level")}
    ${slider("zoom", "Zoom")}
    <span class="xe-group"><label title="White: where the evidence reaches the threshold (c)"><input type="checkbox" name="contour"> Contour</label>
    <label title="Cyan: the lesion as an expert outlined it (o)"><input type="checkbox" name="outline"> Outline</label>
    <button data-do="ruler" aria-pressed="false" title="Measure with a drag, or with m at both ends">Ruler</button>
    <button data-do="reset" title="Window, level and zoom as they were (0)">Reset</button></span>
  </div>`;

export const PAGE = `${HEADER}${PANES}
<aside>
  <div role="status"><p class="xe-flag"></p><p class="xe-worth"></p><p class="xe-verdict"></p></div>
  <fieldset class="xe-classes"><legend>Evidence for</legend></fieldset>
  <ul class="xe-notes" aria-label="Notes"></ul>
  <p class="xe-regions" role="status"></p><p class="xe-measured" role="status"></p>${CONTROLS}
  <span class="xe-group xe-out"><button data-do="png">Save PNG</button><button data-do="json">Save JSON</button>
  <button data-do="py">Copy Python</button></span>
</aside>
<footer><output class="xe-readout" aria-live="polite"></output><strong class="xe-use"></strong></footer>`;

/** One class: a choice, its name and its probability. */
export function classRow(name, i) {
  const label = document.createElement("label");
  label.innerHTML = `<input type="radio" value="${i}" name="class_idx">
    <span></span><meter min="0" max="1"></meter><output></output>`;
  label.querySelector("span").textContent = name;
  label.querySelector("meter").setAttribute("aria-label", `probability of ${name}`);
  return label;
}
