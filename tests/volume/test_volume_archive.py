"""Pairs of files and zips are read as one scan, or refused in one sentence."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import nibabel as nib
import pytest
from volume_files import AFFINE, chest, pair, refusal, save, zipped

from rad3d.volume import archive
from rad3d.volume.decoded import Limits
from rad3d.volume.load import read_volume

HU = chest()


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
def test_a_pair_is_read_from_two_files_from_disk_and_from_a_zip(tmp_path: Path, kind: type) -> None:
    header, image = pair(tmp_path / "p", kind)
    archive = zipped(
        tmp_path / "p.zip", {"x/S.HDR": header.read_bytes(), "x/S.IMG": image.read_bytes()}
    )
    for given_path in ([header, image], [image, header], header, image, archive):
        assert (read_volume(given_path).hu == HU).all()


def test_half_a_pair_says_which_half_is_missing(tmp_path: Path) -> None:
    header, image = pair(tmp_path / "p")
    for half, missing in ((header, ".img"), (image, ".hdr")):
        alone = tmp_path / f"alone{half.suffix}"
        alone.write_bytes(half.read_bytes())
        error = refusal(alone)
        assert error.code == "half_pair"
        assert missing in error.problem
        archive = zipped(tmp_path / "half.zip", {half.name: half.read_bytes()})
        assert refusal(archive).code == "half_pair"
        alone.unlink()
    assert refusal([header, header]).code == "half_pair"


def test_an_analyze_pair_without_orientation_is_refused(tmp_path: Path) -> None:
    nib.save(nib.AnalyzeImage(HU, AFFINE), tmp_path / "a.img")
    assert refusal(tmp_path / "a.hdr").code == "no_orientation"


def test_a_zip_with_one_nifti_among_junk_is_read(tmp_path: Path) -> None:
    nifti = save(tmp_path / "a.nii.gz", HU).read_bytes()
    archive = zipped(
        tmp_path / "a.zip",
        {
            "../../evil.nii.gz": nifti,
            "__MACOSX/._evil.nii.gz": b"junk",
            ".DS_Store": b"junk",
            "inner.zip": b"PK\x03\x04 junk",
            "readme.txt": b"hello",
            "folder/": b"",
        },
    )
    volume = read_volume(archive)
    assert (volume.hu == HU).all()
    assert not list(tmp_path.parent.glob("**/evil.nii.gz"))


def test_the_content_of_a_zip_counts_and_not_its_names(tmp_path: Path) -> None:
    nifti = save(tmp_path / "a.nii.gz", HU).read_bytes()
    assert (read_volume(zipped(tmp_path / "a.zip", {"series/scan": nifti})).hu == HU).all()


def test_a_zip_in_a_zip_is_not_opened(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "i.zip", {"a.nii.gz": save(tmp_path / "a.nii.gz", HU).read_bytes()})
    outer = zipped(tmp_path / "o.zip", {"a.nii.gz": inner.read_bytes()})
    assert refusal(outer).code == "empty_zip"
    assert "packed files" in refusal(outer).problem


def test_zips_without_one_scan_are_refused(tmp_path: Path) -> None:
    nifti = save(tmp_path / "a.nii.gz", HU).read_bytes()
    cases = {
        "empty_zip": {"readme.txt": b"hello", "data.bin": b"12345"},
        "several_volumes": {"a.nii.gz": nifti, "b.nii.gz": nifti},
        "not_nifti": {"a.nii": b"no scan at all" * 40},
    }
    for code, files in cases.items():
        assert refusal(zipped(tmp_path / "z.zip", files)).code == code
    assert refusal(zipped(tmp_path / "e.zip", {})).code == "empty_zip"


def test_damaged_zips_are_refused(tmp_path: Path) -> None:
    nifti = save(tmp_path / "a.nii.gz", HU).read_bytes()
    whole = zipped(tmp_path / "a.zip", {"a.nii.gz": nifti}).read_bytes()
    for name, data in (("cut", whole[:-60]), ("flip", whole[:500] + b"\0" * 99 + whole[599:])):
        path = tmp_path / f"{name}.zip"
        path.write_bytes(data)
        assert refusal(path).code == "bad_zip"


def test_a_zip_bomb_is_refused_before_it_unpacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "bomb.zip", {f"{i}.dcm": bytes(20_000_000) for i in range(4)})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was unpacked"))
    assert refusal(path, Limits(max_bytes=50_000_000)).code == "too_large"


def test_temporary_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    read_volume(zipped(tmp_path / "a.zip", {"a.nii": save(tmp_path / "a.nii", HU).read_bytes()}))
    refusal(zipped(tmp_path / "b.zip", {"a.nii": b"garbage" * 99}))
    assert list(scratch.iterdir()) == []


def test_a_list_of_a_million_members_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """zipfile would take 50 times the size of the list, and then say how many there are."""
    whole = zipped(tmp_path / "a.zip", {"a.nii": b"x"}).read_bytes()
    start = whole.rfind(b"PK\x01\x02")
    entry, end = whole[start:-22], bytearray(whole[-22:])
    entries = entry * (archive.MAX_LIST_BYTES // len(entry) + 1)
    struct.pack_into("<I", end, 12, len(entries))
    path = tmp_path / "list.zip"
    path.write_bytes(whole[:start] + entries + end)
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *_: pytest.fail("the list was read"))
    assert refusal(path).code == "too_large"


def test_more_members_than_a_series_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    path = zipped(tmp_path / "a.zip", {f"{i}.dcm": b"x" for i in range(4)})
    assert refusal(path).problem == "The zip holds 4 files; the limit is 3."
