// Cuts display-ready slices out of a canonical view of stored voxels. Pure functions.

import { PLANES, canonicalView } from "./orient.js";

/** A volume for display: stored voxels, their canonical view and how they become HU. */
export function makeVolume(header, voxels) {
  return {
    voxels,
    slope: header.slope,
    inter: header.inter,
    ...canonicalView(header.dims, header.affine),
  };
}

/** Value at a canonical voxel, in HU where the file is; NaN outside. */
export function valueAt(volume, [i, j, k]) {
  const { dims, strides, base } = volume;
  if ([i, j, k].some((v, axis) => v < 0 || v >= dims[axis])) return NaN;
  const stored = volume.voxels[base + i * strides[0] + j * strides[1] + k * strides[2]];
  return stored * volume.slope + volume.inter;
}

/** The longest round length in mm that takes at most so many pixels; null for none. */
export function barLength(pixelsPerMm, most) {
  return [200, 100, 50, 20, 10, 5, 2, 1].find((mm) => mm * pixelsPerMm <= most) ?? null;
}

/** Slice size of a plane in voxels: [across, down]. */
export function planeSize(dims, plane) {
  return [dims[PLANES[plane].across.axis], dims[PLANES[plane].down.axis]];
}

/** Canonical voxel under a display position (0..1, 0..1 from the top left corner) of a plane. */
export function voxelAt(dims, plane, index, u, v) {
  const { through, across, down } = PLANES[plane];
  const voxel = [0, 0, 0];
  voxel[through] = index;
  for (const [place, { axis, sign }] of [[u, across], [v, down]]) {
    const along = Math.min(dims[axis] - 1, Math.max(0, Math.floor(place * dims[axis])));
    voxel[axis] = sign < 0 ? dims[axis] - 1 - along : along;
  }
  return voxel;
}

/** Display position (0..1, 0..1) of the centre of a canonical voxel in a plane. */
export function displayAt(dims, plane, voxel) {
  const { across, down } = PLANES[plane];
  return [across, down].map(({ axis, sign }) => {
    const along = sign < 0 ? dims[axis] - 1 - voxel[axis] : voxel[axis];
    return (along + 0.5) / dims[axis];
  });
}

/**
 * Grey values of every possible stored value, for 8- and 16-bit voxels; null for other types.
 * Index: stored value + 32768.
 */
export function windowTable(volume, { level, width }) {
  if (volume.voxels.BYTES_PER_ELEMENT > 2) return null;
  const low = level - width / 2;
  const table = new Uint8ClampedArray(32768 + 65536);
  for (let i = 0; i < table.length; i++) {
    table[i] = (((i - 32768) * volume.slope + volume.inter - low) * 255) / width;
  }
  return table;
}

/**
 * Paints one slice as opaque grey pixels, in display order (radiological; anterior or head up).
 *
 * @param {object} volume from makeVolume
 * @param {Uint32Array} pixels of planeSize across * down, little-endian RGBA
 * @param {{level: number, width: number}} window in HU
 * @param {Uint8ClampedArray|null} table from windowTable for the same volume and window
 */
export function paintSlice(volume, plane, index, window, table, pixels) {
  const { through, across, down } = PLANES[plane];
  const { dims, strides, voxels } = volume;
  const [columns, rows] = planeSize(dims, plane);
  const stepAcross = strides[across.axis] * across.sign;
  const stepDown = strides[down.axis] * down.sign;
  let start = volume.base + index * strides[through];
  if (across.sign < 0) start += (columns - 1) * strides[across.axis];
  if (down.sign < 0) start += (rows - 1) * strides[down.axis];
  const gain = 255 / window.width;
  const offset = (volume.inter - (window.level - window.width / 2)) * gain;
  const slope = volume.slope * gain;
  let out = 0;
  for (let r = 0; r < rows; r++, start += stepDown) {
    let at = start;
    for (let c = 0; c < columns; c++, at += stepAcross) {
      const grey = table
        ? table[voxels[at] + 32768]
        : Math.min(255, Math.max(0, voxels[at] * slope + offset)) | 0; // NaN becomes black
      pixels[out++] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
  }
}

/**
 * A window that suits values that are not HU (an MR preview): the 1st to the 99th percentile of a
 * sample of the voxels. Returns null where the values look like HU, for which presets are right.
 */
export function windowForOther(volume) {
  const step = Math.max(1, Math.floor(volume.voxels.length / 20000));
  const sample = [];
  for (let i = 0; i < volume.voxels.length; i += step) {
    const value = volume.voxels[i] * volume.slope + volume.inter;
    if (Number.isFinite(value)) sample.push(value);
  }
  sample.sort((a, b) => a - b);
  if (sample.length === 0 || sample[Math.floor(sample.length * 0.02)] < -200) return null;
  const at = (share) => sample[Math.min(sample.length - 1, Math.floor(sample.length * share))];
  const [low, high] = [at(0.01), at(0.99)];
  return { level: (low + high) / 2, width: Math.max(high - low, 1e-3) };
}
