// Where slices come from: voxels in this browser, or images rendered by the server.
// Both offer: dims, spacing, affine (canonical RAS+), kind, and paint(plane, index, window) ->
// a drawable (canvas or bitmap) or null while it is on its way.

import { makeVolume, paintSlice, planeSize, valueAt, windowTable } from "./planes.js";

const WORKER_URL = new URL("./volume-worker.js", import.meta.url);

/** Voxel bytes that this device can be asked to hold; beyond it the server renders. */
export function voxelBudget() {
  const small = matchMedia("(pointer: coarse)").matches || (navigator.deviceMemory || 8) <= 2;
  return (small ? 200 : 700) * 2 ** 20;
}

/** Opens volumes in a worker; at most one at a time, a newer request abandons an older one. */
export class VolumeLoader {
  #worker = null;

  /** @param {{blob?: Blob, url?: string, headers?: object}} request */
  open(request) {
    this.abandon();
    const worker = new Worker(WORKER_URL, { type: "module" });
    this.#worker = worker;
    return new Promise((resolve, reject) => {
      const finish = (settle, value) => {
        worker.terminate();
        if (this.#worker === worker) this.#worker = null;
        settle(value);
      };
      worker.onmessage = ({ data }) => {
        if (data.error) finish(reject, new Error(data.error));
        else finish(resolve, new VoxelSource(makeVolume(data.header, data.voxels)));
      };
      worker.onerror = (event) => finish(reject, new Error(event.message || "The worker failed."));
      worker.postMessage({ ...request, maxBytes: voxelBudget() });
    });
  }

  /** Stops the running request; its promise stays unsettled. */
  abandon() {
    this.#worker?.terminate();
    this.#worker = null;
  }
}

/** Slices cut from voxels held here. */
export class VoxelSource {
  kind = "voxels";
  #volume;
  #table = null;
  #tableKey = "";
  #canvases = {};

  constructor(volume) {
    this.#volume = volume;
    this.dims = volume.dims;
    this.spacing = volume.spacing;
    this.affine = volume.affine;
  }

  get volume() {
    return this.#volume;
  }

  valueAt(voxel) {
    return valueAt(this.#volume, voxel);
  }

  paint(plane, index, window) {
    const key = `${window.level}/${window.width}`;
    if (key !== this.#tableKey) {
      this.#table = windowTable(this.#volume, window);
      this.#tableKey = key;
    }
    const slot = (this.#canvases[plane] ??= this.#newSlot(plane));
    paintSlice(this.#volume, plane, index, window, this.#table, slot.pixels);
    slot.context.putImageData(slot.image, 0, 0);
    return slot.canvas;
  }

  #newSlot(plane) {
    const [width, height] = planeSize(this.dims, plane);
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    return { canvas, context, image, pixels: new Uint32Array(image.data.buffer) };
  }
}

/** Slices rendered by the server; per plane the newest request wins. */
export class ServerSource {
  kind = "images";
  #shown = {};
  #wanted = {};
  #busy = {};

  /** @param {{dims, spacing, affine}} geometry @param {(query) => Promise<Blob>} fetchSlice */
  constructor(geometry, fetchSlice, onReady, onError) {
    Object.assign(this, geometry);
    this.fetchSlice = fetchSlice;
    this.onReady = onReady;
    this.onError = onError;
  }

  valueAt() {
    return NaN;
  }

  paint(plane, index, window) {
    const key = `${index}/${window.level}/${window.width}`;
    if (this.#shown[plane]?.key !== key) this.#want(plane, { key, index, window });
    return this.#shown[plane]?.bitmap ?? null;
  }

  #want(plane, request) {
    this.#wanted[plane] = request;
    if (!this.#busy[plane]) this.#load(plane);
  }

  async #load(plane) {
    this.#busy[plane] = true;
    while (this.#wanted[plane]) {
      const { key, index, window } = this.#wanted[plane];
      this.#wanted[plane] = null;
      try {
        const blob = await this.fetchSlice({ plane, index, ...window });
        this.#shown[plane] = { key, bitmap: await createImageBitmap(blob) };
        this.onReady();
      } catch (error) {
        this.onError(error);
      }
    }
    this.#busy[plane] = false;
  }
}
