// The page that the view fills: what there is to turn, with its labels.

const slider = (name, label, min, max, step) =>
  `<label class="xe-row"><span>${label}</span><input type="range" name="${name}" min="${min}" max="${max}" step="${step}">
   <output data-of="${name}"></output></label>`;
const choice = (name, label) => `<label class="xe-row"><span>${label}</span><select name="${name}"></select></label>`;
const pane = (name, label) => `<figure><div class="xe-pane" tabindex="0" role="application" aria-roledescription="picture"
  aria-label="${label}; arrow keys move the reading point, with Shift they pan, plus, minus and 0 zoom">
  <canvas data-pane="${name}"></canvas><i class="xe-cross" hidden></i>${name === "overlay" ? '<p class="xe-none" hidden></p>' : ""}
  </div><figcaption data-caption="${name}">${label}</figcaption></figure>`;

const PAGE = `
<header>
  <span class="xe-group"><button data-step="-1" aria-label="Previous picture" title="Previous picture (Page Up)">‹</button>
  <label>Picture <select name="case_idx"></select></label>
  <button data-step="1" aria-label="Next picture" title="Next picture (Page Down)">›</button></span>
  <label class="xe-file">Choose a file<input type="file" aria-label="Choose a file: JPEG, PNG, TIFF or DICOM"></label>
  <span class="xe-muted xe-hint">or drop one here: JPEG, PNG, TIFF, DICOM</span><span class="xe-model xe-muted"></span>
</header>
<div class="xe-panes"><p class="xe-error" role="alert"></p><p class="xe-busy" role="status"></p>
  ${pane("plain", "Radiograph")}${pane("overlay", "Evidence")}</div>
<aside>
  <p class="xe-verdict" role="status"></p>
  <fieldset class="xe-classes"><legend>Evidence for</legend></fieldset>
  <ul class="xe-notes" aria-label="Notes"></ul>
  <p class="xe-measured" role="status"></p>
  <div class="xe-controls">
    ${choice("versus", "Against")}${choice("method", "Method")}${choice("scale", "Scale")}${choice("colours", "Colours")}
    ${slider("opacity", "Opacity", 0, 1, 0.01)}${slider("threshold", "Threshold", 0.02, 0.98, 0.01)}
    ${slider("window", "Window", 0.02, 2, 0.01)}${slider("level", "Level", 0, 1, 0.01)}
    ${slider("zoom", "Zoom", 1, 16, 0.1)}
    <span class="xe-group"><label><input type="checkbox" name="contour"> Contour</label>
    <label><input type="checkbox" name="outline"> Outline</label>
    <button data-do="reset" title="Window, level and zoom as they were (0)">Reset view</button></span>
  </div>
  <span class="xe-group xe-out"><button data-do="png">Save PNG</button><button data-do="json">Save JSON</button>
  <button data-do="py">Copy Python</button></span>
</aside>
<footer><output class="xe-readout" aria-live="polite"></output><strong class="xe-use"></strong></footer>`;

/** Text of numbers as a reader writes them. */
const digits = (value) => String(Number(value.toPrecision(3))).replaceAll("-", "−");
/** As `probability_text` has it: never rounded to a certainty. */
const probability = (p) => p < 0.001 ? "< 0.001" : p > 0.999 ? "> 0.999" : p.toFixed(3);
const signed = (value) => (value > 0 ? "+" : "") + digits(value);
const bytes = (view) => view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);

