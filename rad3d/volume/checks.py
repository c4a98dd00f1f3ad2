"""Whether values and geometry can be those of a chest CT in Hounsfield units.

What cannot be a CT is refused; what is a CT but odd gets a warning note. The rules look at where
air (-1000) and soft tissue (0 to 100) lie, since those two are fixed by the definition of the unit.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from rad3d.errors import BadVolume
from rad3d.types import FloatArray, Note
from rad3d.volume.anatomy import anatomy_notes
from rad3d.volume.decoded import Decoded, by

LEAST_VOXELS = 8192
LEAST_SLICES = 16
LEAST_AXIS = 8
LEAST_PLANE = 32
SPACING_MM = (0.1, 12.0)
EXTENT_MM = (60.0, 2300.0)
MOST_INVALID = 0.05
LABEL_VALUES = 16
"""A CT has hundreds of distinct values; a mask or label map has few."""
LABEL_NEIGHBOURS = 0.7
"""Share of equal neighbours inside the labels of a map; in an image noise keeps it low."""
SAMPLE_VOXELS = 1_500_000

RESCALE_REMEDY = (
    "Give the scan in Hounsfield units (air -1000, water 0), as exported by dcm2niix from DICOM."
)


def check_voxels(decoded: Decoded) -> tuple[Note, ...]:
    """All checks, from the certain to the subtle.

    Args:
        decoded: voxels as read.

    Returns:
        Warning notes.

    Raises:
        BadVolume: where it cannot be a chest CT in HU; see :mod:`rad3d.volume.load`.
    """
    _check_size(decoded.values.shape)
    notes = _check_finite(decoded)
    check_hounsfield(decoded.values)
    _check_slices(decoded.values.shape)
    if not decoded.oriented:
        raise BadVolume(
            "The header does not say how the scan lies in the patient, so left and right, front "
            "and back are unknown.",
            "Convert the scan from its DICOM files again, for instance with dcm2niix.",
            code="no_orientation",
        )
    _check_extent(decoded.values.shape, decoded.affine)
    return (*notes, *anatomy_notes(decoded.values, decoded.affine))


def _check_size(shape: tuple[int, ...]) -> None:
    if min(shape) < LEAST_AXIS or int(np.prod(shape)) < LEAST_VOXELS:
        raise BadVolume(
            f"The volume has only {by(shape)} voxels, too few for a chest CT.",
            "Give the whole scan with all of its slices.",
            code="too_few_voxels",
        )


def _check_slices(shape: tuple[int, ...]) -> None:
    if min(shape) < LEAST_SLICES or sorted(shape)[1] < LEAST_PLANE:
        raise BadVolume(
            f"The volume has only {by(shape)} voxels; at least {LEAST_SLICES} slices of "
            f"{LEAST_PLANE} x {LEAST_PLANE} are needed.",
            "Give the whole scan with all of its slices.",
            code="too_few_voxels",
        )


def _check_finite(decoded: Decoded) -> list[Note]:
    share = decoded.invalid / decoded.values.size
    if share > MOST_INVALID:
        raise BadVolume(
            f"{share:.0%} of the voxels are not numbers (NaN or infinite).",
            "Give the scan as it was before it was processed.",
            code="too_many_invalid",
        )
    if not decoded.invalid:
        return []
    text = (
        f"{decoded.invalid:,} voxels ({share:.2%}) were not numbers (NaN or infinite) and were "
        "replaced by air."
    )
    return [Note("warning", "invalid_voxels", text)]


def check_hounsfield(values: npt.NDArray[Any]) -> None:
    """Refuse values that are not Hounsfield units, naming the likeliest reason.

    Args:
        values: (X, Y, Z) int16 or float32 without NaN.

    Raises:
        BadVolume: ``constant``, ``label_map``, ``no_intercept``, ``rescaled_twice``, ``noise`` or
            ``not_hu``.
    """
    sample = _sample(values)
    low, high = float(sample.min()), float(sample.max())
    if low == high and values.min() == values.max():
        _refuse("Every voxel has the same value; there is no image in the file.", "constant")
    distinct = len(np.unique(sample[:: max(1, len(sample) // 200_000)]))
    whole = sample.dtype.kind == "i" or bool(np.array_equal(sample, np.rint(sample)))

    def share(start: float, end: float) -> float:
        return float(np.count_nonzero((sample >= start) & (sample < end))) / len(sample)

    patches = low >= 0 and high <= 10_000 and _equal_neighbours(values) > LABEL_NEIGHBOURS
    if whole and (distinct <= LABEL_VALUES or patches):
        _refuse(
            f"The values are few whole numbers ({low:g} to {high:g}): a mask or label map, "
            "not an image.",
            "label_map",
        )
    tissue, air = share(-200, 250), share(-1100, -450)
    shifted_tissue, shifted_air = share(824, 1274), share(-76, 574)
    if (
        shifted_tissue > 0.03
        and shifted_air > 0.03
        and air < 0.01
        and tissue - share(-76, 250) < 0.01
    ):
        _refuse(
            "The values look like CT values stored without their offset: air lies near 0 and soft "
            "tissue near 1024, so the intercept of -1024 is missing.",
            "no_intercept",
        )
    if share(-2200, -1500) > 0.03 and share(-1224, -774) > 0.03 and tissue < 0.02:
        _refuse(
            "The values look as if they were rescaled twice: air lies near -2000 and soft tissue "
            "near -1000.",
            "rescaled_twice",
        )
    top = float(np.percentile(sample, 99.5))
    if air < 0.005 or tissue < 0.02 or top > 6000:
        _refuse(
            f"The values ({low:.4g} to {high:.4g}) are not Hounsfield units: "
            + ("there is no air near -1000." if air < 0.005 else "soft tissue is not near 0."),
            "not_hu",
        )
    if _is_noise(values):
        raise BadVolume(
            "Neighbouring voxels have nothing to do with each other: this is noise, not an image.",
            "Check the file, or export the scan again.",
            code="noise",
        )


def _equal_neighbours(values: npt.NDArray[Any]) -> float:
    """Share of the voxels off the lowest value that equal their neighbour along x."""
    step = tuple(max(1, n // 96) for n in values.shape[1:])
    thin = values[:, :: step[0], :: step[1]]
    inside = thin[:-1] > thin.min()
    return float((thin[:-1] == thin[1:])[inside].mean()) if inside.any() else 0.0


def _is_noise(values: npt.NDArray[Any]) -> bool:
    """Whether neighbours in the middle of the scan correlate less than in any real image."""
    middle = tuple(slice(n // 4, max(n // 4 + 2, 3 * n // 4)) for n in values.shape)
    block = values[middle]
    step = tuple(max(1, n // 64) for n in block.shape)
    here = block[:-1:, :-1:, :][:: step[0], :: step[1], :: step[2]].astype(np.float64)
    beside = block[1:, :-1, :][:: step[0], :: step[1], :: step[2]].astype(np.float64)
    ahead = block[:-1, 1:, :][:: step[0], :: step[1], :: step[2]].astype(np.float64)
    if here.std() == 0:
        return False
    best = max(_correlation(here, beside), _correlation(here, ahead))
    return best < 0.2


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread else 1.0


def _sample(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Evenly spread voxels, flat; strides have no common period with rows."""
    step = max(1, round((values.size / SAMPLE_VOXELS) ** (1 / 3)))
    return values[::step, ::step, ::step].ravel()


def _check_extent(shape: tuple[int, ...], affine: FloatArray) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    extent = spacing * np.array(shape)
    wrong = (
        spacing.min() < SPACING_MM[0]
        or spacing.max() > SPACING_MM[1]
        or extent.min() < EXTENT_MM[0]
        or extent.max() > EXTENT_MM[1]
    )
    if wrong:
        raise BadVolume(
            f"The header claims voxels of {' x '.join(f'{s:.3g}' for s in spacing)} mm and a scan "
            f"of {' x '.join(f'{e:.4g}' for e in extent)} mm, which is impossible for a chest.",
            "Correct the voxel size in the header, or convert the scan from DICOM again.",
            code="implausible_size",
        )


def _refuse(problem: str, code: str) -> NoReturn:
    raise BadVolume(problem, RESCALE_REMEDY, code=code)
