"""Slices of a volume as pictures, as radiologists hang them.

Axial: the patient's right on the left of the screen, front on top. Coronal: right on the left,
head on top. Sagittal: front on the left, head on top. The browser draws slices itself where it
can; this is the fallback, and it shows what the model sees.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.types import Volume

Plane = Literal["axial", "coronal", "sagittal"]
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """The axes of a plane in a RAS+ volume.

    Attributes:
        normal: array axis that the slice number counts along.
        across, down: array axes that become columns and rows.
    """

    normal: int
    across: int
    down: int


VIEWS: dict[str, View] = {
    "axial": View(2, 0, 1),
    "coronal": View(1, 0, 2),
    "sagittal": View(0, 1, 2),
}
"""Across and down always run against the RAS+ axes: from R, A or S to the other end."""

LONGEST_SIDE = 1024


def render_slice(
    volume: Volume,
    plane: str,
    index: int,
    window: float,
    level: float,
) -> Picture:
    """Render one slice as grey values with square pixels.

    Args:
        volume: RAS+ volume in HU.
        plane: a key of :data:`VIEWS`.
        index: slice number along the plane's axis, from 0 at the left, back or feet end.
        window: width in HU, above 0; black is ``level - window / 2``.
        level: centre in HU; white is ``level + window / 2``.

    Returns:
        (rows, columns) uint8; the finer of the two spacings sets the pixel size.
    """
    view = _view(plane)
    count = volume.shape[view.normal]
    if not 0 <= index < count:
        raise BadRequest(
            f"There is no {plane} slice {index}.",
            f"This scan has slices 0 to {count - 1}.",
            code="bad_slice",
        )
    if not window > 0:
        raise BadRequest("The window width must lie above 0 HU.", code="bad_window")
    plate = np.take(volume.hu, index, axis=view.normal)
    if view.across < view.down:
        plate = plate.T
    plate = plate[::-1, ::-1].astype(np.float32)
    grey = (plate - np.float32(level - window / 2)) * np.float32(255 / window)
    picture = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    return _square_pixels(picture, volume.spacing_mm[view.across], volume.spacing_mm[view.down])


def _square_pixels(picture: Picture, across_mm: float, down_mm: float) -> Picture:
    pixel = min(across_mm, down_mm)
    rows, columns = picture.shape
    size = (columns * across_mm / pixel, rows * down_mm / pixel)
    shrink = min(1.0, LONGEST_SIDE / max(size))
    width, height = (max(1, round(n * shrink)) for n in size)
    if (width, height) == (columns, rows):
        return picture
    image = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _view(plane: str) -> View:
    if plane not in VIEWS:
        raise UnknownName("plane", plane, tuple(VIEWS))
    return VIEWS[plane]


def encode_jpeg(picture: Picture, quality: int = 85) -> bytes:
    """A grey picture as JPEG, for moving through slices quickly."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()
