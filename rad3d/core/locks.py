"""Locks on folders: one process holds one as long as it lives, and loses it however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

LOCK = "lock"
"""The file in a locked folder. It stays when the process has ended and then says nothing."""

WAIT_SECONDS = 0.1
"""Time to wait for a lock. A process that only checks a folder holds its lock for an instant."""


def folder_lock(folder: Path) -> BaseFileLock:
    """The lock of a folder: ``acquire`` raises ``filelock.Timeout`` where another has it."""
    path = folder / LOCK
    return FileLock(path, WAIT_SECONDS, mode=0o600, poll_interval=0.02, thread_local=False)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder, which is made where it is absent; False where another has it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder_lock(folder)
    with contextlib.suppress(Timeout):
        lock.acquire()
    try:
        yield lock.is_locked
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a living process, this one included, holds the folder's lock; changes nothing."""
    if not (folder / LOCK).exists():
        return False
    try:
        folder_lock(folder).acquire().lock.release()
    except Timeout:
        return True
    except OSError:  # of another user
        return False
    return False
