"""A DICOM series to voxels: SimpleITK (GDCM) decodes, the geometry is checked here.

Slices are ordered by their position in the patient, never by file name. A series with gaps is
refused: filling them in would show anatomy that nobody scanned.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rad3d.errors import BadVolume
from rad3d.types import FloatArray, Note
from rad3d.volume.decoded import Decoded, Limits
from rad3d.volume.geometry import Turn, geometry_notes
from rad3d.volume.hounsfield import to_hounsfield

MOST_SLICE_BYTES = 64 * 2**20
"""Of one file; a slice of 2048 x 2048 has 8 MB."""
PIXEL_DATA = {"<": b"\xe0\x7f\x10\x00", ">": b"\x7f\xe0\x00\x10"}
ENCAPSULATED = 0xFFFFFFFF
MODALITY, SERIES_UID = "0008|0060", "0020|000e"
POSITION, ORIENTATION = "0020|0032", "0020|0037"
INTERCEPT, SLOPE, FRAMES = "0028|1052", "0028|1053", "0028|0008"
BITS = "0028|0100"
LEAST_SLICES = 3
GAP_TOLERANCE = 0.05
"""Slice distances may differ by this share of their median; rounding in headers stays below it."""
TILT_COSINE = 0.9998
"""Slices stacked along another direction than their normal (over 1.1 degrees): a tilted gantry."""


@dataclass(frozen=True)
class _Slice:
    """One file: where it lies and which group it belongs to."""

    path: Path
    group: tuple[Any, ...]
    position: FloatArray
    rows_axis: FloatArray
    columns_axis: FloatArray
    spacing: tuple[float, float]
    size: tuple[int, int]
    modality: str
    scaling: tuple[str, str]

    @property
    def normal(self) -> FloatArray:
        return np.cross(self.rows_axis, self.columns_axis)

    @property
    def depth(self) -> float:
        return float(self.position @ self.normal)


def is_dicom(path: Path) -> bool:
    """Whether a file carries the DICOM mark, or at least begins like a DICOM data set."""
    with path.open("rb") as file:
        head = file.read(132)
    return head[128:132] == b"DICM" or head[:4] in (b"\x08\x00\x00\x00", b"\x08\x00\x05\x00")


def decode_dicom(files: Sequence[Path], limits: Limits) -> Decoded:
    """Read the series with most slices among some files.

    Raises:
        BadVolume: ``bad_dicom``, ``multiframe_dicom``, ``not_ct``, ``not_scalar``,
            ``irregular_slices``, ``sheared``, ``too_few_voxels`` or ``too_large``.
    """
    import SimpleITK as sitk  # noqa: N813 - the name its own manual uses

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    groups: dict[tuple[Any, ...], list[_Slice]] = defaultdict(list)
    unread = 0
    for path in files:
        try:
            found = _read_slice(sitk, path)
        except (RuntimeError, ValueError):
            unread += 1
            continue
        groups[found.group].append(found)
    if not groups:
        raise BadVolume(
            "None of the DICOM files holds a slice that can be read.",
            "Give the image files of one CT series.",
            code="bad_dicom",
        )
    largest = max(groups, key=lambda group: len(groups[group]))
    chosen = sorted(groups[largest], key=lambda s: s.depth)
    first = chosen[0]
    limits.check_voxels((*first.size, len(chosen)))
    limits.check_bytes(first.size[0] * first.size[1] * len(chosen) * 4, "The series, unpacked,")
    _check_series(chosen)
    affine = _series_affine(chosen)
    stored = _read_pixels(sitk, chosen)
    notes = _series_notes(chosen, [len(g) for g in groups.values()], unread)
    turn = Turn.of(affine)
    scan = to_hounsfield(stored, turn=turn)
    affine = turn.affine(affine, stored.shape)
    notes += geometry_notes(scan.values.shape, affine, turn.codes)
    text = (
        f"Values from {scan.minimum:.5g} to {scan.maximum:.5g}, kept as {scan.values.dtype.name}."
    )
    notes.append(Note("info", "values", text))
    return Decoded(
        scan.values, affine, tuple(notes), scan.minimum, scan.maximum, scan.invalid, True
    )


def _read_slice(sitk: Any, path: Path) -> _Slice:
    """Header of one file; ValueError where it is no plain slice."""
    if path.stat().st_size > MOST_SLICE_BYTES:
        raise ValueError("too large for a slice")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    reader.ReadImageInformation()

    def tag(key: str) -> str:
        return reader.GetMetaData(key).strip("\0 ") if reader.HasMetaDataKey(key) else ""

    size = reader.GetSize()
    if not _has_pixels(path.read_bytes(), size[0] * size[1] * int(tag(BITS)) // 8):
        raise ValueError("fewer pixels than the header claims")
    if int(tag(FRAMES) or 1) > 1 or (len(size) > 2 and size[2] > 1):
        raise BadVolume(
            "The series is stored as a multi-frame DICOM file, which is not read here.",
            "Convert it with dcm2niix and give the .nii.gz file.",
            code="multiframe_dicom",
        )
    if reader.GetNumberOfComponents() != 1:
        raise ValueError("not a grey image")
    position = np.array([float(v) for v in tag(POSITION).split("\\")])
    direction = np.array([float(v) for v in tag(ORIENTATION).split("\\")])
    if position.shape != (3,) or direction.shape != (6,):
        raise ValueError("no position or orientation")
    spacing = reader.GetSpacing()
    plane = tuple(np.round(direction, 3))
    in_plane = (round(spacing[0], 4), round(spacing[1], 4))
    return _Slice(
        path=path,
        group=(tag(SERIES_UID), tuple(size[:2]), in_plane, plane),
        position=position,
        rows_axis=direction[:3],
        columns_axis=direction[3:],
        spacing=(spacing[0], spacing[1]),
        size=(size[0], size[1]),
        modality="".join(c for c in tag(MODALITY)[:4] if c.isascii() and c.isalpha()),
        scaling=(_number(tag(SLOPE), "1"), _number(tag(INTERCEPT), "0")),
    )


def _has_pixels(data: bytes, needed: int) -> bool:
    """Whether there are as many pixels as rows and columns say, which GDCM does not look at.

    Of compressed pixels that is not known before they are unpacked.
    """
    for order, tag in PIXEL_DATA.items():
        at = data.find(tag)
        while at >= 0:
            place = at + (8 if data[at + 4 : at + 6] in (b"OB", b"OW") else 4)
            field = data[place : place + 4].ljust(4, b"\0")
            (length,) = struct.unpack(f"{order}I", field)
            if length == ENCAPSULATED or needed <= length <= len(data) - place - 4:
                return True
            at = data.find(tag, at + 1)
    return False


def _number(text: str, default: str) -> str:
    """A header's number in plain form: whatever else an element holds is never repeated."""
    return f"{float(text):g}" if text else default


