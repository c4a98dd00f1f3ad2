"""The one place where a volume becomes what an encoder sees.

Order, pinned by a golden test: floor at -1024 HU (scanner padding) -> mean over whole blocks of
voxels where the scan is at least twice as fine as the grid -> one trilinear interpolation onto a
grid centred on the scan -> air outside the scan -> clip to ``hu_range`` -> [-1, 1].
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from rad3d.core.errors import BadRequest
from rad3d.core.lookup import resolve
from rad3d.core.types import FloatArray, Note, Volume
from rad3d.core.words import by

PREPROCESSING_VERSION = 1
"""Part of every grid id; raise it when the arithmetic below changes."""

FLOOR_HU = -1024.0
"""Nothing is thinner than air; scanners write -2000 or -3024 outside the circle they measured."""

TISSUE_HU = -400.0
"""Voxels above this count as anatomy when saying what the grid cuts off."""

CUT_NOTE_MM = 10.0
"""Anatomy reaching this far over the edge of the grid is mentioned."""

CUT_WARNING_SHARE = 0.25
"""Share of the tissue outside the grid from which the note becomes a warning."""

RESAMPLERS: dict[str, str] = {
    "centred": "rad3d.volume.grid:to_centred",
    "size_ratio": "rad3d.volume.size_ratio:to_size_ratio",
}
"""Method of resampling -> the function ``(volume, spec) -> ModelGrid``."""

LATER_FIELDS = {"resampling": "centred", "clip": "after"}
"""Fields of :class:`GridSpec` that came after the first ids were written, and their defaults."""

CHUNK_VOXELS = 4_000_000
"""Voxels converted to float32 at a time, so a 300 MB scan needs tens of MB on top."""

SIDES: tuple[tuple[str, str], ...] = (
    ("on the patient's left", "on the patient's right"),
    ("at the back", "at the front"),
    ("at the feet end", "at the head end"),
)


@dataclass(frozen=True)
class GridSpec:
    """The grid and intensity scale that an encoder was trained on.

    Attributes:
        orientation: direction of growing x, y, z index: R or L, then A or P, then S or I.
        spacing_mm: voxel size along x, y, z.
        shape: voxels along x, y, z.
        hu_range: HU that become -1 and +1.
        pad_hu: value outside the scan.
        axes: order in which the values are laid out, such as ``"xyz"`` or ``"zyx"``.
        resampling: ``"centred"`` as above, or ``"size_ratio"``, CT-CLIP's (see
            :mod:`rad3d.volume.size_ratio`).
        clip: whether values are clipped ``"after"`` or ``"before"`` interpolation.
    """

    orientation: str = "RAS"
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)
    shape: tuple[int, int, int] = (112, 96, 96)
    hu_range: tuple[float, float] = (-1000.0, 1000.0)
    pad_hu: float = -1000.0
    axes: str = "xyz"
    resampling: str = "centred"
    clip: str = "after"

    def __post_init__(self) -> None:
        letters = tuple(itertools.product("RL", "AP", "SI"))
        rules = {
            "orientation needs R or L, then A or P, then S or I": (
                tuple(self.orientation) in letters
            ),
            "spacing_mm needs three values above 0": len(self.spacing_mm) == 3
            and min(self.spacing_mm) > 0,
            "shape needs three values above 0": len(self.shape) == 3 and min(self.shape) > 0,
            "hu_range must grow": self.hu_range[0] < self.hu_range[1],
            "axes must be an order of x, y and z": sorted(self.axes) == ["x", "y", "z"],
            f"resampling must be one of {', '.join(RESAMPLERS)}": self.resampling in RESAMPLERS,
            "clip must be after or before": self.clip in ("after", "before"),
            "the centred grid clips after": (self.resampling, self.clip) != ("centred", "before"),
        }
        for rule, holds in rules.items():
            if not holds:
                raise BadRequest(f"Model grid: {rule}.", code="bad_grid")

    @property
    def id(self) -> str:
        """Short and stable: equal ids mean equal preprocessing."""
        text = repr((PREPROCESSING_VERSION, *(v for _, v in sorted(self.to_dict().items()))))
        shape = "x".join(str(n) for n in self.shape)
        spacing = "x".join(f"{s:g}" for s in self.spacing_mm)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{self.orientation.lower()}-{shape}-{spacing}mm-{digest}"

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Physical size along x, y, z in mm."""
        x, y, z = (n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return x, y, z

    @property
    def layout_shape(self) -> tuple[int, ...]:
        """Shape of the values, in the order of ``axes``."""
        return tuple(self.shape["xyz".index(axis)] for axis in self.axes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = asdict(self)
        for key in ("spacing_mm", "hu_range"):
            values[key] = [float(v) for v in values[key]]
        values |= {"shape": [int(n) for n in self.shape], "pad_hu": float(self.pad_hu)}
        # Left out where they are the default: the ids of older grids must stay what they are.
        return {k: v for k, v in values.items() if LATER_FIELDS.get(k) != v}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GridSpec:
        """The inverse of :meth:`to_dict`; unknown keys are refused."""
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise BadRequest(f"Model grid: unknown keys {sorted(unknown)}.", code="bad_grid")
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)


@dataclass(frozen=True)
class ModelGrid:
    """A volume as an encoder sees it.

    Attributes:
        values: float32 in [-1, 1], laid out as ``spec.axes``, read-only.
        affine: (4, 4) float64, (x, y, z) index of the grid -> RAS+ mm, whatever ``spec.axes`` is.
        spec: the grid.
        notes: what resampling, cropping and padding did.
    """

    values: npt.NDArray[np.float32]
    affine: FloatArray
    spec: GridSpec
    notes: tuple[Note, ...] = ()

    def __post_init__(self) -> None:
        if self.values.shape != self.spec.layout_shape:
            raise BadRequest(
                f"Values of shape {self.values.shape} do not fit a grid of "
                f"{self.spec.layout_shape}.",
                code="bad_grid",
            )
        self.values.setflags(write=False)
        self.affine.setflags(write=False)

    def to_volume(self, name: str = "what the model sees") -> Volume:
        """The same voxels as a RAS+ volume in HU (int16), for looking at."""
        low, high = self.spec.hu_range
        xyz = self.values.transpose([self.spec.axes.index(axis) for axis in "xyz"])
        hu = np.empty(self.spec.shape, np.int16)
        turned, affine = mirrored(hu, self.affine, self.spec.orientation)
        for plane, values in zip(turned, xyz, strict=True):  # one at a time: grids may be large
            plane[...] = np.rint((values + 1.0) * ((high - low) / 2) + low)
        return Volume.from_array(hu, affine, name, self.notes)


def mirrored(
    voxels: npt.NDArray[Any], affine: FloatArray, orientation: str
) -> tuple[npt.NDArray[Any], FloatArray]:
    """View of RAS+ voxels with axes towards ``orientation``, or back, and its affine."""
    affine = np.array(affine)
    flips = [letter in "LPI" for letter in orientation]
    for axis in np.flatnonzero(flips):
        affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
        affine[:3, axis] *= -1
    return voxels[tuple(slice(None, None, -1 if flip else 1) for flip in flips)], affine


def target_affine(volume: Volume, spec: GridSpec) -> FloatArray:
    """(4, 4) float64: index of a grid centred on the scan -> RAS+ mm."""
    signs = np.array([-1.0 if letter in "LPI" else 1.0 for letter in spec.orientation])
    centre = volume.affine[:3, :3] @ ((np.array(volume.shape) - 1) / 2) + volume.affine[:3, 3]
    affine = np.diag([*(signs * spec.spacing_mm), 1.0])
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(spec.shape) - 1) / 2)
    return affine


