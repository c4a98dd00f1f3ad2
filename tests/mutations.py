"""Damaged scans by number: the same number gives the same file on every machine.

Structure-aware: fields of the NIfTI headers get the values that break readers, gzip streams and zip
archives are damaged at the places that decide how they are read, and the DICOM elements that the
geometry comes from are rewritten. A number is a regression test that fits on one line.
"""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import nibabel as nib
import numpy as np
from pydicom.uid import ImplicitVRLittleEndian
from volume_files import chest, dicom_bytes, dicom_series, image_of

Rng = np.random.Generator
Fields = tuple[tuple[int, str], ...]
SHAPE = (40, 36, 20)
AFFINE = np.diag([8.0, 8.0, 12.0, 1.0])
AFFINE[:3, 3] = (-160, -140, -120)

NIFTI1_FIELDS = (
    (0, "i"), (38, "B"), (39, "B"), (40, "h"), (42, "h"), (44, "h"), (46, "h"), (48, "h"),
    (50, "h"), (54, "h"), (56, "f"), (70, "h"), (72, "h"), (74, "h"), (76, "f"), (80, "f"),
    (84, "f"), (88, "f"), (92, "f"), (108, "f"), (112, "f"), (116, "f"), (120, "h"), (123, "B"),
    (124, "f"), (128, "f"), (252, "h"), (254, "h"), (256, "f"), (260, "f"), (264, "f"), (268, "f"),
    (272, "f"), (276, "f"), *((280 + 4 * i, "f") for i in range(12)), (344, "4s"), (348, "4s"),
)  # fmt: skip
NIFTI2_FIELDS = (
    (0, "i"), (4, "8s"), (12, "h"), (14, "h"), (16, "q"), (24, "q"), (32, "q"), (40, "q"),
    (48, "q"), (104, "d"), (112, "d"), (120, "d"), (128, "d"), (136, "d"), (168, "q"), (176, "d"),
    (184, "d"), (344, "i"), (348, "i"), (352, "d"), (360, "d"), (376, "d"), (400, "d"), (440, "d"),
    (504, "i"), (540, "4s"),
)  # fmt: skip
WHOLE = (0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 64, 127, 128, 255, 256, 348, 352, 511, 512, 540, 768, 1024,
         1536, 1792, 2048, 2304, 32767, -32768, 2**31 - 1, -(2**31), 2**62, -9510)  # fmt: skip
REAL = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e-45, 1e-6, 1e-3, 0.5,
        2.0, 352.0, 353.5, 1e3, 1e6, 1e30, 3.4e38, -1e30, -1024.0, 5.0e7)  # fmt: skip
