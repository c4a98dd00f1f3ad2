"""Every file that is no chest CT gets one sentence, and costs next to nothing."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import os
import re
import tarfile
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volume_files import AFFINE, chest, gzipped_zeros, patched, refusal, save

from rad3d.core.errors import BadVolume
from rad3d.volume.decoded import Limits
from rad3d.volume.load import read_volume

HU = chest()


def tar() -> bytes:
    """A tar archive with one file."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        member = tarfile.TarInfo("scan.nii.gz")
        member.size = 1000
        archive.addfile(member, io.BytesIO(bytes(1000)))
    return data.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("a.nii.gz", b"", "empty_file"),
        ("a.nii", b"", "empty_file"),
        ("a.nii.gz", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "lfs_pointer"),
        ("a.nii.gz", b"<!DOCTYPE html><html>log in</html>", "html_page"),
        ("a.nii", b"\n <html lang=en>", "html_page"),
        ("a.dcm", bytes(128) + b"DICM" + bytes(400), "bad_dicom"),
        ("a.nii.gz", gzip.compress(bytes(128) + b"DICM" + bytes(400), mtime=0), "single_dicom"),
        ("a.nrrd", b"NRRD0004\ntype: short\n", "wrong_format"),
        ("a.nii", b"\x89PNG\r\n\x1a\n" + bytes(99), "wrong_format"),
        ("a.tar", tar(), "wrong_format"),
        ("a.tar.gz", gzip.compress(tar(), mtime=0), "wrong_format"),
        ("a.nii.gz", gzip.compress(b"PK\x03\x04" + bytes(99), mtime=0), "wrong_format"),
        ("a.nii.gz", bytes(5000), "not_gzip"),
        ("a.nii", bytes(5000), "not_nifti"),
        ("a.nii", b"x", "not_nifti"),
        ("a.nii.gz", b"hello world, this is text", "not_nifti"),
        ("a.nii.gz", gzip.compress(b"hello world, this is text" * 40, mtime=0), "not_nifti"),
        ("a.nii.gz", b"\x1f\x8b" + bytes(range(256)) * 4, "corrupt_gzip"),
        ("a.nii.gz", b"\x1f\x8b\x08\x00", "truncated"),
        ("a.zip", b"PK\x03\x04" + bytes(200), "bad_zip"),
        ("a.img", bytes(5000), "half_pair"),
    ],
)
def test_what_is_no_scan_is_named(tmp_path: Path, name: str, data: bytes, code: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert refusal(path).code == code


def test_a_tar_archive_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(gzip.compress(tar()))
    assert "tar archive" in refusal(tmp_path / "a.tgz").problem


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.nii").code == "not_found"
    assert refusal(tmp_path).code == "not_found"


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("keep", [0.999, 0.5, 0.01])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, keep: float) -> None:
    path = save(tmp_path / f"a{suffix}", HU)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    assert refusal(path).code == "truncated"


def test_a_flipped_bit_is_noticed_by_the_checksum(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", HU)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))
    assert refusal(path).code in ("corrupt_gzip", "truncated")


@pytest.mark.slow
@settings(max_examples=60)
@given(st.integers(0, 351), st.binary(min_size=1, max_size=8))
def test_no_header_damage_raises_anything_but_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, place: int, junk: bytes
) -> None:
    path = tmp_path_factory.mktemp("f") / "a.nii"
    data = bytearray(save(path, HU).read_bytes())
    data[place : place + len(junk)] = junk
    path.write_bytes(bytes(data))
    with contextlib.suppress(BadVolume):
        assert np.isfinite(read_volume(path).affine).all()


# Bombs and lies


def header_bytes(shape: tuple[int, ...], dtype: str = "int16") -> bytes:
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_sform(AFFINE, 1)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    return header.binaryblock + bytes(4)


def cheaply_refused(path: Path, limits: Limits = Limits()) -> str:  # noqa: B008
    tracemalloc.start()
    code = refusal(path, limits).code
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6
    return code


def test_a_gzip_bomb_that_claims_gigabytes_costs_nothing(tmp_path: Path) -> None:
    path = gzipped_zeros(tmp_path / "a.nii.gz", header_bytes((2000, 2000, 2000)), 50)
    assert path.stat().st_size < 100_000
    assert cheaply_refused(path) == "too_large"


@pytest.mark.slow
def test_a_bomb_behind_a_small_header_is_not_unpacked(tmp_path: Path) -> None:
    path = gzipped_zeros(tmp_path / "a.nii.gz", header_bytes((64, 64, 64)), 150)
    assert cheaply_refused(path) == "size_mismatch"


def test_a_header_that_claims_more_than_is_there_is_refused(tmp_path: Path) -> None:
    head = header_bytes((400, 400, 400), "float32")
    plain = tmp_path / "a.nii"
    plain.write_bytes(head + bytes(10_000))
    assert cheaply_refused(plain) == "truncated"
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(gzip.compress(head + os.urandom(10_000)))
    assert cheaply_refused(packed) == "truncated"


