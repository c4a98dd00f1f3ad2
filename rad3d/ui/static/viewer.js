// The volume viewer: three synced planes of the scan, or of what the model saw of it.
//
// What the page sends (props.value): {serial, scan, key, id, name, shape, spacing_mm}
//   serial of the answer
//   scan   number of the opened scan; the same as before where the last file was refused
//   key    this browser's key to its own volume on the server (a request header, never in a URL)
//   id     content hash of the open volume, "" while there is none; sent with every request, so that
//          the server never answers with another scan than the one that is shown

import { apply, locate } from "./orient.js";
import { Pane, paneMarkup } from "./pane.js";
import { windowForOther } from "./planes.js";
import { ServerSource, VolumeLoader } from "./sources.js";
import { WHERE_MARKUP, Where } from "./where.js";

const PLANE_NAMES = ["axial", "coronal", "sagittal"];

const MARKUP = `
<div class="r3-bar" role="toolbar" aria-label="Viewer">
  <div class="r3-group r3-presets" role="group" aria-label="Window"></div>
  <div class="r3-group" role="group" aria-label="Drag with">
    <button type="button" data-tool="point" aria-pressed="true" title="Drag moves the crosshair">Crosshair</button>
    <button type="button" data-tool="window" aria-pressed="false" title="Drag changes the window (also: right mouse button, or Shift)">Window</button>
  </div>
  <div class="r3-group r3-views" role="group" aria-label="Show">
    <button type="button" data-view="scan" aria-pressed="true">Scan</button>
    <button type="button" data-view="model" aria-pressed="false" title="The scan resampled and clipped as the encoder gets it">Model’s view</button>
  </div>
</div>
<div class="r3-note" role="status" hidden></div>
<div class="r3-panes">${PLANE_NAMES.map(paneMarkup).join("")}
  <div class="r3-empty"><strong>No scan open</strong><span>Open one above.</span></div>
  <div class="r3-busy" hidden><span class="r3-spinner"></span><span class="r3-busy-text"></span></div>
</div>
${WHERE_MARKUP}
<div class="r3-foot">
  <label class="r3-slide"><span class="r3-slide-name">Axial</span>
    <input type="range" min="0" max="0" value="0" step="1" disabled></label>
  <div class="r3-numbers">
    <label>W <input type="number" class="r3-width" min="1" step="10" aria-label="Window width in HU"></label>
    <label>L <input type="number" class="r3-level" step="10" aria-label="Window level in HU"></label>
    <output class="r3-hu" aria-live="off" aria-label="Value at the cursor"></output>
    <output class="r3-mm" aria-live="off" aria-label="Position"></output>
  </div>
  <p class="r3-grid" role="status" hidden></p>
</div>`;

export class Viewer {
  /**
   * @param {HTMLElement} element filled with the viewer
   * @param {{presets: {name: string, level: number, width: number}[], root: URL,
   *   encoder: {id: string, name: string}}} options encoder: whose view of the scan is offered
   */
  constructor(element, { presets, root, encoder }) {
    this.element = element;
    this.presets = presets;
    this.root = root;
    this.encoder = encoder;
    this.loader = new VolumeLoader();
    this.sources = { scan: null, model: null };
    this.view = "scan";
    this.loading = ""; // the view that is on its way
    this.position = [0, 0, 0];
    this.window = { ...presets[0] };
    this.ownWindow = false; // true while the window was fitted to values that are not HU
    this.tool = "point";
    this.state = { id: "", key: "", scan: 0 };
    this.overlay = null; // paints the evidence over a slice
    this.preview = null; // {kept, view}: what was open before a file that is still being judged
    element.innerHTML = MARKUP;
    this.panes = [...element.querySelectorAll(".r3-pane")].map((pane) => new Pane(pane, this));
    this.where = new Where(this);
    this.#wire();
    this.#enlarge("axial");
  }

  get source() {
    return this.sources[this.view];
  }

