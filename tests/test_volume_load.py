"""Every way of storing a scan gives the same volume; every broken file gives one sentence."""

from __future__ import annotations

import contextlib
import functools
import gzip
import itertools
import os
import time
import tracemalloc
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volume_files import AFFINE, chest, gzipped_zeros, image_of, patched, save

from rad3d.errors import BadVolume
from rad3d.types import Volume
from rad3d.volume.grid import GridSpec, to_grid
from rad3d.volume.load import Limits, decode, read_volume

HU = chest()


def refusal(path: Path | list[Path], limits: Limits = Limits()) -> BadVolume:  # noqa: B008
    with pytest.raises(BadVolume) as caught:
        read_volume(path, limits=limits)
    error = caught.value
    assert error.code
    assert error.problem.endswith(".")
    assert error.remedy.endswith(".")
    return error


def note(volume: Volume, code: str) -> str:
    return next(n.text for n in volume.notes if n.code == code)


def test_a_chest_is_read_without_a_warning(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "scan.nii.gz", HU))
    assert (volume.hu == HU).all()
    assert volume.hu.dtype == np.int16
    assert volume.affine == pytest.approx(AFFINE)
    assert volume.warnings == ()
    assert volume.name == "scan.nii.gz"
    assert {"format", "geometry", "orientation", "values"} <= {n.code for n in volume.notes}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "float32", "float64"])
def test_every_flavour_gives_the_same_volume(
    tmp_path: Path, suffix: str, kind: type, order: str, dtype: str
) -> None:
    path = save(tmp_path / f"a{suffix}", HU, kind=kind, order=order, dtype=dtype)
    volume = read_volume(path)
    assert volume.hu.dtype == np.int16
    assert (volume.hu == HU).all()
    assert volume.sha256 == Volume.from_array(HU, volume.affine).sha256


COARSE = GridSpec(spacing_mm=(10.0, 10.0, 10.0), shape=(30, 26, 26))


def patient_affine(oblique: bool) -> np.ndarray:
    affine = AFFINE.copy()
    if oblique:
        c, s = np.cos(0.15), np.sin(0.15)
        affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ affine[:3, :3]
    return affine


@functools.cache
def reference_grid(oblique: bool) -> np.ndarray:
    return to_grid(Volume.from_array(HU.copy(), patient_affine(oblique)), COARSE).values


@settings(max_examples=24, deadline=None)
@given(st.permutations((0, 1, 2)), st.tuples(*[st.sampled_from((1, -1))] * 3), st.booleans())
def test_any_stored_orientation_gives_the_same_voxels_affine_and_grid(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], signs: tuple, oblique: bool
) -> None:
    affine = patient_affine(oblique)
    moves = np.array([[order[i], signs[i]] for i in range(3)], float)
    stored = image_of(HU, affine).as_reoriented(moves)
    path = tmp_path_factory.mktemp("o") / "a.nii"
    nib.save(stored, path)
    volume = read_volume(path)
    assert (volume.hu == HU).all()
    assert np.abs(volume.affine - affine).max() < 1e-3
    assert volume.hu.flags.c_contiguous
    assert ("oblique" in {n.code for n in volume.notes}) == oblique
    assert np.abs(to_grid(volume, COARSE).values - reference_grid(oblique)).max() < 2e-3


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([1.0, 2.0, 0.5, -1.0, 0.1, 0.0, float("nan"), float("inf")]),
    st.sampled_from([0.0, -1024.0, 10.5, float("nan")]),
)
def test_slope_and_intercept_are_applied_once_and_zero_means_none(
    tmp_path_factory: pytest.TempPathFactory, slope: float, intercept: float
) -> None:
    path = save(tmp_path_factory.mktemp("s") / "a.nii", HU)
    patched(path, 112, "<2f", slope, intercept)
    decoded = decode([path])
    real = np.float32(slope) if np.isfinite(slope) and slope else None
    plus = intercept if real is not None and np.isfinite(intercept) else 0.0
    expected = HU * float(1.0 if real is None else real) + plus
    assert np.abs(decoded.values - expected).max() <= 1e-3
    whole = np.array_equal(expected, np.rint(expected))
    assert decoded.values.dtype == (np.int16 if whole else np.float32)
    text = next(n.text for n in decoded.notes if n.code == "values")
    assert ("No rescaling" in text) == (real in (None, 1.0) and plus == 0)


def test_stored_values_are_not_changed_in_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", HU)
    before = path.read_bytes()
    read_volume(path)
    assert path.read_bytes() == before


def test_trailing_axes_of_length_one_are_dropped(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "a.nii", HU[..., None, None]))
    assert volume.shape == HU.shape
    assert "1 x 1" in note(volume, "squeezed")