@pytest.mark.slow
def test_a_text_bomb_is_no_scan(tmp_path: Path) -> None:
    path = gzipped_zeros(tmp_path / "a.nii.gz", b"hello", 100)
    assert cheaply_refused(path) == "not_nifti"


def test_limits_are_limits(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", HU)
    assert refusal(path, Limits(max_bytes=HU.nbytes - 1)).code == "too_large"
    assert refusal(path, Limits(max_voxels=HU.size - 1)).code == "too_large"
    read_volume(path, limits=Limits(max_bytes=HU.nbytes, max_voxels=HU.size))


# Dimensions, kinds of value, geometry


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ((64, 64), "not_3d"),
        ((64, 64, 1), "not_3d"),
        ((1, 64, 64), "not_3d"),
        ((64, 64, 1, 20), "not_3d"),
        ((16, 16, 16, 5), "not_3d"),
        ((16, 16, 16, 1, 3), "not_3d"),
        ((4, 5, 6), "too_few_voxels"),
        ((64, 64, 12), "too_few_voxels"),
        ((500, 20, 20), "too_few_voxels"),
    ],
)
def test_shapes_that_are_no_scan(tmp_path: Path, shape: tuple[int, ...], code: str) -> None:
    values = np.resize(HU, shape)
    assert refusal(save(tmp_path / "a.nii", values)).code == code


@pytest.mark.parametrize("dtype", [[("R", "u1"), ("G", "u1"), ("B", "u1")], "complex64"])
def test_colours_and_complex_numbers_are_refused(tmp_path: Path, dtype: object) -> None:
    values = np.zeros((20, 20, 20), np.dtype(dtype))  # type: ignore[call-overload]
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "a.nii")
    assert refusal(tmp_path / "a.nii").code == "not_scalar"


def sheared(by: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 1] += by * affine[1, 1]
    return affine


def singular() -> np.ndarray:
    affine = AFFINE.copy()
    affine[:3, 2] = affine[:3, 1]
    return affine


@pytest.mark.parametrize(
    ("affine", "code"),
    [
        (sheared(0.3), "sheared"),
        (sheared(0.05), "sheared"),
        (np.full((4, 4), np.nan), "bad_affine"),
        (np.diag([0.0, 1, 1, 1]), "bad_affine"),
        (singular(), "bad_affine"),
        (np.diag([7, 7, 60.0, 1]), "implausible_size"),
        (np.diag([0.01, 0.01, 8, 1]), "implausible_size"),
        (np.diag([70.0, 70, 80, 1]), "implausible_size"),
    ],
)
def test_geometry_that_cannot_be_is_refused(tmp_path: Path, affine: np.ndarray, code: str) -> None:
    path = save(tmp_path / "a.nii", HU)
    rows = affine[:3].ravel()
    patched(path, 280, "<12f", *rows)
    patched(path, 252, "<2h", 0, 1)
    assert refusal(path).code == code


def test_too_few_slices_are_called_a_slab_with_its_thickness(tmp_path: Path) -> None:
    error = refusal(save(tmp_path / "a.nii", HU[:, :, 12:20]))
    assert error.code == "too_few_voxels"
    assert "slab of 8 slices, 64 mm thick" in error.problem
    thin = np.diag([7.0, 7.0, 1.2, 1.0])
    assert (
        "slab of the chest, 38 mm"
        in read_volume(save(tmp_path / "b.nii", np.repeat(HU[:, :, 7:11], 8, axis=2), affine=thin))
        .warnings[0]
        .text
    )


def test_without_orientation_the_side_is_unknown_and_the_scan_refused(tmp_path: Path) -> None:
    path = patched(save(tmp_path / "a.nii", HU), 252, "<2h", 0, 0)
    assert refusal(path).code == "no_orientation"


def test_a_damaged_quaternion_is_a_bad_affine(tmp_path: Path) -> None:
    path = patched(save(tmp_path / "a.nii", HU), 252, "<2h", 1, 0)
    patched(path, 256, "<3f", 3.0, 4.0, 5.0)
    assert refusal(path).code == "bad_affine"


def test_every_refusal_code_is_documented() -> None:
    import rad3d.volume
    from rad3d.volume import load

    folder = Path(rad3d.volume.__file__).parent
    text = "".join(p.read_text(encoding="utf-8") for p in folder.glob("*.py"))
    listed = set((load.__doc__ or "").replace(":", " ").replace(";", " ").split("``")[1::2])
    words = set(itertools.chain.from_iterable(entry.split() for entry in listed))
    used = set(re.findall(r'code="(\w+)"', text)) - {"bad_grid", "bad_slice"}
    assert used - {"bad_window"} <= words


@pytest.mark.parametrize("shape", [(2, 32_000, 2), (8, 8, 4_097), (12_000, 13_000, 2)])
def test_an_axis_that_no_scanner_makes_is_refused_before_a_voxel_is_read(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    """A single slice of such a file took gigabytes."""
    path = gzipped_zeros(tmp_path / "a.nii.gz", header_bytes(shape), 1)
    assert cheaply_refused(path) == "too_large"
