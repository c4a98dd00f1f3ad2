"""Checks by the peaks of their histogram that values are Hounsfield units.

Every CT of a chest has air near -1000, lung, fat near -100 and soft tissue near 40. The places of
these peaks, not the range of the values, tell that all were shifted, multiplied or negated.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rad3d.core.errors import BadVolume
from rad3d.core.types import Note

SAMPLE_VOXELS = 400_000
LABEL_VALUES = 16
"""A CT has hundreds of distinct values; a mask or label map has few."""
LABEL_NEIGHBOURS = 0.7
"""Share of equal neighbours inside the labels of a map; in an image noise keeps it low."""

BINS, SMOOTH_BINS = 300, 2.0
MIN_PEAK, LARGE_PEAK = 0.003, 0.05
"""Prominence of a peak / height of the tallest."""

AIR_HU, SOFT_HU = -1000.0, 40.0
MIN_AIR, MIN_TISSUE = 0.005, 0.02
LOWEST_TISSUE_HU, HIGHEST_LUNG_HU = -300.0, -600.0
AIR_PEAK_HU, SOFT_PEAK_HU = (-1070.0, -930.0), (-140.0, 110.0)
ODD_AIR_PEAK_HU, ODD_SOFT_PEAK_HU = (-1150.0, -870.0), (-200.0, 170.0)
"""Wider ranges, in which the scan is read with a warning."""
DARKEST_HU, DARKER_THAN_LUNG_HU = -900.0, 100.0
"""Airways and noise reach below these where the tallest low peak is lung."""

SPIKE_SHARE, SPIKE_RATIO, SPIKE_ROOM_HU = 0.005, 5.0, 50.0
CLIPPED_SHARE, CLIPPED_BELOW_HU, MIN_BONE_HU = 5e-4, 1000.0, 300.0

REMEDY = (
    "Give the scan in Hounsfield units (air -1000, water 0), as exported by dcm2niix from DICOM."
)


class Peak(NamedTuple):
    """A peak of a histogram: its place in HU, its prominence / the height of the tallest."""

    place: float
    size: float


def check_hounsfield(values: npt.NDArray[Any]) -> list[Note]:
    """Refuse values that are not Hounsfield units, naming what was seen.

    NaN and values that stand alone, such as those of a padding, are left out of account.

    Args:
        values: (X, Y, Z) int16 or float32.

    Returns:
        Warnings: the values are those of a CT, but shifted a little, or cut off above.

    Raises:
        BadVolume: ``too_many_invalid``, ``constant``, ``label_map``, ``no_intercept``,
            ``rescaled_twice``, ``noise`` or ``not_hu``.
    """
    sample = _sample(values)
    if not len(sample):
        _refuse("No voxel holds a number (all are NaN or infinite).", "too_many_invalid")
    low, high = float(sample.min()), float(sample.max())
    if low == high and np.nanmin(values) == np.nanmax(values):
        _refuse("Every voxel has the same value; there is no image in the file.", "constant")
    distinct, counts = np.unique(sample, return_counts=True)
    whole = sample.dtype.kind == "i" or bool(np.array_equal(distinct, np.rint(distinct)))
    patches = low >= 0 and high <= 10_000 and _equal_neighbours(values) > LABEL_NEIGHBOURS
    if whole and (len(distinct) <= LABEL_VALUES or patches):
        _refuse(
            f"The values are few whole numbers ({low:g} to {high:g}): a mask or label map, "
            "not an image.",
            "label_map",
        )
    if _is_noise(values):
        raise BadVolume(
            "Neighbouring voxels have nothing to do with each other: this is noise, not an image.",
            "Check the file, or export the scan again.",
            code="noise",
        )
    measured = sample[~np.isin(sample, _spikes(distinct, counts))]
    notes = _check_peaks(measured if len(measured) else sample)
    return [*notes, *_clipped(sample)]


def _check_peaks(sample: npt.NDArray[Any]) -> list[Note]:
    peaks = peaks_of(sample)
    darkest = float(np.percentile(sample, 0.1))

    def fit(air: tuple[float, float], soft: tuple[float, float]) -> bool:
        return _has_air(peaks, darkest, air) and _has_soft_tissue(peaks, soft)

    enough_air = np.mean((sample > -1100) & (sample < -450)) >= MIN_AIR
    enough_tissue = np.mean((sample > -200) & (sample < 250)) >= MIN_TISSUE
    if not (enough_air and enough_tissue and fit(ODD_AIR_PEAK_HU, ODD_SOFT_PEAK_HU)):
        _refuse_peaks(sample, peaks)
    if fit(AIR_PEAK_HU, SOFT_PEAK_HU):
        return []
    text = (
        f"The values are not quite Hounsfield units: {_seen(peaks)}. Densities in the report may "
        "be wrong."
    )
    return [Note("warning", "odd_hu", text)]


def peaks_of(sample: npt.NDArray[Any]) -> list[Peak]:
    """Peaks of the smoothed histogram, from low to high."""
    from scipy import signal  # slow to import, and only needed with the first scan

    low, high = np.percentile(sample, (0.1, 99.9))
    if not high > low:
        return [Peak(float(low), 1.0)]
    counts, edges = np.histogram(sample, BINS, (low, high))
    heights = ndimage.gaussian_filter1d(counts.astype(np.float64), SMOOTH_BINS)
    padded = np.concatenate([[0.0], heights, [0.0]])
    places, properties = signal.find_peaks(padded, prominence=MIN_PEAK * heights.max())
    width = edges[1] - edges[0]
    return [
        Peak(float(edges[place - 1] + width / 2), float(size / heights.max()))
        for place, size in zip(places, properties["prominences"], strict=True)
    ]


def _has_air(peaks: list[Peak], darkest: float, allowed: tuple[float, float]) -> bool:
    """Whether the tallest low peak is air, or lung with something darker than it."""
    low = [peak for peak in peaks if peak.place < HIGHEST_LUNG_HU]
    if not low:
        return False
    tallest = max(low, key=lambda peak: peak.size).place
    lung = tallest > allowed[0] and darkest < min(DARKEST_HU, tallest - DARKER_THAN_LUNG_HU)
    return allowed[0] <= tallest <= allowed[1] or lung


def _has_soft_tissue(peaks: list[Peak], allowed: tuple[float, float]) -> bool:
    """Whether fat or muscle, whichever is more, lies where it must; blood with contrast may not."""
    high = [peak for peak in peaks if peak.place > LOWEST_TISSUE_HU]
    enough = max((peak.size for peak in high), default=0.0) / 3
    return any(allowed[0] <= p.place <= allowed[1] and p.size >= enough for p in high)


def _refuse_peaks(sample: npt.NDArray[Any], peaks: list[Peak]) -> NoReturn:
    """Say where the peaks are and, where two of them tell, what was done to the values."""
    low, high = (_short(float(end)) for end in (sample.min(), sample.max()))
    large = [peak.place for peak in peaks if peak.size >= LARGE_PEAK] or [0.0]
    dark, bright = large[0], large[-1]
    # Nothing is darker than air, but bone is denser than soft tissue.
    if dark - float(np.percentile(sample, 0.5)) > 0.2 * (bright - dark):
        dark, bright = bright, dark
    factor = (bright - dark) / (SOFT_HU - AIR_HU)
    added = dark - factor * AIR_HU
    code, guess = "not_hu", ""
    if len(large) > 1 and abs(factor - 1) < 0.1:
        code = {1: "no_intercept", -1: "rescaled_twice"}.get(round(added / 1020), code)
        guess = f", as if about {round(added, -1):.0f} had been added to each"
    elif len(large) > 1 and abs(added) < 60 * abs(factor) and not 0 <= factor < 0.1:
        guess = f", as if each had been multiplied by about {factor:.2g}"
    _refuse(f"The values ({low} to {high}) are not Hounsfield units: {_seen(peaks)}{guess}.", code)


def _seen(peaks: list[Peak]) -> str:
    large = sorted(sorted(peaks, key=lambda peak: -peak.size)[:3])
    places = [_short(peak.place) for peak in large]
    position = f"peaks of their histogram lie at {', '.join(places)}"
    if len(places) == 1:
        position = f"peak of their histogram lies at {places[0]}"
    return f"the {position} instead of -1000 (air), -100 (fat) and 40 (soft tissue)"


def _short(value: float) -> str:
    return f"{float(f'{value:.3g}'):.12g}"


def _spikes(distinct: npt.NDArray[Any], counts: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    """Values far more frequent than the next ones: padding, or an end where values were cut off.

    Those that may be air are not among them: scanners cut off air at -1000 or -1024.
    """
    near = np.diff(distinct.astype(np.float64)) < SPIKE_ROOM_HU
    beside = np.zeros_like(counts)
    beside[1:] = counts[:-1] * near
    beside[:-1] = np.maximum(beside[:-1], counts[1:] * near)
    alone = (counts > SPIKE_SHARE * counts.sum()) & (counts > SPIKE_RATIO * beside)
    return distinct[alone & ((distinct < AIR_PEAK_HU[0]) | (distinct > AIR_PEAK_HU[1]))]


def _clipped(sample: npt.NDArray[Any]) -> list[Note]:
    top = float(sample.max())
    share = float(np.mean(sample > top - 0.5))
    if top >= CLIPPED_BELOW_HU or (share < CLIPPED_SHARE and top >= MIN_BONE_HU):
        return []
    text = (
        f"The values were clipped: no voxel is above {top:.0f} HU. Bone, calcification and metal "
        "are denser than that, and the report cannot know them."
    )
    return [Note("warning", "clipped", text)]


def _sample(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Evenly spread voxels that hold a number, flat."""
    step = max(1, round((values.size / SAMPLE_VOXELS) ** (1 / 3)))
    sample = values[::step, ::step, ::step].ravel()
    return sample if sample.dtype.kind == "i" else sample[np.isfinite(sample)]


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
    best = max(_correlation(here, beside), _correlation(here, ahead))
    return best < 0.2


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    spread = float(a.std() * b.std()) if len(a) else 0.0
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread else 1.0


def _refuse(problem: str, code: str) -> NoReturn:
    raise BadVolume(problem, REMEDY, code=code)
