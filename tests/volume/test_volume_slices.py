"""Slices hang as in a reading room, with square pixels and the right window."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.types import Volume
from rad3d.volume.slices import LONGEST_SIDE, VIEWS, encode_jpeg, render_slice


@pytest.fixture
def marked() -> Volume:
    """One bright voxel block at the patient's right, front and head corner."""
    hu = np.full((12, 10, 8), -1000, np.int16)
    hu[9:, 8:, 7:] = 1000
    return Volume.from_array(hu, np.diag([1.0, 1.0, 3.0, 1.0]))


@pytest.mark.parametrize(
    ("plane", "index", "size"),
    [("axial", 7, (10, 12)), ("coronal", 9, (24, 12)), ("sagittal", 11, (24, 10))],
)
def test_right_front_and_head_are_at_the_left_and_top(
    marked: Volume, plane: str, index: int, size: tuple[int, int]
) -> None:
    picture = render_slice(marked, plane, index, 2000, 0)
    assert picture.shape == size
    assert picture[0, 0] == 255
    assert picture[0, -1] == picture[-1, 0] == picture[-1, -1] == 0


def test_the_window_maps_its_ends_to_black_and_white() -> None:
    hu = np.zeros((4, 4, 4), np.int16)
    hu[0, 0], hu[1, 0], hu[2, 0], hu[3, 0] = -160, 40, 240, 3000
    volume = Volume.from_array(hu, np.eye(4))
    row = render_slice(volume, "axial", 0, 400, 40)[-1]
    assert list(row[::-1]) == [0, 128, 255, 255]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 60)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 12.0)] * 3),
    plane=st.sampled_from(sorted(VIEWS)),
)
def test_a_scan_of_any_shape_has_slices_of_its_own_proportions(
    shape: tuple[int, int, int], spacing: tuple[float, ...], plane: str
) -> None:
    volume = Volume.from_array(np.zeros(shape, np.int16), np.diag([*spacing, 1.0]))
    view = VIEWS[plane]
    for index in (0, shape[view.normal] - 1):
        rows, columns = render_slice(volume, plane, index, 400, 40).shape
        pixel = min(spacing[view.across], spacing[view.down])
        size = np.array([shape[a] * spacing[a] / pixel for a in (view.down, view.across)])
        wanted = size * min(1, LONGEST_SIDE / size.max())
        assert np.abs((rows, columns) - np.maximum(wanted, 1)).max() <= 0.5 + 1e-9


def test_a_picture_nearly_survives_jpeg(marked: Volume) -> None:
    picture = render_slice(marked, "coronal", 9, 2000, 0)
    jpeg = np.asarray(Image.open(io.BytesIO(encode_jpeg(picture))))
    assert jpeg.shape == picture.shape
    assert np.abs(jpeg.astype(int) - picture).mean() < 8


def test_wrong_requests_are_refused(marked: Volume) -> None:
    with pytest.raises(BadRequest):
        render_slice(marked, "axial", 8, 400, 40)
    with pytest.raises(BadRequest):
        render_slice(marked, "axial", -1, 400, 40)
    with pytest.raises(BadRequest):
        render_slice(marked, "axial", 0, float("nan"), 40)
    with pytest.raises(UnknownName):
        render_slice(marked, "oblique", 0, 400, 40)
