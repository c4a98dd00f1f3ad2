"""A DICOM series is decoded in a process of its own.

The decoders of DICOM are C++ that trusts what files say: a deep enough nesting ends the process
that reads it, and a slice with fewer pixels than it claims is filled up with what the memory held
before. Here both happen to a process that has seen one person's files only. Its answer is JSON and
a plain array, so nothing that it says is run.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import rad3d
from rad3d.errors import NO_ROOM, BadVolume, DiskFull
from rad3d.types import Note
from rad3d.volume.decoded import Decoded, Limits
from rad3d.volume.dicom import decode_dicom

MOST_SECONDS = 120
BYTES_A_VOXEL = 20
"""As decoded (8), once more as an array (8), and as Hounsfield units (4)."""

OWN_BYTES = 2**30
"""Address space of an interpreter with the decoders loaded."""

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""All that the process gets of the environment, in which logins and tokens stand."""

_SET = {
    "PYTHONPATH": str(Path(rad3d.__file__).resolve().parent.parent),
    "OPENBLAS_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "2",
}


def decode_dicom_apart(files: Sequence[Path], limits: Limits) -> Decoded:
    """:func:`rad3d.volume.dicom.decode_dicom` in another process.

    Args:
        files: in one folder, which the answer is written to.
        limits: how large the volume may be, and with it the process.

    Raises:
        BadVolume: as it does; ``bad_dicom`` where the process ended without an answer.
        DiskFull: there is no room for the voxels.
    """
    folder = files[0].parent
    names = [file.name for file in files]
    question = {"folder": str(folder), "files": names, "limits": asdict(limits)}
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    try:
        subprocess.run(
            [sys.executable, "-P", "-m", __name__],  # nothing from the current folder
            input=json.dumps(question).encode(),
            stdout=subprocess.DEVNULL,  # the decoders quote what they read
            stderr=subprocess.DEVNULL,
            env=environment | _SET,
            timeout=MOST_SECONDS,
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
    question = json.load(sys.stdin)
    folder, limits = Path(question["folder"]), Limits(**question["limits"])
    _bound(OWN_BYTES + BYTES_A_VOXEL * limits.max_voxels)
    answer: dict[str, Any]
    try:
        decoded = decode_dicom([folder / name for name in question["files"]], limits)
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


def _bound(most_bytes: int) -> None:
    """No more memory than that, and no file of it where the process crashes."""
    with contextlib.suppress(ImportError):  # Windows
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        allowed = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    sys.exit(main())
