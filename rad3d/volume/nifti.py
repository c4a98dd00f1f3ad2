"""NIfTI-1, NIfTI-2 and Analyze: header first, limits next, voxels last and never more than claimed.

The stream is unpacked piece by piece, so a bomb or a header that lies costs neither memory nor
time. nibabel parses the header and the affine; values are read and scaled here.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn, cast

import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.orientations import (
    aff2axcodes,
    apply_orientation,
    inv_ornt_aff,
    io_orientation,
)
from nibabel.spatialimages import HeaderDataError
from nibabel.spm99analyze import Spm99AnalyzeHeader

from rad3d.errors import BadVolume
from rad3d.types import FloatArray, Note
from rad3d.volume.decoded import Decoded, Limits, by, in_mb, to_hounsfield

Kind = Literal["zip", "nifti", "hdr", "img"]

PIECE_BYTES = 4 * 2**20
MOST_GZIP_SHRINKS = 1032
"""Deflate cannot pack tighter than 1032 to 1, so a file that claims more is lying."""
LARGEST_OFFSET = 64 * 2**20
"""Voxels start after header and extensions; further in than this, the header is damaged."""
SMALLEST_SPACING_MM, LARGEST_SPACING_MM = 1e-6, 1e6
SHEAR_COSINE = 0.02
"""Columns of the affine further than this from a right angle (1.1 degrees) mean a sheared grid."""

FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"NRRD", "an NRRD file"),
    (b"ObjectType", "a MetaImage (.mha) file"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"%PDF", "a PDF document"),
    (b"\x89HDF", "an HDF5 or MINC file"),
    (b"CDF", "a NetCDF or MINC file"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"BZh", "a bzip2 file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"P6", "a picture"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
)


def sniff(path: Path, name: str) -> Kind:
    """What a file is, from its first bytes; refuses everything that is certainly no scan."""
    with path.open("rb") as file:
        head = file.read(1024)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"):
        return "zip"
    if head[:2] == b"\x1f\x8b":
        with gzip.open(path) as stream:
            head = _guarded_read(cast(BinaryIO, stream), 1024)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if text.startswith(b"version https://git-lfs"):
        _refuse(
            "This is a Git LFS pointer, a short text that stands in for the real file.",
            "Fetch the scan itself (git lfs pull, or the download link) and give that.",
            "lfs_pointer",
        )
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        _refuse(
            "This is a web page, not a scan; the download link probably led to a log-in page.",
            "Download the file itself and check that it has the expected size.",
            "html_page",
        )
    if head[128:132] == b"DICM":
        _refuse(
            "This is a single DICOM file; one file is only a slice of a scan.",
            "Put all DICOM files of the series into one zip and give that.",
            "single_dicom",
        )
    for magic, what in FOREIGN:
        if head.startswith(magic):
            _refuse(
                f"This is {what}, not a NIfTI scan.",
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
        _refuse(
            "The NIfTI header is damaged.",
            "Export or download the file again.",
            "corrupt_header",
        )
    if name.endswith(".gz") and not any(head):
        _refuse(
            "The file is named .gz but is not compressed and holds no scan.",
            "Export or download the file again.",
            "not_gzip",
        )
    _refuse(
        "This is not a NIfTI file: its header is missing.",
        "Give a .nii or .nii.gz file, or a zip with the DICOM files of one series.",
        "not_nifti",
    )


@dataclass(frozen=True)
class _Header:
    """The parts of a header that are used; nothing else of it is kept."""

    shape: tuple[int, int, int]
    full_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine: FloatArray
    oriented: bool
    form: str
    unit: float
    format: str

    @property
    def data_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def decode_nifti(
    header_path: Path, image_path: Path | None, limits: Limits, named_gz: bool = False
) -> Decoded:
    """Read a NIfTI file, or a header and the file with its voxels.

    Args:
        header_path: ``.nii``, ``.nii.gz`` or ``.hdr``.
        image_path: the ``.img`` of a pair, else None.
        limits: checked against the header before any voxel is read.
        named_gz: whether the name promised compression (said in a note where it does not hold).

    Raises:
        BadVolume: where it is unreadable, not scalar, not 3-D, too large, or sheared.
    """
    compressed = _is_gzip(header_path)
    with _open(header_path) as stream:
        block = _guarded_read(stream, 540)
        header = _parse(block, paired=image_path is not None)
        limits.check_voxels(header.shape)
        limits.check_bytes(header.data_bytes, "The scan, unpacked,")
        if image_path is None:
            _check_claim(header_path, header)
            _skip(stream, header.offset - len(block))
            lead = block[header.offset :]
            raw = _read_voxels(stream, header, lead)
    if image_path is not None:
        _check_claim(image_path, header)
        with _open(image_path) as stream:
            _skip(stream, header.offset)
            raw = _read_voxels(stream, header, b"")
    stored = np.ndarray(header.shape, header.dtype, raw.data, order="F")
    return _canonical(stored, header, _format_notes(header, header_path, compressed, named_gz))


def _parse(block: bytes, paired: bool) -> _Header:
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
        _refuse("The file ends inside its header.", "Download it again.", "truncated")
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
        _refuse(
            f"The voxels hold {what}, not one number each.",
            "Give the original CT in Hounsfield units, not a picture or a transform of it.",
            "not_scalar",
        )
    slope, intercept = _scaling(header)
    affine, form, oriented = _affine(header)
    return _Header(
        shape=shape,
        full_shape=full_shape,
        dtype=dtype,
        offset=_offset(header, size, paired),
        slope=slope,
        intercept=intercept,
        affine=affine,
        oriented=oriented,
        form=form,
        unit=_unit(header),
        format=label,
    )


def _three_dimensional(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if not shape or any(n < 1 for n in shape):
        _refuse(
            "The header is damaged: an axis has no length.",
            "Export or download the file again.",
            "corrupt_header",
        )
    trimmed = list(shape)
    while len(trimmed) > 3 and trimmed[-1] == 1:
        trimmed.pop()
    if len(trimmed) > 3:
        _refuse(
            f"The file has {len(trimmed)} dimensions ({by(shape)}): several volumes or a vector "
            "in every voxel.",
            "Give one three-dimensional CT volume.",
            "not_3d",
        )
    if len(trimmed) < 3 or sum(n > 1 for n in trimmed) == 2:
        _refuse(
            f"The file holds a single slice ({by(shape)}), not a volume.",
            "Give the whole scan: all slices in one file.",
            "not_3d",
        )
    return trimmed[0], trimmed[1], trimmed[2]


def _offset(header: Any, size: int, paired: bool) -> int:
    value = float(header["vox_offset"])
    smallest = 0 if paired else size + 4
    if not math.isfinite(value) or value > LARGEST_OFFSET or value < 0:
        _refuse(
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


def _affine(header: Any) -> tuple[FloatArray, str, bool]:
    """Affine, where it came from, and whether the file says which side is which."""
    try:
        names = header.keys()
        if "sform_code" not in names:
            return np.asarray(header.get_base_affine(), np.float64), "none", False
        if int(header["sform_code"]) > 0:
            return np.asarray(header.get_sform(), np.float64), "sform", True
        if int(header["qform_code"]) > 0:
            return np.asarray(header.get_qform(), np.float64), "qform", True
        return np.asarray(header.get_base_affine(), np.float64), "none", False
    except (HeaderDataError, ValueError, np.linalg.LinAlgError):
        return np.full((4, 4), np.nan), "damaged", True


def _unit(header: Any) -> float:
    """Length unit of the header in mm: metres 1000, micrometres 0.001, else 1."""
    if "xyzt_units" not in header.keys():  # noqa: SIM118 - a header is no mapping
        return 1.0
    return {1: 1000.0, 3: 0.001}.get(int(header["xyzt_units"]) & 7, 1.0)


def _check_claim(path: Path, header: _Header) -> None:
    """Refuse before reading where the file cannot hold what its header claims."""
    size, claimed = path.stat().st_size, header.data_bytes + header.offset
    available = size * MOST_GZIP_SHRINKS if _is_gzip(path) else size
    if available < claimed:
        _refuse(
            f"The file is cut short: its header claims {in_mb(claimed)} of {by(header.shape)} "
            f"voxels, but the file has only {in_mb(size)}.",
            "Download or export it again.",
            "truncated",
        )


def _read_voxels(stream: BinaryIO, header: _Header, lead: bytes) -> npt.NDArray[np.uint8]:
    """Exactly the claimed bytes, or a refusal; what was not read costs no memory."""
    raw = np.empty(header.data_bytes, np.uint8)
    lead = lead[: len(raw)]
    raw[: len(lead)] = np.frombuffer(lead, np.uint8)
    place = len(lead)
    while place < len(raw):
        piece = _guarded_read(stream, min(PIECE_BYTES, len(raw) - place))
        if not piece:
            _refuse(
                f"The file is cut short: {in_mb(place)} of {in_mb(len(raw))} are there.",
                "Download or export it again.",
                "truncated",
            )
        raw[place : place + len(piece)] = np.frombuffer(piece, np.uint8)
        place += len(piece)
    # Reading on to the end lets gzip compare its checksum; a few padding bytes are harmless.
    allowed = 4096 + len(raw) // 100
    if len(_guarded_read(stream, allowed + 1)) > allowed:
        _refuse(
            "The file holds more data than its header describes, so the header is wrong.",
            "Export the scan again.",
            "size_mismatch",
        )
    return raw


def _canonical(stored: npt.NDArray[Any], header: _Header, notes: list[Note]) -> Decoded:
    affine, unit_note = _in_millimetres(header)
    _check_affine(affine, header)
    orientation = io_orientation(affine)
    if np.isnan(orientation).any():
        _bad_affine()
    codes = "".join(aff2axcodes(affine))
    turned = apply_orientation(stored, orientation)
    affine = affine @ inv_ornt_aff(orientation, stored.shape)
    values, low, high, invalid = to_hounsfield(turned, header.slope, header.intercept)
    notes += [*geometry_notes(values.shape, affine, codes if header.oriented else None), *unit_note]
    notes.append(_value_note(header, values, low, high))
    return Decoded(values, affine, tuple(notes), low, high, invalid, header.oriented)


def _in_millimetres(header: _Header) -> tuple[FloatArray, list[Note]]:
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


def _check_affine(affine: FloatArray, header: _Header) -> None:
    columns = affine[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if not np.isfinite(affine).all() or lengths.min() < SMALLEST_SPACING_MM:
        _bad_affine()
    if lengths.max() > LARGEST_SPACING_MM:
        _bad_affine()
    unit = columns / lengths
    if abs(np.linalg.det(unit)) < 1e-3:
        _bad_affine()
    cosines = np.abs(unit.T @ unit - np.eye(3)).max()
    if cosines > SHEAR_COSINE:
        _refuse(
            f"The voxel grid is sheared: its axes are {math.degrees(math.acos(cosines)):.0f} "
            "degrees apart instead of 90 (a tilted gantry, or an affine registration).",
            "Resample the scan to a right-angled grid first (dcm2niix corrects gantry tilt).",
            "sheared",
        )


def _bad_affine() -> NoReturn:
    _refuse(
        "The header does not give usable voxel sizes and directions (zero, not a number, or "
        "two axes in the same direction).",
        "Convert the scan from its DICOM files again, for instance with dcm2niix.",
        "bad_affine",
    )


def _format_notes(header: _Header, path: Path, compressed: bool, named_gz: bool) -> list[Note]:
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


def geometry_notes(
    shape: tuple[int, ...], affine: FloatArray, codes: str | None
) -> tuple[Note, ...]:
    """Shape, spacing and orientation for a person; ``codes`` is how the file stored the axes."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    extent = spacing * np.array(shape)
    size = (
        f"{by(shape)} voxels of {' x '.join(f'{s:.3g}' for s in spacing)} mm, "
        f"{' x '.join(f'{e:.0f}' for e in extent)} mm in all (left-right, back-front, feet-head)."
    )
    notes = [Note("info", "geometry", size)]
    if codes:
        done = (
            "kept as stored"
            if codes == "RAS"
            else "mirrored and reordered to RAS without changing a value"
        )
        notes.append(Note("info", "orientation", f"Axes stored as {codes}; {done}."))
    cosine = float(np.min(np.abs(np.diag(affine[:3, :3])) / spacing))
    angle = math.degrees(math.acos(min(1.0, cosine)))
    if angle > 0.5:
        text = f"The scan is oblique: turned by {angle:.1f} degrees against the patient's axes."
        notes.append(Note("info", "oblique", text))
    return tuple(notes)


