"""Values that are not HU and scans that are not a chest are told apart; phantoms pass."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from volume_files import AFFINE, chest

from rad3d.core.errors import BadVolume
from rad3d.synthetic.phantom.render import render
from rad3d.synthetic.truth import draw_truth
from rad3d.volume.anatomy import anatomy_notes
from rad3d.volume.checks import fill_unmeasured
from rad3d.volume.peaks import check_hounsfield

HU = chest()
RNG = np.random.default_rng(3)
FAT = HU - ndimage.grey_erosion(HU, (5, 5, 1)) > 500
TISSUES = np.where(FAT & (HU > -100) & (HU < 200), HU - np.int16(140), HU)
"""With a layer of fat."""
X, Y = np.meshgrid(np.linspace(-1, 1, 48), np.linspace(-1, 1, 40), indexing="ij")
CIRCLE = np.hypot(X, Y) < 0.97
CIRCLE = np.repeat(CIRCLE[:, :, None], 32, axis=2)


def code_of(values: np.ndarray) -> str:
    with pytest.raises(BadVolume) as caught:
        check_hounsfield(values)
    return caught.value.code


def labels() -> np.ndarray:
    return np.select([HU < -500, HU < 200], [1, 2], 3).astype(np.int16)


def magnetic() -> np.ndarray:
    bright = np.where(HU > -500, 600, 20) + RNG.normal(0, 40, HU.shape)
    return np.rint(np.abs(bright)).astype(np.int16)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (np.full_like(HU, -1000), "constant"),
        (np.zeros_like(HU), "constant"),
        (labels(), "label_map"),
        ((HU > -500).astype(np.int16), "label_map"),
        (HU + np.int16(1024), "no_intercept"),
        (np.where(HU < -980, -2000, HU + 1024).astype(np.int16), "no_intercept"),
        (HU - np.int16(1024), "rescaled_twice"),
        (((HU + 1024) / 4024).astype(np.float32), "not_hu"),
        (np.clip((HU + 1000) / 5, 0, 255).astype(np.int16), "not_hu"),
        ((HU / 1000).astype(np.float32), "not_hu"),
        ((HU.astype(np.float32) - HU.mean()) / HU.std(), "not_hu"),
        (np.clip(HU, -160, 240), "not_hu"),
        ((HU.astype(np.float32) * 10), "not_hu"),
        (magnetic(), "not_hu"),
        (magnetic() - np.int16(60), "not_hu"),
        (RNG.normal(-300, 400, HU.shape).astype(np.float32), "noise"),
        (RNG.integers(-1000, 1000, HU.shape).astype(np.int16), "noise"),
    ],
)
def test_values_that_are_not_hounsfield_units_are_refused(values: np.ndarray, code: str) -> None:
    assert code_of(values) == code


@pytest.mark.parametrize(
    "values",
    [
        HU,
        HU.astype(np.float32) + 0.25,
        np.clip(HU, -1000, 400),
        np.where(HU < -1000, -3024, HU).astype(np.int16),
        np.where(HU < -1000, -2000, HU).astype(np.int16),
        np.where(HU > 515, 20000, HU).astype(np.int16),
    ],
    ids=["plain", "float", "clipped", "padded -3024", "padded -2000", "metal"],
)
def test_hounsfield_units_pass(values: np.ndarray) -> None:
    check_hounsfield(values)


def changed(factor: float, added: float) -> np.ndarray:
    return np.clip(np.rint(TISSUES * factor + added), -32768, 32767).astype(np.int16)


@pytest.mark.parametrize(
    ("factor", "added", "words"),
    [
        (-1, 0, "multiplied by about -1."),
        (2, 0, "multiplied by about 2."),
        (10, 0, "multiplied by about 10."),
        (0.6, 0, "multiplied by about 0.6."),
        (0.5, 0, "multiplied by about 0.5."),
        (1, 300, "about 300 had been added"),
        (1, -300, "about -300 had been added"),
        (1, 1000, "about 1000 had been added"),
        (0.001, 1, "are not Hounsfield units"),
    ],
)
def test_where_the_peaks_lie_and_what_moved_them_is_said(
    factor: float, added: float, words: str
) -> None:
    values = changed(factor, added) if factor != 0.001 else TISSUES * np.float32(factor)
    for scan in (values, np.where(CIRCLE, values, np.float32(-3024))):
        with pytest.raises(BadVolume) as caught:
            check_hounsfield(scan)
        assert words in caught.value.problem
        assert "-1000 (air)" in caught.value.problem


@pytest.mark.parametrize(("factor", "added"), [(0.9, 0), (1.12, 0), (1, 100), (1, -120)])
def test_values_a_little_off_are_a_warning(factor: float, added: float) -> None:
    (warning,) = check_hounsfield(changed(factor, added))
    assert warning.code == "odd_hu"


@pytest.mark.parametrize("added", [0, 24, -24])
@pytest.mark.parametrize("noise", [0, 60, 120])
@pytest.mark.parametrize("padding", [None, -1024, -2000, -3024, -32768])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_ct_is_one_whatever_its_noise_and_usual_padding(
    added: int, noise: int, padding: int | None, dtype: type
) -> None:
    values = changed(1, added) + RNG.normal(0, noise, HU.shape)
    if padding is not None:
        values = np.where(CIRCLE, values, padding)
    values = np.rint(values).astype(dtype)
    before = values.copy()
    assert check_hounsfield(values) == []
    assert fill_unmeasured(values) == []
    assert (values == before).all()


@pytest.mark.parametrize("top", [200, 240, 400, 480])
def test_values_that_were_cut_off_above_are_a_warning(top: int) -> None:
    (warning,) = check_hounsfield(np.clip(TISSUES, -1000, top))
    assert warning.code == "clipped"
    assert f"above {top} HU" in warning.text
    assert check_hounsfield(np.clip(TISSUES, -1000, 1000)) == []


# What was not measured


@pytest.mark.parametrize("value", [0, 170, -600, 3071, 32767, -900])
def test_a_constant_around_the_scan_becomes_air_with_a_warning(value: int) -> None:
    values = np.where(CIRCLE, TISSUES, np.int16(value))
    assert check_hounsfield(values) == []
    (warning,) = fill_unmeasured(values)
    assert warning.code == "padding"
    assert f"one value {value}:" in warning.text
    assert (values == np.where(CIRCLE, TISSUES, -1024)).all(), "nothing inside is touched"


@pytest.mark.parametrize(
    "place", [np.s_[:, :, :3], np.s_[:, :, -2:], np.s_[44:], np.s_[:, :5], np.s_[:9, :9]]
)
def test_what_a_shift_left_empty_is_padding(place: tuple[slice, ...]) -> None:
    values, expected = TISSUES.copy(), TISSUES.copy()
    values[place], expected[place] = 0, -1024
    assert [note.code for note in fill_unmeasured(values)] == ["padding"]
    assert (values == expected).mean() > 0.9999, "but for a voxel of 0 HU beside it"


def test_a_nan_around_the_scan_becomes_air_with_a_warning_and_more_is_refused() -> None:
    values = np.where(CIRCLE, TISSUES, np.float32(np.nan))
    assert check_hounsfield(values) == []
    (warning,) = fill_unmeasured(values)
    assert warning.code == "invalid_voxels"
    assert "at the border of the image" in warning.text
    assert (values == np.where(CIRCLE, TISSUES, -1024)).all()
    values[10:30, 10:30, 8:16] = np.nan
    with pytest.raises(BadVolume) as caught:
        fill_unmeasured(values)
    assert caught.value.code == "too_many_invalid"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.006, 0.04, 0.3, 1.0])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_nan_is_not_the_air_that_makes_a_map_a_ct(share: float, scale: float) -> None:
    values = ndimage.gaussian_filter(RNG.normal(size=(40, 40, 40)), 2)
    values = (values / values.std() * scale).astype(np.float32)
    values.ravel()[: int(values.size * share)] = np.nan
    assert code_of(values) == ("too_many_invalid" if share == 1 else "not_hu")


def codes(hu: np.ndarray, affine: np.ndarray = AFFINE) -> list[str]:
    return [note.code for note in anatomy_notes(hu, affine)]


def test_a_chest_gets_no_warning() -> None:
    assert codes(HU) == []


def test_a_body_without_lungs_is_no_chest() -> None:
    assert codes(np.where((HU < -700) & (HU > -950), 40, HU).astype(np.int16)) == ["not_chest"]


def test_bowel_gas_is_no_lung() -> None:
    body = np.where((HU < -700) & (HU > -940), 40, HU).astype(np.int16)
    body[18:24, 18:24, 8:24] = -1000
    assert codes(body) == ["not_chest"]


def test_the_top_of_an_abdomen_is_no_chest() -> None:
    body = np.where((HU < -700) & (HU > -940), 40, HU).astype(np.int16)
    body[:, :, -4:] = HU[:, :, 14:18]
    assert "not_chest" in codes(body)


def test_much_more_than_the_chest_is_said() -> None:
    below = np.where((HU < -700) & (HU > -940), 40, HU).astype(np.int16)
    assert codes(np.concatenate([below, below, HU], axis=2)) == ["beyond_chest"]


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((slice(14, 48), slice(None), slice(None)), "on the left"),
        ((slice(0, 34), slice(None), slice(None)), "on the right"),
        (
            (slice(0, 24), slice(None), slice(None)),
            "only half of the chest is there, not the r",
        ),
        (
            (slice(24, 48), slice(None), slice(None)),
            "only half of the chest is there, not the l",
        ),
        ((slice(None), slice(20, 40), slice(None)), "at the back"),
        ((slice(None), slice(0, 20), slice(None)), "at the front"),
        ((slice(12, 36), slice(8, 32), slice(6, 26)), "on the left, on the right"),
        ((slice(None), slice(None), slice(6, 11)), "only a slab of the chest, 40 mm from feet"),
        ((slice(None), slice(None), slice(14, 24)), "only a slab of the chest, 80 mm from feet"),
        ((slice(None), slice(None), slice(0, 17)), "at the head end"),
        ((slice(None), slice(None), slice(16, 32)), "at the feet end"),
    ],
)
def test_a_cropped_field_of_view_names_its_side(box: tuple[slice, ...], words: str) -> None:
    notes = anatomy_notes(HU[box], AFFINE)
    assert [note.code for note in notes] == ["cropped_fov"]
    assert words in notes[0].text


def test_a_wide_body_that_the_image_cuts_at_both_sides_is_no_half() -> None:
    assert codes(HU[6:42]) == []


def test_whole_lungs_in_a_slab_are_a_wrong_header() -> None:
    assert codes(HU, AFFINE @ np.diag([1, 1, 0.2, 1])) == ["implausible_body"]


def test_an_impossible_body_width_is_said() -> None:
    for factor in (0.33, 3.0):
        affine = AFFINE @ np.diag([factor, factor, factor, 1])
        assert codes(HU, affine) == ["implausible_body"]


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "domain"), [(11, "in"), (12, "out")])
def test_phantoms_pass_every_check(seed: int, domain: str) -> None:
    phantom = render(draw_truth(seed, domain))
    check_hounsfield(phantom.hu)
    assert codes(phantom.hu, phantom.affine) == []
