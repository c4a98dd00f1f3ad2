"""The two geometries of a NIfTI header, sform and qform: which one counts, and where they disagree.

The rules of the standard (https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h): a form counts
where its code is positive, the sform before the qform; pixdim[0] below 0 mirrors the third axis of
the qform, and any other value, 0 too, does not; voxel sizes are positive. The viewer's nifti.js
makes the same choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.orientations import aff2axcodes
from nibabel.quaternions import quat2mat

from rad3d.core.types import FloatArray, Note
from rad3d.volume.geometry import is_usable

KNOWN_CODES = range(1, 6)
"""Of sform and qform: scanner, aligned, Talairach, MNI, template. Any other code is damage, and the
matrix beside it is not trusted."""

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
    """What a header says about the place of its voxels.

    Attributes:
        affine: (4, 4) stored index -> RAS+ in the header's unit of length.
        oriented: whether the file says which side is which.
        notes: where it came from, and contradictions.
    """

    affine: FloatArray
    oriented: bool
    notes: tuple[Note, ...] = ()


def geometry_of(header: Any) -> Geometry:
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
        ours, theirs = (" x ".join(f"{s:.3g}" for s in each) for each in (sizes, pixdim))
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
