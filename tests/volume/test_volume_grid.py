"""What an encoder sees: geometry, intensities, notes and speed of the one resampling step."""

from __future__ import annotations

import time
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rad3d.core.errors import BadRequest
from rad3d.core.types import Volume
from rad3d.volume.grid import GridSpec, ModelGrid, to_grid

pytestmark = pytest.mark.numeric

SMALL = GridSpec(spacing_mm=(4.0, 4.0, 4.0), shape=(20, 18, 16))
DIRECTION = np.array([2.0, -3.0, 4.0])


def rotation(*degrees: float) -> np.ndarray:
    """Rotation about x, then y, then z."""
    out = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        turn = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        out = turn @ out
    return out


def ramp(shape: tuple[int, int, int], spacing: tuple[float, ...], turn: np.ndarray) -> Volume:
    """HU that grow linearly with the position in mm, centred near the world origin."""
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2) + (1.5, -2.5, 0.5)
    world = world_of(shape, affine)
    return Volume.from_array((world @ DIRECTION).astype(np.float32), affine)


def world_of(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    return index @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize("turn", [np.eye(3), rotation(8, -12, 20)], ids=["straight", "oblique"])
@pytest.mark.parametrize("spacing", [(5.0, 5.0, 6.0), (1.6, 1.3, 1.9), (0.9, 3.0, 8.0)])
def test_every_voxel_lands_where_the_affine_says(
    turn: np.ndarray, spacing: tuple[float, float, float]
) -> None:
    shape = (int(160 / spacing[0]), int(160 / spacing[1]), int(160 / spacing[2]))
    volume = ramp(shape, spacing, turn)
    grid = to_grid(volume, SMALL)
    expected = world_of(SMALL.shape, grid.affine) @ DIRECTION / 1000
    assert np.abs(grid.values - np.clip(expected, -1, 1)).max() < 2e-3


def test_the_grid_is_centred_on_the_scan() -> None:
    volume = ramp((40, 41, 42), (2.0, 2.0, 2.0), np.eye(3))
    grid = to_grid(volume, SMALL)
    middle = (np.array(SMALL.shape) - 1) / 2
    centre = grid.affine[:3, :3] @ middle + grid.affine[:3, 3]
    assert centre == pytest.approx([1.5, -2.5, 0.5])


def test_golden_values() -> None:
    """The exact preprocessing that shipped weights were trained with; see the module docstring."""
    rng = np.random.default_rng(5)
    hu = rng.integers(-3024, 3000, (24, 20, 10)).astype(np.int16)
    volume = Volume.from_array(hu, np.diag([1.5, 1.5, 4.0, 1.0]))
    spec = GridSpec(spacing_mm=(3.0, 3.0, 3.0), shape=(14, 8, 12))
    grid = to_grid(volume, spec)
    floored = np.maximum(hu.astype(np.float64), -1024)
    means = floored.reshape(12, 2, 10, 2, 10).mean(axis=(1, 3))
    # Block (i, j) is centred on the grid voxel (i + 1, j - 1); only z is interpolated.
    z_mm = (np.arange(12) - 5.5) * 3 + 18
    rows = []
    for z in z_mm / 4:
        low = int(np.clip(np.floor(z), 0, 8))
        weight = np.clip(z - low, 0, 1)
        rows.append(means[:, 1:9, low] * (1 - weight) + means[:, 1:9, low + 1] * weight)
    expected = np.clip(np.stack(rows, -1), -1000, 1000) / 1000
    assert np.abs(grid.values[1:13] - expected).max() < 1e-5
    assert (grid.values[[0, 13]] == -1).all()
    assert grid.affine[:3, 3] == pytest.approx([-2.25, 3.75, 1.5])


def test_outside_the_scan_there_is_air() -> None:
    volume = Volume.from_array(np.full((10, 10, 10), 40, np.int16), np.diag([4.0, 4.0, 4.0, 1.0]))
    grid = to_grid(volume, SMALL)
    assert np.abs(grid.values[5:15, 4:14, 3:13] - 0.04).max() < 1e-6
    assert (grid.values == -1).sum() == grid.values.size - 1000
    assert [note.code for note in grid.notes] == ["resampled", "padded_with_air"]


def test_hu_range_becomes_minus_one_to_one() -> None:
    spec = GridSpec(spacing_mm=(4.0,) * 3, shape=(8, 8, 8), hu_range=(-200, 600), pad_hu=-200)
    volume = Volume.from_array(np.full((8, 8, 8), 400, np.int16), np.diag([4.0, 4.0, 4.0, 1.0]))
    assert to_grid(volume, spec).values == pytest.approx(0.5)


@settings(max_examples=25)
@given(
    st.permutations((0, 1, 2)),
    st.tuples(*[st.sampled_from((1, -1))] * 3),
    st.sampled_from([(0.0, 0.0, 0.0), (5.0, 3.0, -7.0)]),
)
def test_one_patient_stored_in_any_orientation_gives_the_same_grid(
    order: list[int], signs: tuple[int, ...], turn: tuple[float, float, float]
) -> None:
    rng = np.random.default_rng(0)
    hu = rng.integers(-1000, 1000, (22, 27, 31)).astype(np.int16)
    affine = np.eye(4)
    affine[:3, :3] = rotation(*turn) @ np.diag([1.7, 1.1, 2.3])
    image = nib.Nifti1Image(hu, affine)
    moves = np.array([[order[i], signs[i]] for i in range(3)], float)
    stored = nib.as_closest_canonical(image.as_reoriented(moves))
    here, there = (
        to_grid(Volume.from_array(np.asarray(i.dataobj), i.affine), SMALL) for i in (image, stored)
    )
    assert np.abs(here.values - there.values).max() < 1e-3
    assert here.affine == pytest.approx(there.affine)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "LAI"])
