"""A quick look at what part of the body a CT shows, on a coarse grid (about 4 mm, under 0.15 s).

Lungs are low-density regions that are not the air around the patient. That air touches the sides of
the image and is as thin as air; lung that touches the sides because the field of view was cropped
is denser. Bowel gas is as thin as air, so it does not count as lung either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rad3d.core.types import FloatArray, Note

BoolArray = npt.NDArray[np.bool_]

COARSE_MM = 4.0
LOW_DENSITY_HU = -450.0
TISSUE_HU = -350.0
LUNG_MEDIAN_HU = (-960.0, -450.0)
AROUND_PATIENT_HU = -930.0
CUT_ROW = 0.1
"""Share of a front or back row that must show the body; the couch alone shows less."""
MIN_LUNG_ML = 20.0
LUNG_RADIUS_MM = 12.0
NOT_CHEST_SHARE = 0.035
"""Lung share of the body below which there is no chest; healthy chests have 0.12 to 0.45."""
PART_SHARE, PART_END_AREA = 0.10, 0.7
"""Little lung, and most of it in an end slice: an abdomen or a neck that touches the lungs."""
BEYOND_CHEST_SLICES = 0.40
"""Share of the slices with lung below which much more than the chest was scanned."""
CROPPED_CM2 = 40.0
END_AREA = 0.4
MISSING_HALF = (0.7, 0.35)
"""A side of the image that cuts so much of the body's largest sagittal area, where no such dip of
the mediastinum lies between two lungs, halves the chest. Whole chests have a dip of 0.5 or more."""
SLAB_MM, THINNEST_CHEST_MM = 120.0, 70.0
BODY_WIDTH_MM = (190.0, 620.0)
"""Widest slice of an adult body, arms included; a small child may be narrower."""


@dataclass(frozen=True)
class Anatomy:
    """Lungs and body of a scan, measured on a coarse grid.

    Attributes:
        lung_ml: volume of the lungs.
        lung_share: lung volume / volume of the body with its lungs.
        slices_with_lung: share of the axial slices that show lung.
        cut_cm2: side -> lung area on that face of the image.
        end_area: (feet end, head end) lung area in the end slice / in the largest slice.
        width_mm: left-right width of the body, None where it touches a side of the image.
        height_mm: of the image from feet to head.
        missing_half: the side of a chest that was cut through the middle, else None.
    """

    lung_ml: float
    lung_share: float
    slices_with_lung: float
    cut_cm2: dict[str, float]
    end_area: tuple[float, float]
    width_mm: float | None
    height_mm: float
    missing_half: str | None


def _look_at(hu: npt.NDArray[Any], affine: FloatArray) -> Anatomy:
    """Find body and lungs in (X, Y, Z) RAS+ HU on a coarse grid."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    # Smaller than COARSE_MM where the scan is small in mm, so that a wrong header changes little.
    extent = spacing * np.array(hu.shape)
    pitch_mm = min(COARSE_MM, float(extent[:2].max()) / 70)
    step = [
        max(1, round(pitch_mm / s)) if n >= 32 else 1
        for s, n in zip(spacing, hu.shape, strict=True)
    ]
    coarse = hu[:: step[0], :: step[1], :: step[2]].astype(np.float32)
    pitch = spacing * step
    smooth = ndimage.uniform_filter(coarse, 3 if pitch.max() < 6 else (3, 3, 1))
    body = _body(smooth)
    lung = _lungs(smooth, body, pitch)
    voxel_ml = float(np.prod(pitch)) / 1000
    lung_ml = float(lung.sum()) * voxel_ml
    whole = float((body | lung).sum()) * voxel_ml
    areas = lung.sum(axis=(0, 1)) * float(pitch[0] * pitch[1]) / 100
    largest = float(areas.max()) or 1.0
    return Anatomy(
        lung_ml=lung_ml,
        lung_share=lung_ml / whole if whole else 0.0,
        slices_with_lung=float((areas > 0.12 * largest).mean()) if lung_ml else 0.0,
        cut_cm2={
            "left": _face(lung[0], pitch[1] * pitch[2]),
            "right": _face(lung[-1], pitch[1] * pitch[2]),
            "back": _face(lung[:, 0], pitch[0] * pitch[2]),
            "front": _face(lung[:, -1], pitch[0] * pitch[2]),
        },
        end_area=(float(areas[:2].mean()) / largest, float(areas[-2:].mean()) / largest),
        width_mm=_width(body, float(pitch[0])),
        height_mm=float(extent[2]),
        missing_half=_missing_half(body | lung, lung),
    )


