"""Reads a file into a checked :class:`~rad3d.core.types.Volume`, or says in a sentence why not.

:func:`read_volume` reads ``.nii`` and ``.nii.gz`` (NIfTI-1 and -2, either byte order), ``.hdr`` and
``.img`` pairs, zipped pairs, zipped NIfTI, zipped DICOM series and multi-frame DICOM files. What a
file is, its first bytes say, never its name. Nothing that identifies a person is kept from a
header.

Every refusal is a :class:`~rad3d.core.errors.BadVolume` with one of these codes:

* unreadable: ``not_found no_file empty_file lfs_pointer html_page single_dicom wrong_format
  not_gzip corrupt_gzip corrupt_header truncated size_mismatch half_pair not_nifti bad_zip empty_zip
  several_volumes bad_dicom multiframe_dicom``
* not one three-dimensional volume: ``not_3d``; not one number per voxel: ``not_scalar``
* not Hounsfield units: ``constant label_map too_many_invalid no_intercept rescaled_twice noise
  not_hu not_ct``
* geometry: ``too_few_voxels bad_affine sheared no_orientation implausible_size irregular_slices``
* over a limit: ``too_large``
* the table of CT-RATE beside it: ``no_metadata bad_metadata``

A volume that is read may carry warning notes: ``not_chest beyond_chest cropped_fov
implausible_body invalid_voxels spacing_unit odd_hu clipped padding orientation_conflict
size_conflict unusable_sform``; of DICOM ``unreadable_files left_out joined imager_spacing``.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from rad3d.core.errors import NO_ROOM, BadRequest, BadVolume, DiskFull
from rad3d.core.types import Volume
from rad3d.volume.archive import read_zip
from rad3d.volume.checks import check_voxels
from rad3d.volume.ctrate import ScanMetadata, rescaled
from rad3d.volume.decoded import Decoded, Limits
from rad3d.volume.nifti import decode_nifti
from rad3d.volume.sandbox import decode_dicom_apart
from rad3d.volume.stream import sniff

NAME_LENGTH = 120
DAMAGED_ZIP = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, NotImplementedError, EOFError,
    OSError, ValueError,
)  # fmt: skip
"""Errors that zipfile and its decompressors raise on damage."""
DEFAULT_LIMITS = Limits()


def read_volume(
    path: Path | str | Sequence[Path | str],
    name: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
    metadata: ScanMetadata | None = None,
) -> Volume:
    """Read and check a CT scan.

    Args:
        path: a file, or the two files of a ``.hdr``/``.img`` pair in any order.
        name: shown to the person; the file's name unless given.
        limits: how much may be unpacked and read.
        metadata: of a NIfTI scan of CT-RATE, see :mod:`rad3d.volume.ctrate`.

    Returns:
        A volume in HU with RAS+ axes; its notes say what was read and what was done.

    Raises:
        BadVolume: with a code from the list above.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(p) for p in path]
    for file in (p for p in paths if p.is_file()):
        limits.check_file(file.stat().st_size)
    decoded = decode(paths, limits, name or paths[0].name, metadata)
    if metadata is not None:
        decoded = rescaled(decoded, metadata)
    notes = check_voxels(decoded)
    shown = "".join(c for c in (name or paths[0].name) if c.isprintable())[-NAME_LENGTH:] or "scan"
    return Volume.from_array(decoded.values, decoded.affine, shown, (*decoded.notes, *notes))


def decode(
    paths: Sequence[Path],
    limits: Limits = DEFAULT_LIMITS,
    name: str | None = None,
    metadata: ScanMetadata | None = None,
) -> Decoded:
    """Voxels, affine and notes of a file or pair, before any look at what the values mean."""
    for path in paths:
        _check_file(path, limits)
    if len(paths) == 1:
        name = name or paths[0].name
        kind = sniff(paths[0], name)
        if kind in ("zip", "dicom") and metadata is not None:
            raise BadRequest(
                "A metadata table describes CT-RATE's NIfTI files, not a zip or DICOM.",
                "Give the .nii.gz file, or leave out the table.",
                code="bad_metadata",
            )
        if kind == "zip":
            return _decode_zip(paths[0], limits)
        if kind == "dicom":
            return decode_dicom_apart(paths, limits)
        if kind in ("hdr", "img"):
            paths = [paths[0], _other_half(paths[0], kind)]
    if len(paths) == 2:
        header, image = _pair(paths)
        return decode_nifti(header, image, limits, metadata=metadata)
    if len(paths) != 1:
        raise BadVolume(
            f"{len(paths)} files were given.",
            "Give one scan: one NIfTI file, one .hdr/.img pair, or one zip.",
            code="several_volumes",
        )
    named_gz = (name or "").lower().endswith(".gz")
    return decode_nifti(paths[0], None, limits, named_gz, metadata)


def _check_file(path: Path, limits: Limits) -> None:
    if not path.is_file():
        raise BadVolume("There is no such file.", "Check the path.", code="not_found")
    size = path.stat().st_size
    if size == 0:
        raise BadVolume(
            "The file is empty (0 bytes).",
            "Download or export it again; the copy was probably interrupted.",
            code="empty_file",
        )
    limits.check_bytes(size, "The file")


def _decode_zip(path: Path, limits: Limits) -> Decoded:
    try:
        return read_zip(path, limits, lambda files: decode(files, limits))
    except DAMAGED_ZIP as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise DiskFull from error
        raise BadVolume(
            "The zip file is damaged or uses an unknown compression.",
            "Make the zip again, without a password.",
            code="bad_zip",
        ) from error


def _other_half(path: Path, kind: str) -> Path:
    """The sibling of a ``.hdr`` or ``.img`` on disk; refuses where it is missing."""
    missing = ".img" if kind == "hdr" else ".hdr"
    for suffix in (missing, missing.upper(), f"{missing}.gz"):
        stem = path.name[:-3] if path.suffix.lower() == ".gz" else path.name
        other = path.with_name(Path(stem).stem + suffix)
        if other.is_file() and other != path and other.stat().st_size:
            return other
    raise BadVolume(
        f"This is only one half of a pair: the {missing} file that belongs to it is missing.",
        "Put the .hdr and the .img file into one zip and give that.",
        code="half_pair",
    )


def _pair(paths: Sequence[Path]) -> tuple[Path, Path]:
    """(header file, voxel file) of two files in any order."""
    kinds = [sniff(p, p.name) for p in paths]
    for i in (0, 1):
        if kinds[i] == "hdr" and kinds[1 - i] not in ("hdr", "zip", "nifti"):
            return paths[i], paths[1 - i]
    raise BadVolume(
        "The two files are not the .hdr and the .img of one image.",
        "Give one NIfTI file, or the two files of one pair.",
        code="half_pair",
    )
