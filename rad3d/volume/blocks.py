"""Large volumes in parts: slabs that bound memory, tiles that fit into the processor's cache."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

SLAB_VOXELS = 4 * 2**20
TILE_X, TILE_Z, TILE_VOXELS = 512, 16, 8192


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