def anatomy_notes(hu: npt.NDArray[Any], affine: FloatArray) -> tuple[Note, ...]:
    """Warnings about a body part, a field of view or a size that is not a whole chest's."""
    anatomy = _look_at(hu, affine)
    notes: list[Note] = []
    touched = anatomy.lung_share < PART_SHARE and max(anatomy.end_area) > PART_END_AREA
    if anatomy.lung_share < NOT_CHEST_SHARE or touched:
        amount = f"({anatomy.lung_ml:.0f} ml, {anatomy.lung_share:.0%} of the body)"
        little = f"hardly any lung was found {amount}" if anatomy.lung_ml else "no lung was found"
        text = f"This does not look like a chest: {little}. A report about it means nothing."
        notes.append(Note("warning", "not_chest", text))
        return tuple(notes)
    if anatomy.slices_with_lung < BEYOND_CHEST_SLICES:
        text = (
            f"Only {anatomy.slices_with_lung:.0%} of the slices show lung: the scan covers much "
            "more than the chest, and the report may miss parts of it."
        )
        notes.append(Note("warning", "beyond_chest", text))
    cut = [side for side, area in anatomy.cut_cm2.items() if area > CROPPED_CM2]
    ends = [
        name
        for name, share in zip(("feet", "head"), anatomy.end_area, strict=True)
        if share > END_AREA
    ]
    if anatomy.height_mm < (SLAB_MM if len(ends) == 2 else THINNEST_CHEST_MM) and ends:
        text = (
            f"The scan is only a slab of the chest, {anatomy.height_mm:.0f} mm from feet to head. "
            "The report cannot know what lies above and below it."
        )
        notes.append(Note("warning", "cropped_fov", text))
        ends = []
    if cut or ends or anatomy.missing_half:
        where = [f"on the {s}" if s in ("left", "right") else f"at the {s}" for s in cut]
        where += [f"at the {e} end" for e in ends]
        lost = [f"lung is cut off {', '.join(where)}"] if where else []
        if anatomy.missing_half:
            lost.append(f"only half of the chest is there, not the {anatomy.missing_half} side")
        text = (
            f"The field of view is cropped: {', and '.join(lost)}. The report cannot know what "
            "lies there."
        )
        notes.append(Note("warning", "cropped_fov", text))
    return (*notes, *_size_notes(anatomy))


def _size_notes(found: Anatomy) -> list[Note]:
    cause = (
        "the voxel size in the header is probably wrong (or the patient is a small child), and "
        "every size in the report with it."
    )
    notes = []
    if found.width_mm and not BODY_WIDTH_MM[0] <= found.width_mm <= BODY_WIDTH_MM[1]:
        text = f"The body would be {found.width_mm / 10:.0f} cm wide: {cause}"
        notes.append(Note("warning", "implausible_body", text))
    if found.height_mm < THINNEST_CHEST_MM and max(found.end_area) <= END_AREA:
        text = f"Whole lungs would be within {found.height_mm:.0f} mm from feet to head: {cause}"
        notes.append(Note("warning", "implausible_body", text))
    return notes


def _body(smooth: npt.NDArray[np.float32]) -> BoolArray:
    """Largest connected piece of tissue without the couch, holes not filled."""
    # An opening that does not eat what the image cuts.
    core = ndimage.binary_erosion(smooth > TISSUE_HU, border_value=1)
    tissue = ndimage.binary_dilation(core)
    pieces, n = ndimage.label(tissue)
    if not n:
        return np.zeros(smooth.shape, bool)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == sizes.argmax())