def test_a_name_that_lies_about_compression_does_not_matter(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.nii", HU)
    wrong = tmp_path / "b.nii.gz"
    wrong.write_bytes(plain.read_bytes())
    assert "not compressed" in note(read_volume(wrong), "not_compressed")
    packed = tmp_path / "c.nii"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert (read_volume(packed).hu == HU).all()


def test_nothing_identifying_of_the_header_is_kept(tmp_path: Path) -> None:
    image = image_of(HU)
    image.header["descrip"] = b"DOE^JANE 1970"
    image.header["db_name"] = b"MRN-4711"
    image.header["aux_file"] = b"ward-7"
    nib.save(image, tmp_path / "a.nii.gz")
    text = repr(read_volume(tmp_path / "a.nii.gz", "scan"))
    assert not any(word in text for word in ("DOE", "4711", "ward"))


def test_sform_wins_over_qform_and_qform_alone_is_enough(tmp_path: Path) -> None:
    image = image_of(HU)
    image.set_sform(None, 0)
    image.set_qform(AFFINE, 1)
    nib.save(image, tmp_path / "q.nii")
    volume = read_volume(tmp_path / "q.nii")
    assert "qform" in note(volume, "affine")
    assert volume.affine == pytest.approx(AFFINE, abs=1e-3)


@pytest.mark.parametrize(("unit", "factor"), [(1, 1e-3), (3, 1e3)])
def test_other_length_units_are_converted(tmp_path: Path, unit: int, factor: float) -> None:
    affine = AFFINE.copy()
    affine[:3] *= factor
    path = patched(save(tmp_path / "a.nii", HU, affine=affine), 123, "<B", unit)
    volume = read_volume(path)
    assert volume.spacing_mm == pytest.approx((7, 7, 8), rel=1e-4)
    assert [n.code for n in volume.warnings] == ["spacing_unit"]


def test_a_few_invalid_voxels_become_air_with_a_warning(tmp_path: Path) -> None:
    values = HU.astype(np.float32)
    values[20, 20, :3] = np.nan, np.inf, -np.inf
    values[21, 20, 0] = 1e30
    volume = read_volume(save(tmp_path / "a.nii", values))
    assert list(volume.hu[20, 20, :3]) == [-1024] * 3
    assert volume.hu[21, 20, 0] == -1024
    assert [n.code for n in volume.warnings] == ["invalid_voxels"]
    values[:, :, :8] = np.nan
    assert refusal(save(tmp_path / "b.nii", values)).code == "too_many_invalid"
    assert refusal(save(tmp_path / "c.nii", values * np.nan)).code == "too_many_invalid"


# Pairs and zips


def pair(folder: Path, kind: type = nib.Nifti1Pair) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    image = kind(HU, AFFINE)
    nib.save(image, folder / "scan.img")
    return folder / "scan.hdr", folder / "scan.img"


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return path


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


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for i in range(4):
            out.writestr(f"{i}.dcm", bytes(20_000_000))
    start = time.perf_counter()
    assert refusal(path, Limits(max_bytes=50_000_000)).code == "too_large"
    assert time.perf_counter() - start < 10


def test_temporary_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    read_volume(zipped(tmp_path / "a.zip", {"a.nii": save(tmp_path / "a.nii", HU).read_bytes()}))
    refusal(zipped(tmp_path / "b.zip", {"a.nii": b"garbage" * 99}))
    assert list(scratch.iterdir()) == []


# Broken files


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("a.nii.gz", b"", "empty_file"),
        ("a.nii", b"", "empty_file"),
        ("a.nii.gz", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "lfs_pointer"),
        ("a.nii.gz", b"<!DOCTYPE html><html>log in</html>", "html_page"),
        ("a.nii", b"\n <html lang=en>", "html_page"),
        ("a.dcm", bytes(128) + b"DICM" + bytes(400), "single_dicom"),
        ("a.nii.gz", gzip.compress(bytes(128) + b"DICM" + bytes(400)), "single_dicom"),
        ("a.nrrd", b"NRRD0004\ntype: short\n", "wrong_format"),
        ("a.nii", b"\x89PNG\r\n\x1a\n" + bytes(99), "wrong_format"),
        ("a.nii.gz", bytes(5000), "not_gzip"),
        ("a.nii", bytes(5000), "not_nifti"),
        ("a.nii", b"x", "not_nifti"),
        ("a.nii.gz", b"hello world, this is text", "not_nifti"),
        ("a.nii.gz", gzip.compress(b"hello world, this is text" * 40), "not_nifti"),
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


@settings(max_examples=60, deadline=None)
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


def quickly_refused(path: Path, limits: Limits = Limits()) -> str:  # noqa: B008
    tracemalloc.start()
    start = time.perf_counter()
    code = refusal(path, limits).code
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 10
    assert peak < 40e6
    return code


def test_a_gzip_bomb_that_claims_gigabytes_costs_nothing(tmp_path: Path) -> None:
    path = gzipped_zeros(tmp_path / "a.nii.gz", header_bytes((2000, 2000, 2000)), 50)
    assert path.stat().st_size < 100_000
    assert quickly_refused(path) == "too_large"


def test_a_bomb_behind_a_small_header_is_not_unpacked(tmp_path: Path) -> None:
    path = gzipped_zeros(tmp_path / "a.nii.gz", header_bytes((64, 64, 64)), 150)
    assert quickly_refused(path) == "size_mismatch"


def test_a_header_that_claims_more_than_is_there_is_refused(tmp_path: Path) -> None:
    head = header_bytes((400, 400, 400), "float32")
    plain = tmp_path / "a.nii"
    plain.write_bytes(head + bytes(10_000))
    assert quickly_refused(plain) == "truncated"
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(gzip.compress(head + os.urandom(10_000)))
    assert quickly_refused(packed) == "truncated"


def test_a_text_bomb_is_no_scan(tmp_path: Path) -> None:
    path = gzipped_zeros(tmp_path / "a.nii.gz", b"hello", 100)
    assert quickly_refused(path) == "not_nifti"


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
    used = set(__import__("re").findall(r'code="(\w+)"', text)) - {"bad_grid", "bad_slice"}
    assert used - {"bad_window"} <= words
