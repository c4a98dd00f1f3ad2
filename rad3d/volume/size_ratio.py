"""The published preprocessing of CT-CLIP for one scan: ``resampling="size_ratio"``.

The voxels are brought to the grid's orientation (the published code ignores the affine; CT-RATE's
voxels lie in LPS order, so other scans must be turned first), each axis of n voxels is resampled to
``int(n * (spacing / target))`` voxels, linearly and without antialiasing, and the centre is cut out
or surrounded by ``pad_hu``. The ratio of the sizes decides where a voxel lies, not the ratio of the
spacings, so the voxels of the result are up to one voxel in n larger than the grid says; the affine
of the result holds their true size.

Values are clipped before resampling (``clip="before"``, as the published inference and LiPro
training do) or after it (as the training of CT-CLIP does).

Only voxels that are kept are computed, one plane of x after the other, with positions planned in
float64 and values interpolated in float32 (the difference to float64 is below 1e-6).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rad3d.core.cores import usable_cores
from rad3d.core.errors import BadVolume
from rad3d.core.types import FloatArray, Note, Volume
from rad3d.core.words import by
from rad3d.volume.grid import GridSpec, ModelGrid, edge_notes, mirrored, tissue_places

Plane = npt.NDArray[np.float32]

MAX_THREADS = 4
DYADIC = 4096
SPACING_TOLERANCE = 2e-7
"""Relative error of a spacing that went through float32, as in a NIfTI header."""


@dataclass(frozen=True)
class Axis:
    """The plan of resampling along one axis.

    Attributes:
        available: voxels of the scan.
        resampled: voxels after resampling, before cropping or padding.
        first: resampled voxel that becomes the first kept one.
        before: padding in front of it.
        lower, upper: (kept,) voxels of the scan on both sides of each kept one.
        weight: (kept,) share of ``upper``.
    """

    available: int
    resampled: int
    first: int
    before: int
    lower: npt.NDArray[np.intp]
    upper: npt.NDArray[np.intp]
    weight: Plane

    @property
    def kept(self) -> slice:
        """Where the kept voxels lie on the grid."""
        return slice(self.before, self.before + len(self.lower))

    @property
    def ratio(self) -> float:
        """Scan voxels per grid voxel."""
        return self.available / self.resampled

    @property
    def origin(self) -> float:
        """Scan position of grid voxel 0 (before clamping to the scan)."""
        return (self.first - self.before + 0.5) * self.ratio - 0.5


def plan_axis(available: int, spacing_mm: float, target_mm: float, size: int) -> Axis:
    """Plan one axis.

    Args:
        available: voxels of the scan.
        spacing_mm: of the scan.
        target_mm: of the grid.
        size: voxels of the grid.

    Raises:
        BadVolume: the scan is thinner than a voxel of the grid.
    """
    # The published order of evaluation: n * spacing / target can be one more (20 x 1.2 / 1.5).
    resampled = int(available * (spacing_mm / target_mm))
    if resampled < 1:
        raise BadVolume(
            f"The scan is only {available * spacing_mm:.2g} mm thick along one axis.",
            "Give the whole scan with all of its slices.",
            code="too_few_voxels",
        )
    kept = min(resampled, size)
    first = max((resampled - size) // 2, 0)
    before = max((size - resampled) // 2, 0)
    places = (np.arange(first, first + kept) + 0.5) * (available / resampled) - 0.5
    places = np.maximum(places, 0)
    lower = np.floor(places).astype(np.intp)
    upper = np.minimum(lower + 1, available - 1)
    weight = (places - lower).astype(np.float32)
    return Axis(available, resampled, first, before, lower, upper, weight)


def stated_spacing(spacing_mm: float) -> float:
    """The number that was meant by a spacing that went through float32.

    A header keeps 0.8 as 0.800000011920929, and the size of the resampled scan hangs on it. The
    number is a short decimal, or millimetres over a power of two (500 mm / 512 pixels).
    """
    for digits in range(6):
        if abs(round(spacing_mm, digits) - spacing_mm) <= SPACING_TOLERANCE * spacing_mm:
            return round(spacing_mm, digits)
    dyadic = round(spacing_mm * DYADIC) / DYADIC
    near = abs(dyadic - spacing_mm) <= SPACING_TOLERANCE * spacing_mm
    return dyadic if near else spacing_mm


def to_size_ratio(volume: Volume, spec: GridSpec) -> ModelGrid:
    """:func:`rad3d.volume.grid.to_grid` for ``resampling="size_ratio"``.

    Raises:
        BadVolume: the scan is thinner than a voxel of the grid.
    """
    hu, oriented = mirrored(volume.hu, volume.affine, spec.orientation)
    spacing = [stated_spacing(s) for s in volume.spacing_mm]
    axes = [
        plan_axis(*facts)
        for facts in zip(volume.shape, spacing, spec.spacing_mm, spec.shape, strict=True)
    ]
    values = resample(hu, axes, spec)
    scale = np.diag([*(axis.ratio for axis in axes), 1.0])
    scale[:3, 3] = [axis.origin for axis in axes]
    affine = oriented @ scale
    notes = (_note(volume, spec, axes), *_edges(volume, affine, spec))
    return ModelGrid(values, affine, spec, notes)


def resample(hu: npt.NDArray[Any], axes: list[Axis], spec: GridSpec) -> Plane:
    """(X, Y, Z) HU in the grid's orientation -> values in [-1, 1], laid out as ``spec.axes``."""
    bottom, top = spec.hu_range
    scale = np.float32(2 / (top - bottom))
    shift = np.float32(-1 - bottom * 2 / (top - bottom))
    out = np.full(spec.layout_shape, np.float32(spec.pad_hu) * scale + shift, np.float32)
    along_xyz = out.transpose([spec.axes.index(axis) for axis in "xyz"])
    x, y, z = axes
    target = along_xyz[x.kept, y.kept, z.kept]
    y_box, z_box = (slice(int(axis.lower[0]), int(axis.upper[-1]) + 1) for axis in (y, z))
    y_low, y_high, y_weight = y.lower - y.lower[0], y.upper - y.lower[0], y.weight[:, None]
    z_low, z_high, z_weight = z.lower - z.lower[0], z.upper - z.lower[0], z.weight[:, None]

    def plane(i: int) -> Plane:
        values = hu[i, y_box, z_box]
        if spec.clip == "before":
            values = np.clip(values, bottom, top)
        return values.astype(np.float32)

    def rows(first: int, last: int) -> None:
        low = high = np.empty((0, 0), np.float32)
        held = (-1, -1)
        for i in range(first, last):
            pair = (int(x.lower[i]), int(x.upper[i]))
            if pair != held:
                low = high if pair[0] == held[1] else plane(pair[0])
                high, held = plane(pair[1]), pair
            mixed = _between(low, high, x.weight[i])
            mixed = _between(mixed[y_low], mixed[y_high], y_weight)
            mixed = np.ascontiguousarray(mixed.T)
            mixed = _between(mixed[z_low], mixed[z_high], z_weight)
            if spec.clip == "after":
                np.clip(mixed, bottom, top, out=mixed)
            mixed *= scale
            mixed += shift
            target[i] = mixed.T

    parts = min(MAX_THREADS, usable_cores())
    edges = [len(x.lower) * k // parts for k in range(parts + 1)]
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(rows, edges[:-1], edges[1:]))
    return out


