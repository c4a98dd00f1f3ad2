"""One DICOM file: the slices that it holds, and their pixels as numbers.

pydicom reads headers in every encoding. Uncompressed pixels are taken from the file as they are;
compressed ones are given to GDCM frame by frame, so that it applies no scale, inverts nothing and
fills in no geometry.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from rad3d.core.types import FloatArray
from rad3d.volume.decoded import Limits

TAGS: list[Any] = [
    "SOPClassUID", "Modality", "PatientID", "StudyInstanceUID", "SeriesInstanceUID",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing",
    "RescaleIntercept", "RescaleSlope", "SamplesPerPixel", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
MACROS = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence",
          "PixelValueTransformationSequence")  # fmt: skip
ENHANCED = (uid.EnhancedCTImageStorage, uid.LegacyConvertedEnhancedCTImageStorage)
CT_IMAGES = (uid.CTImageStorage, *ENHANCED)
CT = ("CT", "")
JPEGS = (*uid.JPEGTransferSyntaxes, *uid.JPEGLSTransferSyntaxes, *uid.JPEG2000TransferSyntaxes)
JPEG_END = b"\xff\xd9"
PADDING = 64
"""Bytes that may follow the end of a JPEG."""
PIXEL_DATA = 0x7FE0, 0x0010
UNDEFINED = 0xFFFFFFFF
SKEWED = 0.01
"""Rows and columns further than this from unit length or from a right angle are no directions."""

HEAD_BYTES = 4096
DEFLATED = uid.DeflatedExplicitVRLittleEndian.encode()
PLAIN = uid.ExplicitVRLittleEndian.encode().ljust(len(DEFLATED), b"\0")
MAX_INFLATED = 2**28
"""Most bytes of one inflated file: 500 frames of 512 x 512."""


Numbers = npt.NDArray[Any]


class OtherObject(Exception):
    """The file is a sound DICOM object, but no CT slices; the text says what it is."""


@dataclass(frozen=True)
class Pixels:
    """Place and format of the pixels of a file.

    Attributes:
        offset: of the first byte.
        frames: how many the file has.
        syntax: the transfer syntax where they are compressed, else empty.
        dtype: of the numbers.
        high: the highest bit that counts.
        stored: how many bits of a number count.
    """

    offset: int
    frames: int
    syntax: str
    dtype: np.dtype[Any]
    high: int
    stored: int


@dataclass(frozen=True)
class Slice:
    """One slice, as far as its header is sound.

    Attributes:
        path, frame: file and place in it.
        series: patient and series; ``study``: patient and study. They are compared, never shown.
        size: columns and rows.
        position: (3,) mm, of the first pixel, towards Left, Posterior, Superior.
        axes: (2, 3) directions of a row and of a column.
        spacing: mm between columns and between rows.
        digits: how precisely the spacing is written.
        from_imager: whether the spacing is that of the detector, for want of another.
        scaling: slope and intercept.
        pixels: None where they are not all there.
        modality: as the file says; empty where it does not.
        enhanced: whether the file holds many slices.
    """

    path: Path
    series: tuple[str, str]
    study: tuple[str, str]
    modality: str
    frame: int = 0
    size: tuple[int, int] | None = None
    position: FloatArray | None = None
    axes: FloatArray | None = None
    spacing: tuple[float, float] | None = None
    digits: int = 0
    from_imager: bool = False
    scaling: tuple[float, float] | None = None
    pixels: Pixels | None = None
    enhanced: bool = False

    @property
    def normal(self) -> FloatArray:
        assert self.axes is not None
        return np.cross(self.axes[0], self.axes[1])


class Opener:
    """Opens DICOM files, deflated ones inflated; the file opened last is kept for its frames.

    Args:
        limits: for the sum of what is inflated.
    """

    def __init__(self, limits: Limits) -> None:
        self._left = limits.max_bytes
        self._path: Path | None = None
        self._file: BinaryIO = io.BytesIO()

    def open(self, path: Path) -> BinaryIO:
        """The file at its first byte.

        Raises:
            zlib.error: a deflated data set is damaged.
        """
        if path != self._path:
            self.close()
            self._file, self._path = self._opened(path), path
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Let go of the last file."""
        self._file.close()
        self._path = None

    def _opened(self, path: Path) -> BinaryIO:
        file = path.open("rb")
        head = file.read(HEAD_BYTES)
        meta = 132 if head[128:132] == b"DICM" else 0
        if DEFLATED not in head or head[meta : meta + 4] != b"\x02\0\0\0":
            return file
        with file:
            begin = meta + 12 + int.from_bytes(head[meta + 8 : meta + 12], "little")
            file.seek(begin)
            most = max(1, min(MAX_INFLATED, self._left))
            inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), most)
        self._left -= len(inflated)
        return io.BytesIO(head[:begin].replace(DEFLATED, PLAIN) + inflated)