@pytest.mark.parametrize("axes", ["xyz", "zyx", "yxz"])
def test_layout_of_the_grid_does_not_change_what_it_shows(orientation: str, axes: str) -> None:
    volume = ramp((30, 33, 36), (2.0, 2.5, 3.0), np.eye(3))
    spec = GridSpec(orientation, (4.0, 5.0, 6.0), (14, 12, 10), axes=axes)
    grid = to_grid(volume, spec)
    assert grid.values.shape == tuple({"x": 14, "y": 12, "z": 10}[a] for a in axes)
    shown = grid.to_volume()
    plain = to_grid(volume, GridSpec("RAS", (4.0, 5.0, 6.0), (14, 12, 10))).to_volume()
    assert np.abs(shown.hu.astype(int) - plain.hu).max() <= 1
    assert shown.affine == pytest.approx(plain.affine)


def test_the_volume_is_not_changed() -> None:
    volume = ramp((20, 20, 20), (1.0, 1.0, 1.0), np.eye(3))
    before = volume.hu.copy()
    to_grid(volume, SMALL)
    assert (volume.hu == before).all()


def test_cut_tissue_is_said_with_its_sides_and_cut_air_is_not() -> None:
    hu = np.full((100, 60, 40), -1000, np.int16)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    assert "cropped_to_grid" not in codes(to_grid(Volume.from_array(hu, affine), SMALL))
    body = hu.copy()
    body[50:, 10:50, 5:35] = 40  # the patient's right half
    notes = to_grid(Volume.from_array(body, affine), SMALL).notes
    note = next(n for n in notes if n.code == "cropped_to_grid")
    assert "on the patient's right" in note.text
    assert "left" not in note.text


def codes(grid: ModelGrid) -> list[str]:
    return [note.code for note in grid.notes]


def test_a_spec_survives_json_and_its_id_changes_with_every_field() -> None:
    spec = GridSpec()
    assert GridSpec.from_dict(spec.to_dict()) == spec
    others = [
        GridSpec(orientation="LPS"),
        GridSpec(spacing_mm=(3.0, 3.0, 2.0)),
        GridSpec(shape=(112, 96, 97)),
        GridSpec(hu_range=(-1000, 200)),
        GridSpec(pad_hu=-1024),
        GridSpec(axes="zyx"),
    ]
    assert len({s.id for s in (spec, *others)}) == 7
    assert GridSpec(hu_range=(-1000, 1000), spacing_mm=(3, 3, 3)).id == spec.id
    with pytest.raises(BadRequest):
        GridSpec.from_dict({"size": 3})


@pytest.mark.parametrize(
    "wrong",
    [
        {"orientation": "SAR"},
        {"orientation": "RA"},
        {"spacing_mm": (0.0, 1.0, 1.0)},
        {"shape": (0, 4, 4)},
        {"hu_range": (10, -10)},
        {"axes": "xxz"},
    ],
)
def test_an_impossible_grid_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        GridSpec(**wrong)


def test_a_large_scan_takes_seconds_and_little_memory() -> None:
    volume = Volume(np.zeros((512, 512, 200), np.int16), np.diag([0.7, 0.7, 1.5, 1.0]), "test")
    start = time.process_time()
    to_grid(volume, GridSpec())
    assert time.process_time() - start < 8
