"""Recognise a file by its first bytes, whatever its name says."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

HEAD = 1024

AGAIN = "Download or export it again."


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Attributes:
        id: a short word; begins with ``text`` for text of no special kind.
        what: completes "it is ...".
        remedy: what a person can do where something else was expected.
    """

    id: str
    what: str
    remedy: str = ""


EMPTY = FileKind("empty", "empty", AGAIN)
POINTER = FileKind(
    "lfs_pointer",
    "a Git LFS pointer, a short text that stands in for the real file",
    "Fetch the file itself, with git lfs pull or from the download link.",
)
PAGE = FileKind(
    "html_page",
    "a web page; the download link probably led to a log-in page",
    "Download the file itself, and check that it has the expected size.",
)
GGUF = FileKind(
    "gguf",
    "a GGUF file, weights that were quantised for llama.cpp",
    "Run: rad3d convert --gguf FILE, which makes a folder of it; or give a repository with the "
    "model's safetensors files.",
)
INDEX = FileKind(
    "index",
    "the index of weights in several files, and holds none itself",
    "Give the files that it lists; all of them are needed.",
)
SAFETENSORS = FileKind("safetensors", "a safetensors file")
TORCH = FileKind("torch", "a file of torch.save")
PICKLE = FileKind(
    "pickle",
    "a Python pickle, which can run code when it is opened",
    "Write what it holds in a plain format.",
)
TEXT = FileKind("text", "text")
JSON = FileKind("text/json", "JSON text")
UNKNOWN = FileKind("unknown", "of no kind that is known here", AGAIN)

_AS_CSV = "Save its sheet as CSV, in UTF-8."
_UNPACK = "Unpack it and give the file inside."

_MAGIC: tuple[tuple[int, bytes, FileKind], ...] = (
    (0, b"GGUF", GGUF),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileKind("xls", "an old Excel workbook", _AS_CSV)),
    (0, b"PAR1", FileKind("parquet", "a Parquet file", "Write it as CSV or JSON lines.")),
    (0, b"SQLite format 3", FileKind("sqlite", "a SQLite database", "Export the table as CSV.")),
    (0, b"\x89HDF", FileKind("hdf5", "an HDF5 file, such as MINC")),
    (0, b"CDF", FileKind("netcdf", "a NetCDF file, such as MINC")),
    (0, b"NRRD", FileKind("nrrd", "an NRRD file")),
    (0, b"ObjectType", FileKind("mha", "a MetaImage (.mha) file")),
    (0, b"NDims", FileKind("mha", "a MetaImage (.mha) file")),
    (0, b"II*\x00", FileKind("tiff", "a TIFF picture")),
    (0, b"MM\x00*", FileKind("tiff", "a TIFF picture")),
    (0, b"P6", FileKind("ppm", "a picture")),
    (0, b"\x93NUMPY", FileKind("npy", "a NumPy array")),
    (0, b"%PDF", FileKind("pdf", "a PDF document")),
    (0, b"\x89PNG", FileKind("png", "a PNG picture")),
    (0, b"\xff\xd8\xff", FileKind("jpeg", "a JPEG picture")),
    (0, b"\x1f\x8b", FileKind("gzip", "a gzip file", _UNPACK)),
    (0, b"BZh", FileKind("bzip2", "a bzip2 file", _UNPACK)),
    (0, b"\xfd7zXZ", FileKind("xz", "an xz file", _UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", FileKind("zstd", "a Zstandard file", _UNPACK)),
    (0, b"7z\xbc\xaf", FileKind("7z", "a 7-Zip archive", _UNPACK)),
    (0, b"Rar!", FileKind("rar", "a RAR archive", _UNPACK)),
    (128, b"DICM", FileKind("dicom", "a DICOM file")),
    (257, b"ustar", FileKind("tar", "a tar archive", _UNPACK)),
    (344, b"n+1\0", FileKind("nifti", "a NIfTI scan")),
)

_ZIPPED: tuple[tuple[str, FileKind], ...] = (
    ("data.pkl", TORCH),
    (".data/serialization_id", TORCH),
    (".format_version", TORCH),
    (".npy", FileKind("npz", "a NumPy archive (.npz)")),
    ("[Content_Types].xml", FileKind("xlsx", "an Office file, such as an Excel workbook", _AS_CSV)),
    ("mimetype", FileKind("ods", "an OpenDocument file, such as a spreadsheet", _AS_CSV)),
)
"""The kind of a zip archive by the suffix of the first file in it."""

_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")
_PICKLED = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1a\x1b")) + b"\x7f"


def what_is(path: Path) -> FileKind:
    """The kind of a file; raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return kind_of(file.read(HEAD))


def kind_of(head: bytes) -> FileKind:
    """The kind of a file from its first bytes; 1024 are enough."""
    if not head.strip():
        return EMPTY
    for offset, magic, kind in _MAGIC:
        if head.startswith(magic, offset):
            return kind
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"):
        return _zipped(head)
    if len(head) > 9 and head[8:9] == b"{" and 2 <= struct.unpack("<Q", head[:8])[0] < 2**28:
        return SAFETENSORS
    if head.startswith(_PICKLED):
        return TORCH if b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." in head[:32] else PICKLE
    return _text(head)


def _zipped(head: bytes) -> FileKind:
    """The kind of a zip archive, from the name of the first file in it."""
    length = int.from_bytes(head[26:28], "little")
    name = head[30 : 30 + length].decode("utf-8", "replace")
    kinds = (kind for end, kind in _ZIPPED if name.endswith(end))
    return next(kinds, FileKind("zip", "a zip archive", _UNPACK))


def _text(head: bytes) -> FileKind:
    if wide_encoding(head):
        return TEXT
    if sum(byte in _CONTROL for byte in head) > len(head) / 20:
        return UNKNOWN
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"version https://git-lfs"):
        return POINTER
    if start[:64].lower().startswith(_PAGES):
        return PAGE
    if start[:1] in (b"{", b"["):
        return INDEX if b'"weight_map"' in start else JSON
    return TEXT


def wide_encoding(head: bytes) -> str:
    """``"utf-16"``, ``"utf-16-le"`` or ``"utf-16-be"`` where text begins so; empty for others.

    Without a mark, nearly every second byte is zero, as in English.
    """
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if len(head) >= 4:
        for encoding, zeros, others in (
            ("le", head[1::2], head[::2]),
            ("be", head[::2], head[1::2]),
        ):
            if zeros.count(0) >= 0.9 * len(zeros) and not others.count(0):
                return f"utf-16-{encoding}"
    return ""
