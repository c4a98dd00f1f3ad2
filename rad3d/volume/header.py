"""NIfTI-1, NIfTI-2 and Analyze headers: nibabel parses, what is used is checked and kept here.

Of the two geometries, sform and qform, one counts by the rules of the standard
(https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h): a form counts where its code is
positive, the sform before the qform; pixdim[0] below 0 mirrors the third axis of the qform, and any
other value, 0 too, does not; voxel sizes are positive. The viewer's nifti.js makes the same choice.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from rad3d.core.errors import BadVolume
from rad3d.core.types import FloatArray, Note
from rad3d.core.words import by
from rad3d.volume.decoded import refuse
from rad3d.volume.geometry import is_usable

LARGEST_OFFSET = 64 * 2**20
"""Voxels start after header and extensions; further in than this, the header is damaged."""

KNOWN_CODES = range(1, 6)
"""Codes of sform and qform: scanner, aligned, Talairach, MNI, template. Any other code is damage,
and the matrix beside it is not trusted."""

LONGEST_QUATERNION = 1.01
"""Rounding makes the vector part of a half turn a little longer than 1; more is damage."""

SAME_SIZE = 0.05
SAME_DIRECTION = 0.5
"""A registration turns the sform a little; axes more than 60 degrees apart are a contradiction."""

SIDES = (
    ({"L", "R"}, "left and right"),
    ({"P", "A"}, "front and back"),
    ({"I", "S"}, "head and feet"),
)


@dataclass(frozen=True)
class Geometry:
    """The position of the voxels, as a header states it.

    Attributes:
        affine: (4, 4) stored index -> RAS+ in the header's unit of length.
        oriented: whether the file says which side is which.
        notes: where it came from, and contradictions.
    """

    affine: FloatArray
    oriented: bool
    notes: tuple[Note, ...] = ()


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
    # nibabel loads pydicom, which takes longer than reading a scan: only with the first file.
    from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
    from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
    from nibabel.spatialimages import HeaderDataError
    from nibabel.spm99analyze import Spm99AnalyzeHeader

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
        geometry=_geometry(header),
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


def _geometry(header: Any) -> Geometry:
    """The geometry of a nibabel header of NIfTI or Analyze."""
    if "sform_code" not in header.keys():  # noqa: SIM118 - a header is no mapping
        return Geometry(np.asarray(header.get_base_affine(), np.float64), False)
    header["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
    forms: dict[str, FloatArray] = {}
    if int(header["sform_code"]) in KNOWN_CODES:
        forms["sform"] = np.asarray(header.get_sform(), np.float64)
    if int(header["qform_code"]) in KNOWN_CODES:
        forms["qform"] = _qform(header)
    if not forms:
        return Geometry(np.asarray(header.get_base_affine(), np.float64), False)
    name = next((name for name in forms if is_usable(forms[name])), min(forms))
    notes = [Note("info", "affine", f"Position and direction come from the {name}.")]
    if name == "qform" and "sform" in forms:
        text = (
            "The sform in the header cannot be used (zero, not a number, or two axes in the same "
            "direction); position and direction were taken from the qform."
        )
        notes = [Note("warning", "unusable_sform", text)]
    elif name == "sform" and is_usable(forms[name]):
        notes += _disagreements(forms, np.asarray(header["pixdim"][1:4], np.float64))
    return Geometry(forms[name], True, tuple(notes))


def _qform(header: Any) -> FloatArray:
    """(4, 4) of quaternion, voxel sizes and offset; NaN where the quaternion is damaged."""
    from nibabel.quaternions import quat2mat

    vector = np.array([float(header[f"quatern_{axis}"]) for axis in "bcd"])
    length = float(np.linalg.norm(vector))
    affine = np.full((4, 4), np.nan)
    if not length <= LONGEST_QUATERNION:
        return affine
    real = math.sqrt(max(0.0, 1.0 - length**2))
    affine[:3, :3] = quat2mat([real, *vector / max(1.0, length)]) * header["pixdim"][1:4]
    if float(header["pixdim"][0]) < 0:
        affine[:3, 2] *= -1
    affine[:3, 3] = [float(header[f"qoffset_{axis}"]) for axis in "xyz"]
    affine[3] = 0, 0, 0, 1
    return affine


def _disagreements(forms: dict[str, FloatArray], pixdim: FloatArray) -> list[Note]:
    """Warnings about what the header says otherwise than the sform, which counts."""
    from nibabel.orientations import aff2axcodes

    notes = []
    sform, qform = forms["sform"], forms.get("qform")
    sizes = np.linalg.norm(sform[:3, :3], axis=0)
    if qform is not None and is_usable(qform):
        cosines = np.sum(sform[:3, :3] * qform[:3, :3], axis=0)
        cosines /= sizes * np.linalg.norm(qform[:3, :3], axis=0)
        if cosines.min() < SAME_DIRECTION:
            notes.append(_opposite(aff2axcodes(sform), aff2axcodes(qform)))
    stated = bool(np.all((pixdim > 0) & np.isfinite(pixdim)))
    if stated and np.abs(pixdim / sizes - 1).max() > SAME_SIZE:
        ours, theirs = (by(each, ".3g") for each in (sizes, pixdim))
        text = (
            f"The header contradicts itself: by its sform the voxels measure {ours}, by its pixdim "
            f"{theirs}. The sform was used; every size in the report depends on it."
        )
        notes.append(Note("warning", "size_conflict", text))
    return notes


def _opposite(ours: tuple[str, ...], theirs: tuple[str, ...]) -> Note:
    pairs = [{str(a), str(b)} for a, b in zip(ours, theirs, strict=True)]
    swapped = [words for pair, words in SIDES if pair in pairs] or ["the directions"]
    text = (
        f"The header contradicts itself: the axes run towards {_letters(ours)} by its sform and "
        f"towards {_letters(theirs)} by its qform. The sform was used; if the qform is right, "
        f"{' and '.join(swapped)} are wrong here."
    )
    return Note("warning", "orientation_conflict", text)


def _letters(codes: tuple[str, ...]) -> str:
    return "".join(str(code) for code in codes)
