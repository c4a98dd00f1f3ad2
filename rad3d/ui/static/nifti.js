// Reads NIfTI-1 and NIfTI-2 (single file, either byte order) into a typed array of stored values.
// Pure functions: no DOM, so that they run in a worker and in `node --test`.
// Field offsets: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h and nifti2.h

import { determinant } from "./orient.js";

/** The browser cannot show this volume itself; the server's slices can. */
export class UnsupportedVolume extends Error {}

const ARRAYS = {
  2: Uint8Array,
  4: Int16Array,
  8: Int32Array,
  16: Float32Array,
  64: Float64Array,
  256: Int8Array,
  512: Uint16Array,
  768: Uint32Array,
  1024: BigInt64Array,
  1280: BigUint64Array,
};

const FIELDS = {
  1: {
    size: 348, dim: 40, datatype: 70, pixdim: 76, voxOffset: 108, slope: 112, inter: 116,
    qformCode: 252, sformCode: 254, quatern: 256, qoffset: 268, srow: 280, magic: 344,
  },
  2: {
    size: 540, dim: 16, datatype: 12, pixdim: 104, voxOffset: 168, slope: 176, inter: 184,
    qformCode: 344, sformCode: 348, quatern: 352, qoffset: 376, srow: 400, magic: 4,
  },
};

/** Bytes that are enough to hold either header. */
export const HEADER_BYTES = 540;

function layoutOf(view) {
  for (const littleEndian of [true, false]) {
    const size = view.byteLength >= 4 ? view.getInt32(0, littleEndian) : 0;
    if (size === 348) return { version: 1, littleEndian };
    if (size === 540) return { version: 2, littleEndian };
  }
  throw new UnsupportedVolume("This is not a NIfTI file.");
}

function fieldReader(view, version, littleEndian) {
  const wide = version === 2;
  const step = wide ? 8 : 4;
  return {
    real: (at, i = 0) =>
      wide ? view.getFloat64(at + 8 * i, littleEndian) : view.getFloat32(at + 4 * i, littleEndian),
    dim: (at, i) =>
      wide ? Number(view.getBigInt64(at + 8 * i, littleEndian)) : view.getInt16(at + 2 * i, littleEndian),
    offset: (at) =>
      wide ? Number(view.getBigInt64(at, littleEndian)) : view.getFloat32(at, littleEndian),
    code: (at) => (wide ? view.getInt32(at, littleEndian) : view.getInt16(at, littleEndian)),
    short: (at) => view.getInt16(at, littleEndian),
    step,
  };
}

/**
 * The facts of a header.
 *
 * @param {Uint8Array} bytes the first HEADER_BYTES (348 are enough for NIfTI-1) of the file
 * @returns {{version: number, littleEndian: boolean, dims: number[], datatype: number,
 *   bytesPerVoxel: number, voxOffset: number, slope: number, inter: number,
 *   affine: number[][], dataBytes: number}} affine maps voxel indices to RAS+ mm (4 rows)
 * @throws {UnsupportedVolume} for anything that is not one 3-D volume of real numbers
 */
export function parseHeader(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { version, littleEndian } = layoutOf(view);
  const at = FIELDS[version];
  if (bytes.byteLength < at.size) throw new UnsupportedVolume("The file ends inside its header.");
  const read = fieldReader(view, version, littleEndian);
  const magic = String.fromCharCode(...bytes.subarray(at.magic, at.magic + 3));
  if (magic === "ni1" || magic === "ni2") {
    throw new UnsupportedVolume("The voxels are in a separate .img file.");
  }
  const rank = read.dim(at.dim, 0);
  const sizes = [1, 2, 3, 4, 5, 6, 7].map((i) => (i <= rank ? read.dim(at.dim, i) : 1));
  const dims = sizes.slice(0, 3);
  if (rank < 3 || rank > 7 || dims.some((n) => n < 1) || sizes.slice(3).some((n) => n > 1)) {
    throw new UnsupportedVolume("The file does not hold one 3-D volume.");
  }
  const datatype = read.short(at.datatype);
  const ArrayType = ARRAYS[datatype];
  if (!ArrayType) throw new UnsupportedVolume(`Voxel type ${datatype} is not a real number.`);
  const voxOffset = Math.max(at.size + 4, Math.trunc(read.offset(at.voxOffset)) || 0);
  const bytesPerVoxel = ArrayType.BYTES_PER_ELEMENT;
  const slope = read.real(at.slope);
  const scaled = Number.isFinite(slope) && slope !== 0;
  const inter = read.real(at.inter);
  return {
    version,
    littleEndian,
    dims,
    datatype,
    bytesPerVoxel,
    voxOffset,
    slope: scaled ? slope : 1,
    inter: scaled && Number.isFinite(inter) ? inter : 0,
    affine: affineOf(read, at, dims),
    dataBytes: dims[0] * dims[1] * dims[2] * bytesPerVoxel,
  };
}