def _check_series(slices: Sequence[_Slice]) -> None:
    modality = slices[0].modality
    if modality not in ("CT", ""):
        raise BadVolume(
            f"The DICOM series has the modality {modality}, not CT.",
            "Give the files of a chest CT series.",
            code="not_ct",
        )
    if len(slices) < LEAST_SLICES:
        raise BadVolume(
            f"The largest series in the zip has only {len(slices)} slices.",
            "Put all DICOM files of the series into the zip.",
            code="too_few_voxels",
        )
    steps = np.diff([s.depth for s in slices])
    usual = float(np.median(steps))
    tolerance = GAP_TOLERANCE * usual
    if usual <= 0 or np.abs(steps - usual).max() > tolerance:
        raise BadVolume(
            f"The slices are not evenly spaced: the steps go from {steps.min():.2f} to "
            f"{steps.max():.2f} mm, so slices are missing or doubled.",
            "Put every slice of one series, and only those, into the zip.",
            code="irregular_slices",
        )
    stack = slices[-1].position - slices[0].position
    if abs(float(stack @ slices[0].normal)) < TILT_COSINE * float(np.linalg.norm(stack)):
        raise BadVolume(
            "The gantry was tilted: the slices are stacked at a slant.",
            "Convert the series with dcm2niix, which corrects the tilt, and give its .nii.gz.",
            code="sheared",
        )


def _series_affine(slices: Sequence[_Slice]) -> FloatArray:
    """(column, row, slice) index -> RAS+ mm; DICOM itself counts toward Left and Posterior."""
    first = slices[0]
    step = (slices[-1].position - first.position) / (len(slices) - 1)
    affine = np.eye(4)
    affine[:3, 0] = first.rows_axis * first.spacing[0]
    affine[:3, 1] = first.columns_axis * first.spacing[1]
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _read_pixels(sitk: Any, slices: Sequence[_Slice]) -> Any:
    """(columns, rows, slices) values with each file's own slope and intercept applied."""
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(s.path) for s in slices])
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise BadVolume(
            "The pixels of the DICOM series cannot be decoded.",
            "Convert the series with dcm2niix and give its .nii.gz file.",
            code="bad_dicom",
        ) from error
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0)


def _series_notes(slices: Sequence[_Slice], sizes: list[int], unread: int) -> list[Note]:
    notes = [Note("info", "format", f"Read as a DICOM series of {len(slices)} slices from a zip.")]
    if len(sizes) > 1:
        others = ", ".join(str(n) for n in sorted(sizes, reverse=True)[1:])
        text = (
            f"The zip holds {len(sizes)} series or image sizes; the one with most slices was "
            f"taken (others: {others})."
        )
        notes.append(Note("info", "largest_series", text))
    if unread:
        text = f"{unread} files without a readable slice (plans, pictures, documents) were ignored."
        notes.append(Note("info", "ignored_files", text))
    scalings = sorted({s.scaling for s in slices})
    slope, intercept = scalings[0]
    text = f"Rescaled by slope {slope} and intercept {intercept}, as each file says."
    if len(scalings) > 1:
        text = "Rescaled by the slope and intercept of each slice."
    notes.append(Note("info", "rescaled", text))
    return notes
