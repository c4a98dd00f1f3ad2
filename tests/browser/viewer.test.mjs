// Unit tests of the viewer's pure modules; run by tests/ui/test_viewer_js.py with `node --test`.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

const STATIC = new URL("../../rad3d/ui/static/", import.meta.url);
const { UnsupportedVolume, isGzip, parseHeader, readNifti, swapBytes } = await import(new URL("nifti.js", STATIC));
const { PLANES, apply, canonicalView, closestAxes, directionLetters, edgeMarks, locate } =
  await import(new URL("orient.js", STATIC));
const { barLength, displayAt, makeVolume, paintSlice, planeSize, valueAt, voxelAt, windowForOther, windowTable } =
  await import(new URL("planes.js", STATIC));
const { coloured, cut, makeOverlay, strengthAt } = await import(new URL("overlay.js", STATIC));

const IDENTITY = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];

/** A little-endian int16 NIfTI-1 file of the given size whose voxels count up from 0. */
function niftiFile(dims, { datatype = 4, extra = 0 } = {}) {
  const count = dims.reduce((a, b) => a * b, 1);
  const bytes = new Uint8Array(352 + count * 2 + extra);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, 348, true);
  view.setInt16(40, dims.length, true);
  dims.forEach((n, i) => view.setInt16(42 + 2 * i, n, true));
  view.setInt16(70, datatype, true);
  for (let i = 1; i < 4; i++) view.setFloat32(76 + 4 * i, 1, true);
  view.setFloat32(108, 352, true);
  view.setInt16(254, 1, true);
  [280, 300, 320].forEach((at) => view.setFloat32(at, 1, true));
  bytes.set([0x6e, 0x2b, 0x31, 0], 344);
  for (let i = 0; i < count; i++) view.setInt16(352 + 2 * i, i, true);
  return bytes;
}

/** The bytes in small uneven chunks, as a network delivers them. */
function chunked(bytes, size = 101) {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) controller.close();
      else controller.enqueue(bytes.slice(at, (at += size)));
    },
  });
}

test("files written by nibabel read as nibabel reads them", async (t) => {
  const cases = process.env.NIFTI_CASES;
  if (!cases) return t.skip("run through pytest, which writes the files");
  for (const { path, dims, spacing, affine, samples } of JSON.parse(await readFile(cases, "utf8"))) {
    const blob = new Blob([await readFile(path)]);
    const first = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
    const stream = isGzip(first) ? blob.stream().pipeThrough(new DecompressionStream("gzip")) : blob.stream();
    const { header, voxels } = await readNifti(stream, 2 ** 30);
    const volume = makeVolume(header, voxels);
    assert.deepEqual(volume.dims, dims, path);
    volume.spacing.forEach((s, i) => assert.ok(Math.abs(s - spacing[i]) < 1e-3, `${path} spacing ${s}`));
    volume.affine.flat().forEach((v, i) =>
      assert.ok(Math.abs(v - affine.flat()[i]) < 1e-2, `${path} affine[${i}] ${v} ${affine.flat()[i]}`));
    for (const { at, value } of samples) {
      const got = valueAt(volume, at);
      const close = value === null ? Number.isNaN(got) : Math.abs(got - value) <= 1e-4 * Math.max(1, Math.abs(value));
      assert.ok(close, `${path} at ${at}: ${got}, nibabel says ${value}`);
    }
  }
});

test("a stream in small chunks reads completely, and reading stops after the last voxel", async () => {
  let pulled = 0;
  const file = niftiFile([3, 4, 5], { extra: 500_000 });
  const stream = new ReadableStream(
    {
      pull(controller) {
        controller.enqueue(file.slice(pulled, (pulled += 64)));
      },
    },
    { highWaterMark: 0 },
  );
  const { voxels } = await readNifti(stream, 1000);
  assert.equal(voxels.length, 60);
  assert.equal(voxels[59], 59);
  assert.ok(pulled < 1500, `read ${pulled} bytes of an endless file`);
});

test("truncated, oversized, 2-D, 4-D, complex and foreign files are refused", async () => {
  const refused = async (bytes, limit = 1e9) =>
    assert.rejects(readNifti(chunked(bytes), limit), UnsupportedVolume);
  await refused(niftiFile([3, 4, 5]).slice(0, 400));
  await refused(niftiFile([3, 4, 5]).slice(0, 100));
  await refused(niftiFile([3, 4, 5]), 100);
  await refused(niftiFile([3, 4]));
  await refused(niftiFile([3, 4, 5, 2]));
  await refused(niftiFile([3, 4, 5], { datatype: 32 }));
  await refused(new Uint8Array(1000));
  await refused(new Uint8Array(0));
  const pair = niftiFile([3, 4, 5]);
  pair[345] = 0x69;
  assert.throws(() => parseHeader(pair), UnsupportedVolume);
});

