// One plane: a canvas with crosshair, marks, zoom, and the gestures on it.

import { PLANES, edgeMarks } from "./orient.js";
import { barLength, displayAt, planeSize, voxelAt } from "./planes.js";

const CROSSHAIR = ["rgba(0, 0, 0, 0.45)", "rgba(96, 201, 255, 0.85)"]; // a dark edge, then the line
const NAMES = { axial: "Axial", coronal: "Coronal", sagittal: "Sagittal" };

/** Markup of one pane; all text is set later through textContent. */
export function paneMarkup(plane) {
  return `<div class="r3-pane" data-plane="${plane}">
    <canvas tabindex="0" role="slider" aria-orientation="vertical" aria-label="${NAMES[plane]} slice"
      aria-valuemin="1" aria-valuemax="1" aria-valuenow="1"></canvas>
    <span class="r3-title"><span></span><span class="r3-of"></span></span><span class="r3-mark top"></span><span class="r3-mark bottom"></span>
    <span class="r3-mark left"></span><span class="r3-mark right"></span>
    <span class="r3-scale" hidden></span>
    <button type="button" class="r3-enlarge" aria-label="Enlarge the ${plane} plane"
      title="Enlarge this plane">⤢</button></div>`;
}

export class Pane {
  #pointers = new Map();
  #gesture = null;
  #wheel = 0;

  /**
   * @param {HTMLElement} element made from paneMarkup
   * @param {object} viewer offers source, overlay, position, window, tool, moveTo, scroll, setWindow, hover
   */
  constructor(element, viewer) {
    this.element = element;
    this.plane = element.dataset.plane;
    this.viewer = viewer;
    this.canvas = element.querySelector("canvas");
    this.zoom = { scale: 1, x: 0, y: 0 };
    this.#listen();
  }

  /** Index of the shown slice. */
  get index() {
    return this.viewer.position[PLANES[this.plane].through];
  }

  /** Number of slices. */
  get count() {
    return this.viewer.source?.dims[PLANES[this.plane].through] ?? 1;
  }

  /** Which slice is shown, in words. */
  get place() {
    return `slice ${this.index + 1} of ${this.count}`;
  }

  resetZoom() {
    this.zoom = { scale: 1, x: 0, y: 0 };
  }

