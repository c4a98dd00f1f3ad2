"""Slices hang as in a reading room, with square pixels and the right window."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from rad3d.errors import BadRequest, UnknownName
from rad3d.types import Volume
from rad3d.volume.slices import encode_jpeg, render_slice


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