def _between(low: Plane, high: Plane, weight: Any) -> Plane:
    """``low + (high - low) * weight`` with one new array."""
    out = high - low
    out *= weight
    out += low
    return out


def _note(volume: Volume, spec: GridSpec, axes: list[Axis]) -> Note:
    resampled = by(axis.resampled for axis in axes)
    order = {
        "before": "clipped before resampling, as in CT-CLIP's inference",
        "after": "clipped after resampling, as in CT-CLIP's training",
    }[spec.clip]
    return Note(
        "info",
        "resampled",
        f"For the model, axes were brought to {spec.orientation} and voxels of "
        f"{by(volume.spacing_mm, '.3g')} mm became {by(spec.spacing_mm, '.3g')} mm ({resampled} "
        f"voxels), of which a grid of {by(spec.shape)} shows the middle; values "
        f"were {order}.",
    )


def _edges(volume: Volume, affine: FloatArray, spec: GridSpec) -> tuple[Note, ...]:
    """Notes on what is cut off or filled, measured along the scan's own axes."""
    tissue = tissue_places(volume)
    to_scan = np.linalg.inv(volume.affine) @ affine
    ends = np.stack([to_scan[:3, 3], (to_scan @ [*(n - 1 for n in spec.shape), 1.0])[:3]])
    half = np.abs(np.diag(to_scan)[:3]) / 2
    over = np.stack([ends.min(0) - half - tissue, tissue - ends.max(0) - half])
    spacing = np.array(volume.spacing_mm)
    gaps = (np.abs(ends[1] - ends[0]) + 2 * half - np.array(volume.shape)) * spacing
    return tuple(edge_notes(over * spacing, gaps))
