"""Check that values and geometry can be those of a chest CT in Hounsfield units.

What cannot be a CT is refused; what is a CT but odd gets a warning note.

A scanner measures a circle in each slice, and a scan that was turned or shifted covers its new grid
only in part. The rest holds NaN or some value. Air or less does no harm there; 0 or 170 would be
tissue, so air is put in its place.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rad3d.core.errors import BadVolume
from rad3d.core.types import FloatArray, Note
from rad3d.core.words import by
from rad3d.volume.anatomy import anatomy_notes
from rad3d.volume.decoded import Decoded
from rad3d.volume.hounsfield import slabs
from rad3d.volume.peaks import check_hounsfield

MIN_VOXELS = 8192
MIN_SLICES = 16
MIN_AXIS = 8
MIN_PLANE = 32
SPACING_MM = (0.1, 12.0)
EXTENT_MM = (60.0, 2300.0)
MIN_HEIGHT_MM = 8.0
"""Least extent from feet to head, where a scan may be a slab."""

AIR_HU = -1024
HARMLESS_HU = -930.0
"""A constant below this is air, or one of the usual values outside the circle (-2000, -3024)."""
MIN_PIXELS, MIN_SHARE = 16, 0.005
"""Least patch of one value in a corner of the scan's surface; noise makes no such patch."""
MAX_INVALID = 0.01
"""Largest share of the voxels that may be invalid, without those around the scan."""
IN_PLANE = np.zeros((3, 3, 3), bool)
IN_PLANE[:, 1, 1] = IN_PLANE[1, :, 1] = True


def check_voxels(decoded: Decoded) -> tuple[Note, ...]:
    """Run all checks, from the certain to the subtle.

    Args:
        decoded: voxels as read; those that were never measured become air, in place.

    Returns:
        Warning notes.

    Raises:
        BadVolume: where it cannot be a chest CT in HU; see :mod:`rad3d.volume.load`.
    """
    _check_size(decoded.values.shape)
    notes = check_hounsfield(decoded.values)
    _check_slices(decoded.values.shape, decoded.affine)
    if not decoded.oriented:
        raise BadVolume(
            "The header does not say how the scan lies in the patient, so left and right, front "
            "and back are unknown.",
            "Convert the scan from its DICOM files again, for instance with dcm2niix.",
            code="no_orientation",
        )
    _check_extent(decoded.values.shape, decoded.affine)
    notes += fill_unmeasured(decoded.values)
    return (*notes, *anatomy_notes(decoded.values, decoded.affine))


def _check_size(shape: tuple[int, ...]) -> None:
    if min(shape) < MIN_AXIS or int(np.prod(shape)) < MIN_VOXELS:
        raise BadVolume(
            f"The volume has only {by(shape)} voxels, too few for a chest CT.",
            "Give the whole scan with all of its slices.",
            code="too_few_voxels",
        )


def _check_slices(shape: tuple[int, ...], affine: FloatArray) -> None:
    thinnest = int(np.argmin(shape))
    if shape[thinnest] < MIN_SLICES:
        thickness = shape[thinnest] * float(np.linalg.norm(affine[:3, thinnest]))
        raise BadVolume(
            f"The scan is only a slab of {shape[thinnest]} slices, {thickness:.0f} mm thick; at "
            f"least {MIN_SLICES} slices are needed.",
            "Give the whole scan with all of its slices.",
            code="too_few_voxels",
        )
    if sorted(shape)[1] < MIN_PLANE:
        raise BadVolume(
            f"The volume has only {by(shape)} voxels; slices need {MIN_PLANE} x {MIN_PLANE}.",
            "Give the whole scan with all of its slices.",
            code="too_few_voxels",
        )


def _check_extent(shape: tuple[int, ...], affine: FloatArray) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    extent = spacing * np.array(shape)
    wrong = (
        spacing.min() < SPACING_MM[0]
        or spacing.max() > SPACING_MM[1]
        or extent[:2].min() < EXTENT_MM[0]
        or extent[2] < MIN_HEIGHT_MM
        or extent.max() > EXTENT_MM[1]
    )
    if wrong:
        raise BadVolume(
            f"The header claims voxels of {by(spacing, '.3g')} mm and a scan "
            f"of {by(extent, '.4g')} mm, which is impossible for a chest.",
            "Correct the voxel size in the header, or convert the scan from DICOM again.",
            code="implausible_size",
        )


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
    paddings = []
    for corner in itertools.product((0, -1), repeat=3):
        value = float(values[corner])
        if value > HARMLESS_HU and value not in paddings and _is_patch(values, corner):
            paddings.append(value)
    return paddings


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