  #find(selector) {
    return this.element.querySelector(selector);
  }

  // -- what the page and the upload tell ---------------------------------------------------

  /** Shows a local file at once, while it is still being uploaded and checked. */
  async showLocal(file) {
    const kept = this.preview?.kept ?? { sources: this.sources, position: this.position, view: this.view, window: this.window };
    this.preview = { kept, file };
    const preview = this.preview;
    this.where.hide();
    this.#busy(`Reading ${file.name}`);
    try {
      const source = await this.loader.open({ blob: file });
      if (this.preview !== preview) return;
      this.#show("scan", source);
      this.sources.model = null;
      this.#mark();
    } catch {
      // Not every readable file can be previewed (a DICOM zip); the server's verdict follows.
    }
    if (this.preview === preview) this.#busy("Checking the scan");
  }

  /** A sample was chosen: the server is reading it. */
  expect(text) {
    this.where.hide();
    this.#busy(text);
  }

  /** The upload itself failed: back to what was open before. */
  abandonLocal() {
    this.loader.abandon();
    this.#restore();
    this.#busy("");
  }

  /** The server's verdict: which volume is open now. */
  async update(state) {
    const before = this.state;
    this.state = state;
    this.#busy("");
    if (state.scan === before.scan) {
      this.loader.abandon();
      this.#restore();
      return;
    }
    this.where.hide();
    const previewed = this.#previews;
    this.preview = null;
    this.#mark();
    if (previewed && this.#matches(this.sources.scan, state)) return;
    if (state.id === before.id && this.sources.scan) return;
    this.sources = { scan: null, model: null };
    this.#setView("scan");
    if (state.id) await this.#load("scan");
    else this.redraw();
  }

  /** A variant of another encoder was chosen, which sees another grid. */
  async setEncoder(encoder) {
    if (encoder.id === this.encoder.id) return;
    this.encoder = encoder;
    const { preview } = this;
    if (preview) preview.kept = { ...preview.kept, sources: { ...preview.kept.sources, model: null }, view: "scan" };
    const asked = this.view === "model" || this.loading === "model";
    if (asked && !preview) await this.#load("model"); // what was shown stays in view meanwhile
    else this.sources.model = null;
  }

  #matches(source, { shape, spacing_mm: spacing }) {
    const close = (a, b) => Math.abs(a - b) <= 0.01 * Math.max(Math.abs(b), 1e-6);
    return source.dims.every((n, i) => n === shape[i] && close(source.spacing[i], spacing[i]));
  }

  #restore() {
    if (!this.preview) return;
    const { kept } = this.preview;
    this.preview = null;
    this.#mark();
    this.sources = kept.sources;
    this.window = kept.window;
    this.#setView(kept.view);
    this.position = kept.position;
    this.redraw();
  }

  /** Whether a file is shown that the server has not opened yet. */
  get #previews() {
    return Boolean(this.preview) && this.sources.scan !== this.preview.kept.sources.scan;
  }

  /** Has the page hide what it says of the scan that was open before. */
  #mark() {
    document.body.classList.toggle("r3-previews", this.#previews);
  }

  // -- loading -----------------------------------------------------------------------------

  async #load(view) {
    const { id, key } = this.state;
    const { encoder } = this;
    const current = () => this.state.id === id && (view === "scan" || this.encoder === encoder);
    this.loading = view;
    this.#busy(view === "scan" ? "Loading the scan" : "Preparing what the model sees");
    try {
      const url = new URL(`rad3d/volume?${this.#query(view)}`, this.root).href;
      const source = await this.loader.open({ url, headers: { "X-Rad3d-Key": key, "X-Rad3d-Scan": id } });
      if (!current()) return;
      this.#show(view, source);
      this.#note("");
    } catch (error) {
      if (current()) await this.#fallBack(view, error);
    }
    if (!current()) return;
    this.loading = "";
    this.#busy("");
  }

  #query(view, more = {}) {
    const encoder = view === "model" ? { encoder: this.encoder.id } : {};
    return new URLSearchParams({ view, ...encoder, ...more });
  }

  async #fallBack(view, error) {
    const { id } = this.state;
    try {
      const geometry = await (await this.ask(`rad3d/geometry?${this.#query(view)}`, id)).json();
      const slice = async ({ plane, index, level, width }) => {
        const query = this.#query(view, { plane, index, level, width });
        return (await this.ask(`rad3d/slice?${query}`, id)).blob();
      };
      const source = new ServerSource(
        geometry, slice, () => this.redraw(), (problem) => this.#note(problem.message, true),
      );
      this.#note(`This browser cannot show the volume itself (${error.message}) Slices come from the server.`);
      this.#show(view, source);
    } catch (problem) {
      this.#note(problem.message, true);
      this.sources.model = null;
      this.#setView("scan");
      this.redraw();
    }
  }

  /** The server's answer about a scan, the open one by default; rejects with its sentence. */
  async ask(path, id = this.state.id) {
    const response = await fetch(new URL(path, this.root), {
      headers: { "X-Rad3d-Key": this.state.key, "X-Rad3d-Scan": id }, cache: "no-store",
    });
    if (!response.ok) throw new Error(await response.text());
    return response;
  }

  #show(view, source) {
    const earlier = this.source;
    const mm = earlier && view === "model" ? apply(earlier.affine, this.position) : null;
    this.sources = { ...this.sources, [view]: source };
    this.#setView(view);
    this.position = mm ? this.#clamped(locate(source.affine, mm)) : source.dims.map((n) => n >> 1);
    this.panes.forEach((pane) => pane.resetZoom());
    const other = source.volume && view === "scan" ? windowForOther(source.volume) : null;
    if (other) this.setWindow(other);
    else if (this.ownWindow) this.setWindow(this.presets[0]);
    this.ownWindow = Boolean(other);
    this.redraw();
  }

  // -- interaction -------------------------------------------------------------------------

  #wire() {
    const holder = this.#find(".r3-presets");
    this.presets.forEach((preset, i) => {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.textContent = preset.name;
      button.title = `W ${preset.width} L ${preset.level} (key ${i + 1})`;
      button.addEventListener("click", () => this.setWindow(preset));
      holder.append(button);
    });
    this.element.querySelectorAll("[data-tool]").forEach((button) =>
      button.addEventListener("click", () => this.#setTool(button.dataset.tool)));
    this.element.querySelectorAll("[data-view]").forEach((button) =>
      button.addEventListener("click", () => this.#chooseView(button.dataset.view)));
    this.element.querySelectorAll(".r3-enlarge").forEach((button) =>
      button.addEventListener("click", () => this.#enlarge(button.parentElement.dataset.plane)));
    this.#find("input[type=range]").addEventListener("input", ({ target }) => {
      const pane = this.#mainPane();
      this.scroll(pane.plane, Number(target.value) - pane.index);
    });
    const typed = () => this.setWindow({
      level: Number(this.#find(".r3-level").value), width: Number(this.#find(".r3-width").value),
    });
    this.#find(".r3-level").addEventListener("change", typed);
    this.#find(".r3-width").addEventListener("change", typed);
    new ResizeObserver(() => this.redraw()).observe(this.#find(".r3-panes"));
  }

  #mainPane() {
    return this.panes.find((pane) => pane.element.classList.contains("main"));
  }

  #enlarge(plane) {
    this.panes.forEach((pane) => pane.element.classList.toggle("main", pane.plane === plane));
    this.redraw();
  }

  /** Keys shared by all planes; true where the key meant something. */
  onShortcut(key) {
    const preset = this.presets[Number(key) - 1];
    if (preset) this.setWindow(preset);
    else if (key === "w") this.#setTool(this.tool === "window" ? "point" : "window");
    else if (key === "r") this.panes.forEach((pane) => pane.resetZoom());
    else return false;
    this.redraw();
    return true;
  }

  /** Moves the crosshair to a canonical voxel. */
  moveTo(voxel) {
    this.position = this.#clamped(voxel);
    this.redraw();
  }

  /** Moves the crosshair to a place in mm. */
  goTo(mm) {
    if (this.source) this.moveTo(locate(this.source.affine, mm));
  }

  /** Moves a plane by some slices (positive: towards head, anterior, right). */
  scroll(plane, steps) {
    const axis = { axial: 2, coronal: 1, sagittal: 0 }[plane];
    const voxel = [...this.position];
    voxel[axis] += steps;
    this.moveTo(voxel);
  }

  #clamped(voxel) {
    return voxel.map((v, i) => Math.min(this.source.dims[i] - 1, Math.max(0, Math.round(v))));
  }

  /** @param {{level: number, width: number}} window in HU */
  setWindow({ level, width }) {
    if (!Number.isFinite(level) || !Number.isFinite(width)) return;
    this.window = { level, width: Math.max(width, 1e-3) };
    this.redraw();
  }

  #isWindow({ level, width }) {
    return this.window.level === level && this.window.width === width;
  }

  #setTool(tool) {
    this.tool = tool;
    this.element.querySelectorAll("[data-tool]").forEach((button) =>
      button.setAttribute("aria-pressed", String(button.dataset.tool === tool)));
    this.#find(".r3-panes").dataset.tool = tool;
  }

  async #chooseView(view) {
    if (view === this.view || !this.state.id || this.preview) return;
    if (!this.sources[view]) {
      await this.#load(view);
      return;
    }
    const mm = apply(this.source.affine, this.position);
    this.#setView(view);
    this.moveTo(locate(this.source.affine, mm));
  }

  #setView(view) {
    this.view = view;
    this.element.querySelectorAll("[data-view]").forEach((button) =>
      button.setAttribute("aria-pressed", String(button.dataset.view === view)));
  }

  /** Whose grid is shown, and how fine it is; nothing while the scan itself is. */
  #caption() {
    const line = this.#find(".r3-grid");
    line.hidden = this.view !== "model" || !this.source;
    if (line.hidden) return;
    const size = this.source.spacing.map((mm) => Number(mm.toFixed(2))).join(" × ");
    line.textContent = `As ${this.encoder.name} gets it: ${this.source.dims.join(" × ")} voxels of ${size} mm`;
  }

  /** The voxel under the mouse, or null. */
  hover(voxel) {
    this.hovered = voxel;
    this.#readout();
  }

  // -- drawing -----------------------------------------------------------------------------

  /** Draws all planes in the next frame, however often it is asked for before. */
  redraw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.panes.forEach((pane) => pane.draw());
      this.#find(".r3-empty").hidden = Boolean(this.source) || !this.#find(".r3-busy").hidden;
      this.#controls();
      this.#caption();
      this.#readout();
    });
  }

  #controls() {
    [...this.#find(".r3-presets").children].forEach((button, i) =>
      button.setAttribute("aria-pressed", String(this.#isWindow(this.presets[i]))));
    const pane = this.#mainPane();
    const range = this.#find("input[type=range]");
    range.disabled = !this.source;
    range.max = String(pane.count - 1);
    range.value = String(pane.index);
    range.setAttribute("aria-label", `${pane.plane} slice`);
    range.setAttribute("aria-valuetext", pane.place);
    this.#find(".r3-slide-name").textContent = `${pane.plane[0].toUpperCase()}${pane.plane.slice(1)}`;
    const digits = this.window.width < 10 ? 3 : 0;
    for (const [name, value] of [["level", this.window.level], ["width", this.window.width]]) {
      const input = this.#find(`.r3-${name}`);
      if (document.activeElement !== input) input.value = Number(value.toFixed(digits));
    }
  }

  #readout() {
    const voxel = this.hovered ?? this.position;
    const value = this.source?.valueAt(voxel) ?? NaN;
    const rounded = Math.abs(value) < 10 && !Number.isInteger(value) ? value.toFixed(2) : Math.round(value);
    this.#find(".r3-hu").textContent = Number.isFinite(value) ? `${rounded} HU` : "– HU";
    const mm = this.source ? apply(this.source.affine, voxel) : null;
    const letter = (v, [plus, minus]) => `${v >= 0 ? plus : minus} ${Math.abs(v).toFixed(0)}`;
    this.#find(".r3-mm").textContent = mm
      ? `${letter(mm[0], "RL")} · ${letter(mm[1], "AP")} · ${letter(mm[2], "HF")} mm`
      : "";
  }

  #busy(text) {
    this.#find(".r3-busy").hidden = !text;
    this.#find(".r3-busy-text").textContent = text;
    this.element.setAttribute("aria-busy", String(Boolean(text)));
    this.redraw();
  }

  #note(text, isError = false) {
    const note = this.#find(".r3-note");
    note.hidden = !text;
    note.textContent = text;
    note.classList.toggle("error", isError);
  }
}

/** Starts the viewer inside its component; other scripts find it as element.viewer. */
export function mount(element, props, watch, root) {
  const host = element.querySelector(".r3-viewer");
  const viewer = new Viewer(host, { presets: props.presets, root, encoder: props.encoder });
  host.viewer = viewer;
  let serial = -1;
  const follow = () => {
    const state = props.value;
    if (!state || typeof state !== "object" || state.serial === serial) return;
    serial = state.serial;
    viewer.update(state);
  };
  watch("value", follow);
  watch("encoder", () => viewer.setEncoder(props.encoder));
  follow();
}
