"""Files that are there as a whole or not at all, whatever kills their writer; and full disks."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from rad3d.core.errors import NO_ROOM, BadRequest, DiskFull, Rad3dError

PART = ".part"
"""Ends the name of a file that is being written; it begins with a dot."""


@contextmanager
def whole_file(path: Path, contested: bool = False) -> Iterator[BinaryIO]:
    """Write a file beside its place, flush it to the disk, and move it there in one step.

    Args:
        path: its folder is made if need be.
        contested: other processes may be writing the same file now; the last one wins.

    Raises:
        DiskFull: there is no room for it; what was there before still is.
        OSError: it cannot be written, likewise.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = f".{secrets.token_hex(4)}" if contested else ""
    part = path.with_name(f".{path.name}{mine}{PART}")
    with FullDiskTold():
        try:
            with part.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes, contested: bool = False) -> None:
    """:func:`whole_file` of these bytes."""
    with whole_file(path, contested) as stream:
        stream.write(data)


def existing_file(path: Path) -> Path:
    """The path of a file; raises BadRequest where there is none."""
    if not path.is_file():
        raise BadRequest(f"There is no file {path}.", "Check the path.", code="no_file")
    return path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def readable_like(pattern: Path, *paths: Path) -> None:
    """Let files be read by whom ``pattern`` may be: safetensors keeps its files from everybody."""
    for path in paths:
        shutil.copymode(pattern, path)


def as_spelled(path: Path) -> Path:
    """The file of this name, also where its letters are composed and those on the disk are not."""
    if path.exists() or path.name.isascii() or not path.parent.is_dir():
        return path
    name = unicodedata.normalize("NFC", path.name)
    same = (p for p in path.parent.iterdir() if unicodedata.normalize("NFC", p.name) == name)
    return next(same, path)


class FullDiskTold(AbstractContextManager[None]):
    """Whatever is raised inside because a disk is full becomes :class:`DiskFull`."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Rad3dError) and _is_full(error):
            raise DiskFull from error


def _is_full(error: BaseException | None) -> bool:
    """Whether a disk is full, also where a library wraps the operating system's error."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else _stated(error)
        if number in NO_ROOM:
            return True
        error = error.__cause__ or error.__context__
    return False


def _stated(error: BaseException) -> int | None:
    """The number that libraries written in Rust, such as safetensors, put into their messages."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    return int(number[1]) if number else None
