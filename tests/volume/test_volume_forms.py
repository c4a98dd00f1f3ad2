"""sform and qform: which one gives the sides, and what is said where they differ."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from volume_files import AFFINE, chest, image_of, patched, refusal, save

from rad3d.volume.load import read_volume

HU = chest()
MIRRORED = np.diag([-1.0, 1, 1, 1]) @ AFFINE


def with_forms(path: Path, sform: np.ndarray | None, qform: np.ndarray | None) -> Path:
    """A chest whose header has these forms, and the voxel sizes of the qform if there is one."""
    image = image_of(HU)
    image.set_sform(sform, 0 if sform is None else 1)
    image.set_qform(qform, 0 if qform is None else 1)
    nib.save(image, path)
    return path


def warnings(path: Path) -> list[str]:
    return [note.code for note in read_volume(path).warnings]


@pytest.mark.parametrize("sign", [0.0, 1.0, -1.0, 7.0, -0.5, float("nan")])
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_the_sign_of_a_qform_is_minus_only_where_pixdim_0_is_negative(
    tmp_path: Path, sign: float, signs: tuple[int, int, int]
) -> None:
    path = with_forms(tmp_path / "a.nii", None, AFFINE)
    patched(
        path, 76, "<4f", sign, *(size * s for size, s in zip((7.0, 7.0, 8.0), signs, strict=True))
    )
    volume = read_volume(path)
    expected = HU[:, :, ::-1] if sign < 0 else HU
    assert (volume.hu == expected).all()
    assert volume.spacing_mm == pytest.approx((7, 7, 8))
    assert volume.warnings == ()


def test_forms_on_opposite_sides_are_a_warning_that_names_the_sides(tmp_path: Path) -> None:
    sides = ("left and right", "front and back", "head and feet")
    for axis, words in enumerate(sides):
        mirrored = AFFINE.copy()
        mirrored[axis] *= -1
        volume = read_volume(with_forms(tmp_path / "a.nii", mirrored, AFFINE))
        (warning,) = volume.warnings
        assert warning.code == "orientation_conflict"
        assert words in warning.text
        assert not any(other in warning.text for other in sides if other != words)
        assert (volume.hu == np.flip(HU, axis)).all(), "the sform counts"


def test_a_form_that_is_only_turned_a_little_or_shifted_is_no_conflict(tmp_path: Path) -> None:
    turned = AFFINE.copy()
    c, s = np.cos(0.4), np.sin(0.4)
    turned[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ turned[:3, :3]
    turned[:3, 3] += 55
    assert warnings(with_forms(tmp_path / "a.nii", turned, AFFINE)) == []


@pytest.mark.parametrize("code", [0, 1])
def test_two_voxel_sizes_in_one_header_are_a_warning(tmp_path: Path, code: int) -> None:
    path = with_forms(tmp_path / "a.nii", AFFINE, AFFINE)
    patched(path, 252, "<h", code)
    patched(path, 80, "<3f", 7.01, 7.01, 8.01)
    assert warnings(path) == []
    patched(path, 80, "<3f", 7.0, 7.0, 5.0)
    volume = read_volume(path)
    assert [note.code for note in volume.warnings] == ["size_conflict"]
    assert volume.spacing_mm == pytest.approx((7, 7, 8))
    patched(path, 80, "<3f", 0.0, 0.0, 0.0)
    assert warnings(path) == [], "no size is no other size"


@pytest.mark.parametrize("damage", [0.0, float("nan"), float("inf")])
def test_a_damaged_sform_gives_way_to_the_qform_with_a_warning(
    tmp_path: Path, damage: float
) -> None:
    path = with_forms(tmp_path / "a.nii", AFFINE, MIRRORED)
    patched(path, 296, "<4f", damage, damage, damage, damage)
    volume = read_volume(path)
    assert [note.code for note in volume.warnings] == ["unusable_sform"]
    assert (volume.hu == HU[::-1]).all()
    patched(path, 252, "<h", 0)
    assert refusal(path).code == "bad_affine"


def test_a_damaged_qform_beside_a_sform_does_not_matter(tmp_path: Path) -> None:
    path = patched(save(tmp_path / "a.nii", HU), 252, "<2h", 1, 1)
    patched(path, 256, "<3f", 3.0, 4.0, 5.0)
    assert warnings(path) == []


def test_a_half_turn_rounded_beyond_length_one_is_a_half_turn(tmp_path: Path) -> None:
    path = with_forms(tmp_path / "a.nii", None, np.diag([-7.0, -7.0, 8.0, 1.0]))
    patched(path, 256, "<3f", 0.001, 0.0, 1.0005)
    assert (read_volume(path).hu == HU[::-1, ::-1]).all()
