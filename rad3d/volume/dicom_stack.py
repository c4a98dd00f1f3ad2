"""Which slices make one scan, and whether they stand in line.

Headers are written by many hands: directions carry rounding noise, pixel sizes have three decimals
here and six there, positions are cut to tenths. None of that parts a series. What does part it is
said, for a scan that becomes shorter must not do so in silence.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from rad3d.core.errors import BadVolume
from rad3d.core.types import FloatArray
from rad3d.core.words import counted
from rad3d.volume.decoded import refuse
from rad3d.volume.dicom_file import Slice

Stack = list[Slice]

MIN_SLICES = 3
MAX_FAMILIES = 256
"""Kinds of slices that are told apart, so that the time for thousands of files stays linear."""
SAME_DIRECTION = 2e-3
"""Radians that the axes of one stack may differ by: 0.4 mm at the edge of a slice."""
SAME_SPACING = 5e-3
"""Largest relative difference of the pixel sizes of one stack."""
SAME_PLACE = 0.02
"""Share of a step below which two slices are at one position."""
GAP_TOLERANCE = 0.05
"""Slice distances may differ by this share of their median."""
CLEAR = 0.15
"""Share of a step by which gaps may miss whole numbers of slices and still be counted in them."""
ROUNDINGS_MM = (1.0, 0.5, 0.1, 0.05, 0.01)
COARSEST_ROUNDING = 0.4
"""Share of a step up to which rounded positions can be told from missing slices."""
SIDEWAYS = 0.25
"""Pixels that a slice may lie beside the line through the others."""
TILT_COSINE = 0.9998
"""Slices stacked along another direction than their normal (over 1.1 degrees): a tilted gantry."""
AGAIN = "Copy or export the series again, with all its files."


def stacks_of(slices: Sequence[Slice]) -> list[Stack]:
    """Slices that belong together, the best candidate for the scan first.

    A stack has one patient, study, matrix, pixel size and direction, and one series UID, unless the
    slices of several make one even stack. Slices without geometry go to their series.
    """
    families: list[Stack] = []
    for one_slice in slices:
        if one_slice.axes is None or one_slice.spacing is None or one_slice.position is None:
            continue
        first_families = families[:MAX_FAMILIES]
        home = next((family for family in first_families if _alike(one_slice, family[0])), None)
        if home is None:
            families.append(home := [])
        home.append(one_slice)
    stacks: list[Stack] = []
    for family in families:
        series = _by_series(family)
        stacks += [family] if len(series) > 1 and _is_even(family) else series
    placed = {id(one_slice) for stack in stacks for one_slice in stack}
    for rest in _by_series([one_slice for one_slice in slices if id(one_slice) not in placed]):
        hosts = [stack for stack in stacks if any(s.series == rest[0].series for s in stack)]
        if hosts and rest[0].size in (None, max(hosts, key=len)[0].size):
            max(hosts, key=len).extend(rest)
        else:
            stacks.append(rest)
    return sorted(stacks, key=lambda s: (s[0].modality == "CT", len(s)), reverse=True)


def _by_series(slices: Sequence[Slice]) -> list[Stack]:
    series: dict[object, Stack] = defaultdict(list)
    for one_slice in slices:
        series[one_slice.series, one_slice.size].append(one_slice)
    return list(series.values())


def _alike(a: Slice, b: Slice) -> bool:
    return (
        (a.size, a.modality) == (b.size, b.modality)
        and (a.study == b.study or a.series == b.series)
        and bool(np.abs(a.axes - b.axes).max() < SAME_DIRECTION)  # type: ignore[operator]
        and bool(np.allclose(a.spacing, b.spacing, rtol=SAME_SPACING))  # type: ignore[arg-type]
    )


def _is_even(stack: Stack) -> bool:
    if len(stack) < MIN_SLICES:
        return False
    try:
        check_line(in_order(stack))
    except BadVolume:
        return False
    return True


def in_order(stack: Stack) -> Stack:
    """The slices along their normal."""
    normal = stack[0].normal
    return sorted(stack, key=lambda one_slice: float(one_slice.position @ normal))  # type: ignore[operator]


def depths(stack: Stack) -> FloatArray:
    """(n,) mm along the normal of the first slice."""
    return np.array([one_slice.position for one_slice in stack]) @ stack[0].normal


def check_one_person(stacks: Sequence[Stack]) -> None:
    """Refuse where there are scans of several patients or studies."""
    scans = [stack[0].study for stack in stacks if len(stack) >= MIN_SLICES]
    patients = len({patient for patient, _ in scans})
    if len(set(scans)) > 1:
        what = f"{patients} patients" if patients > 1 else f"{len(set(scans))} studies of a patient"
        refuse(
            f"There are CT series of {what} in it, and which is meant is not known.",
            "Give the series of one patient and one study at a time.",
            "several_volumes",
        )


def check_headers(stack: Stack) -> None:
    """Refuse a series of which pixels are missing, or what gives them size, place and scale."""
    scaled = any(one_slice.scaling for one_slice in stack)
    bare = [
        ([s.pixels is None for s in stack], "fewer pixels than the header says: the files are "
         "damaged or cut short", "bad_dicom"),
        ([s.spacing is None for s in stack], "no usable pixel size (PixelSpacing)", "bad_affine"),
        ([s.position is None for s in stack], "no usable position (ImagePositionPatient)",
         "bad_affine"),
        ([s.axes is None for s in stack], "no usable orientation (ImageOrientationPatient)",
         "no_orientation"),
        ([scaled and s.scaling is None for s in stack], "no usable scale (RescaleSlope, "
         "RescaleIntercept), unlike the others", "no_intercept"),
    ]  # fmt: skip
    for missing, what, code in bare:
        if count := sum(missing):
            has = "has" if count == 1 else "have"
            refuse(f"{count} of the {len(stack)} slices of the series {has} {what}.", AGAIN, code)


def check_line(stack: Stack, strays: int = 0, unread: int = 0) -> None:
    """Refuse slices that are not one behind the other at even steps.

    Args:
        stack: in order.
        strays: slices that would fill its gaps, but differ from it.
        unread: files that may be the missing ones.
    """
    heights = depths(stack)
    steps = np.diff(heights)
    span = float(heights[-1] - heights[0])
    if span < SAME_PLACE:
        refuse(
            f"All {len(stack)} slices lie at one position: they show the same slice again and "
            "again.",
            "Give the series of the whole chest.",
            "irregular_slices",
        )
    doubled = int((steps < SAME_PLACE * span / len(steps)).sum())
    if doubled:
        refuse(
            f"{doubled} of the {len(stack)} slices lie at the same position as another with other "
            "values, as in a series of several phases or reconstructions.",
            "Give one phase and reconstruction only.",
            "irregular_slices",
        )
    _check_steps(stack, heights, steps, strays, unread)
    _check_sideways(stack)
    if unread >= len(steps):
        refuse(
            f"Of {len(stack) + unread} files {unread} cannot be read (empty or damaged). Slices "
            "may be missing between all that are left, and nothing else would show it.",
            AGAIN,
            "bad_dicom",
        )


def _check_steps(
    stack: Stack, heights: FloatArray, steps: FloatArray, strays: int, unread: int
) -> None:
    usual = float(np.median(steps))
    rounding = _rounding(stack)
    if np.abs(steps - usual).max() <= GAP_TOLERANCE * usual:
        return
    if rounding <= COARSEST_ROUNDING * steps.mean() and _are_even_but_for(1.02 * rounding, heights):
        return
    text = f"the steps go from {steps.min():.2f} to {steps.max():.2f} mm"
    whole = np.rint(steps / usual)
    missing = int((whole - 1).sum()) if np.abs(steps / usual - whole).max() < CLEAR else 0
    if unread:
        text += f", and {counted(unread, 'file')} cannot be read (empty or damaged)"
    elif strays:
        text += (
            f"; {counted(strays, 'slice')} between them had to be left out, since matrix, pixel "
        )
        text += "size or series differ"
    elif missing:
        text += f", so about {missing} {'slice is' if missing == 1 else 'slices are'} missing"
    refuse(
        f"The slices are not evenly spaced: {text}.",
        "Give every slice of one series, and only those.",
        "irregular_slices",
    )


def _rounding(stack: Stack) -> float:
    """The unit that positions are rounded to, in mm along the normal; 0 where there is none."""
    moved = np.array([one_slice.position for one_slice in stack]) - stack[0].position
    units = np.zeros(3)
    for axis in range(3):
        for unit in ROUNDINGS_MM:
            if np.abs(moved[:, axis] - np.rint(moved[:, axis] / unit) * unit).max() < 1e-4:
                units[axis] = unit
                break
    return float(np.abs(stack[0].normal) @ units)


def _are_even_but_for(rounding: float, heights: FloatArray) -> bool:
    """Whether one step fits all slices, each being up to half of ``rounding`` out of its place.

    That is so where the rises between any two slices, a full ``rounding`` more or less, have one
    step in common.
    """
    low, high = np.triu_indices(len(heights), 1)
    rises, apart = heights[high] - heights[low], high - low
    return bool(((rises - rounding) / apart).max() <= ((rises + rounding) / apart).min())


def _off_line(places: FloatArray) -> FloatArray:
    """(n,) distances of (n, k) places from the straight, even line that fits them best."""
    index = np.arange(len(places)) - (len(places) - 1) / 2
    centred = places - places.mean(axis=0)
    slope = index @ centred / (index @ index)
    return np.asarray(np.linalg.norm(centred - index[:, None] * slope, axis=1))


def _check_sideways(stack: Stack) -> None:
    """Refuse jumps within the plane, and a stack that leans."""
    first = stack[0]
    places = np.array([one_slice.position for one_slice in stack])
    assert first.axes is not None
    assert first.spacing is not None
    within = places @ first.axes.T
    if _off_line(within).max() > SIDEWAYS * max(first.spacing):
        steps = np.diff(within, axis=0)
        jump = np.linalg.norm(steps - np.median(steps, axis=0), axis=1).max()
        refuse(
            f"The slices are not in line: some are shifted sideways by {jump:.1f} mm against "
            "their neighbours.",
            "Give the slices of one series, as they were reconstructed.",
            "irregular_slices",
        )
    stack_axis = places[-1] - places[0]
    cosine = abs(float(stack_axis @ first.normal)) / float(np.linalg.norm(stack_axis))
    if cosine < TILT_COSINE:
        angle = math.degrees(math.acos(min(1.0, cosine)))
        refuse(
            f"The gantry was tilted: the slices are stacked at a slant of {angle:.0f} degrees.",
            "Convert the series with dcm2niix, which corrects the tilt, and give its .nii.gz.",
            "sheared",
        )


def count_strays(stack: Stack, others: Sequence[Stack]) -> int:
    """Count the slices of other stacks that fill gaps of this one, or continue it.

    Args:
        stack: in order.
        others: of the same study.
    """
    heights = depths(stack)
    step = float(np.median(np.diff(heights)))
    count = 0
    for other in others:
        if any(s.position is None or s.axes is None for s in other):
            continue
        if np.abs(other[0].axes - stack[0].axes).max() > SAME_DIRECTION:  # type: ignore[operator]
            continue
        theirs = np.array([s.position for s in other]) @ stack[0].normal
        apart = np.abs(theirs[:, None] - heights[None]).min(axis=1)
        if apart.min() > 0.75 * step and apart.min() < 2 * step:
            count += len(other)
    return count