def _lungs(smooth: npt.NDArray[np.float32], body: BoolArray, pitch: FloatArray) -> BoolArray:
    """Large low-density regions inside the body, cropped ones included."""
    low = smooth < LOW_DENSITY_HU
    low &= ~_outside(smooth, low)
    # Mostly between front and back of the body: neither foam of the couch nor air in a sleeve.
    # Where the image cuts the body at its front or back, what is low beside it is lung.
    cut = body[:, [0, -1]].mean(axis=0, keepdims=True) > CUT_ROW
    body = body.copy()
    body[:, [0, -1]] |= low[:, [0, -1]] & cut
    behind = np.logical_or.accumulate(body, axis=1)
    before = np.logical_or.accumulate(body[:, ::-1], axis=1)[:, ::-1]
    between = behind & before
    pieces, n = ndimage.label(low)
    lung = np.zeros(smooth.shape, bool)
    if not n:
        return lung
    voxel_ml = float(np.prod(pitch)) / 1000
    sizes = np.bincount(pieces.ravel()) * voxel_ml
    boxes = ndimage.find_objects(pieces)
    for index in range(1, n + 1):
        if sizes[index] < MIN_LUNG_ML:
            continue
        box = boxes[index - 1]
        region = pieces[box] == index
        median = float(np.median(smooth[box][region]))
        if not LUNG_MEDIAN_HU[0] <= median <= LUNG_MEDIAN_HU[1]:
            continue
        if between[box][region].mean() < 0.5:
            continue
        if _radius(region, pitch) >= LUNG_RADIUS_MM:
            lung[box] |= region
    return lung


def _outside(smooth: npt.NDArray[np.float32], low: BoolArray) -> BoolArray:
    """Air around the patient: low-density voxels grown from true air at the image's four sides."""
    pieces, n = ndimage.label(smooth < AROUND_PATIENT_HU)
    sides = np.concatenate(
        [pieces[0].ravel(), pieces[-1].ravel(), pieces[:, 0].ravel(), pieces[:, -1].ravel()]
    )
    counts = np.bincount(sides, minlength=n + 1)
    counts[0] = 0
    outside = np.isin(pieces, np.flatnonzero(counts > 8))
    # The blurred rim between air and skin belongs to the outside as well.
    return np.asarray(ndimage.binary_dilation(outside, iterations=2) & low)


def _radius(region: BoolArray, pitch: FloatArray) -> float:
    """Radius in mm of the largest ball inside a region; an image border does not limit it."""
    padded = np.pad(region, 1, mode="edge")
    return float(ndimage.distance_transform_edt(padded, sampling=pitch).max())


def _face(area: BoolArray, pixel_mm2: float) -> float:
    return float(area.sum()) * float(pixel_mm2) / 100


def _width(body: BoolArray, pitch_mm: float) -> float | None:
    columns = np.flatnonzero(body.sum(axis=(1, 2)) > 0.02 * max(1, body.sum(axis=(1, 2)).max()))
    if not len(columns) or columns[0] <= 1 or columns[-1] >= body.shape[0] - 2:
        return None
    return float(columns[-1] - columns[0] + 1) * pitch_mm


def _missing_half(body: BoolArray, lung: BoolArray) -> str | None:
    """The side on which a chest with one lung is cut off; None for a chest with two."""
    shown = lung.any(axis=(0, 1))
    if not shown.any():
        return None
    areas = body[:, :, shown].sum(axis=(1, 2)) / body[:, :, shown].sum(axis=(1, 2)).max()
    profile = ndimage.uniform_filter1d(lung.sum(axis=(1, 2)).astype(np.float64), 3)
    between = np.minimum(np.maximum.accumulate(profile), np.maximum.accumulate(profile[::-1])[::-1])
    if (between - profile).max() >= MISSING_HALF[1] * profile.max():
        return None
    side, area = max((("left", areas[0]), ("right", areas[-1])), key=lambda pair: pair[1])
    return side if area >= MISSING_HALF[0] else None