test("a trailing axis of one is squeezed", async () => {
  const { header } = await readNifti(chunked(niftiFile([3, 4, 5, 1])), 1e9);
  assert.deepEqual(header.dims, [3, 4, 5]);
});

test("swapBytes reverses each element", () => {
  const bytes = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  swapBytes(bytes, 4);
  assert.deepEqual([...bytes], [4, 3, 2, 1, 8, 7, 6, 5]);
});

test("every one of the 48 axis orders and directions is put right", () => {
  const dims = [2, 3, 4];
  const orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
  let checked = 0;
  for (const order of orders) {
    for (let bits = 0; bits < 8; bits++) {
      const affine = [[0, 0, 0, 5], [0, 0, 0, -7], [0, 0, 0, 11], [0, 0, 0, 1]];
      order.forEach((world, stored) => {
        affine[world][stored] = (bits >> stored) & 1 ? -1.5 : 1.5;
      });
      const view = canonicalView(dims, affine);
      const stored = (voxel) => view.base + voxel.reduce((sum, v, i) => sum + v * view.strides[i], 0);
      for (let flat = 0; flat < 24; flat++) {
        const index = [flat % 2, Math.floor(flat / 2) % 3, Math.floor(flat / 6)];
        const voxel = locate(view.affine, apply(affine, index)).map(Math.round);
        assert.equal(stored(voxel), flat, `order ${order} bits ${bits}`);
      }
      assert.ok([0, 1, 2].every((i) => view.affine[i][i] > 0));
      checked += 1;
    }
  }
  assert.equal(checked, 48);
});

