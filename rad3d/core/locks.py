"""Locks on folders: one process holds one as long as it lives, and loses it however it ends."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: every folder counts as free
    fcntl = None  # type: ignore[assignment]

LOCK = "lock"
"""The file in a locked folder. It stays when the process has ended and then says nothing."""

TRIES = 5
"""Attempts to take a lock. A process that only checks a folder holds its lock for an instant."""


def try_lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock until it is closed; None where another has it.

    Raises:
        OSError: the folder is not there, or not to be written to.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)  # children do not get it
    for _ in range(TRIES):
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
            continue
        except OSError:  # a file system without locks, as Windows
            pass
        return descriptor
    os.close(descriptor)
    return None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder, which is made where it is absent; False where another has it."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = try_lock(folder)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether a living process, this one included, holds the folder's lock; changes nothing."""
    if fcntl is None:
        return False
    with contextlib.suppress(OSError), (folder / LOCK).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
