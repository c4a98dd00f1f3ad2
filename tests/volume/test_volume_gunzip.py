"""Gzip files give what they hold, byte by byte, or are refused; a small piece at a time."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volume_files import chest, gzipped_zeros, refusal, save

from rad3d.core.errors import BadVolume
from rad3d.volume.load import read_volume
from rad3d.volume.stream import MAGIC, open_stream, read_up_to

HU = chest()
WORDS = b"lung heart spine " * 40
MEMBER = gzip.compress(WORDS, mtime=0)


REFUSED = b"refused"


def outcome(read: Callable[[bytes], bytes], data: bytes) -> bytes:
    """What is read of a damaged file; any other error than these is a defect."""
    try:
        return read(data)
    except (EOFError, OSError, zlib.error, BadVolume):
        return REFUSED


def content(path: Path, data: bytes) -> bytes:
    path.write_bytes(data)
    with open_stream(path) as stream:
        return b"".join(iter(lambda: read_up_to(stream, 10**5), b""))


@pytest.mark.parametrize("padding", [b"", bytes(1), bytes(300)])
def test_members_are_read_one_after_the_other(tmp_path: Path, padding: bytes) -> None:
    members = [MEMBER, gzip.compress(b""), gzip.compress(b"end")]
    assert content(tmp_path / "a.gz", b"".join(m + padding for m in members)) == WORDS + b"end"


def test_a_scan_in_two_members_is_the_same_scan(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.nii", HU).read_bytes()
    packed = tmp_path / "a.nii.gz"
    packed.write_bytes(gzip.compress(plain[:70_001]) + gzip.compress(plain[70_001:]) + bytes(50))
    assert (read_volume(packed).hu == HU).all()


@pytest.mark.parametrize("layers", [2, 3])
def test_a_scan_that_was_compressed_twice_is_the_same_scan(tmp_path: Path, layers: int) -> None:
    packed = save(tmp_path / "a.nii", HU).read_bytes()
    for _ in range(layers):
        packed = gzip.compress(packed)
    path = tmp_path / "b.nii.gz"
    path.write_bytes(packed)
    assert (read_volume(path).hu == HU).all()
    path.write_bytes(packed[:-4])
    assert refusal(path).code == "truncated"


@pytest.mark.parametrize("place", range(-8, 0))
def test_a_wrong_checksum_or_length_at_the_very_end_is_noticed(tmp_path: Path, place: int) -> None:
    path = save(tmp_path / "a.nii.gz", HU)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))
    error = refusal(path)
    assert error.code == "corrupt_gzip"
    assert error.problem == "The compressed file is damaged: it cannot be unpacked."


@pytest.mark.parametrize("missing", range(1, 9))
def test_a_file_without_its_last_bytes_is_cut_short(tmp_path: Path, missing: int) -> None:
    path = save(tmp_path / "a.nii.gz", HU)
    path.write_bytes(path.read_bytes()[:-missing])
    error = refusal(path)
    assert error.code == "truncated"
    assert "file is cut short" in error.problem


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        (b"garbage", "truncated"),  # shorter than the header of a member
        (bytes(9) + b"garbage" * 99, "corrupt_gzip"),
        (MEMBER[:-1] + b"x", "corrupt_gzip"),
        (MEMBER[:2], "truncated"),
        (MEMBER[:-1], "truncated"),
        (b"\x1f\x8b\x08" * 400_000, "corrupt_gzip"),
        (b"\x1f\x8b\x08\x08" + bytes(6) + b"name" * 400_000, "corrupt_gzip"),
    ],
)
def test_what_follows_a_scan_must_be_whole_members(tmp_path: Path, tail: bytes, code: str) -> None:
    path = save(tmp_path / "a.nii.gz", HU)
    path.write_bytes(path.read_bytes() + tail)
    assert refusal(path).code == code


@pytest.mark.slow
def test_a_bomb_is_unpacked_no_further_than_it_is_read(tmp_path: Path) -> None:
    path = gzipped_zeros(tmp_path / "bomb.gz", b"head", 100)
    tracemalloc.start()
    with open_stream(path) as stream:
        assert read_up_to(stream, 5) == b"head\0"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6


@pytest.mark.slow
@settings(max_examples=150)
@given(st.data())
def test_a_damaged_file_never_gives_other_bytes_than_the_standard_library(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    broken = bytearray(MEMBER + MEMBER)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(broken) - 1))
        broken[place] = data.draw(st.integers(0, 255))
    broken[:2] = MAGIC
    path = tmp_path_factory.getbasetemp() / "a.gz"
    expected = outcome(gzip.decompress, bytes(broken))
    found = outcome(lambda given: content(path, given), bytes(broken))
    assert found in (expected, REFUSED)
    # Only the checksum of a member's own header, which gzip does not compare, may tell them apart.
    hashed = broken[3] & 2 or broken[len(MEMBER) + 3] & 2
    assert found == expected or hashed


def test_a_scan_in_many_small_members_is_the_same_scan(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.nii", HU).read_bytes()
    blocks = [plain[i : i + 4096] for i in range(0, len(plain), 4096)]
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"".join(gzip.compress(block, 1) for block in blocks))
    assert (read_volume(path).hu == HU).all()
