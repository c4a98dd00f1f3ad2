"""Every way of storing a scan gives the same volume."""

from __future__ import annotations

import functools
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volume_files import AFFINE, chest, image_of, patched, refusal, save

from rad3d.core.types import Volume
from rad3d.volume.grid import GridSpec, to_grid
from rad3d.volume.load import decode, read_volume

HU = chest()


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


@pytest.mark.slow
@settings(max_examples=24)
@given(st.permutations((0, 1, 2)), st.tuples(*[st.sampled_from((1, -1))] * 3), st.booleans())
def test_any_stored_orientation_gives_the_same_voxels_affine_and_grid(
    tmp_path_factory: pytest.TempPathFactory,
    order: list[int],
    signs: tuple[int, ...],
    oblique: bool,
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


@settings(max_examples=30)
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
    values[10:30, 10:30, 8:16] = np.nan
    assert refusal(save(tmp_path / "b.nii", values)).code == "too_many_invalid"
    assert refusal(save(tmp_path / "c.nii", values * np.nan)).code == "too_many_invalid"
