"""What the readers hand over before anything is known about the meaning of the values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from rad3d.errors import BadVolume
from rad3d.types import FloatArray, Note


@dataclass(frozen=True)
class Limits:
    """How large a scan may be.

    Attributes:
        max_bytes: of the file, and of everything that is unpacked from it.
        max_voxels: of the volume.
    """

    max_bytes: int = 1_500_000_000
    max_voxels: int = 512 * 512 * 1200

    def check_bytes(self, size: int, what: str) -> None:
        """Raise ``too_large`` where ``size`` exceeds :attr:`max_bytes`."""
        if size > self.max_bytes:
            raise BadVolume(
                f"{what} has {in_mb(size)}; the limit is {in_mb(self.max_bytes)}.",
                "Crop the scan to the chest or store it with larger voxels.",
                code="too_large",
            )

    def check_voxels(self, shape: tuple[int, ...]) -> None:
        """Raise ``too_large`` where the volume exceeds :attr:`max_voxels`."""
        voxels = 1
        for n in shape:
            voxels *= int(n)
        if voxels > self.max_voxels:
            raise BadVolume(
                f"The scan has {by(shape)} voxels, {voxels / 1e6:,.0f} million; the limit is "
                f"{self.max_voxels / 1e6:,.0f} million.",
                "Crop the scan to the chest or store it with larger voxels.",
                code="too_large",
            )


@dataclass(frozen=True)
class Decoded:
    """Voxels with their values applied, axes towards Right, Anterior, Superior.

    Attributes:
        values: (X, Y, Z) int16 where that is exact, else float32; NaN and Inf already air.
        affine: (4, 4) float64, voxel index -> RAS+ mm.
        notes: what was read and done.
        minimum, maximum: over the finite voxels.
        invalid: how many voxels were NaN, infinite or beyond any number a CT can have.
        oriented: False where the file does not say which side is which.
    """

    values: npt.NDArray[Any]
    affine: FloatArray
    notes: tuple[Note, ...]
    minimum: float
    maximum: float
    invalid: int
    oriented: bool


AIR_HU = -1024
LARGEST_VALUE = 2.0**31
TILE = (64, 4, 32)
SLAB_BYTES = 32 * 2**20


def to_hounsfield(
    stored: npt.NDArray[Any], slope: float, intercept: float
) -> tuple[npt.NDArray[Any], float, float, int]:
    """Apply slope and intercept; int16 where that loses nothing, else float32.

    Works slab by slab along the last axis, so that the whole volume is never float64 at once.

    Args:
        stored: (X, Y, Z), any real type and byte order, any strides.
        slope: factor of the stored values.
        intercept: added afterwards.

    Returns:
        C-contiguous (X, Y, Z) values with invalid voxels set to -1024; finite minimum and maximum;
        number of invalid voxels. Minimum and maximum are NaN where nothing is finite.
    """
    if stored.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        exact = _whole_hounsfield(stored, int(slope), int(intercept))
        if exact is not None:
            return exact
    x, y, z = stored.shape
    step = max(1, SLAB_BYTES // (8 * x * y))
    out: npt.NDArray[Any] = np.empty(stored.shape, np.int16)
    low, high, invalid, k = np.inf, -np.inf, 0, 0
    while k < z:
        slab = stored[:, :, k : k + step].astype(np.float64)
        if slope != 1 or intercept != 0:
            slab = slab * slope + intercept
        bad = ~(np.abs(slab) < LARGEST_VALUE)
        n_bad = int(np.count_nonzero(bad))
        if n_bad:
            slab[bad] = np.nan
        if n_bad < slab.size:
            low, high = min(low, float(np.nanmin(slab))), max(high, float(np.nanmax(slab)))
        if n_bad:
            slab[bad] = AIR_HU
        if out.dtype == np.int16 and not _fits_int16(slab):
            out = out.astype(np.float32)
        out[:, :, k : k + step] = slab
        invalid += n_bad
        k += step
    if low > high:
        return out, float("nan"), float("nan"), invalid
    return out, low, high, invalid


def _whole_hounsfield(
    stored: npt.NDArray[Any], slope: int, intercept: int
) -> tuple[npt.NDArray[Any], float, float, int] | None:
    """The same in whole numbers, where every value fits into int16; else None."""
    ends = [int(stored.min()) * slope + intercept, int(stored.max()) * slope + intercept]
    low, high = min(ends), max(ends)
    if low < -32768 or high > 32767 or abs(slope) > 2**15:
        return None
    out = np.empty(stored.shape, np.int16)
    for tile in _tiles(stored.shape):
        values = stored[tile]
        if slope != 1 or intercept != 0:
            values = values.astype(np.int64) * slope + intercept
        out[tile] = values
    return out, float(low), float(high), 0


def _tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Blocks that fit into the processor's nearest cache whichever axis lies first in memory.

    Files have the x axis first and volumes the z axis; copied as a whole, every voxel would be
    fetched from main memory on its own, which takes four times as long.
    """
    starts = (range(0, n, size) for n, size in zip(shape, TILE, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(slice(i, i + size) for i, size in zip(corner, TILE, strict=True))


def _fits_int16(values: npt.NDArray[np.float64]) -> bool:
    if values.min() < -32768 or values.max() > 32767:
        return False
    return bool(np.array_equal(values, np.rint(values)))


def by(shape: tuple[int, ...]) -> str:
    """``(512, 512, 30) -> "512 x 512 x 30"``."""
    return " x ".join(str(int(n)) for n in shape)


def in_mb(size: float) -> str:
    """Bytes for a person."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"


def refuse(problem: str, remedy: str, code: str) -> NoReturn:
    """Raise :class:`BadVolume`."""
    raise BadVolume(problem, remedy, code=code)
