"""Recognises files and reads them piece by piece, so that a damaged or lying file costs nothing."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from gzip import BadGzipFile
from pathlib import Path
from typing import Literal

from isal.igzip import IGzipFile
from isal.igzip_lib import IsalError

from rad3d.core.errors import BadVolume
from rad3d.core.file_kind import PAGE, POINTER, kind_of
from rad3d.volume.decoded import refuse

Kind = Literal["zip", "dicom", "nifti", "hdr", "img"]
Stream = io.BufferedReader | IGzipFile

MAGIC = b"\x1f\x8b"
PIECE_BYTES = 64 * 2**10
"""Unpacked at a time; where a file is cut short, so many bytes before its end may be lost, too."""
MAX_LAYERS = 3
"""Most layers of gzip; some browsers and mail programs add one."""

NOT_SNIFFED = ("nifti", "unknown", "empty", "text", "text/json", "safetensors", "pickle", "torch")
"""Kinds that are told last, since the header of a NIfTI pair or its voxels may begin so."""


def sniff(path: Path, name: str) -> Kind:
    """The kind of a file, from its first bytes; refuses whatever is certainly no scan."""
    with path.open("rb") as file:
        head = file.read(1024)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"):
        return "zip"
    if is_dicom(path):
        return "dicom"
    if head.startswith(MAGIC):
        with open_stream(path) as stream:
            head = read_up_to(stream, 1024)
    kind = kind_of(head)
    if kind in (POINTER, PAGE):
        refuse(f"This is {kind.what}.", kind.remedy, kind.id)
    if head[128:132] == b"DICM":
        refuse(
            "This is a DICOM file packed with gzip.",
            "Unpack it; give a multi-frame CT as it is, and the files of a series in one zip.",
            "single_dicom",
        )
    if head[257:262] == b"ustar":
        refuse(
            "This is a tar archive, not a scan.",
            "Unpack it, then give the .nii.gz file in it, or a zip of its DICOM series.",
            "wrong_format",
        )
    if kind.id not in NOT_SNIFFED:
        what = {"zip": "a zip inside a gzip file", "gzip": "a file that was compressed many times"}
        refuse(
            f"This is {what.get(kind.id, kind.what)}, not a NIfTI scan.",
            "Convert the scan to .nii.gz, or give its DICOM series as a zip.",
            "wrong_format",
        )
    return _nifti_kind(head, name.lower())


def _nifti_kind(head: bytes, name: str) -> Kind:
    size = {struct.unpack(order + "i", head[:4])[0] for order in "<>"} if len(head) >= 4 else set()
    magic = head[344:348] if 348 in size else head[4:8]
    if magic in (b"n+1\0", b"n+2\0"):
        return "nifti"
    if magic in (b"ni1\0", b"ni2\0") or (348 in size and len(head) >= 348):
        return "hdr"
    if name.endswith((".img", ".img.gz")):
        return "img"
    if size & {348, 540} or head[344:347] in (b"n+1", b"ni1"):
        refuse(
            "The NIfTI header is damaged.",
            "Export or download the file again.",
            "corrupt_header",
        )
    if name.endswith(".gz") and not any(head):
        refuse(
            "The file holds nothing, or zeros alone: there is no scan in it.",
            "Export or download the file again.",
            "not_gzip",
        )
    kind = kind_of(head)
    what = "its header is missing" if kind.id in ("nifti", "unknown") else f"it is {kind.what}"
    refuse(
        f"This is not a NIfTI file: {what}.",
        "Give a .nii or .nii.gz file, or a zip with the DICOM files of one series.",
        "not_nifti",
    )


def is_dicom(path: Path) -> bool:
    """Whether a file carries the mark of DICOM, or begins with two elements of a data set."""
    with path.open("rb") as file:
        head = file.read(1024)
    return head[128:132] == b"DICM" or any(_begins_like_elements(head, order) for order in "<>")


def _begins_like_elements(head: bytes, order: str) -> bool:
    """Whether there are two tags of the first groups, in order, as far apart as the first says."""
    if len(head) < 12:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    at, kind = (6, "H") if explicit else (4, "I")
    second = 8 + struct.unpack_from(order + kind, head, at)[0]
    if second + 4 > len(head):
        return False
    tags = [struct.unpack_from(order + "HH", head, place) for place in (0, second)]
    return tags[0] < tags[1] and tags[0][0] in (2, 8) and tags[1][0] in (2, 8, 0x10, 0x20, 0x28)


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


@contextmanager
def open_stream(path: Path) -> Iterator[Stream]:
    """The bytes of a file, unpacked by ISA-L where it is compressed, once or more often.

    Checksum and length at the end of each gzip member are compared with what was unpacked.
    """
    with ExitStack() as layers:
        stream: Stream = layers.enter_context(path.open("rb"))
        for _ in range(MAX_LAYERS):
            with _damage_is_refused():
                if stream.peek(len(MAGIC))[: len(MAGIC)] != MAGIC:
                    break
            stream = layers.enter_context(IGzipFile(fileobj=stream, mode="rb"))
        yield stream


def skip(stream: Stream, count: int) -> None:
    """Pass over ``count`` bytes."""
    while count > 0:
        piece = read_up_to(stream, min(PIECE_BYTES, count))
        if not piece:
            refuse("The file ends before its voxels.", "Download it again.", "truncated")
        count -= len(piece)


def read_up_to(stream: Stream, size: int) -> bytes:
    """Read up to ``size`` bytes (fewer only at the end); damaged compression is refused."""
    piece = bytearray(size)
    return bytes(memoryview(piece)[: read_into(stream, memoryview(piece))])


def read_into(stream: Stream, target: memoryview) -> int:
    """Fill ``target`` and return how many bytes there were (fewer only at the end).

    Raises:
        BadVolume: ``truncated`` or ``corrupt_gzip``.
    """
    place = 0
    try:
        with _damage_is_refused():
            while count := stream.readinto1(target[place : place + PIECE_BYTES]):
                place += count
    except BadVolume as error:
        if error.code != "truncated" or not place:
            raise
    return place


@contextmanager
def _damage_is_refused() -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        raise BadVolume(
            "The compressed file is cut short.", "Download or export it again.", code="truncated"
        ) from error
    # OverflowError: the head of a member has no end within the buffer.
    except (BadGzipFile, IsalError, OverflowError) as error:  # type: ignore[misc]  # no class there
        raise BadVolume(
            "The compressed file is damaged: it cannot be unpacked.",
            "Download or export it again.",
            code="corrupt_gzip",
        ) from error
