"""The server's private folder, which only this process writes and which does not outlive it long.

Each server takes a folder of its own below the work directory and holds a lock on it as long as it
lives. Whoever starts next deletes the folders whose lock is free: a crash leaves files until the
next start and no longer, and two servers on one machine leave each other alone.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from pathlib import Path

from rad3d.core.errors import BadRequest
from rad3d.core.locks import folder_lock, is_locked

PREFIX = "server-"
EARLIER = ("uploads",)
"""Folders of earlier versions."""


class WorkDir:
    """The folder of this process below a work directory.

    Args:
        parent: the work directory; made where it is absent.

    Attributes:
        uploads: folder for what visitors send.
        temporary: folder for every temporary file of the process.
        runs: folder for the evaluations of visitors.

    Raises:
        BadRequest: the work directory belongs to another user, who could read what is put there.
    """

    def __init__(self, parent: Path) -> None:
        _make_private(parent)
        wipe_abandoned(parent)
        self.path = parent / f"{PREFIX}{secrets.token_hex(8)}"
        self.path.mkdir(mode=0o700)
        self._lock = folder_lock(self.path)
        self._lock.acquire()
        self.uploads = self.path / "uploads"
        self.temporary = self.path / "tmp"
        self.runs = self.path / "runs"
        for folder in (self.uploads, self.temporary, self.runs):
            folder.mkdir(mode=0o700)

    def close(self) -> None:
        """Delete the folder and give the lock back."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def wipe_abandoned(parent: Path) -> None:
    """Delete the folders of servers that are gone."""
    for name in EARLIER:
        shutil.rmtree(parent / name, ignore_errors=True)
    for folder in parent.glob(f"{PREFIX}*"):
        if not is_locked(folder):  # its server is gone
            shutil.rmtree(folder, ignore_errors=True)


def _make_private(parent: Path) -> None:
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = parent.lstat()
    if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        raise BadRequest(
            f"The work directory {parent} belongs to another user or is a link.",
            "Set RAD3D_WORK_DIR to a folder of your own.",
            code="work_dir",
        )
    with contextlib.suppress(OSError):
        parent.chmod(0o700)