test("an oblique scan uses every stored axis once, and a singular affine is refused", () => {
  const c = Math.cos(0.7), s = Math.sin(0.7);
  const { axes } = closestAxes([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]);
  assert.deepEqual([...axes].sort(), [0, 1, 2]);
  assert.throws(() => closestAxes([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), RangeError);
});

test("marks are radiological: the patient's right is on the left of the screen", () => {
  assert.deepEqual(edgeMarks(IDENTITY, "axial"), { left: "R", right: "L", top: "A", bottom: "P" });
  assert.deepEqual(edgeMarks(IDENTITY, "coronal"), { left: "R", right: "L", top: "H", bottom: "F" });
  assert.deepEqual(edgeMarks(IDENTITY, "sagittal"), { left: "A", right: "P", top: "H", bottom: "F" });
});

test("an oblique axis carries two letters, a slightly tilted one does not", () => {
  assert.equal(directionLetters([0.9, 0.43, 0]), "RA");
  assert.equal(directionLetters([0.99, 0.1, 0]), "R");
  assert.equal(directionLetters([0, -0.6, -0.8]), "FP");
});

test("a display position and its voxel are inverse to each other in every plane", () => {
  const dims = [5, 7, 9];
  for (const plane of Object.keys(PLANES)) {
    for (const voxel of [[0, 0, 0], [4, 6, 8], [1, 5, 3]]) {
      const [u, v] = displayAt(dims, plane, voxel);
      assert.deepEqual(voxelAt(dims, plane, voxel[PLANES[plane].through], u, v), voxel);
    }
  }
});

test("slices are painted in display order", () => {
  // One bright voxel at the patient's right, anterior, head end.
  const dims = [4, 5, 6];
  const voxels = new Int16Array(120).fill(-1000);
  voxels[3 + 4 * 4 + 20 * 5] = 1000;
  const volume = makeVolume({ dims, affine: IDENTITY, slope: 1, inter: 0 }, voxels);
  const window = { level: 0, width: 2000 };
  const corner = { axial: [5, "topleft"], coronal: [4, "topleft"], sagittal: [3, "topleft"] };
  for (const [plane, [index]] of Object.entries(corner)) {
    const [columns, rows] = planeSize(dims, plane);
    const pixels = new Uint32Array(columns * rows);
    paintSlice(volume, plane, index, window, windowTable(volume, window), pixels);
    assert.equal(pixels[0] & 255, 255, `${plane}: top left is right, anterior or head`);
    assert.ok(pixels.subarray(1).every((p) => (p & 255) === 0));
    assert.equal(pixels[0] >>> 24, 255);
  }
});

test("the window table and direct arithmetic paint the same greys", () => {
  const voxels = Int16Array.from({ length: 60 }, (_, i) => i * 40 - 1200);
  const float = Float32Array.from(voxels);
  const header = { dims: [3, 4, 5], affine: IDENTITY, slope: 0.5, inter: -100 };
  const window = { level: -600, width: 1500 };
  const paint = (values) => {
    const volume = makeVolume(header, values);
    const pixels = new Uint32Array(12);
    paintSlice(volume, "axial", 2, window, windowTable(volume, window), pixels);
    return [...pixels].map((p) => p & 255);
  };
  paint(voxels).forEach((grey, i) => assert.ok(Math.abs(grey - paint(float)[i]) <= 1));
});

test("not-a-number voxels are painted black", () => {
  const voxels = new Float32Array(8).fill(NaN);
  const volume = makeVolume({ dims: [2, 2, 2], affine: IDENTITY, slope: 1, inter: 0 }, voxels);
  const pixels = new Uint32Array(4);
  paintSlice(volume, "axial", 0, { level: 0, width: 100 }, windowTable(volume, {}), pixels);
  assert.ok(pixels.every((p) => p === 0xff000000));
});

test("values that are not HU get a window of their own, HU keep the preset", () => {
  const volume = (values) => makeVolume({ dims: [10, 10, 10], affine: IDENTITY, slope: 1, inter: 0 }, values);
  const mr = windowForOther(volume(Float32Array.from({ length: 1000 }, (_, i) => i / 1000)));
  assert.ok(Math.abs(mr.level - 0.5) < 0.05 && mr.width < 1.1);
  assert.equal(windowForOther(volume(Int16Array.from({ length: 1000 }, (_, i) => i * 2 - 1000))), null);
});

test("a scale bar has the longest round length that fits", () => {
  assert.equal(barLength(1, 120), 100);
  assert.equal(barLength(1, 100), 100);
  assert.equal(barLength(0.5, 99), 100);
  assert.equal(barLength(40, 120), 2);
  assert.equal(barLength(40, 30), null);
});

/** Cells of 10 mm, of which one is strong. */
function oneCell(at, shape = [4, 5, 6]) {
  const cells = new Uint8Array(shape.reduce((a, b) => a * b));
  cells[at[0] + shape[0] * (at[1] + shape[1] * at[2])] = 255;
  const affine = [[10, 0, 0, -20], [0, 10, 0, -20], [0, 0, 10, -20], [0, 0, 0, 1]];
  const strength = btoa(String.fromCharCode(...cells));
  return makeOverlay({ strength, shape, affine, threshold: 0.5, peak_mm: apply(affine, at) });
}

test("evidence fades between cells and is none outside them", () => {
  const overlay = oneCell([3, 2, 1]);
  assert.equal(strengthAt(overlay, [3, 2, 1]), 255);
  assert.ok(Math.abs(strengthAt(overlay, [2.5, 2, 1]) - 127.5) < 1e-6);
  assert.ok(Math.abs(strengthAt(overlay, [3.5, 2, 1]) - 127.5) < 1e-6);
  assert.equal(strengthAt(overlay, [1, 2, 1]), 0);
  assert.equal(strengthAt(overlay, [-9, 40, 1]), 0);
});

test("evidence is drawn over the place where it is, in every plane, however the scan is stored", () => {
  const overlay = oneCell([1, 3, 4]); // at -10, 10, 20 mm
  const [c, s] = [Math.cos(0.2), Math.sin(0.2)];
  const affines = [
    [[3, 0, 0, -40], [0, 3, 0, -40], [0, 0, 4, -30], [0, 0, 0, 1]],
    [[-3, 0, 0, 50], [0, 0, -4, 55], [0, -3, 0, 60], [0, 0, 0, 1]],
    [[3 * c, -3 * s, 0, -40], [3 * s, 3 * c, 0, -40], [0, 0, 4, -30], [0, 0, 0, 1]],
  ];
  for (const affine of affines) {
    const source = canonicalView([40, 32, 36], affine);
    const voxel = locate(source.affine, overlay.peak);
    for (const plane of Object.keys(PLANES)) {
      const piece = cut(overlay, source, plane, Math.round(voxel[PLANES[plane].through]));
      const best = piece.values.indexOf(Math.max(...piece.values));
      const shown = [((best % piece.width) + 0.5) / piece.width, (Math.floor(best / piece.width) + 0.5) / piece.height];
      displayAt(source.dims, plane, voxel).forEach((place, i) =>
        assert.ok(Math.abs(place - shown[i]) < 0.04, `${plane} ${place} ${shown[i]}`));
      assert.ok(piece.values[best] > 150);
      const opacity = coloured(piece, overlay.threshold).filter((_, i) => i % 4 === 3);
      assert.ok(opacity[best] > 0 && opacity[0] === 0);
      piece.values.forEach((v, i) => assert.equal(opacity[i] > 0, v >= overlay.threshold));
    }
  }
});
