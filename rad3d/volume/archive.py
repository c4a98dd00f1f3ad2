"""Zip files: unpacked into a private temporary folder under neutral names, and removed again.

Names inside the zip are never used as paths, sizes it claims are checked before and while
unpacking, and zips inside the zip are ignored.
"""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from rad3d.core.errors import BadVolume
from rad3d.core.types import Note
from rad3d.volume.decoded import Decoded, Limits
from rad3d.volume.sandbox import decode_dicom_apart
from rad3d.volume.stream import is_dicom, sniff

MAX_MEMBERS = 20_000
MAX_LIST_BYTES = 8 * 2**20
"""Largest list of members. zipfile reads it as a whole, into 50 times its size, before it tells how
many there are."""
PIECE_BYTES = 2**20
ENCRYPTED = 0x1
PACKED = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
JUNK_NAMES = ("dicomdir", "thumbs.db", "version", "lockfile")
JUNK_ENDINGS = (
    ".zip", ".txt", ".json", ".xml", ".html", ".htm", ".pdf", ".png", ".jpg", ".jpeg", ".csv",
    ".exe", ".inf", ".ini", ".dll", ".js", ".css",
)  # fmt: skip


def read_zip(
    path: Path, limits: Limits, decode_files: Callable[[Sequence[Path]], Decoded]
) -> Decoded:
    """Read the one scan in a zip: a DICOM series, a NIfTI file, or a ``.hdr``/``.img`` pair.

    Args:
        path: the zip.
        limits: for everything that is unpacked.
        decode_files: reads one NIfTI file or the two files of a pair.

    Raises:
        BadVolume: where it holds no scan or several, or is over a limit.
        zipfile.BadZipFile: and other errors of the archive itself; the caller words them.
    """
    Path(tempfile.gettempdir()).mkdir(parents=True, exist_ok=True)  # a cleaner may have taken it
    with (
        tempfile.TemporaryDirectory(prefix="rad3d-") as folder,
        Modest(path) as file,
        zipfile.ZipFile(file) as archive,
    ):
        members = _members(archive, limits)
        files = _unpack(archive, members, Path(folder), limits)
        slices = [f for f in files if is_dicom(f)]
        if slices:
            forms = [_form_of(member.filename) for member in members]
            usual = {form for form, f in zip(forms, files, strict=True) if f in slices}
            unread = sum(form in usual for form in forms) - len(slices)
            return decode_dicom_apart(slices, limits, unread)
        images = [f for f in files if f.stat().st_size and _may_be_image(f)]
        if not images and any(name.lower().endswith(PACKED) for name in archive.namelist()):
            raise BadVolume(
                "The zip holds packed files (zip, tar, gz, rar or 7z), not a scan.",
                "Unpack these, and put the files of one scan into one zip.",
                code="empty_zip",
            )
        chosen = _one_image(images)
        decoded = decode_files(chosen)
        note = Note("info", "zip", "Unpacked from a zip file.")
        return replace(decoded, notes=(note, *decoded.notes))


def _form_of(name: str) -> str:
    """A file's name without its numbers: what files of one series have in common."""
    return re.sub(r"[0-9a-f]{8,}|[0-9]+", "0", PurePosixPath(name.lower()).name)


def _may_be_image(path: Path) -> bool:
    """Whether a file claims to be an image by its name or is one; a zip in the zip never is."""
    try:
        return sniff(path, path.name) != "zip"
    except BadVolume:
        return path.suffix in (".nii", ".hdr", ".img")


class Modest(io.FileIO):
    """A file of which zipfile may read no list of members that is beyond any scan."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to ``size`` bytes; raises BadVolume where that is more than such a list."""
        if size is not None and size > MAX_LIST_BYTES:
            raise _too_many("too many")
        return super().read(size) or b""


def _too_many(count: str) -> BadVolume:
    return BadVolume(
        f"The zip holds {count} files; the limit is {MAX_MEMBERS:,}.",
        "Make a zip with the files of one series only.",
        code="too_large",
    )


def _members(archive: zipfile.ZipFile, limits: Limits) -> list[zipfile.ZipInfo]:
    everything = archive.infolist()
    if len(everything) > MAX_MEMBERS:
        raise _too_many(f"{len(everything):,}")
    kept = [m for m in everything if not m.is_dir() and not _is_junk(m.filename)]
    if any(member.flag_bits & ENCRYPTED for member in kept):
        raise BadVolume(
            "The zip is protected by a password.",
            "Make the zip again, without a password.",
            code="bad_zip",
        )
    limits.check_bytes(sum(member.file_size for member in kept), "The zip, unpacked,")
    return kept


def _is_junk(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/").lower())
    parts = [part for part in path.parts if part.strip(".")]
    hidden = any(part.startswith(".") or part == "__macosx" for part in parts)
    return hidden or path.name in JUNK_NAMES or path.name.endswith(JUNK_ENDINGS)


def _unpack(
    archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], folder: Path, limits: Limits
) -> list[Path]:
    """Write the members as 00000.nii, 00001.dcm, ...; the ending only says what to try first."""
    total, files = 0, []
    for i, member in enumerate(members):
        target = folder / f"{i:05d}{_ending(member.filename)}"
        with archive.open(member) as source, target.open("wb") as out:
            while piece := source.read(PIECE_BYTES):
                total += len(piece)
                limits.check_bytes(total, "The zip, unpacked,")
                out.write(piece)
        files.append(target)
    return files


def _ending(name: str) -> str:
    plain = name.lower().removesuffix(".gz")
    return next((e for e in (".nii", ".hdr", ".img") if plain.endswith(e)), ".dcm")


def _one_image(images: list[Path]) -> list[Path]:
    halves = [f for f in images if f.suffix in (".hdr", ".img")]
    niftis = [f for f in images if f not in halves]
    if len(niftis) == 1 and not halves:
        return niftis
    if not niftis and len(halves) == 2 and {f.suffix for f in halves} == {".hdr", ".img"}:
        return sorted(halves)
    if not niftis and len(halves) == 1:
        return halves
    if not images:
        raise BadVolume(
            "The zip holds no scan: neither DICOM nor NIfTI files.",
            "Make a zip with the DICOM files of one series, or give a .nii.gz file.",
            code="empty_zip",
        )
    raise BadVolume(
        f"The zip holds {len(images)} image files.",
        "Give one scan at a time.",
        code="several_volumes",
    )