// The same choice as the server (rad3d/volume/header.py): sform, else qform, where its code is known
// and it can be used; without either, voxel sizes with the first axis to the left.
function affineOf(read, at, dims) {
  const zooms = [1, 2, 3].map((i) => Math.abs(read.real(at.pixdim, i)) || 1);
  const known = (code) => code >= 1 && code <= 5;
  const forms = [];
  if (known(read.code(at.sformCode))) {
    const row = (r) => [0, 1, 2, 3].map((c) => read.real(at.srow, 4 * r + c));
    forms.push([row(0), row(1), row(2), [0, 0, 0, 1]]);
  }
  if (known(read.code(at.qformCode))) forms.push(qformAffine(read, at, zooms));
  if (forms.length) return forms.find(isUsable) ?? forms[0];
  const centre = dims.map((n, i) => ((n - 1) / 2) * zooms[i]);
  return [
    [-zooms[0], 0, 0, centre[0]],
    [0, zooms[1], 0, -centre[1]],
    [0, 0, zooms[2], -centre[2]],
    [0, 0, 0, 1],
  ];
}

function isUsable(affine) {
  const sizes = [0, 1, 2].map((i) => Math.hypot(affine[0][i], affine[1][i], affine[2][i]));
  const inRange = sizes.every((size) => size >= 1e-6 && size <= 1e6);
  return affine.flat().every(Number.isFinite) && inRange &&
    Math.abs(determinant(affine)) / (sizes[0] * sizes[1] * sizes[2]) >= 1e-3;
}

function qformAffine(read, at, zooms) {
  const vector = [0, 1, 2].map((i) => read.real(at.quatern, i));
  const length = Math.hypot(...vector);
  const [b, c, d] = vector.map((v) => (length <= 1.01 ? v / Math.max(1, length) : NaN));
  const a = Math.sqrt(Math.max(0, 1 - length * length));
  const handedness = read.real(at.pixdim, 0) < 0 ? -1 : 1;
  const rotation = [
    [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
    [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
    [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
  ];
  const scale = [zooms[0], zooms[1], zooms[2] * handedness];
  const rows = rotation.map((row, r) => [
    ...row.map((value, i) => value * scale[i]),
    read.real(at.qoffset, r),
  ]);
  return [...rows, [0, 0, 0, 1]];
}

/** Reverses the bytes of every element, in place. */
export function swapBytes(bytes, size) {
  for (let start = 0; start + size <= bytes.length; start += size) {
    for (let i = start, j = start + size - 1; i < j; i++, j--) {
      const keep = bytes[i];
      bytes[i] = bytes[j];
      bytes[j] = keep;
    }
  }
}

/**
 * Voxels as a typed array, first axis fastest, in stored values (before slope and intercept).
 *
 * @param {Uint8Array} bytes exactly the voxel bytes; swapped in place where big-endian
 * @param {object} header from parseHeader
 */
export function toTypedArray(bytes, header) {
  if (bytes.byteLength < header.dataBytes) throw new UnsupportedVolume("The file ends too early.");
  if (!header.littleEndian && header.bytesPerVoxel > 1) swapBytes(bytes, header.bytesPerVoxel);
  const ArrayType = ARRAYS[header.datatype];
  const aligned = bytes.byteOffset % header.bytesPerVoxel === 0;
  const buffer = aligned ? bytes.buffer : bytes.slice().buffer;
  const start = aligned ? bytes.byteOffset : 0;
  const voxels = new ArrayType(buffer, start, header.dataBytes / header.bytesPerVoxel);
  return ArrayType === BigInt64Array || ArrayType === BigUint64Array
    ? Float64Array.from(voxels, Number)
    : voxels;
}

/** True for the two bytes that every gzip stream begins with. */
export function isGzip(bytes) {
  return bytes.length > 1 && bytes[0] === 0x1f && bytes[1] === 0x8b;
}

/**
 * Reads a NIfTI stream and stops after the last voxel, so that a gzip bomb costs nothing.
 *
 * @param {ReadableStream<Uint8Array>} stream of uncompressed bytes
 * @param {number} maxBytes refuse volumes with more voxel bytes than this
 * @returns {Promise<{header: object, voxels: TypedArray}>}
 */
export async function readNifti(stream, maxBytes) {
  const reader = stream.getReader();
  let head = new Uint8Array(0);
  try {
    while (head.length < HEADER_BYTES) {
      const { done, value } = await reader.read();
      if (done) break;
      head = joined(head, value);
    }
    const header = parseHeader(head);
    if (header.dataBytes > maxBytes) throw new UnsupportedVolume("The volume is too large.");
    const voxels = new Uint8Array(header.dataBytes);
    let filled = fill(voxels, 0, head, header.voxOffset);
    let position = head.length;
    while (filled < voxels.length) {
      const { done, value } = await reader.read();
      if (done) throw new UnsupportedVolume("The file ends too early.");
      filled = fill(voxels, filled, value, header.voxOffset - position);
      position += value.length;
    }
    return { header, voxels: toTypedArray(voxels, header) };
  } finally {
    // A stream that failed cannot be cancelled; its error has already been thrown above.
    reader.cancel().catch(() => undefined);
  }
}

function joined(a, b) {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

// Copies chunk[skip:] to target[filled:], as far as there is room; returns how far it is filled.
function fill(target, filled, chunk, skip) {
  const part = chunk.subarray(Math.max(0, skip), Math.max(0, skip) + target.length - filled);
  target.set(part, filled);
  return filled + part.length;
}