BYTES = (b"\0\0\0\0", b"n+1\0", b"n+2\0", b"ni1\0", b"ni2\0", b"\1\0\0\0", b"\xff\xff\xff\xff")
NAMES = ("scan.nii.gz", "scan.nii", "scan.img", "scan.hdr", "scan.zip", "scan", "../../scan.nii.gz",
         "scan.nii.gz\0.png", "a" * 300 + ".nii", "<script>.nii.gz")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One damaged file.

    Attributes:
        number: makes it again.
        kind: what it was before.
        steps: what was done to it.
        name: under which it is uploaded.
        data: its bytes.
    """

    number: int
    kind: str
    steps: tuple[str, ...]
    name: str
    data: bytes


def make_case(number: int, dicom: bool = False) -> Case:
    """The damaged file of a number; ``dicom`` chooses the zipped series instead of NIfTI files."""
    rng = np.random.default_rng([2026, int(dicom), number])
    if dicom:
        kind, (data, steps) = "dicom zip", _damaged_series(rng)
        name = "series.zip"
    else:
        kind = str(rng.choice(list(BASES)))
        data, steps = _damaged(kind, rng)
        endings = {"zip": "scan.zip", "pair": "scan.zip"}
        name = next((n for k, n in endings.items() if k in kind), "scan.nii.gz")
    if rng.random() < 0.1:
        name = str(rng.choice(NAMES))
    return Case(number, kind, tuple(steps), name, data)


# -- the files before ----------------------------------------------------------------------------


@cache
def _image(
    kind: str, dtype: str = "int16", order: Literal["<", ">"] = "<", extra: bool = False
) -> bytes:
    cls = {"1": nib.Nifti1Image, "2": nib.Nifti2Image}[kind]
    values = chest(SHAPE)
    if dtype == "uint16":
        values = values + 1024
    image = image_of(values, AFFINE, cls, dtype, order)
    if extra:
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JANE"))
    raw = bytearray(image.to_bytes())
    if dtype == "uint16":
        struct.pack_into("<2f", raw, 112, 1.0, -1024.0)
    return bytes(raw)


@cache
def _pair() -> tuple[bytes, bytes]:
    header = nib.Nifti1Pair(chest(SHAPE), AFFINE).header
    return header.binaryblock, chest(SHAPE).tobytes(order="F")


BASES: dict[str, Callable[[], bytes]] = {
    "nifti-1": lambda: _image("1"),
    "nifti-1 float64": lambda: _image("1", "float64"),
    "nifti-1 uint16 with intercept": lambda: _image("1", "uint16"),
    "nifti-1 big-endian": lambda: _image("1", "int16", ">"),
    "nifti-1 with extension": lambda: _image("1", extra=True),
    "nifti-2": lambda: _image("2"),
    "nifti-2 float32 big-endian": lambda: _image("2", "float32", ">"),
    "zipped nifti": lambda: _image("1"),
    "zipped pair": lambda: b"".join(_pair()),
}
COMPRESSED_SHARE = 0.6


def _damaged(kind: str, rng: Rng) -> tuple[bytes, list[str]]:
    steps: list[str] = []
    data = bytearray(BASES[kind]())
    fields = NIFTI2_FIELDS if "nifti-2" in kind else NIFTI1_FIELDS
    order = ">" if "big" in kind else "<"
    for _ in range(int(rng.choice([0, 1, 1, 1, 2, 3]))):
        damage = HEADER_DAMAGE[int(rng.integers(len(HEADER_DAMAGE)))]
        steps.append(damage(data, fields, order, rng))
    raw = bytes(data)
    if "zip" in kind:
        return _zipped(kind, raw, steps, rng), steps
    if rng.random() < COMPRESSED_SHARE:
        return _gzipped(raw, steps, rng), steps
    return raw, steps


# -- headers and voxels --------------------------------------------------------------------------


def _set_field(data: bytearray, fields: Fields, order: str, rng: Rng) -> str:
    offset, form = fields[int(rng.integers(len(fields)))]
    if form.endswith("s"):
        value: object = BYTES[int(rng.integers(len(BYTES)))]
    elif form in "fd":
        value = REAL[int(rng.integers(len(REAL)))]
    else:
        size = 8 * struct.calcsize(form)
        value = WHOLE[int(rng.integers(len(WHOLE)))] % 2**size
        if form.islower() and value >= 2 ** (size - 1):
            value -= 2**size
    if offset + struct.calcsize(form) <= len(data):
        struct.pack_into(order + form, data, offset, value)
    return f"field at {offset} = {value!r}"


def _nudge_field(data: bytearray, fields: Fields, order: str, rng: Rng) -> str:
    whole = [(o, f) for o, f in fields if f in "hq"]
    offset, form = whole[int(rng.integers(len(whole)))]
    if offset + 8 > len(data):
        return "nothing"
    (now,) = struct.unpack_from(order + form, data, offset)
    step = int(rng.choice([-2, -1, 1, 2]))
    if abs(now) < 30000:
        struct.pack_into(order + form, data, offset, now + step)
    return f"field at {offset} {step:+d}"


def _flip_header(data: bytearray, _fields: Fields, _order: str, rng: Rng) -> str:
    places = rng.integers(0, min(560, len(data)), int(rng.integers(1, 9)))
    for place in places:
        data[int(place)] ^= 1 << int(rng.integers(8))
    return f"bits flipped at {sorted(int(p) for p in places)}"


def _flip_anywhere(data: bytearray, _fields: Fields, _order: str, rng: Rng) -> str:
    places = rng.integers(0, len(data), int(rng.integers(1, 200)))
    for place in places:
        data[int(place)] = int(rng.integers(256))
    return f"{len(places)} bytes replaced"


def _cut(data: bytearray, _fields: Fields, _order: str, rng: Rng) -> str:
    edges = (0, 1, 3, 4, 100, 343, 347, 348, 351, 352, 353, 539, 540, 544, len(data) - 1)
    at = int(rng.choice(edges)) if rng.random() < 0.5 else int(rng.integers(0, len(data)))
    del data[at:]
    data.extend(b"" if at else b"\0")  # an empty file is refused before anything here
    return f"cut at {at}"


def _append(data: bytearray, _fields: Fields, _order: str, rng: Rng) -> str:
    size = int(rng.choice([1, 16, 4095, 4097, 100_000]))
    data.extend(rng.bytes(size))
    return f"{size} bytes appended"


def _erase(data: bytearray, _fields: Fields, _order: str, rng: Rng) -> str:
    start, size = int(rng.integers(0, len(data))), int(rng.integers(1, len(data) + 1))
    value = int(rng.choice([0, 255, 127]))
    end = min(len(data), start + size)
    data[start:end] = bytes([value]) * (end - start)
    return f"bytes {start} to {end} = {value}"


def _swap_header(data: bytearray, _fields: Fields, _order: str, _rng: Rng) -> str:
    if len(data) >= 348:
        header = np.frombuffer(bytes(data[:348]), nib.Nifti1Header.template_dtype)
        data[:348] = header.byteswap().tobytes()
    return "header in the other byte order"


HEADER_DAMAGE = (
    _set_field, _set_field, _set_field, _set_field, _nudge_field, _nudge_field, _flip_header,
    _flip_header, _flip_anywhere, _cut, _append, _erase, _swap_header,
)  # fmt: skip


# -- gzip ----------------------------------------------------------------------------------------


def _gzipped(raw: bytes, steps: list[str], rng: Rng) -> bytes:
    level = int(rng.choice([0, 1, 6, 9]))
    packed = bytearray(gzip.compress(raw, level, mtime=0))
    damage = int(rng.integers(0, 14))
    if damage == 1:
        at = int(rng.integers(0, len(packed)))
        del packed[at:]
        steps.append(f"gzip cut at {at}")
    elif damage == 2:
        for place in rng.integers(0, len(packed), int(rng.integers(1, 6))):
            packed[int(place)] ^= 1 << int(rng.integers(8))
        steps.append("gzip bits flipped")
    elif damage == 3:
        packed[-8:] = rng.bytes(8)
        steps.append("gzip checksum and length replaced")
    elif damage == 4:
        packed[int(rng.integers(2, 10))] = int(rng.integers(256))
        steps.append("gzip header byte replaced")
    elif damage == 5:
        flags = int(rng.choice([4, 8, 16, 2, 28, 31]))
        packed[3] = flags
        packed[10:10] = rng.bytes(int(rng.integers(0, 3000))) + b"\0" * int(rng.integers(0, 3))
        steps.append(f"gzip flags {flags} with extra fields")
    elif damage == 6:
        half = len(raw) // 2
        packed = bytearray(gzip.compress(raw[:half], mtime=0) + gzip.compress(raw[half:], mtime=0))
        steps.append("two gzip members")
    elif damage == 7:
        packed.extend(rng.bytes(int(rng.integers(1, 5000))))
        steps.append("garbage after gzip")
    elif damage == 8:
        packed = bytearray(gzip.compress(bytes(packed), mtime=0))
        steps.append("gzip in gzip")
    elif damage == 9:
        tail = bytes(int(rng.choice([10**6, 8 * 10**6])))
        packed = bytearray(gzip.compress(raw + tail, 9, mtime=0))
        steps.append("zeros by the million after the voxels")
    elif damage == 10:
        packed = packed[:10] + bytearray(zlib.compress(raw)) + packed[-8:]
        steps.append("zlib instead of deflate")
    elif damage == 11:
        packed.extend(bytes(int(rng.choice([1, 512, 65536]))))
        steps.append("zeros after gzip")
    elif damage == 12:
        packed[10:12] = rng.bytes(2)
        steps.append("first deflate block damaged")
    return bytes(packed)


# -- zip -----------------------------------------------------------------------------------------


def _zipped(kind: str, raw: bytes, steps: list[str], rng: Rng) -> bytes:
    if kind == "zipped pair":
        files = {"scan.hdr": raw[:348], "scan.img": raw[348:]}
    else:
        files = {"scan.nii": raw}
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    method = int(rng.choice(methods))
    extra = int(rng.integers(0, 8))
    if extra == 0:
        files["../../../../tmp/escaped.nii"] = b"x"
        steps.append("member with a path that climbs")
    elif extra == 1:
        files["inner.zip"] = _archive({"scan.nii": raw}, method)
        steps.append("zip in zip")
    elif extra == 2:
        files.update({f"{i}.nii": b"" for i in range(50)})
        steps.append("empty members")
    return _damage_archive(bytearray(_archive(files, method)), steps, rng)


def _archive(files: dict[str, bytes], method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


def _damage_archive(packed: bytearray, steps: list[str], rng: Rng) -> bytes:
    directory = packed.rfind(b"PK\x01\x02")
    damage = int(rng.integers(0, 8))
    if damage == 1:
        at = int(rng.integers(1, len(packed)))
        del packed[at:]
        steps.append(f"zip cut at {at}")
    elif damage == 2:
        for place in rng.integers(0, len(packed), int(rng.integers(1, 6))):
            packed[int(place)] ^= 1 << int(rng.integers(8))
        steps.append("zip bits flipped")
    elif damage == 3 and directory >= 0:
        place = directory + int(rng.integers(4, 46))
        packed[place] = int(rng.integers(256))
        steps.append("zip directory byte replaced")
    elif damage == 4 and directory >= 0:
        field = int(rng.choice([8, 10, 16, 20, 24, 28, 30, 42]))
        value = int(rng.choice([0, 1, 12, 14, 99, 0xFFFF]))
        struct.pack_into("<H", packed, directory + field, value)
        steps.append(f"zip directory field at {field} = {value}")
    elif damage == 5:
        struct.pack_into("<H", packed, len(packed) - 12, int(rng.integers(0, 65536)))
        steps.append("zip entry count replaced")
    elif damage == 6:
        place = int(rng.integers(4, 30))
        packed[place] = int(rng.integers(256))
        steps.append("zip local header byte replaced")
    return bytes(packed)


# -- DICOM ---------------------------------------------------------------------------------------

SERIES_SLICES = 18
OPEN_END = 0xFFFFFFFF
DICOM_TEXTS = (
    "", "0", "-1", "nan", "inf", "1e400", "x", "1\\2", "1\\2\\3\\4\\5\\6", "0\\0\\0", "9" * 60,
    "DOE^JANE", "CT", "MR", "-0.0", "\xff\xfe", "1\\0\\0\\1\\0\\0",
)  # fmt: skip
DICOM_TAGS = ("0008|0060", "0020|000e", "0020|0032", "0020|0037", "0028|0008", "0028|0030",
              "0028|1052", "0028|1053", "0018|0050")  # fmt: skip


@cache
def _series() -> tuple[bytes, ...]:
    """The files of a small CT series, in the implicit encoding."""
    hu = chest((64, 64, SERIES_SLICES))
    slices = dicom_series(hu, (5.0, 5.0, 12.0), syntax=ImplicitVRLittleEndian)
    return tuple(map(dicom_bytes, slices))


def _damaged_series(rng: Rng) -> tuple[bytes, list[str]]:
    files = [bytearray(data) for data in _series()]
    steps = []
    for _ in range(int(rng.choice([0, 1, 1, 2]))):
        damage = int(rng.integers(0, 8))
        chosen = files if rng.random() < 0.3 else [files[int(rng.integers(len(files)))]]
        seed = int(rng.integers(2**31))
        for data in chosen:
            _damage_slice(data, damage, np.random.default_rng(seed))
        steps.append(f"damage {damage} in {len(chosen)} slices")
    if rng.random() < 0.2:
        del files[int(rng.integers(len(files)))]
        steps.append("a slice left out")
    packed = bytearray(_archive({f"I{i}": bytes(f) for i, f in enumerate(files)}, 8))
    if rng.random() < 0.2:
        return _damage_archive(packed, steps, rng), steps
    return bytes(packed), steps


def _damage_slice(data: bytearray, damage: int, rng: Rng) -> None:
    if damage == 0:
        del data[int(rng.integers(1, len(data))) :]
    elif damage == 1:
        for place in rng.integers(0, min(1500, len(data)), int(rng.integers(1, 6))):
            data[int(place)] ^= 1 << int(rng.integers(8))
    elif damage in (2, 3, 4):
        _set_element(data, rng)
    elif damage == 5:
        at = data.find(struct.pack("<HHI", 0x28, int(rng.choice([0x10, 0x11])), 2))
        value = int(rng.choice([1, 63, 65, 80, 512, 4096, 65535]))
        if 0 <= at <= len(data) - 10:
            struct.pack_into("<H", data, at + 8, value)
    elif damage == 6:
        levels = int(rng.choice([1, 16, 1000, 100_000]))
        opened = struct.pack("<HHIHHI", 0x40, 0x275, OPEN_END, 0xFFFE, 0xE000, OPEN_END)
        closed = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
        at = data.rfind(b"\xe0\x7f\x10\x00")
        data[at:at] = opened * levels + closed * int(rng.choice([0, levels]))
    else:
        for place in rng.integers(0, len(data), int(rng.integers(1, 60))):
            data[int(place)] = int(rng.integers(256))


def _set_element(data: bytearray, rng: Rng) -> None:
    """Another text in an element, at the length that it has, or another length."""
    group, element = str(rng.choice(DICOM_TAGS)).split("|")
    tag = struct.pack("<HH", int(group, 16), int(element, 16))
    at = data.find(tag)
    if at < 0 or at + 8 > len(data):
        return
    (length,) = struct.unpack_from("<I", data, at + 4)  # in the implicit encoding
    if rng.random() < 0.2:
        struct.pack_into("<I", data, at + 4, int(rng.choice([0, 1, 2, 0xFFFF, length + 2])))
        return
    text = DICOM_TEXTS[int(rng.integers(len(DICOM_TEXTS)))].encode("latin-1")
    data[at + 8 : at + 8 + length] = text[:length].ljust(length, b" ")
