"""Converts stored numbers to Hounsfield units, slab by slab, while the rest is being unpacked.

Slabs bound the memory, and tiles that fit into the processor's cache the time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from rad3d.volume.geometry import AS_STORED, Turn

LARGEST_VALUE = 2.0**31
SLAB_VOXELS = 4 * 2**20
TILE_X, TILE_Z, TILE_VOXELS = 512, 16, 8192


class Hounsfield:
    """HU of a scan whose slices arrive in order: int16 while that loses nothing, else float32.

    Never more than one slab of it is float64.

    Args:
        shape: of the stored voxels.
        slope: factor of the stored values.
        intercept: added afterwards.
        turn: where the stored axes go.

    Attributes:
        values: C-contiguous (X, Y, Z) towards RAS+; invalid voxels are NaN.
        invalid: how many voxels were NaN, infinite or beyond any number a CT can have.
        minimum, maximum: of the finite voxels; NaN where there is none.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        slope: float = 1.0,
        intercept: float = 0.0,
        turn: Turn = AS_STORED,
    ) -> None:
        self._slope, self._intercept, self._turn = slope, intercept, turn
        self._slices = 0
        self.values: npt.NDArray[Any] = np.empty(turn.shape(shape), np.int16)
        self.invalid = 0
        self.minimum = self.maximum = float("nan")

    def add(self, slab: npt.NDArray[Any]) -> None:
        """Take the next slices.

        Args:
            slab: (I, J, n) as stored; any real type, byte order and strides.
        """
        scale = self._whole_scale(slab)
        if scale is None:
            slab, scale = self._finite(slab), (1, 0)
        last = self._slices + slab.shape[2]
        place = self._turn.as_stored(self.values)[:, :, self._slices : last]
        copy_tiles(slab, place, *scale)
        self._slices = last

    def _whole_scale(self, slab: npt.NDArray[Any]) -> tuple[int, int] | None:
        """Slope and intercept where whole numbers stay whole and within int16; else None."""
        scale = self._slope, self._intercept
        whole = all(value.is_integer() and abs(value) < LARGEST_VALUE for value in scale)
        if slab.dtype.kind not in "iu" or not whole:
            return None
        slope, intercept = int(self._slope), int(self._intercept)
        low, high = sorted(int(v) * slope + intercept for v in (slab.min(), slab.max()))
        if low < -32768 or high > 32767:
            return None
        self._widen(low, high)
        return slope, intercept

    def _finite(self, slab: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """The slab in HU with NaN where there is no number; makes room for fractions if needed."""
        with np.errstate(over="ignore", invalid="ignore"):  # such voxels are counted below
            values = slab.astype(np.float64)
            if (self._slope, self._intercept) != (1, 0):
                values *= self._slope
                values += self._intercept
        bad = ~(np.abs(values) < LARGEST_VALUE)
        n_bad = int(np.count_nonzero(bad))
        if n_bad < values.size:
            good = values[~bad] if n_bad else values
            self._widen(float(good.min()), float(good.max()))
        if n_bad:
            values[bad] = np.nan
        self.invalid += n_bad
        if self.values.dtype == np.int16 and not _fits_int16(values):
            self.values = self.values.astype(np.float32)
        return values

    def _widen(self, low: float, high: float) -> None:
        self.minimum = float(np.fmin(self.minimum, low))
        self.maximum = float(np.fmax(self.maximum, high))


def to_hounsfield(
    stored: npt.NDArray[Any], slope: float = 1.0, intercept: float = 0.0, turn: Turn = AS_STORED
) -> Hounsfield:
    """Convert a whole scan; the arguments are those of :class:`Hounsfield`."""
    x, y, z = stored.shape
    scan = Hounsfield((x, y, z), slope, intercept, turn)
    for slices in slabs((x, y, z)):
        scan.add(stored[:, :, slices])
    return scan


def _fits_int16(values: npt.NDArray[np.float64]) -> bool:
    if not (values.min() >= -32768 and values.max() <= 32767):  # NaN does not fit either
        return False
    return bool(np.array_equal(values, np.rint(values)))


def slabs(shape: tuple[int, int, int]) -> Iterator[slice]:
    """Slices along the last axis, a slab at a time: at most 4 million voxels, or one slice."""
    step = max(1, SLAB_VOXELS // (shape[0] * shape[1]))
    return (slice(first, min(first + step, shape[2])) for first in range(0, shape[2], step))


def tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Parts of 8192 voxels or a little less, so that a thin volume has no more than others."""
    x, z = min(TILE_X, shape[0]), min(TILE_Z, shape[2])
    sizes = (x, max(1, TILE_VOXELS // (x * z)), z)
    starts = (range(0, n, size) for n, size in zip(shape, sizes, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(slice(i, i + size) for i, size in zip(corner, sizes, strict=True))


def copy_tiles(
    source: npt.NDArray[Any], target: npt.NDArray[Any], slope: int = 1, added: int = 0
) -> None:
    """``target[...] = source``, tile by tile, for arrays that differ in which axis is first.

    Files have the x axis first in memory and volumes the z axis; copied as a whole, every voxel
    would be fetched from main memory on its own, which takes six times as long.

    Args:
        source: (I, J, K) of any real type and strides.
        target: the same shape.
        slope: factor of whole numbers, computed in int64.
        added: to them afterwards.
    """
    for tile in tiles(source.shape):
        values = source[tile]
        if (slope, added) != (1, 0):
            values = values.astype(np.int64) * slope + added
        target[tile] = values
