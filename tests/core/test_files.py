"""Files that are there as a whole or not at all, and what libraries raise when a disk is full."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rad3d.core.errors import DiskFull
from rad3d.core.files import FullDiskTold, whole_file, write_whole


def test_a_file_is_replaced_in_one_step_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    write_whole(path, b"one")
    with whole_file(path, contested=True) as stream:
        stream.write(b"two")
        assert path.read_bytes() == b"one"
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("contested", [True, False])
def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path, contested: bool) -> None:
    path = tmp_path / "file"
    write_whole(path, b"one")
    with pytest.raises(TypeError), whole_file(path, contested) as stream:
        stream.writelines([b"half", None])  # type: ignore[list-item]
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_as_one(tmp_path: Path, number: int) -> None:
    with pytest.raises(DiskFull), whole_file(tmp_path / "file"):
        raise OSError(number, os.strerror(number))
    assert list(tmp_path.iterdir()) == []


class Full(io.BytesIO):
    """A file on a disk that is full after a while."""

    def write(self, data: Any) -> int:
        if self.tell() > 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_full_disk_is_told_behind_the_error_that_torch_puts_before_it() -> None:
    with pytest.raises(DiskFull) as caught, FullDiskTold():
        torch.save([torch.zeros(1000)] * 3, Full())
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_full_disk_is_told_behind_the_error_of_safetensors(tmp_path: Path) -> None:
    code = (
        "import resource, sys, numpy, safetensors.numpy\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "from rad3d.core.errors import DiskFull\n"
        "from rad3d.core.files import FullDiskTold\n"
        "try:\n"
        "    with FullDiskTold():\n"
        "        safetensors.numpy.save_file({'a': numpy.zeros(999)}, sys.argv[1])\n"
        "except DiskFull as error: print(type(error.__cause__).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "file")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "SafetensorError\n", done.stderr


def test_other_errors_stay_what_they_are() -> None:
    for error in (PermissionError(errno.EACCES, "no"), RuntimeError("(os error 13)"), ValueError()):
        with pytest.raises(type(error)) as caught, FullDiskTold():
            raise error
        assert caught.value is error
    first = DiskFull("That one.", "Make room.")
    with pytest.raises(DiskFull) as kept, FullDiskTold():
        raise first from OSError(errno.ENOSPC, "full")
    assert kept.value is first