def read_slices(file: BinaryIO, path: Path) -> list[Slice]:
    """The slices of a file; what is unsound about one is None in it.

    Args:
        file: at its first byte, see :class:`Opener`.
        path: of the file, kept in the slices.

    Raises:
        OtherObject: it is a sound object of another kind.
        Exception: of many kinds, where no header can be read.
    """
    ds = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=TAGS)
    sop_class = ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID", "")
    modality = "".join(c for c in str(ds.get("Modality", ""))[:6] if c.isascii() and c.isalpha())
    patient, series = (str(ds.get(k, "")) for k in ("PatientID", "SeriesInstanceUID"))
    ct_class = sop_class in CT_IMAGES or not sop_class
    if modality not in CT or not (ct_class or "Rows" in ds):
        raise OtherObject(modality or "no image")
    if not (series or "Rows" in ds):
        raise ValueError("the header is cut short")
    study = str(ds.get("StudyInstanceUID", ""))
    plain = Slice(path, (patient, series), (patient, study), modality)
    if "Columns" not in ds:
        return [plain]
    count = int(ds.get("NumberOfFrames") or 1)
    frames = ds.get("PerFrameFunctionalGroupsSequence") or []
    if ds.get("SamplesPerPixel", 1) != 1:
        raise OtherObject("colour picture")
    if count > 1 and sop_class not in ENHANCED:
        raise OtherObject("multi-frame picture")
    plain = replace(plain, size=(int(ds.Columns), int(ds.Rows)), enhanced=sop_class in ENHANCED)
    pixels = _find_pixels(file, ds, count)
    if plain.enhanced and len(frames) != count:
        if pixels:
            raise OtherObject("multi-frame picture")
        return [plain]
    plain = replace(plain, pixels=pixels)
    if not plain.enhanced:
        one_slice = _with_geometry(plain, [ds])
        if not ct_class and (one_slice.position is None or one_slice.axes is None):
            raise OtherObject("picture")
        return [one_slice if ct_class else replace(one_slice, modality="")]  # second choice
    shared = _macros(*(ds.get("SharedFunctionalGroupsSequence") or []))
    return [
        replace(_with_geometry(plain, [*_macros(group), *shared, ds]), frame=i)
        for i, group in enumerate(frames)
    ]


def _macros(*groups: Dataset) -> list[Dataset]:
    return [group[name][0] for group in groups for name in MACROS if group.get(name)]


def _with_geometry(plain: Slice, sources: Sequence[Dataset]) -> Slice:
    """The slice with what its header says; an element is taken from the first that has it."""
    position = _numbers(sources, "ImagePositionPatient", 3)
    direction = _numbers(sources, "ImageOrientationPatient", 6)
    axes = None if direction is None else np.reshape(direction, (2, 3))
    if axes is not None and np.abs(axes @ axes.T - np.eye(2)).max() > SKEWED:
        axes = None
    name = next((n for n in ("PixelSpacing", "ImagerPixelSpacing") if _numbers(sources, n, 2)), "")
    spacing = _numbers(sources, name, 2)
    slope, intercept = (_numbers(sources, n, 1) for n in ("RescaleSlope", "RescaleIntercept"))
    return replace(
        plain,
        position=None if position is None else np.array(position),
        axes=axes,
        spacing=(spacing[1], spacing[0]) if spacing and min(spacing) > 0 else None,
        digits=len(str(_element(sources, name))),
        from_imager=name == "ImagerPixelSpacing",
        scaling=(slope[0], intercept[0]) if slope and intercept and slope[0] else None,
    )


def _element(sources: Sequence[Dataset], keyword: str) -> Any:
    values = (source.get(keyword) for source in sources)
    return next((value for value in values if value not in (None, "")), None)


def _numbers(sources: Sequence[Dataset], keyword: str, count: int) -> tuple[float, ...] | None:
    """The ``count`` finite numbers of an element, or None."""
    try:
        value = _element(sources, keyword)
        numbers = tuple(float(v) for v in (value if count > 1 else [value]))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else None


