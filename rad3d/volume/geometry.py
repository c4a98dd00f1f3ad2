"""Axes: from how a file stores them to RAS+, and what can be said about them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from rad3d.core.types import FloatArray, Note
from rad3d.core.words import by
from rad3d.volume.decoded import refuse

SMALLEST_SPACING_MM, LARGEST_SPACING_MM = 1e-6, 1e6
SHEAR_COSINE = 0.02
"""Columns of the affine further than this from a right angle (1.1 degrees) mean a sheared grid."""


@dataclass(frozen=True)
class Turn:
    """The way from the axes of a file to RAS+: mirrored and reordered, no value changed.

    Attributes:
        order: which of x, y and z each stored axis becomes.
        signs: -1 for each stored axis that runs against it, else 1.
        codes: how the axes are stored, such as ``"LPS"``.
    """

    order: tuple[int, int, int]
    signs: tuple[int, int, int]
    codes: str

    @classmethod
    def of(cls, affine: FloatArray) -> Turn:
        """The turn to the closest RAS+.

        Args:
            affine: (4, 4) stored index -> RAS+ mm.

        Raises:
            BadVolume: ``bad_affine`` or ``sheared``.
        """
        from nibabel.orientations import aff2axcodes, io_orientation  # see rad3d.volume.header

        check_affine(affine)
        orientation = io_orientation(affine)
        if np.isnan(orientation).any():
            _bad_affine()
        (i, a), (j, b), (k, c) = orientation.astype(int).tolist()
        return cls((i, j, k), (a, b, c), "".join(aff2axcodes(affine)))

    def shape(self, stored: tuple[int, int, int]) -> tuple[int, int, int]:
        """(X, Y, Z) of a stored shape."""
        x, y, z = (stored[self.order.index(axis)] for axis in range(3))
        return x, y, z

    def affine(self, affine: FloatArray, stored: tuple[int, int, int]) -> FloatArray:
        """The affine of the turned voxels from that of the stored ones and their shape."""
        from nibabel.orientations import inv_ornt_aff

        orientation = np.array([self.order, self.signs], float).T
        return np.asarray(affine @ inv_ornt_aff(orientation, stored))

    def as_stored(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """View of RAS+ voxels with the axes as they are stored."""
        mirrored = tuple(slice(None, None, sign) for sign in self.signs)
        return values.transpose(self.order)[mirrored]


AS_STORED = Turn((0, 1, 2), (1, 1, 1), "RAS")


def is_usable(affine: FloatArray) -> bool:
    """Whether an affine gives voxels a finite size and three different directions."""
    columns = affine[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if not np.isfinite(affine).all() or lengths.min() < SMALLEST_SPACING_MM:
        return False
    if lengths.max() > LARGEST_SPACING_MM:
        return False
    return bool(abs(np.linalg.det(columns / lengths)) >= 1e-3)


def check_affine(affine: FloatArray) -> None:
    """Refuse an affine that gives no usable or a sheared grid."""
    if not is_usable(affine):
        _bad_affine()
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs(unit.T @ unit - np.eye(3)).max()
    if cosines > SHEAR_COSINE:
        refuse(
            f"The voxel grid is sheared: its axes are {math.degrees(math.acos(cosines)):.0f} "
            "degrees apart instead of 90 (a tilted gantry, or an affine registration).",
            "Resample the scan to a right-angled grid first (dcm2niix corrects gantry tilt).",
            "sheared",
        )


def _bad_affine() -> NoReturn:
    refuse(
        "The header does not give usable voxel sizes and directions (zero, not a number, or "
        "two axes in the same direction).",
        "Convert the scan from its DICOM files again, for instance with dcm2niix.",
        "bad_affine",
    )


def geometry_notes(
    shape: tuple[int, ...], affine: FloatArray, codes: str | None
) -> tuple[Note, ...]:
    """Shape, spacing and orientation for a person; ``codes`` is how the file stored the axes."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    extent = spacing * np.array(shape)
    size = (
        f"{by(shape)} voxels of {by(spacing, '.3g')} mm, "
        f"{by(extent, '.0f')} mm in all (left-right, back-front, feet-head)."
    )
    notes = [Note("info", "geometry", size)]
    if codes:
        done = (
            "kept as stored"
            if codes == "RAS"
            else "mirrored and reordered to RAS without changing a value"
        )
        notes.append(Note("info", "orientation", f"Axes stored as {codes}; {done}."))
    cosine = float(np.min(np.abs(np.diag(affine[:3, :3])) / spacing))
    angle = math.degrees(math.acos(min(1.0, cosine)))
    if angle > 0.5:
        text = f"The scan is oblique: turned by {angle:.1f} degrees against the patient's axes."
        notes.append(Note("info", "oblique", text))
    return tuple(notes)