def to_grid(volume: Volume, spec: GridSpec) -> ModelGrid:
    """Resample a volume onto a model's grid, in one step, as its ``resampling`` says.

    Args:
        volume: any RAS+ volume; oblique affines are followed exactly.
        spec: the grid.

    Returns:
        Values in [-1, 1] with notes on what was done; equal for every way of storing one patient.
    """
    return cast(ModelGrid, resolve(RESAMPLERS[spec.resampling])(volume, spec))


def to_centred(volume: Volume, spec: GridSpec) -> ModelGrid:
    """:func:`to_grid` for ``resampling="centred"``."""
    affine = target_affine(volume, spec)
    to_source = np.linalg.inv(volume.affine) @ affine
    low, high = _needed_box(to_source, spec.shape, volume.shape)
    factors = _block_sizes(volume.spacing_mm, spec.spacing_mm)
    blocks = _block_means(volume.hu[tuple(map(slice, low, high))], factors)
    hu = _interpolate(blocks, low, factors, to_source, volume.shape, spec)
    bottom, top = spec.hu_range
    np.clip(hu, bottom, top, out=hu)
    values = (hu - np.float32(bottom)) * np.float32(2 / (top - bottom)) - np.float32(1)
    order = tuple("xyz".index(axis) for axis in spec.axes)
    values = np.ascontiguousarray(values.transpose(order))
    notes = (_resampling_note(volume, spec, factors), *_edge_notes(volume, affine, spec))
    return ModelGrid(values, affine, spec, notes)


