"""Whether values and geometry can be those of a chest CT in Hounsfield units.

What cannot be a CT is refused; what is a CT but odd gets a warning note.
"""

from __future__ import annotations

import numpy as np

from rad3d.core.errors import BadVolume
from rad3d.core.types import FloatArray, Note
from rad3d.volume.anatomy import anatomy_notes
from rad3d.volume.decoded import Decoded, by
from rad3d.volume.padding import fill_unmeasured
from rad3d.volume.peaks import check_hounsfield

MIN_VOXELS = 8192
MIN_SLICES = 16
MIN_AXIS = 8
MIN_PLANE = 32
SPACING_MM = (0.1, 12.0)
EXTENT_MM = (60.0, 2300.0)
MIN_HEIGHT_MM = 8.0
"""From feet to head, where a scan may be a slab."""


def check_voxels(decoded: Decoded) -> tuple[Note, ...]:
    """All checks, from the certain to the subtle.

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
            f"The header claims voxels of {' x '.join(f'{s:.3g}' for s in spacing)} mm and a scan "
            f"of {' x '.join(f'{e:.4g}' for e in extent)} mm, which is impossible for a chest.",
            "Correct the voxel size in the header, or convert the scan from DICOM again.",
            code="implausible_size",
        )
