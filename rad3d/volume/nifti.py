"""NIfTI-1, NIfTI-2 and Analyze: header first, limits next, voxels last and never more than claimed.

The stream is unpacked piece by piece, so a bomb or a header that lies costs neither memory nor
time. nibabel parses the header and the affine; values are read and scaled here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from rad3d.types import FloatArray, Note
from rad3d.volume.ctrate import ScanMetadata, geometry_note
from rad3d.volume.decoded import Decoded, Limits, by, in_mb, refuse, to_hounsfield
from rad3d.volume.geometry import geometry_notes, to_ras
from rad3d.volume.header import Header, parse_header
from rad3d.volume.stream import PIECE_BYTES, is_gzip, open_stream, read_into, read_up_to, skip

MOST_GZIP_SHRINKS = 1032
"""Deflate cannot pack tighter than 1032 to 1, so a file that claims more is lying."""


def decode_nifti(
    header_path: Path,
    image_path: Path | None,
    limits: Limits,
    named_gz: bool = False,
    metadata: ScanMetadata | None = None,
) -> Decoded:
    """Read a NIfTI file, or a header and the file with its voxels.

    Args:
        header_path: ``.nii``, ``.nii.gz`` or ``.hdr``.
        image_path: the ``.img`` of a pair, else None.
        limits: checked against the header before any voxel is read.
        named_gz: whether the name promised compression (said in a note where it does not hold).
        metadata: whose geometry wins over the header's.

    Raises:
        BadVolume: where it is unreadable, not scalar, not 3-D, too large, or sheared.
    """
    compressed = is_gzip(header_path)
    with open_stream(header_path) as stream:
        block = read_up_to(stream, 540)
        header = parse_header(block, paired=image_path is not None)
        limits.check_voxels(header.shape)
        limits.check_bytes(header.data_bytes, "The scan, unpacked,")
        if image_path is None:
            _check_claim(header_path, header)
            skip(stream, header.offset - len(block))
            lead = block[header.offset :]
            raw = _read_voxels(stream, header, lead)
    if image_path is not None:
        _check_claim(image_path, header)
        with open_stream(image_path) as stream:
            skip(stream, header.offset)
            raw = _read_voxels(stream, header, b"")
    stored = np.ndarray(header.shape, header.dtype, raw.data, order="F")
    notes = _format_notes(header, header_path, compressed, named_gz)
    if metadata is not None:
        changed = geometry_note(metadata, header.affine)
        notes += [changed] if changed else []
        affine = metadata.affine(header.shape)
        header = replace(header, affine=affine, unit=1.0, oriented=True, form="table")
    return _canonical(stored, header, notes)


def _check_claim(path: Path, header: Header) -> None:
    """Refuse before reading where the file cannot hold what its header claims."""
    size, claimed = path.stat().st_size, header.data_bytes + header.offset
    available = size * MOST_GZIP_SHRINKS if is_gzip(path) else size
    if available < claimed:
        refuse(
            f"The file is cut short: its header claims {in_mb(claimed)} of {by(header.shape)} "
            f"voxels, but the file has only {in_mb(size)}.",
            "Download or export it again.",
            "truncated",
        )


def _read_voxels(stream: BinaryIO, header: Header, lead: bytes) -> npt.NDArray[np.uint8]:
    """Exactly the claimed bytes, or a refusal; what was not read costs no memory."""
    raw = np.empty(header.data_bytes, np.uint8)
    lead = lead[: len(raw)]
    raw[: len(lead)] = np.frombuffer(lead, np.uint8)
    place = len(lead)
    while place < len(raw):
        count = read_into(stream, raw.data[place : place + PIECE_BYTES])
        if not count:
            refuse(
                f"The file is cut short: {in_mb(place)} of {in_mb(len(raw))} are there.",
                "Download or export it again.",
                "truncated",
            )
        place += count
    # Reading on to the end lets gzip compare its checksum; a few padding bytes are harmless.
    allowed = 4096 + len(raw) // 100
    if len(read_up_to(stream, allowed + 1)) > allowed:
        refuse(
            "The file holds more data than its header describes, so the header is wrong.",
            "Export the scan again.",
            "size_mismatch",
        )
    return raw


def _canonical(stored: npt.NDArray[Any], header: Header, notes: list[Note]) -> Decoded:
    affine, unit_note = _in_millimetres(header)
    turned, affine, codes = to_ras(stored, affine)
    values, low, high, invalid = to_hounsfield(turned, header.slope, header.intercept)
    notes += [*geometry_notes(values.shape, affine, codes if header.oriented else None), *unit_note]
    notes.append(_value_note(header, values, low, high))
    return Decoded(values, affine, tuple(notes), low, high, invalid, header.oriented)


def _in_millimetres(header: Header) -> tuple[FloatArray, list[Note]]:
    """The affine in mm; a unit other than mm counts only where it makes the voxels plausible."""
    spacing = np.linalg.norm(header.affine[:3, :3], axis=0)
    if header.unit == 1 or not np.isfinite(spacing).all():
        return header.affine, []
    if not ((spacing * header.unit > 0.05) & (spacing * header.unit < 20)).all():
        return header.affine, []
    affine = header.affine * header.unit
    affine[3, 3] = 1.0
    name = "metres" if header.unit > 1 else "micrometres"
    text = f"The header gives lengths in {name}; they were converted to millimetres."
    return affine, [Note("warning", "spacing_unit", text)]


def _format_notes(header: Header, path: Path, compressed: bool, named_gz: bool) -> list[Note]:
    order = "big-endian" if header.dtype.newbyteorder("=") != header.dtype else "little-endian"
    packed = "gzip-compressed" if compressed else "not compressed"
    text = f"Read as {header.format}, {packed}, {header.dtype.name} voxels, {order}."
    notes = [Note("info", "format", text)]
    if named_gz and not compressed:
        text = "The name ends in .gz, but the file is not compressed; it was read as it is."
        notes.append(Note("info", "not_compressed", text))
    if len(header.full_shape) > 3:
        text = f"Stored as {by(header.full_shape)}; the trailing axes of length 1 were dropped."
        notes.append(Note("info", "squeezed", text))
    if header.form in ("sform", "qform"):
        notes.append(Note("info", "affine", f"Position and direction come from the {header.form}."))
    return notes


def _value_note(header: Header, values: npt.NDArray[Any], low: float, high: float) -> Note:
    if header.slope == 1 and header.intercept == 0:
        scaled = "No rescaling in the header"
    else:
        scaled = f"Rescaled by slope {header.slope:g} and intercept {header.intercept:g}"
    text = f"{scaled}; values from {low:.4g} to {high:.4g}, kept as {values.dtype.name}."
    return Note("info", "values", text)