def _find_pixels(file: BinaryIO, ds: Any, frames: int) -> Pixels | None:
    """Find the pixels; None where there are fewer than rows and columns say.

    Args:
        file: at the end of the header.
        ds: the header.
        frames: how many there should be.
    """
    begin = file.tell()
    head = file.read(12)
    order = "<" if ds.original_encoding[1] else ">"
    if head[:4] != struct.pack(f"{order}HH", *PIXEL_DATA) or len(head) < 12:
        return None
    at = 8 if head[4:6] in (b"OB", b"OW", b"UN") else 4
    (length,) = struct.unpack_from(f"{order}I", head, at)
    bits = int(ds.BitsAllocated)
    stored = int(ds.get("BitsStored") or bits)
    high = int(ds.get("HighBit", stored - 1))
    if bits not in (8, 16, 32) or not 0 < stored <= high + 1 <= bits:
        raise OtherObject("picture")
    dtype = np.dtype(f"{order}{'i' if ds.get('PixelRepresentation') else 'u'}{bits // 8}")
    pixels = Pixels(begin + at + 4, frames, "", dtype, high, stored)
    if length == UNDEFINED:
        pixels = replace(pixels, syntax=str(ds.file_meta.get("TransferSyntaxUID", "")))
        return pixels if _are_whole(_frames(file, pixels), pixels) else None
    needed = ds.Columns * ds.Rows * frames * dtype.itemsize
    there = min(length, file.seek(0, io.SEEK_END) - pixels.offset)
    return pixels if 0 < needed <= there else None


def _frames(file: BinaryIO, pixels: Pixels) -> Iterator[bytes]:
    file.seek(pixels.offset)
    return generate_frames(file, number_of_frames=pixels.frames)


def _are_whole(frames: Iterator[bytes], pixels: Pixels) -> bool:
    """Whether all compressed frames are there, none of them cut short."""
    ending = JPEG_END if pixels.syntax in JPEGS else b""
    try:
        return sum(ending in frame[-PADDING:] for frame in frames) == pixels.frames
    except ValueError:
        return False


def read_pixels(opener: Opener, slices: Sequence[Slice]) -> Iterator[Numbers]:
    """(rows, columns) stored numbers of each slice, in the order given.

    Args:
        opener: for the files.
        slices: with their size and pixels.

    Raises:
        RuntimeError, ValueError: compressed pixels cannot be decoded.
    """
    frames: list[bytes] = []
    last: Path | None = None
    for one_slice in slices:
        assert one_slice.pixels is not None
        assert one_slice.size is not None
        file = opener.open(one_slice.path)
        if not one_slice.pixels.syntax:
            values = _uncompressed(file, one_slice.pixels, one_slice.size, one_slice.frame)
        else:
            if one_slice.path != last:
                last, frames = one_slice.path, list(_frames(file, one_slice.pixels))
            values = _decompressed(frames[one_slice.frame], one_slice.pixels, one_slice.size)
        yield _that_count(values, one_slice.pixels)


def _that_count(values: Numbers, pixels: Pixels) -> Numbers:
    """The numbers without what old scanners hid in the bits that do not count."""
    bits = 8 * pixels.dtype.itemsize
    if pixels.stored == bits:
        return values
    return (values << (bits - 1 - pixels.high)) >> (bits - pixels.stored)


def _uncompressed(file: BinaryIO, pixels: Pixels, size: tuple[int, int], frame: int) -> Numbers:
    count = size[0] * size[1]
    file.seek(pixels.offset + frame * count * pixels.dtype.itemsize)
    values = np.frombuffer(file.read(count * pixels.dtype.itemsize), pixels.dtype)
    return values.astype(pixels.dtype.newbyteorder("="), copy=False).reshape(size[::-1])


def _decompressed(frame: bytes, pixels: Pixels, size: tuple[int, int]) -> Numbers:
    # Not by pydicom, which lets GDCM decode no lossy JPEG of 12 bits.
    import gdcm

    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(frame)
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(*PIXEL_DATA))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((*size, 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.MONOCHROME2
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    signed = int(pixels.dtype.kind == "i")
    form = gdcm.PixelFormat(1, 8 * pixels.dtype.itemsize, pixels.stored, pixels.high, signed)
    image.SetPixelFormat(form)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(pixels.syntax)))
    numbers = image.GetBuffer().encode("utf-8", "surrogateescape")
    form = image.GetPixelFormat()  # that of the frame, whatever the header says
    kind = f"{'ui'[form.GetPixelRepresentation()]}{form.GetBitsAllocated() // 8}"
    return np.frombuffer(numbers, kind).reshape(size[::-1])
