"""NIfTI-1, NIfTI-2 and Analyze: header first, limits next, voxels last and never more than claimed.

The stream is unpacked slab by slab, so a bomb or a header that lies costs neither memory nor time,
and the voxels as stored are never in memory as a whole. nibabel parses the header and the affine;
values are read and scaled here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rad3d.core.types import FloatArray, Note
from rad3d.core.words import by, byte_text
from rad3d.volume.ctrate import ScanMetadata, geometry_note
from rad3d.volume.decoded import Decoded, Limits, refuse
from rad3d.volume.geometry import Turn, geometry_notes
from rad3d.volume.header import Geometry, Header, parse_header
from rad3d.volume.hounsfield import Hounsfield, slabs
from rad3d.volume.stream import Stream, is_gzip, open_stream, read_into, read_up_to, skip

MAX_GZIP_SHRINKS = 1032
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
    with open_stream(header_path) as stream:
        block = read_up_to(stream, 540)
        header = parse_header(block, paired=image_path is not None)
        limits.check_voxels(header.shape)
        limits.check_bytes(header.data_bytes, "The scan, unpacked,")
        _check_claim(image_path or header_path, header)
        notes = _format_notes(header, header_path, named_gz)
        if metadata is not None:
            changed = geometry_note(metadata, header.geometry.affine)
            table = (changed,) if changed else ()
            geometry = Geometry(metadata.affine(header.shape), True, table)
            header = replace(header, geometry=geometry, unit=1.0)
        notes += header.geometry.notes
        affine, unit_note = _in_millimetres(header)
        turn = Turn.of(affine)
        scan = Hounsfield(header.shape, header.slope, header.intercept, turn)
        if image_path is None:
            skip(stream, header.offset - len(block))
            _read_voxels(stream, header, block[header.offset :], scan)
    if image_path is not None:
        with open_stream(image_path) as stream:
            skip(stream, header.offset)
            _read_voxels(stream, header, b"", scan)
    affine = turn.affine(affine, header.shape)
    oriented = header.geometry.oriented
    codes = turn.codes if oriented else None
    notes += [*geometry_notes(scan.values.shape, affine, codes), *unit_note]
    notes.append(_value_note(header, scan))
    return Decoded(
        scan.values, affine, tuple(notes), scan.minimum, scan.maximum, scan.invalid, oriented
    )


def _check_claim(path: Path, header: Header) -> None:
    """Refuse before reading where the file cannot hold what its header claims."""
    size, claimed = path.stat().st_size, header.data_bytes + header.offset
    available = size * MAX_GZIP_SHRINKS if is_gzip(path) else size
    if available < claimed:
        refuse(
            f"The file is cut short: its header claims {byte_text(claimed)} of {by(header.shape)} "
            f"voxels, but the file has only {byte_text(size)}.",
            "Download or export it again.",
            "truncated",
        )


def _read_voxels(stream: Stream, header: Header, lead: bytes, scan: Hounsfield) -> None:
    """Exactly the claimed voxels, or a refusal; a slab is converted while the next is unpacked.

    Args:
        stream: right behind ``lead``.
        header: what is claimed.
        lead: voxels that were read with the header.
        scan: takes the slabs.
    """
    converted: Future[None] | None = None
    with ThreadPoolExecutor(1) as worker:
        for slab in _unpacked(stream, header, lead):
            if converted is not None:
                converted.result()
            converted = worker.submit(scan.add, slab)
        _check_rest(stream, 4096 + header.data_bytes // 100)
        if converted is not None:
            converted.result()


def _check_rest(stream: Stream, allowed: int) -> None:
    """Read on to the end, where the checksum is compared; a few padding bytes are harmless."""
    while extra := len(read_up_to(stream, allowed + 1)):
        allowed -= extra
        if allowed < 0:
            refuse(
                "The file holds more data than its header describes, so the header is wrong.",
                "Export the scan again.",
                "size_mismatch",
            )


def _unpacked(stream: Stream, header: Header, lead: bytes) -> Iterator[npt.NDArray[Any]]:
    """(I, J, n) slabs as stored. There are two buffers: the next but one overwrites a slab."""
    i, j, _ = header.shape
    parts = list(slabs(header.shape))
    plane_bytes = i * j * header.dtype.itemsize
    buffers = [np.empty(parts[0].stop * plane_bytes, np.uint8) for _ in parts[:2]]
    place = 0
    for part, buffer in zip(parts, itertools.cycle(buffers), strict=False):
        raw = buffer[: (part.stop - part.start) * plane_bytes].data
        lead = lead[: len(raw)]
        raw[: len(lead)] = lead
        count = len(lead) + read_into(stream, raw[len(lead) :])
        lead, place = b"", place + count
        if count < len(raw):
            refuse(
                f"The file is cut short: {byte_text(place)} of {byte_text(header.data_bytes)} are "
                "there.",
                "Download or export it again.",
                "truncated",
            )
        yield np.ndarray((i, j, part.stop - part.start), header.dtype, raw, order="F")


def _in_millimetres(header: Header) -> tuple[FloatArray, list[Note]]:
    """The affine in mm; a unit other than mm counts only where it makes the voxels plausible."""
    affine = header.geometry.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if header.unit == 1 or not np.isfinite(spacing).all():
        return affine, []
    if not ((spacing * header.unit > 0.05) & (spacing * header.unit < 20)).all():
        return affine, []
    affine = affine * header.unit
    affine[3, 3] = 1.0
    name = "metres" if header.unit > 1 else "micrometres"
    text = f"The header gives lengths in {name}; they were converted to millimetres."
    return affine, [Note("warning", "spacing_unit", text)]


def _format_notes(header: Header, path: Path, named_gz: bool) -> list[Note]:
    compressed = is_gzip(path)
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
    return notes


def _value_note(header: Header, scan: Hounsfield) -> Note:
    if header.slope == 1 and header.intercept == 0:
        scaled = "No rescaling in the header"
    else:
        scaled = f"Rescaled by slope {header.slope:g} and intercept {header.intercept:g}"
    text = (
        f"{scaled}; values from {scan.minimum:.4g} to {scan.maximum:.4g}, "
        f"kept as {scan.values.dtype.name}."
    )
    return Note("info", "values", text)
