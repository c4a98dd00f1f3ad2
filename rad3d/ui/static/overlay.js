// Evidence over a slice: a coarse volume of strengths, cut along any plane of any source.

import { apply, locate, PLANES } from "./orient.js";
import { planeSize } from "./planes.js";

const PIXEL_MM = 1.5; // cells are far larger
export const COLOR = [255, 176, 46];
const FAINT = 46, STRONG = 120, EDGE = 225; // opacity of 255: at the threshold, of the strongest, of the outline

/** Strengths as the server sends them; strengthAt takes fractional cells, 0 outside. */
export function makeOverlay({ strength, shape, affine, threshold, peak_mm: peak, ...rest }) {
  const cells = Uint8Array.from(atob(strength), (c) => c.charCodeAt(0));
  return { ...rest, cells, shape, affine, peak, threshold: 255 * threshold };
}

/** Trilinear strength, 0 to 255, at a place between the centres of cells. */
export function strengthAt({ cells, shape: [nx, ny, nz] }, [x, y, z]) {
  const [i, j, k] = [Math.floor(x), Math.floor(y), Math.floor(z)];
  if (i < -1 || j < -1 || k < -1 || i >= nx || j >= ny || k >= nz) return 0;
  let sum = 0;
  for (let corner = 0; corner < 8; corner++) {
    const [a, b, c] = [i + (corner & 1), j + ((corner >> 1) & 1), k + (corner >> 2)];
    if (a < 0 || b < 0 || c < 0 || a >= nx || b >= ny || c >= nz) continue;
    const weight = (1 - Math.abs(x - a)) * (1 - Math.abs(y - b)) * (1 - Math.abs(z - c));
    sum += weight * cells[a + nx * (b + ny * c)];
  }
  return sum;
}

/**
 * Strengths on a slice, row by row in display order.
 *
 * @param {object} overlay from makeOverlay
 * @param {{dims: number[], spacing: number[], affine: number[][]}} source whose slice it is
 * @returns {{width: number, height: number, values: Float32Array}}
 */
export function cut(overlay, source, plane, index) {
  const { through, across, down } = PLANES[plane];
  const { dims, spacing } = source;
  const [width, height] = planeSize(dims, plane).map((n, i) =>
    Math.max(1, Math.round((n * spacing[[across, down][i].axis]) / PIXEL_MM)));
  const cellAt = (column, row) => {
    const voxel = [0, 0, 0];
    voxel[through] = index;
    for (const [place, { axis, sign }] of [[(column + 0.5) / width, across], [(row + 0.5) / height, down]]) {
      const along = place * dims[axis] - 0.5;
      voxel[axis] = sign < 0 ? dims[axis] - 1 - along : along;
    }
    return locate(overlay.affine, apply(source.affine, voxel));
  };
  const start = cellAt(0, 0); // all steps are alike: the way from a pixel to a cell is linear
  const [right, below] = [cellAt(1, 0), cellAt(0, 1)].map((cell) => cell.map((v, i) => v - start[i]));
  const values = new Float32Array(width * height);
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++, at++) {
      values[at] = strengthAt(overlay, start.map((v, i) => v + column * right[i] + row * below[i]));
    }
  }
  return { width, height, values };
}

/** Colours what reaches the threshold, with an outline; RGBA pixels of a cut. */
export function coloured({ width, height, values }, threshold) {
  const pixels = new Uint8ClampedArray(4 * width * height);
  const inside = (column, row) =>
    column >= 0 && row >= 0 && column < width && row < height && values[row * width + column] >= threshold;
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++, at++) {
      if (values[at] < threshold) continue;
      const isEdge = !inside(column - 1, row) || !inside(column + 1, row) || !inside(column, row - 1) || !inside(column, row + 1);
      const share = (values[at] - threshold) / Math.max(1, 255 - threshold);
      pixels.set(COLOR, 4 * at);
      pixels[4 * at + 3] = isEdge ? EDGE : FAINT + share * (STRONG - FAINT);
    }
  }
  return pixels;
}

/** Paints cuts of one overlay; the last of each plane is kept. */
export class OverlayPainter {
  #kept = new Map();

  constructor(overlay) {
    this.overlay = overlay;
  }

  paint(source, plane, index) {
    const kept = this.#kept.get(plane);
    if (kept?.source === source && kept.index === index) return kept.canvas;
    const piece = cut(this.overlay, source, plane, index);
    const canvas = Object.assign(document.createElement("canvas"), { width: piece.width, height: piece.height });
    const image = new ImageData(coloured(piece, this.overlay.threshold), piece.width, piece.height);
    canvas.getContext("2d").putImageData(image, 0, 0);
    this.#kept.set(plane, { source, index, canvas });
    return canvas;
  }
}