def _needed_box(
    to_source: FloatArray, shape: tuple[int, int, int], available: tuple[int, int, int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Index box of the scan that the grid can touch: first voxel, last voxel + 1."""
    corners = np.array(list(itertools.product(*((0, n - 1) for n in shape))), dtype=np.float64)
    points = corners @ to_source[:3, :3].T + to_source[:3, 3]
    margin = 2 + np.ceil(np.abs(to_source[:3, :3]).sum(axis=1))
    low = np.clip(np.floor(points.min(axis=0) - margin), 0, np.array(available) - 1)
    high = np.clip(np.ceil(points.max(axis=0) + margin) + 1, low + 1, available)
    return tuple(int(v) for v in low), tuple(int(v) for v in high)


def _block_sizes(
    spacing: tuple[float, float, float], target: tuple[float, float, float]
) -> tuple[int, int, int]:
    x, y, z = (max(1, int(t / s + 1e-4)) for s, t in zip(spacing, target, strict=True))
    return x, y, z


def _block_means(hu: npt.NDArray[Any], factors: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Mean over blocks of ``factors`` voxels, at least -1024 HU; slab by slab to bound memory.

    The last block along an axis is the mean of what is left of it.
    """
    import torch
    from torch.nn.functional import avg_pool3d

    out = np.empty(tuple(-(-n // f) for n, f in zip(hu.shape, factors, strict=True)), np.float32)
    per_slab = max(1, CHUNK_VOXELS // max(1, hu.shape[1] * hu.shape[2] * factors[0]))
    for first in range(0, out.shape[0], per_slab):
        rows = slice(first * factors[0], (first + per_slab) * factors[0])
        slab = np.maximum(np.ascontiguousarray(hu[rows], np.float32), np.float32(FLOOR_HU))
        if max(factors) > 1:
            # torch refuses a kernel longer than its input, as where fewer rows are left.
            kernel = tuple(map(min, factors, slab.shape))
            pooled = avg_pool3d(torch.from_numpy(slab)[None], kernel, factors, ceil_mode=True)
            slab = pooled[0].numpy()
        out[first : first + per_slab] = slab
    return out


def _interpolate(
    blocks: npt.NDArray[np.float32],
    low: tuple[int, ...],
    factors: tuple[int, int, int],
    to_source: FloatArray,
    available: tuple[int, int, int],
    spec: GridSpec,
) -> npt.NDArray[np.float32]:
    """Trilinear values at the grid's voxel centres, (X, Y, Z) float32; ``pad_hu`` outside."""
    import torch
    from torch.nn.functional import grid_sample

    image = torch.from_numpy(blocks)[None, None]
    out = np.empty(spec.shape, np.float32)
    f, sizes = np.array(factors), np.array(blocks.shape)
    # grid_sample wants each coordinate in [-1, 1] from the first to the last voxel centre.
    scale = 2.0 / np.maximum(sizes - 1, 1)
    shift = -(np.array(low) + (f - 1) / 2) / f
    for rows, points in _points(spec.shape, to_source):
        inside = np.all((points >= -0.5) & (points <= np.array(available) - 0.5), axis=-1)
        place = (points * (1 / f) + shift) * scale - 1
        grid = torch.from_numpy(np.ascontiguousarray(place[..., ::-1], np.float32))[None]
        sampled = grid_sample(
            image, grid, mode="bilinear", padding_mode="border", align_corners=True
        )
        out[rows] = np.where(inside, sampled[0, 0].numpy(), np.float32(spec.pad_hu))
    return out


def _points(
    shape: tuple[int, int, int], to_source: FloatArray
) -> Iterator[tuple[slice, FloatArray]]:
    """Slabs of the grid: rows along x, and (rows, Y, Z, 3) source voxel coordinates."""
    per_slab = max(1, CHUNK_VOXELS // 8 // (shape[1] * shape[2]))
    x, y, z = (np.arange(n, dtype=np.float64)[:, None] for n in shape)
    in_plane = (y * to_source[:3, 1])[:, None, :] + (z * to_source[:3, 2])[None] + to_source[:3, 3]
    for first in range(0, shape[0], per_slab):
        rows = slice(first, min(first + per_slab, shape[0]))
        yield rows, (x[rows] * to_source[:3, 0])[:, None, None, :] + in_plane[None]


def _resampling_note(volume: Volume, spec: GridSpec, factors: tuple[int, int, int]) -> Note:
    averaged = ""
    if max(factors) > 1:
        averaged = f", after averaging blocks of {by(factors)} voxels"
    return Note(
        "info",
        "resampled",
        f"For the model, voxels of {by(volume.spacing_mm, '.3g')} mm became "
        f"{by(spec.spacing_mm, '.3g')} mm on a grid of {by(spec.shape)} "
        f"({by(spec.extent_mm, '.3g')} mm){averaged}.",
    )


def tissue_places(volume: Volume) -> npt.NDArray[np.intp]:
    """(N, 3) voxel indices of a thinned-out set of voxels that show tissue."""
    steps = tuple(max(1, n // 48) for n in volume.shape)
    coarse = volume.hu[:: steps[0], :: steps[1], :: steps[2]]
    return np.argwhere(coarse > TISSUE_HU) * steps


def _edge_notes(volume: Volume, affine: FloatArray, spec: GridSpec) -> list[Note]:
    """Notes on tissue that the grid cuts off, and on air that it was filled with."""
    world = tissue_places(volume) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    ends = np.stack([affine[:3, 3], (affine @ [*(n - 1 for n in spec.shape), 1.0])[:3]])
    half = np.array(spec.spacing_mm) / 2
    over = np.stack([ends.min(0) - half - world, world - ends.max(0) - half])
    gaps = np.array(spec.extent_mm) - np.abs(volume.affine[:3, :3]) @ np.array(volume.shape)
    return edge_notes(over, gaps)


def edge_notes(over: FloatArray, gaps: FloatArray) -> list[Note]:
    """Notes on cropping and padding.

    Args:
        over: (2, N, 3) mm by which each piece of tissue lies beyond the low and the high end of
            the grid along left-right, back-front and feet-head; negative inside.
        gaps: (3,) mm by which the grid is longer than the scan.
    """
    notes: list[Note] = []
    if over.shape[1]:
        # The 99.5th percentile, so that a few voxels of table or sleeve do not speak.
        reach = np.percentile(np.maximum(over, 0), 99.5, axis=1)
        cut = [
            f"{reach[side, axis]:.0f} mm {SIDES[axis][side]}"
            for axis in range(3)
            for side in (0, 1)
            if reach[side, axis] >= CUT_NOTE_MM
        ]
        share = float((over > 0).any(axis=(0, 2)).mean())
        if cut:
            notes.append(
                Note(
                    "warning" if share >= CUT_WARNING_SHARE else "info",
                    "cropped_to_grid",
                    f"The model's grid is smaller than the scan: tissue was cut off, up to "
                    f"{', '.join(cut)} ({share:.0%} of the tissue).",
                )
            )
    filled = [
        f"{gap:.0f} mm along {name}"
        for gap, name in zip(gaps, ("left-right", "back-front", "feet-head"), strict=True)
        if gap >= CUT_NOTE_MM
    ]
    if filled:
        text = f"The scan is smaller than the model's grid: air was added, {', '.join(filled)}."
        notes.append(Note("info", "padded_with_air", text))
    return notes
