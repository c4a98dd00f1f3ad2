"""Small DICOM series, changed slice by slice, and what reading them gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from volume_files import (
    chest,
    dicom_bytes,
    dicom_series,
    zipped_series,
)

from rad3d.core.errors import BadVolume
from rad3d.core.types import Note, Volume
from rad3d.volume.decoded import Decoded, Limits
from rad3d.volume.dicom import decode_dicom
from rad3d.volume.load import read_volume

HU = chest((48, 40, 24))
SPACING = (7.0, 7.0, 10.0)
MANY = len(dicom_series(HU))


def series(**options: Any) -> list[Dataset]:
    return dicom_series(HU, **options)


def changed(
    slices: list[Dataset], change: Callable[[int, Dataset], dict[str, Any]]
) -> list[Dataset]:
    for k, ds in enumerate(slices):
        for keyword, value in change(k, ds).items():
            setattr(ds, keyword, value)
    return slices


def without(slices: list[Dataset], *keywords: str) -> list[Dataset]:
    for ds in slices:
        for keyword in keywords:
            delattr(ds, keyword)
    return slices


def moved(slices: list[Dataset], place: Callable[[int, list[float]], list[Any]]) -> list[Dataset]:
    return changed(
        slices, lambda k, ds: {"ImagePositionPatient": place(k, list(ds.ImagePositionPatient))}
    )


def read(tmp_path: Path, files: list[Any]) -> Volume:
    return read_volume(zipped_series(tmp_path / "s.zip", files))


def decoded(tmp_path: Path, files: list[Any], limits: Limits = Limits()) -> Decoded:  # noqa: B008
    """In this process, which is quicker; for what has nothing to do with the other one."""
    paths = []
    for k, file in enumerate(files):
        path = tmp_path / f"{1000 - k}.dcm"
        path.write_bytes(file if isinstance(file, bytes) else dicom_bytes(file))
        paths.append(path)
    return decode_dicom(paths, limits)


def warnings(notes: tuple[Note, ...]) -> str:
    return " ".join(note.text for note in notes if note.level == "warning")


def assert_whole(result: Decoded) -> None:
    assert np.array_equal(result.values, HU)
    assert warnings(result.notes) == ""


def refused(tmp_path: Path, files: list[Any], *words: str) -> str:
    with pytest.raises(BadVolume) as caught:
        decoded(tmp_path, files)
    assert caught.value.remedy
    assert [w for w in words if w not in caught.value.problem] == [], caught.value.problem
    return caught.value.code


# -- what is read --------------------------------------------------------------------------------
