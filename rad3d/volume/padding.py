"""Voxels that were never measured: NaN, and one value around the scan that is not air.

A scanner measures a circle in each slice, and a scan that was turned or shifted covers its new grid
only in part. The rest gets some value. Air or less does no harm there; 0 or 170 would be tissue.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rad3d.core.errors import BadVolume
from rad3d.core.types import Note
from rad3d.volume.blocks import slabs

AIR_HU = -1024
HARMLESS_HU = -930.0
"""A constant below this is air, or one of the usual values outside the circle (-2000, -3024)."""
MIN_PIXELS, MIN_SHARE = 16, 0.005
"""Of one value in a corner of the scan's surface; noise makes no such patch."""
MAX_INVALID = 0.01
"""Of the voxels, not counting those around the scan."""
IN_PLANE = np.zeros((3, 3, 3), bool)
IN_PLANE[:, 1, 1] = IN_PLANE[1, :, 1] = True


def fill_unmeasured(values: npt.NDArray[Any]) -> list[Note]:
    """Put air where nothing was measured, in place, and say so.

    Args:
        values: (X, Y, Z) HU; NaN where there is no number.

    Returns:
        A warning for each value that was replaced.

    Raises:
        BadVolume: ``too_many_invalid``, where more than the surroundings is not a number.
    """
    notes = []
    for value in _padding(values):
        share = _fill_around(values, value) / values.size
        text = (
            f"{share:.1%} of the voxels, at the border of the image, have the one value {value:g}: "
            "padding, where nothing was measured. They were replaced by air, and the report cannot "
            "know what lies there."
        )
        notes.append(Note("warning", "padding", text))
    return notes + _fill_invalid(values)


def _fill_invalid(values: npt.NDArray[Any]) -> list[Note]:
    if values.dtype.kind != "f":
        return []
    around = _fill_around(values, float("nan"))
    inside = 0
    for part in slabs(values.shape):
        holes = np.isnan(values[:, :, part])
        inside += int(np.count_nonzero(holes))
        values[:, :, part][holes] = AIR_HU
    if inside > MAX_INVALID * values.size:
        raise BadVolume(
            f"{inside / values.size:.0%} of the voxels inside the scan are not numbers (NaN or "
            "infinite).",
            "Give the scan as it was before it was processed.",
            code="too_many_invalid",
        )
    if not around + inside:
        return []
    text = (
        f"{around + inside:,} voxels ({(around + inside) / values.size:.2%}), "
        f"{f'{inside:,} of them inside the scan' if inside else 'at the border of the image'}, are "
        "not numbers (NaN or infinite). They were replaced by air, and the report cannot know what "
        "lies there."
    )
    return [Note("warning", "invalid_voxels", text)]


def _padding(values: npt.NDArray[Any]) -> list[float]:
    """Values of the corners that fill a patch of the surface and are not air."""
    found = []
    for corner in itertools.product((0, -1), repeat=3):
        value = float(values[corner])
        if value > HARMLESS_HU and value not in found and _is_patch(values, corner):
            found.append(value)
    return found


def _is_patch(values: npt.NDArray[Any], corner: tuple[int, ...]) -> bool:
    """Whether the value of a corner covers a connected part of one of the three faces there."""
    for axis, end in enumerate(corner):
        same = values.take(end, axis) == values[corner]
        least = max(MIN_PIXELS, MIN_SHARE * same.size)
        if np.count_nonzero(same) < least:
            continue
        pieces, _ = ndimage.label(same)
        place = corner[:axis] + corner[axis + 1 :]
        if np.count_nonzero(pieces == pieces[place]) >= least:
            return True
    return False


def _fill_around(values: npt.NDArray[Any], value: float) -> int:
    """Put air where ``value`` fills a part of a slice that reaches its border; how many voxels."""
    count = 0
    for part in slabs(values.shape):
        slab = values[:, :, part]
        pieces, n = ndimage.label(np.isnan(slab) if np.isnan(value) else slab == value, IN_PLANE)
        border = (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1])
        reaches = np.zeros(n + 1, bool)
        reaches[np.unique(np.concatenate([side.ravel() for side in border]))] = True
        reaches &= np.bincount(pieces.ravel(), minlength=n + 1) >= MIN_PIXELS
        reaches[0] = False
        slab[reaches[pieces]] = AIR_HU
        count += int(np.count_nonzero(reaches[pieces]))
    return count
