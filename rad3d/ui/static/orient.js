// How stored voxels lie in the patient, and how the three planes are shown. Pure functions.
// World axes are RAS+: x towards the patient's Right, y Anterior, z Superior (mm).

/** Display of each plane: world axis across (to the right of the screen) and down, with sign. */
export const PLANES = {
  axial: { through: 2, across: { axis: 0, sign: -1 }, down: { axis: 1, sign: -1 } },
  coronal: { through: 1, across: { axis: 0, sign: -1 }, down: { axis: 2, sign: -1 } },
  sagittal: { through: 0, across: { axis: 1, sign: -1 }, down: { axis: 2, sign: -1 } },
};

const PERMUTATIONS = [
  [0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0],
];

const column = (affine, i) => [affine[0][i], affine[1][i], affine[2][i]];
const norm = (v) => Math.hypot(v[0], v[1], v[2]);

/**
 * Which stored axis runs along each world axis, and whether it runs backwards.
 *
 * The assignment maximises the sum of |cosines|, so every stored axis is used exactly once, also
 * for oblique scans.
 *
 * @param {number[][]} affine voxel -> RAS+ mm
 * @returns {{axes: number[], flips: boolean[]}} for world x, y, z
 * @throws {RangeError} for a singular affine
 */
export function closestAxes(affine) {
  const columns = [0, 1, 2].map((i) => column(affine, i));
  const lengths = columns.map(norm);
  const cosine = (world, stored) => columns[stored][world] / lengths[stored];
  const score = (p) => Math.abs(cosine(0, p[0])) + Math.abs(cosine(1, p[1])) + Math.abs(cosine(2, p[2]));
  const best = PERMUTATIONS.reduce((a, b) => (score(b) > score(a) + 1e-9 ? b : a));
  if (!lengths.every((n) => n > 0 && Number.isFinite(n)) || Math.abs(determinant(affine)) < 1e-12) {
    throw new RangeError("The affine is singular.");
  }
  return { axes: best, flips: best.map((stored, world) => cosine(world, stored) < 0) };
}

/** Determinant of the first three columns of an affine. */
export function determinant(a) {
  return (
    a[0][0] * (a[1][1] * a[2][2] - a[1][2] * a[2][1]) -
    a[0][1] * (a[1][0] * a[2][2] - a[1][2] * a[2][0]) +
    a[0][2] * (a[1][0] * a[2][1] - a[1][1] * a[2][0])
  );
}

/**
 * A view of stored voxels whose axes run towards Right, Anterior, Superior, without copying.
 *
 * @param {number[]} dims stored dimensions
 * @param {number[][]} affine voxel -> RAS+ mm
 * @returns {{dims: number[], strides: number[], base: number, spacing: number[],
 *   affine: number[][]}} element (i, j, k) is at base + i*strides[0] + j*strides[1] + k*strides[2]
 */
export function canonicalView(dims, affine) {
  const { axes, flips } = closestAxes(affine);
  const stored = [1, dims[0], dims[0] * dims[1]];
  const signs = flips.map((flip) => (flip ? -1 : 1));
  const corner = [0, 0, 0];
  axes.forEach((axis, world) => {
    if (flips[world]) corner[axis] = dims[axis] - 1;
  });
  const origin = apply(affine, corner);
  const columns = axes.map((axis, world) => column(affine, axis).map((v) => v * signs[world]));
  return {
    dims: axes.map((axis) => dims[axis]),
    strides: axes.map((axis, world) => stored[axis] * signs[world]),
    base: corner.reduce((sum, index, axis) => sum + index * stored[axis], 0),
    spacing: columns.map(norm),
    affine: [
      ...[0, 1, 2].map((r) => [columns[0][r], columns[1][r], columns[2][r], origin[r]]),
      [0, 0, 0, 1],
    ],
  };
}

/** affine * point, in mm. */
export function apply(affine, point) {
  return [0, 1, 2].map(
    (r) =>
      affine[r][0] * point[0] + affine[r][1] * point[1] + affine[r][2] * point[2] + affine[r][3],
  );
}

/** The voxel (fractional) at a place in mm; the inverse of apply. */
export function locate(affine, mm) {
  const [a, b, c] = [0, 1, 2].map((i) => column(affine, i));
  const p = [0, 1, 2].map((r) => mm[r] - affine[r][3]);
  const cross = (u, v) => [
    u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0],
  ];
  const dot = (u, v) => u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
  const det = dot(a, cross(b, c));
  return [dot(p, cross(b, c)) / det, dot(a, cross(p, c)) / det, dot(a, cross(b, p)) / det];
}

const LETTERS = [["R", "L"], ["A", "P"], ["H", "F"]];

/**
 * Letters of the direction a vector points to in the patient: R/L, A/P, H/F (head, foot).
 *
 * A second letter joins where the axis is oblique by about 20 degrees or more, as on a CT console.
 */
export function directionLetters(vector) {
  const length = norm(vector);
  return [0, 1, 2]
    .map((axis) => ({ letter: LETTERS[axis][vector[axis] > 0 ? 0 : 1], size: Math.abs(vector[axis]) / length }))
    .filter(({ size }) => size > 0.34)
    .sort((a, b) => b.size - a.size)
    .slice(0, 2)
    .map(({ letter }) => letter)
    .join("");
}

/** The four edge marks of a plane of a canonical view. */
export function edgeMarks(affine, plane) {
  const { across, down } = PLANES[plane];
  const direction = ({ axis, sign }) => column(affine, axis).map((v) => v * sign);
  const opposite = (v) => v.map((x) => -x);
  const right = direction(across);
  const bottom = direction(down);
  return {
    left: directionLetters(opposite(right)),
    right: directionLetters(right),
    top: directionLetters(opposite(bottom)),
    bottom: directionLetters(bottom),
  };
}
