"""Values that are not HU and scans that are not a chest are told apart; phantoms pass."""

from __future__ import annotations

import numpy as np
import pytest
from volume_files import AFFINE, chest

from rad3d.errors import BadVolume
from rad3d.phantom.render import render
from rad3d.truth import draw_truth
from rad3d.volume.anatomy import anatomy_notes
from rad3d.volume.checks import check_hounsfield

HU = chest()
RNG = np.random.default_rng(3)


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
        ((slice(None), slice(None), slice(0, 17)), "at the head end"),
        ((slice(None), slice(None), slice(16, 32)), "at the feet end"),
    ],
)
def test_a_cropped_field_of_view_names_its_side(box: tuple, words: str) -> None:
    notes = anatomy_notes(HU[box], AFFINE)
    assert [note.code for note in notes] == ["cropped_fov"]
    assert words in notes[0].text


def test_an_impossible_body_width_is_said() -> None:
    for factor in (0.33, 3.0):
        affine = AFFINE @ np.diag([factor, factor, factor, 1])
        assert codes(HU, affine) == ["implausible_body"]


@pytest.mark.parametrize(("seed", "domain"), [(11, "in"), (12, "out")])
def test_phantoms_pass_every_check(seed: int, domain: str) -> None:
    phantom = render(draw_truth(seed, domain))
    check_hounsfield(phantom.hu)
    assert codes(phantom.hu, phantom.affine) == []