def _value_note(header: _Header, values: npt.NDArray[Any], low: float, high: float) -> Note:
    if header.slope == 1 and header.intercept == 0:
        scaled = "No rescaling in the header"
    else:
        scaled = f"Rescaled by slope {header.slope:g} and intercept {header.intercept:g}"
    text = f"{scaled}; values from {low:.4g} to {high:.4g}, kept as {values.dtype.name}."
    return Note("info", "values", text)


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if _is_gzip(path) else path.open("rb")


def _skip(stream: BinaryIO, count: int) -> None:
    while count > 0:
        piece = _guarded_read(stream, min(PIECE_BYTES, count))
        if not piece:
            _refuse("The file ends before its voxels.", "Download it again.", "truncated")
        count -= len(piece)


def _guarded_read(stream: BinaryIO, size: int) -> bytes:
    """Up to ``size`` bytes (fewer only at the end); damaged compression is refused."""
    try:
        return _read_up_to(stream, size)
    except EOFError as error:
        raise BadVolume(
            "The compressed file is cut short.", "Download or export it again.", code="truncated"
        ) from error


def _read_up_to(stream: BinaryIO, size: int) -> bytes:
    pieces: list[bytes] = []
    while size > 0:
        try:
            piece = stream.read(size)
        except EOFError:
            if pieces:
                break
            raise
        except (gzip.BadGzipFile, zlib.error) as error:
            raise BadVolume(
                "The compressed file is damaged: it cannot be unpacked.",
                "Download or export it again.",
                code="corrupt_gzip",
            ) from error
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _refuse(problem: str, remedy: str, code: str) -> NoReturn:
    raise BadVolume(problem, remedy, code=code)
