"""NIfTI-1, NIfTI-2 and Analyze headers: nibabel parses, what is used is checked and kept here."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError
from nibabel.spm99analyze import Spm99AnalyzeHeader

from rad3d.core.errors import BadVolume
from rad3d.volume.decoded import by, refuse
from rad3d.volume.forms import Geometry, geometry_of

LARGEST_OFFSET = 64 * 2**20
"""Voxels start after header and extensions; further in than this, the header is damaged."""


@dataclass(frozen=True)
class Header:
    """The parts of a header that are used; nothing else of it is kept."""

    shape: tuple[int, int, int]
    full_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    geometry: Geometry
    unit: float
    format: str

    @property
    def data_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def parse_header(block: bytes, paired: bool) -> Header:
    """The header in the first 540 bytes of a file; ``paired`` where the voxels lie in another.

    Raises:
        BadVolume: ``corrupt_header``, ``truncated``, ``not_3d`` or ``not_scalar``.
    """
    classes: dict[bytes, tuple[type[Any], int, str]] = {
        b"n+1\0": (Nifti1Header, 348, "NIfTI-1"),
        b"n+2\0": (Nifti2Header, 540, "NIfTI-2"),
        b"ni1\0": (Nifti1PairHeader, 348, "NIfTI-1 pair"),
        b"ni2\0": (Nifti2PairHeader, 540, "NIfTI-2 pair"),
    }
    two = struct.unpack("<i", block[:4])[0] == 540 or struct.unpack(">i", block[:4])[0] == 540
    magic = block[4:8] if two else block[344:348]
    kind, size, label = classes.get(magic, (Spm99AnalyzeHeader, 348, "Analyze"))
    if len(block) < size:
        refuse("The file ends inside its header.", "Download it again.", "truncated")
    try:
        header = kind(block[:size], check=False)
        full_shape = tuple(int(n) for n in header.get_data_shape())
        dtype = header.get_data_dtype()
    except (HeaderDataError, ValueError, KeyError, IndexError) as error:
        raise BadVolume(
            "The header is damaged: its size or data type makes no sense.",
            "Export or download the file again.",
            code="corrupt_header",
        ) from error
    shape = _three_dimensional(full_shape)
    if dtype.names is not None or dtype.kind not in "iuf":
        what = "complex numbers" if dtype.kind == "c" else "colours"
        refuse(
            f"The voxels hold {what}, not one number each.",
            "Give the original CT in Hounsfield units, not a picture or a transform of it.",
            "not_scalar",
        )
    slope, intercept = _scaling(header)
    return Header(
        shape=shape,
        full_shape=full_shape,
        dtype=dtype,
        offset=_offset(header, size, paired),
        slope=slope,
        intercept=intercept,
        geometry=geometry_of(header),
        unit=_unit(header),
        format=label,
    )


def _three_dimensional(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if not shape or any(n < 1 for n in shape):
        refuse(
            "The header is damaged: an axis has no length.",
            "Export or download the file again.",
            "corrupt_header",
        )
    trimmed = list(shape)
    while len(trimmed) > 3 and trimmed[-1] == 1:
        trimmed.pop()
    if len(trimmed) > 3:
        refuse(
            f"The file has {len(trimmed)} dimensions ({by(shape)}): several volumes or a vector "
            "in every voxel.",
            "Give one three-dimensional CT volume.",
            "not_3d",
        )
    if len(trimmed) < 3 or sum(n > 1 for n in trimmed) == 2:
        refuse(
            f"The file holds a single slice ({by(shape)}), not a volume.",
            "Give the whole scan: all slices in one file.",
            "not_3d",
        )
    return trimmed[0], trimmed[1], trimmed[2]


def _offset(header: Any, size: int, paired: bool) -> int:
    value = float(header["vox_offset"])
    smallest = 0 if paired else size + 4
    if not math.isfinite(value) or value > LARGEST_OFFSET or value < 0:
        refuse(
            "The header is damaged: it does not say where the voxels begin.",
            "Export or download the file again.",
            "corrupt_header",
        )
    return max(int(value), smallest)


def _scaling(header: Any) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 or NaN means that there is no scaling."""
    names = header.keys()
    slope = float(header["scl_slope"]) if "scl_slope" in names else 0.0
    intercept = float(header["scl_inter"]) if "scl_inter" in names else 0.0
    if not math.isfinite(slope) or slope == 0:
        return 1.0, 0.0
    return slope, intercept if math.isfinite(intercept) else 0.0


def _unit(header: Any) -> float:
    """Length unit of the header in mm: metres 1000, micrometres 0.001, else 1."""
    if "xyzt_units" not in header.keys():  # noqa: SIM118 - a header is no mapping
        return 1.0
    return {1: 1000.0, 3: 0.001}.get(int(header["xyzt_units"]) & 7, 1.0)
