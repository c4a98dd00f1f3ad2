"""The output of the readers, before the meaning of its values is checked, and their limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy.typing as npt

from rad3d.core.errors import BadVolume
from rad3d.core.settings import Settings
from rad3d.core.types import FloatArray, Note
from rad3d.core.words import by, byte_text


@dataclass(frozen=True)
class Limits:
    """Limits to the size of a scan.

    Attributes:
        max_bytes: of the file, and of everything that is unpacked from it.
        max_voxels: of the volume.
        max_axis: along one axis; memory for slices is bounded by it. The finest CTs have 2048.
        max_file_mb: of the file as it is given, in MB of 2**20 bytes; None is any size.
    """

    max_bytes: int = 1_500_000_000
    max_voxels: int = 512 * 512 * 1200
    max_axis: int = 4096
    max_file_mb: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits that an operator has set."""
        return cls(
            max_bytes=max(cls.max_bytes, settings.max_upload_mb * 2**20),
            max_voxels=settings.max_voxels,
            max_file_mb=settings.max_upload_mb,
        )

    def check_file(self, size: int) -> None:
        """Raise ``too_large`` where a file that was given exceeds :attr:`max_file_mb`."""
        if self.max_file_mb is not None and size > self.max_file_mb * 2**20:
            raise BadVolume(
                f"The file is larger than the {self.max_file_mb} MB allowed here.",
                "Crop the scan to the chest, compress it, or raise RAD3D_MAX_UPLOAD_MB.",
                code="too_large",
            )

    def check_bytes(self, size: int, what: str) -> None:
        """Raise ``too_large`` where ``size`` exceeds :attr:`max_bytes`."""
        if size > self.max_bytes:
            raise BadVolume(
                f"{what} has {byte_text(size)}; the limit is {byte_text(self.max_bytes)}.",
                "Crop the scan to the chest or store it with larger voxels.",
                code="too_large",
            )

    def check_voxels(self, shape: tuple[int, ...]) -> None:
        """Raise ``too_large`` where the volume or one of its axes exceeds its limit."""
        voxels = math.prod(shape)
        if max(shape) > self.max_axis:
            raise BadVolume(
                f"The scan has {by(shape)} voxels; the limit along an axis is {self.max_axis:,}.",
                "Crop the scan to the chest, or convert it from its DICOM files again.",
                code="too_large",
            )
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
        values: (X, Y, Z) int16 where that is exact, else float32; NaN where there is no
            number.
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


def refuse(problem: str, remedy: str, code: str) -> NoReturn:
    """Raise :class:`BadVolume`."""
    raise BadVolume(problem, remedy, code=code)