  /** Where the slice lies on the canvas, in device pixels. */
  #frame() {
    const { dims, spacing } = this.viewer.source;
    const { across, down } = PLANES[this.plane];
    const [columns, rows] = planeSize(dims, this.plane);
    const [wide, high] = [columns * spacing[across.axis], rows * spacing[down.axis]];
    const { width, height } = this.canvas;
    const fit = Math.min(width / wide, height / high) * this.zoom.scale;
    const ratio = this.#ratio();
    return {
      pixelsPerMm: fit / ratio, // of the page, not of the screen
      width: wide * fit,
      height: high * fit,
      x: (width - wide * fit) / 2 + this.zoom.x * ratio,
      y: (height - high * fit) / 2 + this.zoom.y * ratio,
    };
  }

  #ratio() {
    return window.devicePixelRatio || 1;
  }

  /** Fits the canvas to its element; returns true where the size changed. */
  fit() {
    const width = Math.max(1, Math.round(this.element.clientWidth * this.#ratio()));
    const height = Math.max(1, Math.round(this.element.clientHeight * this.#ratio()));
    if (this.canvas.width === width && this.canvas.height === height) return false;
    Object.assign(this.canvas, { width, height });
    return true;
  }

  draw() {
    this.fit();
    const { source, window: grey, position } = this.viewer;
    const context = this.canvas.getContext("2d", { alpha: false });
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.#label();
    const frame = source && this.#frame();
    this.#scale(frame);
    const picture = source?.paint(this.plane, this.index, grey);
    if (!picture) return;
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, frame.x, frame.y, frame.width, frame.height);
    const evidence = this.viewer.overlay?.paint(source, this.plane, this.index);
    if (evidence) context.drawImage(evidence, frame.x, frame.y, frame.width, frame.height);
    this.#crosshair(context, frame, displayAt(source.dims, this.plane, position));
  }

  #crosshair(context, frame, [u, v]) {
    const ratio = this.#ratio();
    const [x, y] = [frame.x + u * frame.width, frame.y + v * frame.height];
    const gap = 9 * ratio;
    const { width, height } = this.canvas;
    context.beginPath();
    for (const [x1, y1, x2, y2] of [
      [0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height],
    ]) {
      context.moveTo(x1, y1);
      context.lineTo(x2, y2);
    }
    CROSSHAIR.forEach((color, i) => {
      context.strokeStyle = color;
      context.lineWidth = ratio * (i === 0 ? 3 : 1);
      context.stroke();
    });
  }

  /** The bar that shows a length. */
  #scale(frame) {
    const bar = this.element.querySelector(".r3-scale");
    const mm = frame && barLength(frame.pixelsPerMm, this.element.clientWidth * 0.35);
    bar.hidden = !mm;
    if (!mm) return;
    bar.style.width = `${mm * frame.pixelsPerMm}px`;
    bar.textContent = mm < 10 ? `${mm} mm` : `${mm / 10} cm`;
  }

  #label() {
    const { source } = this.viewer;
    const [name, of] = this.element.querySelector(".r3-title").children;
    name.textContent = source ? `${NAMES[this.plane]} ${this.index + 1}` : NAMES[this.plane];
    of.textContent = source ? `/${this.count}` : "";
    const marks = source ? edgeMarks(source.affine, this.plane) : {};
    for (const side of ["top", "bottom", "left", "right"]) {
      this.element.querySelector(`.r3-mark.${side}`).textContent = marks[side] ?? "";
    }
    this.canvas.setAttribute("aria-valuemax", String(this.count));
    this.canvas.setAttribute("aria-valuenow", String(this.index + 1));
    this.canvas.setAttribute("aria-valuetext", this.place);
  }

  /** Canonical voxel under a pointer event. */
  #voxelUnder(event) {
    const box = this.canvas.getBoundingClientRect();
    const frame = this.#frame();
    const ratio = this.#ratio();
    const u = ((event.clientX - box.left) * ratio - frame.x) / frame.width;
    const v = ((event.clientY - box.top) * ratio - frame.y) / frame.height;
    const inside = u >= 0 && u < 1 && v >= 0 && v < 1;
    return { voxel: voxelAt(this.viewer.source.dims, this.plane, this.index, u, v), inside };
  }

  #listen() {
    const on = (name, handler, options) =>
      this.canvas.addEventListener(name, (event) => this.viewer.source && handler(event), options);
    on("wheel", (event) => this.#onWheel(event), { passive: false });
    on("pointerdown", (event) => this.#onDown(event));
    on("pointermove", (event) => this.#onMove(event));
    on("pointerup", (event) => this.#onUp(event));
    on("pointercancel", (event) => this.#onUp(event));
    on("pointerleave", () => this.viewer.hover(null));
    on("contextmenu", (event) => event.preventDefault());
    on("dblclick", () => {
      this.resetZoom();
      this.viewer.redraw();
    });
    on("keydown", (event) => this.#onKey(event));
  }

  #onWheel(event) {
    event.preventDefault();
    if (event.ctrlKey) {
      this.#zoomBy(Math.exp(-event.deltaY / 200), event);
      return;
    }
    // Trackpads send many small steps; one slice per 40 px (a wheel notch is 100 or more).
    const pixels = event.deltaMode === 1 ? event.deltaY * 40 : event.deltaY;
    this.#wheel += pixels;
    const notch = Math.abs(pixels) >= 80 ? pixels : 40;
    const steps = Math.trunc(this.#wheel / Math.abs(notch));
    if (steps !== 0) {
      this.#wheel = 0;
      this.viewer.scroll(this.plane, -steps);
    }
  }

  #zoomBy(factor, event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = Math.min(12, Math.max(1, this.zoom.scale * factor));
    const grow = scale / this.zoom.scale;
    const dx = event.clientX - box.left - box.width / 2;
    const dy = event.clientY - box.top - box.height / 2;
    this.zoom =
      scale === 1
        ? { scale, x: 0, y: 0 }
        : { scale, x: dx - (dx - this.zoom.x) * grow, y: dy - (dy - this.zoom.y) * grow };
    this.viewer.redraw();
  }

  #onDown(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, event);
    if (this.#pointers.size === 2) {
      this.#gesture = { kind: "pinch", ...this.#spread() };
      return;
    }
    const windowing = event.button === 2 || event.shiftKey || this.viewer.tool === "window";
    const touch = event.pointerType === "touch";
    const kind = windowing ? "window" : event.button === 1 ? "pan" : touch ? "scroll" : "point";
    this.#gesture = {
      kind, x: event.clientX, y: event.clientY, moved: 0, rest: 0,
      grey: { ...this.viewer.window }, zoom: { ...this.zoom },
    };
    if (kind === "point") this.viewer.moveTo(this.#voxelUnder(event).voxel);
  }

  #onMove(event) {
    if (!this.#pointers.has(event.pointerId)) {
      const { voxel, inside } = this.#voxelUnder(event);
      this.viewer.hover(inside ? voxel : null);
      return;
    }
    const before = this.#pointers.get(event.pointerId);
    this.#pointers.set(event.pointerId, event);
    const gesture = this.#gesture;
    if (!gesture) return;
    if (gesture.kind === "pinch") {
      this.#onPinch();
      return;
    }
    const [dx, dy] = [event.clientX - gesture.x, event.clientY - gesture.y];
    gesture.moved = Math.max(gesture.moved, Math.hypot(dx, dy));
    if (gesture.kind === "point") this.viewer.moveTo(this.#voxelUnder(event).voxel);
    if (gesture.kind === "window") this.#dragWindow(gesture.grey, dx, dy);
    if (gesture.kind === "pan") {
      this.zoom = { ...gesture.zoom, x: gesture.zoom.x + dx, y: gesture.zoom.y + dy };
      this.viewer.redraw();
    }
    if (gesture.kind === "scroll") this.#dragSlices(gesture, event.clientY - before.clientY);
  }

  #onUp(event) {
    const gesture = this.#gesture;
    const last = this.#pointers.size === 1;
    this.#pointers.delete(event.pointerId);
    if (last && gesture?.kind === "scroll" && gesture.moved < 6 && event.type === "pointerup") {
      this.viewer.moveTo(this.#voxelUnder(event).voxel);
    }
    this.#gesture = null;
  }

  // Right widens the window, down raises its level (a darker picture), as on reading stations.
  #dragWindow(from, dx, dy) {
    const step = Math.max(from.width / 400, 1e-3);
    this.viewer.setWindow({ level: from.level + dy * step, width: from.width + dx * step * 2 });
  }

  #dragSlices(gesture, dy) {
    const perSlice = Math.max(3, this.canvas.clientHeight / this.count);
    gesture.rest += dy;
    const steps = Math.trunc(gesture.rest / perSlice);
    if (steps === 0) return;
    gesture.rest -= steps * perSlice;
    this.viewer.scroll(this.plane, -steps);
  }

  #spread() {
    const [a, b] = [...this.#pointers.values()];
    return {
      distance: Math.max(10, Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY)),
      clientX: (a.clientX + b.clientX) / 2,
      clientY: (a.clientY + b.clientY) / 2,
    };
  }

  #onPinch() {
    if (this.#pointers.size < 2) return;
    const now = this.#spread();
    const { distance, clientX, clientY } = this.#gesture;
    this.zoom.x += now.clientX - clientX;
    this.zoom.y += now.clientY - clientY;
    this.#zoomBy(now.distance / distance, now);
    this.#gesture = { kind: "pinch", ...now };
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const jump = Math.max(2, Math.round(this.count / 10));
    const steps = { ArrowUp: 1, ArrowDown: -1, ArrowRight: 1, ArrowLeft: -1, PageUp: jump, PageDown: -jump };
    const { viewer } = this;
    if (event.key in steps) viewer.scroll(this.plane, steps[event.key]);
    else if (event.key === "Home") viewer.scroll(this.plane, -this.count);
    else if (event.key === "End") viewer.scroll(this.plane, this.count);
    else if (event.key === "+" || event.key === "=" || event.key === "-") this.#zoomKey(event.key);
    else if (!viewer.onShortcut(event.key)) return;
    event.preventDefault();
  }

  #zoomKey(key) {
    const box = this.canvas.getBoundingClientRect();
    const centre = { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 };
    this.#zoomBy(key === "-" ? 0.8 : 1.25, centre);
  }
}
