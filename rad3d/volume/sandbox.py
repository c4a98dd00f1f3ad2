"""A DICOM series is decoded in a process of its own.

A few bytes of DICOM can ask for gigabytes, and the decoders of compressed pixels are C++ that
trusts what files say. Here both happen to a process that has seen one person's files only, that may
take little memory until the headers say how large the scan is, and that is ended first where memory
runs out. Its answer is JSON and a plain array, so nothing that it says is run.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import rad3d
from rad3d.core.errors import NO_ROOM, BadVolume, DiskFull
from rad3d.core.types import Note
from rad3d.volume.decoded import Decoded, Limits

MAX_SECONDS = 120
"""Of one processor; a busy machine may take ``PATIENCE`` times as long."""
PATIENCE = 8
BYTES_A_VOXEL = 8
"""Memory of a voxel: int16 (2), float32 (4) where HU have fractions, and the slab at work."""

OWN_BYTES = 2**30
"""Address space of an interpreter with the decoders loaded, and for one file of headers."""

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""Variables that the process inherits; others may hold logins and tokens."""

_SET = {
    "PYTHONPATH": str(Path(rad3d.__file__).resolve().parent.parent),
    "OPENBLAS_NUM_THREADS": "1",
}


def decode_dicom_apart(files: Sequence[Path], limits: Limits, unread: int = 0) -> Decoded:
    """:func:`rad3d.volume.dicom.decode_dicom` in another process.

    Args:
        files: DICOM files.
        limits: how large the volume may be, and with it the process.
        unread: files beside them that are damaged for certain.

    Raises:
        BadVolume: as it does; ``bad_dicom`` where the process ended without an answer.
        DiskFull: there is no room for the voxels.
    """
    Path(tempfile.gettempdir()).mkdir(parents=True, exist_ok=True)  # a cleaner may have taken it
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="rad3d-") as scratch:
        folder = Path(scratch)
        question = {
            "folder": scratch,
            "files": [str(file.resolve()) for file in files],
            "limits": asdict(limits),
            "unread": unread,
        }
        try:
            subprocess.run(
                [sys.executable, "-P", "-m", __name__],  # nothing from the current folder
                input=json.dumps(question).encode(),
                stdout=subprocess.DEVNULL,  # the decoders quote what they read
                stderr=subprocess.DEVNULL,
                env=environment | _SET,
                timeout=PATIENCE * MAX_SECONDS,
                check=False,
            )
            answer: dict[str, Any] = json.loads((folder / "answer.json").read_bytes())
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise BadVolume(
                "The DICOM files cannot be decoded: they are damaged, or far too large.",
                "Convert the series with dcm2niix and give its .nii.gz file.",
                code="bad_dicom",
            ) from error
        if "full" in answer:
            raise DiskFull
        if "refused" in answer:
            raise BadVolume(*answer["refused"])
        values = np.load(folder / "values.npy", allow_pickle=False)
    notes = tuple(Note(**note) for note in answer.pop("notes"))
    affine = np.array(answer.pop("affine"))
    return Decoded(values=values, affine=affine, notes=notes, **answer)


def main() -> int:
    """Decode what standard input names; the answer is complete or absent."""
    from rad3d.volume.dicom import decode_dicom

    question = json.load(sys.stdin)
    folder, limits = Path(question["folder"]), Limits(**question["limits"])
    files = [Path(file) for file in question["files"]]
    _end_first()
    _bound(OWN_BYTES, OWN_BYTES + BYTES_A_VOXEL * limits.max_voxels)
    answer: dict[str, Any]
    try:
        decoded = decode_dicom(files, limits, question["unread"], _make_room)
        np.save(folder / "values.npy", decoded.values)
        answer = {**vars(decoded), "affine": decoded.affine.tolist()}
        answer["notes"] = [asdict(note) for note in answer.pop("notes")]
        del answer["values"]
    except BadVolume as error:
        answer = {"refused": (error.problem, error.remedy, error.code)}
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        answer = {"full": True}
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    return 0


def _end_first() -> None:
    """Let the system end this process, not the server, where the machine runs out of memory."""
    with contextlib.suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text("1000")


def _make_room(voxels: int) -> None:
    _bound(OWN_BYTES + BYTES_A_VOXEL * voxels)


def _bound(now: int, most: int | None = None) -> None:
    """Limit the memory to ``now`` bytes, and later limits to ``most``; forbid core dumps."""
    with contextlib.suppress(ImportError):  # Windows
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if most is not None and (hard == resource.RLIM_INFINITY or most < hard):
            hard = most
        allowed = now if hard == resource.RLIM_INFINITY else min(now, hard)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        seconds = resource.getrlimit(resource.RLIMIT_CPU)[1]
        seconds = MAX_SECONDS if seconds == resource.RLIM_INFINITY else min(MAX_SECONDS, seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


if __name__ == "__main__":
    sys.exit(main())
