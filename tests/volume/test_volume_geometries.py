"""Every chest CT ends on every encoder's grid, with the values of a plain dense calculation."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rad3d.core.encoders import ENCODERS
from rad3d.core.types import Volume
from rad3d.model.encoders import colipri
from rad3d.model.encoders.ctclip.config import CtClipConfig
from rad3d.model.encoders.phantom_clip import ClipConfig
from rad3d.volume import grid as grid_module
from rad3d.volume.grid import RESAMPLERS, GridSpec, target_affine, to_grid

GRIDS = {
    "phantom-cnn": GridSpec(),
    "colipri": colipri.GRID,
    "ct-clip": CtClipConfig().grid(),
    "phantom-clip": ClipConfig().grid,
}
MATRICES = (256, 320, 340, 384, 400, 434, 480, 512, 560, 600, 640, 768, 1024)
PIXELS_MM = (0.5859375, 0.625, 0.664062, 0.703125, 0.742188, 0.78125, 0.80078125, 0.9375, 0.9765625)
STEPS_MM = (0.5, 0.6, 0.625, 0.7, 0.75, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 5.0, 7.0, 8.0, 10.0)
FEW = 7
"""Voxels along the other axes where one axis is looked at."""


def test_every_encoder_and_every_resampler_has_a_grid_here() -> None:
    assert set(GRIDS) == set(ENCODERS)
    assert {spec.resampling for spec in GRIDS.values()} == set(RESAMPLERS)


# Values


Dense = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]


def dense(volume: Volume, spec: GridSpec) -> Dense:
    """(X, Y, Z) of the centred grid in float64, all at once: block means, then trilinear.

    Also which voxels do not lie on the very edge of the scan, where rounding decides.
    """
    to_source = np.linalg.inv(volume.affine) @ target_affine(volume, spec)
    low, high = grid_module._needed_box(to_source, spec.shape, volume.shape)
    means = np.maximum(volume.hu[tuple(map(slice, low, high))].astype(np.float64), -1024)
    factors = [max(1, int(t / s + 1e-4)) for s, t in
               zip(volume.spacing_mm, spec.spacing_mm, strict=True)]  # fmt: skip
    for axis, factor in enumerate(factors):
        starts = np.arange(0, means.shape[axis], factor)
        counts = np.diff([*starts, means.shape[axis]])
        sums = np.add.reduceat(means, starts, axis)
        means = sums / counts.reshape([-1 if a == axis else 1 for a in range(3)])
    index = np.stack(np.meshgrid(*map(np.arange, spec.shape), indexing="ij"), -1)
    points = index @ to_source[:3, :3].T + to_source[:3, 3]
    ends = np.stack([points + 0.5, np.array(volume.shape) - 0.5 - points])
    inside = (ends >= 0).all((0, -1))
    f = np.array(factors)
    place = np.clip((points - low - (f - 1) / 2) / f, 0, np.array(means.shape) - 1)
    floor = np.minimum(place.astype(int), np.maximum(np.array(means.shape) - 2, 0))
    share = place - floor
    hu = np.zeros(spec.shape)
    for corner in itertools.product((0, 1), repeat=3):
        at = np.minimum(floor + corner, np.array(means.shape) - 1)
        weight = np.where(corner, share, 1 - share).prod(-1)
        hu += weight * means[at[..., 0], at[..., 1], at[..., 2]]
    bottom, top = spec.hu_range
    hu = np.clip(np.where(inside, hu, spec.pad_hu), bottom, top)
    return (hu - bottom) * 2 / (top - bottom) - 1, np.abs(ends).min((0, -1)) > 1e-6


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 41)] * 3),
    spacing=st.tuples(*[st.floats(0.25, 9.0)] * 3),
    tilt=st.sampled_from([0.0, 4.0, -17.0]),
    rows=st.integers(1, 9),
)
def test_any_scan_in_any_slabs_gives_the_values_of_a_dense_calculation(
    shape: tuple[int, int, int], spacing: tuple[float, ...], tilt: float, rows: int
) -> None:
    spec = GridSpec(spacing_mm=(3.0, 3.0, 2.0), shape=(13, 11, 9), hu_range=(-1000.0, 600.0))
    hu = np.random.default_rng(3).integers(-3024, 2000, shape).astype(np.int16)
    affine = np.diag([*spacing, 1.0])
    sine, cosine = np.sin(np.deg2rad(tilt)), np.cos(np.deg2rad(tilt))
    affine[:3, :3] = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) @ affine[:3, :3]
    volume = Volume.from_array(hu, affine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid_module, "CHUNK_VOXELS", rows * 60)
        found = to_grid(volume, spec).values
    wanted, clear = dense(volume, spec)
    assert np.abs(found - wanted)[clear].max(initial=0) < 4e-4


# Geometries


Geometry = tuple[tuple[int, int, int], tuple[float, float, float]]


def drawn(rng: np.random.Generator) -> Geometry:
    """Matrix and voxel size of a chest: usual ones, drawn fields of view, cropped exports."""
    columns = rows = int(rng.choice(MATRICES))
    if rng.random() < 0.3:
        columns, rows = (int(n) for n in rng.integers(150, 1025, 2))
    usual = rng.random() < 0.5
    pixel = float(rng.choice(PIXELS_MM) if usual else rng.uniform(220, 500) / columns)
    step = float(rng.choice(STEPS_MM) if rng.random() < 0.8 else rng.uniform(0.4, 6.0))
    slices = max(12, int(rng.uniform(120, 480) / step))
    return (columns, rows, slices), (pixel, pixel, step)


def on_grid(geometry: Geometry, spec: GridSpec) -> bool:
    """Whether a scan gets onto the grid, one axis at a time.

    Axes do not depend on each other but for the rows of a slab, which are those of the whole scan
    here as well; so a chest takes milliseconds.
    """
    shape, spacing = geometry
    low, high = grid_module._needed_box(
        np.linalg.inv(np.diag([*spacing, 1.0])) @ target_affine(empty(shape, spacing), spec),
        spec.shape,
        shape,
    )
    factors = grid_module._block_sizes(spacing, spec.spacing_mm)
    plane = factors[0] * int(np.prod(np.subtract(high, low)[1:]))
    rows = max(1, grid_module.CHUNK_VOXELS // plane)
    for axis in range(3):
        few = [n if a == axis else FEW + n % FEW for a, n in enumerate(shape)]
        small: Any = tuple(n if a == axis else 2 for a, n in enumerate(spec.shape))
        volume = empty((few[0], few[1], few[2]), spacing)
        with pytest.MonkeyPatch.context() as patch:
            if axis == 0:
                patch.setattr(grid_module, "CHUNK_VOXELS", rows * factors[0] * few[1] * few[2])
            try:
                to_grid(volume, replace(spec, shape=small))
            except RuntimeError:
                return False
    return True


def empty(shape: tuple[int, int, int], spacing: tuple[float, ...]) -> Volume:
    """A scan of nothing, which takes no memory."""
    hu = np.broadcast_to(np.zeros((), np.int16), shape)
    return Volume(hu, np.diag([*spacing, 1.0]), "0" * 64)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", GRIDS)
def test_drawn_chests_end_on_the_grid(encoder: str) -> None:
    assert share_on_grid(encoder, 60) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["phantom-cnn", "colipri"])
def test_20_000_drawn_chests_end_on_the_grid(encoder: str) -> None:
    share = share_on_grid(encoder, 20_000)
    print(f"{encoder}: {share:.2%} of 20,000 drawn chests end on the grid")
    assert share == 1.0


def share_on_grid(encoder: str, count: int) -> float:
    rng = np.random.default_rng(11)
    return float(np.mean([on_grid(drawn(rng), GRIDS[encoder]) for _ in range(count)]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "pixel_mm", "step_mm"),
    [((434, 434, 275), 0.78125, 1.0), ((512, 512, 92), 0.5859375, 3.0), ((256, 256, 300), 1, 1)],
)
def test_a_whole_scan_whose_last_slab_is_thinner_than_a_block_ends_on_the_grid(
    shape: tuple[int, int, int], pixel_mm: float, step_mm: float
) -> None:
    grid = to_grid(empty(shape, (pixel_mm, pixel_mm, step_mm)), GridSpec())
    assert np.abs(grid.values[50:60, 40:50, 40:50]).max() < 1e-6
