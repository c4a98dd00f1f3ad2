"""The volume being drawn: where voxels lie in the patient, and how tubes and blobs are painted.

Only additions, products, quotients and square roots touch voxels, so that the same seed gives
the same bytes on any machine. Work is kept to bounding boxes and to the voxels near a curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rad3d.synthetic.phantom.acquisition import Acquisition

Array = np.ndarray
Box = tuple[slice, slice, slice]

_FAR = np.float32(-1e6)
_CHUNK = 1_500_000
MASK_HU = 12.0
"""A voxel belongs to a finding's mask when the finding changed it by more than this."""


@dataclass(frozen=True)
class Frame:
    """The position of the patient in the scanner: canonical mm -> world mm (both RAS+).

    Canonical coordinates have their origin at the carina of a patient of mean size.
    """

    scale: tuple[float, float, float]
    cos: float
    sin: float
    tilt: tuple[float, float]
    offset: tuple[float, float, float]

    def to_world(self, points: Array) -> Array:
        """World mm of canonical points, shape (..., 3)."""
        p = np.asarray(points, dtype=np.float64) * self.scale
        x = self.cos * p[..., 0] - self.sin * p[..., 1] + self.tilt[0] * p[..., 2] + self.offset[0]
        y = self.sin * p[..., 0] + self.cos * p[..., 1] + self.tilt[1] * p[..., 2] + self.offset[1]
        return np.stack([x, y, p[..., 2] + self.offset[2]], axis=-1)

    def to_canonical(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """Canonical mm of world coordinates given as broadcastable arrays; z stays small."""
        pz = z - np.float32(self.offset[2])
        dx = x - np.float32(self.offset[0]) - np.float32(self.tilt[0]) * pz
        dy = y - np.float32(self.offset[1]) - np.float32(self.tilt[1]) * pz
        c, s = np.float32(self.cos), np.float32(self.sin)
        sx, sy, sz = (np.float32(1 / v) for v in self.scale)
        return (c * dx + s * dy) * sx, (c * dy - s * dx) * sy, pz * sz


@dataclass
class Canvas:
    """HU of a phantom while it is drawn, with the masks of the findings drawn so far.

    Attributes:
        hu: float32 (X, Y, Z).
        lung: float32 (X, Y, Z), 0 to 1, the part of each voxel that is lung.
        axes_mm: world coordinate of the voxel centres along each axis.
    """

    acquisition: Acquisition
    frame: Frame
    hu: Array = field(init=False)
    lung: Array = field(init=False)
    axes_mm: tuple[Array, Array, Array] = field(init=False)
    masks: dict[str, Array] = field(default_factory=dict)
    _depth: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape = self.acquisition.shape_xyz
        self.hu = np.full(shape, -1000, dtype=np.float32)
        self.lung = np.zeros(shape, dtype=np.float32)
        self._depth = np.full(self.hu.size, _FAR, dtype=np.float32)
        acq = self.acquisition
        self.axes_mm = tuple(  # type: ignore[assignment]
            (o + s * np.arange(n)).astype(np.float32)
            for o, s, n in zip(acq.origin_mm, acq.spacing_mm, shape, strict=True)
        )

    @property
    def edge_mm(self) -> float:
        """Width over which an edge blends: about one voxel."""
        sx, sy, sz = self.acquisition.spacing_mm
        return max((sx + sy + sz) / 3, 1.0)

    def mask(self, label: str) -> Array:
        """The mask of a finding, made on first use."""
        if label not in self.masks:
            self.masks[label] = np.zeros(self.hu.shape, dtype=bool)
        return self.masks[label]

    def box(self, centre_mm: Array, half_mm: float | Array) -> Box:
        """The voxels within ``half_mm`` of a world point along each axis (possibly none)."""
        half = np.broadcast_to(np.asarray(half_mm, dtype=float), 3)
        out = []
        for axis, c, h in zip(self.axes_mm, centre_mm, half, strict=True):
            lo = int(np.searchsorted(axis, c - h))
            out.append(slice(lo, max(lo, int(np.searchsorted(axis, c + h, side="right")))))
        return (out[0], out[1], out[2])

    def world(self, box: Box) -> tuple[Array, Array, Array]:
        """World coordinates of a box as broadcastable (X,1,1), (1,Y,1), (1,1,Z) arrays."""
        x, y, z = (a[s] for a, s in zip(self.axes_mm, box, strict=True))
        return x[:, None, None], y[None, :, None], z[None, None, :]

    def canonical(self, box: Box) -> tuple[Array, Array, Array]:
        """Canonical coordinates of a box (see :class:`Frame`)."""
        return self.frame.to_canonical(*self.world(box))

    def soft(self, depth_mm: Array) -> Array:
        """0 outside to 1 inside, over one voxel; ``depth_mm`` is positive inside."""
        return np.clip(depth_mm * np.float32(1 / self.edge_mm) + np.float32(0.5), 0, 1)

    def paint(self, box: Box, alpha: Array, value: Array | float, label: str | None = None) -> None:
        """Blend ``value`` HU into a box; ``alpha`` (0 to 1) has the box's shape."""
        region = self.hu[box]
        delta = alpha * (np.asarray(value, dtype=np.float32) - region)
        region += delta
        if label is not None:
            self.mask(label)[box] |= np.abs(delta) > MASK_HU

    def add(self, box: Box, delta: Array, label: str | None = None) -> None:
        """Add HU to a box."""
        self.hu[box] += delta
        if label is not None:
            self.mask(label)[box] |= np.abs(delta) > MASK_HU

    def blend(self, index: Array, alpha: Array, value: Array | float, label: str | None) -> None:
        """Blend ``value`` into voxels by flat index; repeated voxels carry equal alphas."""
        flat = self.hu.reshape(-1)
        old = flat[index]
        delta = alpha * (np.asarray(value, dtype=np.float32) - old)
        flat[index] = old + delta
        if label is not None:
            self.mask(label).reshape(-1)[index[np.abs(delta) > MASK_HU]] = True

    def splat(self, points_mm: Array, radius_mm: Array | float) -> tuple[Array, Array]:
        """Voxels in or near a chain of balls: flat indices and depth in mm below the surface.

        Args:
            points_mm: (N, 3) world centres, close enough together to make the wanted shape.
            radius_mm: (N,) or one radius.

        Returns:
            ``(index, depth)``; depth is positive inside. Indices may repeat, with equal depth.
        """
        points = np.asarray(points_mm, dtype=np.float64).reshape(-1, 3)
        radius = np.broadcast_to(np.asarray(radius_mm, dtype=np.float64), (len(points),))
        spacing = np.array(self.acquisition.spacing_mm)
        local = (points - np.array(self.acquisition.origin_mm)) / spacing
        half = np.ceil((radius[:, None] + self.edge_mm / 2) / spacing).astype(np.int64)
        inside = np.all((local > -half - 1) & (local < np.array(self.hu.shape) + half), axis=1)
        groups = []
        keys = half[:, 0] * 1_000_000 + half[:, 1] * 1000 + half[:, 2]
        for key in np.unique(keys[inside]):
            chosen = np.flatnonzero(inside & (keys == key))
            window = half[chosen[0]]
            step = max(1, _CHUNK // int(np.prod(2 * window + 1)))
            for start in range(0, len(chosen), step):
                part = chosen[start : start + step]
                groups.append(self._splat_group(local[part], radius[part], window, spacing))
        if not groups:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        index = np.concatenate(groups)
        depth = self._depth[index]
        self._depth[index] = _FAR
        return index, depth

    def _splat_group(self, local: Array, radius: Array, half: Array, spacing: Array) -> Array:
        """Write the depth of balls with one window size; returns the flat indices touched."""
        base = np.rint(local).astype(np.int64)
        terms, indices = [], []
        for axis in range(3):
            idx = base[:, axis, None] + np.arange(-half[axis], half[axis] + 1)
            d = ((idx - local[:, axis, None]) * spacing[axis]).astype(np.float32)
            d *= d
            n = self.hu.shape[axis]
            d[(idx < 0) | (idx >= n)] = 1e9
            terms.append(d)
            indices.append(np.clip(idx, 0, n - 1))
        _, ny, nz = self.hu.shape
        d2 = (terms[0][:, :, None] + terms[1][:, None, :])[..., None] + terms[2][:, None, None, :]
        limit = ((radius + self.edge_mm / 2) ** 2).astype(np.float32)
        near = np.flatnonzero((d2 < limit[:, None, None, None]).reshape(-1))
        plane = (indices[0] * ny)[:, :, None] + indices[1][:, None, :]
        flat = ((plane * nz)[..., None] + indices[2][:, None, None, :]).reshape(-1)[near]
        owner = near // (d2.size // len(local))
        depth = radius.astype(np.float32)[owner] - np.sqrt(d2.reshape(-1)[near])
        np.maximum.at(self._depth, flat, depth)
        return flat

    def tube(
        self,
        points_mm: Array,
        radius_mm: Array | float,
        value: float,
        label: str | None = None,
        within: Array | None = None,
    ) -> None:
        """Paint a solid tube; thinner than a voxel it fades. ``within`` (X, Y, Z) scales it."""
        index, depth = self.splat(points_mm, radius_mm)
        alpha = self.soft(depth)
        thinnest = 2 * float(np.mean(radius_mm)) / self.edge_mm
        if thinnest < 1:
            alpha = alpha * np.float32(thinnest)
        if within is not None:
            alpha = alpha * within.reshape(-1)[index]
        self.blend(index, alpha, value, label)


def resample(points: Array, step: float) -> Array:
    """A polyline (N, 3 or more columns) with points about ``step`` apart (first 3 columns)."""
    points = np.asarray(points, dtype=np.float64)
    delta = points[1:] - points[:-1]
    length = np.sqrt((delta[:, :3] ** 2).sum(axis=1))
    counts = np.maximum(1, np.ceil(length / step)).astype(int)
    starts = np.repeat(np.arange(len(counts)), counts)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    t = (np.arange(counts.sum()) - first[starts]) / counts[starts]
    out = points[starts] + t[:, None] * delta[starts]
    return np.concatenate([out, points[-1:]])


def smooth_path(knots: Array | Sequence[Sequence[float]], per_segment: int = 8) -> Array:
    """A Catmull-Rom curve through the knots (N, C), ``per_segment`` points for each piece."""
    k = np.asarray(knots, dtype=np.float64)
    k = np.concatenate([2 * k[:1] - k[1:2], k, 2 * k[-1:] - k[-2:-1]])
    t = (np.arange(per_segment) / per_segment)[None, :, None]
    p0, p1, p2, p3 = (k[i : len(k) - 3 + i, None, :] for i in range(4))
    curve = 0.5 * (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t * t
        + (3 * p1 - p0 - 3 * p2 + p3) * t * t * t
    )
    return np.concatenate([curve.reshape(-1, k.shape[1]), k[-2:-1]])


def lattice_noise(seed: list[int], cell_mm: float, x: Array, y: Array, z: Array) -> Array:
    """Smooth random field in about [-1, 1] with features of ``cell_mm``.

    Args:
        seed: the stream; the field is the same function of position on every grid.
        cell_mm: distance of the lattice's random nodes.
        x, y, z: broadcastable world coordinates (X,1,1), (1,Y,1), (1,1,Z) within 300 mm.
    """
    n = int(640 / cell_mm) + 3
    nodes = np.random.default_rng(seed).uniform(-1, 1, (n, n, n)).astype(np.float32)
    out = nodes
    for axis, coordinate in enumerate((x, y, z)):
        u = (coordinate.reshape(-1) + np.float32(320)) / np.float32(cell_mm)
        i = np.clip(u.astype(np.int64), 0, n - 2)
        f = (u - i).astype(np.float32)
        f = f * f * (np.float32(3) - np.float32(2) * f)
        shape = [1, 1, 1]
        shape[axis] = -1
        low = np.take(out, i, axis=axis)
        out = low + f.reshape(shape) * (np.take(out, i + 1, axis=axis) - low)
    return out
