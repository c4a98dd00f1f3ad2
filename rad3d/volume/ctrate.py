"""CT-RATE's metadata table: what the DICOM headers said about each of its scans.

The first release of CT-RATE holds raw stored values under headers without slope, intercept and
spacing; all of these stand in ``train_metadata.csv`` and ``validation_metadata.csv``. The second
release holds HU, and rescaling it once more, as the published loaders do, ruins it (CT-CLIP issues
28 and 50). So the table's slope and intercept are applied only where the values are not HU yet.

Its geometry wins over the header's. CT-RATE's voxels lie in the order of the DICOM slices, which
is LPS for an ordinary axial scan; where the table gives an orientation, that counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rad3d.core.errors import BadRequest, BadVolume
from rad3d.core.ids import scan_id
from rad3d.core.tables import open_table
from rad3d.core.types import FloatArray, Note
from rad3d.core.words import by
from rad3d.volume.decoded import Decoded
from rad3d.volume.hounsfield import to_hounsfield
from rad3d.volume.peaks import check_hounsfield

NAME, SLOPE, INTERCEPT = "VolumeName", "RescaleSlope", "RescaleIntercept"
XY_SPACING, Z_SPACING = "XYSpacing", "ZSpacing"
ORIENTATION = "ImageOrientationPatient"
NEEDED = (NAME, SLOPE, INTERCEPT, XY_SPACING, Z_SPACING)
KEPT = (*NEEDED, ORIENTATION)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ORTHONORMAL = 0.02


@dataclass(frozen=True)
class ScanMetadata:
    """Metadata of one scan, as the table has them.

    Attributes:
        name: of the file.
        slope, intercept: from stored values to HU.
        spacing_mm: along the first, second and third stored axis.
        orientation: cosines of the first and second stored axis, towards Left, Posterior,
            Superior, as in DICOM.
    """

    name: str
    slope: float
    intercept: float
    spacing_mm: tuple[float, float, float]
    orientation: tuple[float, ...] = AXIAL

    def __post_init__(self) -> None:
        numbers = (self.slope, self.intercept, *self.spacing_mm, *self.orientation)
        first, second = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        right = len(self.orientation) == 6 and np.allclose(
            [first @ first, second @ second, first @ second], [1, 1, 0], atol=ORTHONORMAL
        )
        if not all(map(math.isfinite, numbers)) or min(self.spacing_mm) <= 0 or not right:
            raise BadRequest(
                f"The metadata of {self.name} hold impossible numbers.",
                "Correct the row of the table.",
                code="bad_metadata",
            )
        if self.slope == 0:
            raise BadRequest(
                f"The metadata of {self.name} have a slope of 0.",
                "Correct the row of the table.",
                code="bad_metadata",
            )

    def affine(self, shape: Sequence[int]) -> FloatArray:
        """(4, 4) index -> RAS+ mm; the middle of the scan becomes the origin."""
        first, second = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        columns = np.stack([first, second, np.cross(first, second)], axis=1) * self.spacing_mm
        affine = np.eye(4)
        affine[:3, :3] = np.diag([-1.0, -1.0, 1.0]) @ columns
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
        return affine


class MetadataTable:
    """A CSV file with one row for each scan.

    Args:
        path: ``train_metadata.csv`` or ``validation_metadata.csv`` of CT-RATE, or a table with
            their columns VolumeName, RescaleSlope, RescaleIntercept, XYSpacing and ZSpacing.
        shown: what messages call it; by default the file's name.
        only: keep the row of this scan alone, so that a stranger's table takes no memory.

    Raises:
        BadRequest: there is no such file, or it is no such table.
    """

    def __init__(self, path: Path, shown: str = "", only: str = "") -> None:
        self.name = shown or path.name
        with open_table(path, name=self.name, known=KEPT) as table:
            missing = [column for column in NEEDED if column not in table.columns]
            rows = [
                {column: row.cells[column] for column in KEPT if column in row.cells}
                for row in (() if missing else table.complete())
                if not only or scan_id(row.cells[NAME]) == scan_id(only)
            ]
        if missing:
            raise BadRequest(
                f"{self.name} lacks the columns {', '.join(missing)}.",
                "Give train_metadata.csv or validation_metadata.csv of CT-RATE.",
                code="bad_metadata",
            )
        self._rows = {scan_id(row[NAME]): row for row in rows}

    def __contains__(self, name: str) -> bool:
        return scan_id(name) in self._rows

    def row(self, name: str) -> ScanMetadata:
        """The metadata of the scan with this file name.

        Raises:
            BadRequest: it is not in the table, or its row holds no numbers.
        """
        if name not in self:
            raise BadRequest(
                f"{self.name} has no row for {name}.",
                "Scans are found by their file names, such as train_1_a_1.nii.gz.",
                code="no_metadata",
            )
        row = self._rows[scan_id(name)]
        try:
            in_plane = _numbers(row[XY_SPACING])
            # PixelSpacing of DICOM: between rows first, which is along the second stored axis.
            spacing = (in_plane[-1], in_plane[0], float(row[Z_SPACING]))
            stated = _numbers(row.get(ORIENTATION) or "")
            return ScanMetadata(
                name, float(row[SLOPE]), float(row[INTERCEPT]), spacing, stated or AXIAL
            )
        except (TypeError, ValueError, IndexError) as error:
            raise BadRequest(
                f"The row of {name} in {self.name} holds something that is no number.",
                "Correct the row of the table.",
                code="bad_metadata",
            ) from error


def _numbers(text: str) -> tuple[float, ...]:
    """``"[0.7, 0.7]"`` or ``"(0.7, 0.7)"`` -> numbers."""
    inside = text.strip().strip("[]()")
    return tuple(float(part.strip().strip("'\"")) for part in inside.split(",")) if inside else ()


def rescaled(decoded: Decoded, metadata: ScanMetadata) -> Decoded:
    """Apply the table's slope and intercept, unless the values are in HU already."""
    if metadata.slope == 1 and metadata.intercept == 0:
        text = "By the metadata table the stored values are HU."
        return replace(decoded, notes=(*decoded.notes, Note("info", "already_hu", text)))
    stated = f"slope {metadata.slope:g} and intercept {metadata.intercept:g}"
    if in_hounsfield(decoded):
        text = (
            f"The values are in HU already, so the {stated} of the metadata table were not applied."
        )
        return replace(decoded, notes=(*decoded.notes, Note("info", "already_hu", text)))
    scan = to_hounsfield(decoded.values, float(metadata.slope), float(metadata.intercept))
    text = (
        f"Rescaled by the {stated} of the metadata table; values from {scan.minimum:.4g} to "
        f"{scan.maximum:.4g}."
    )
    return replace(
        decoded,
        values=scan.values,
        minimum=scan.minimum,
        maximum=scan.maximum,
        invalid=scan.invalid,
        notes=(*decoded.notes, Note("info", "rescaled", text)),
    )


def in_hounsfield(decoded: Decoded) -> bool:
    """Whether the values look like those of a CT in HU."""
    try:
        check_hounsfield(decoded.values)
    except BadVolume:
        return False
    return True


def geometry_note(metadata: ScanMetadata, header: FloatArray) -> Note | None:
    """Note on a geometry of the table that differs from the header's; None where they agree."""
    ours = metadata.affine((1, 1, 1))[:3, :3]
    if np.allclose(ours, header[:3, :3], atol=1e-3):
        return None
    spacing = by(metadata.spacing_mm, ".4g")
    stated = by(np.linalg.norm(header[:3, :3], axis=0), ".4g")
    turned = not np.allclose(
        ours / metadata.spacing_mm,
        header[:3, :3] / np.maximum(np.linalg.norm(header[:3, :3], axis=0), 1e-9),
        atol=1e-2,
    )
    text = f"Voxels of {spacing} mm from the metadata table; the header says {stated} mm"
    return Note(
        "info",
        "metadata_geometry",
        f"{text} and another direction of the axes." if turned else f"{text}.",
    )
