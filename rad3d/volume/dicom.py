"""A DICOM series to voxels: headers by pydicom, the choice and the geometry checked here.

Slices are ordered by their position in the patient, never by file name. A series with gaps or
damaged files is refused: filling them in would show anatomy that nobody scanned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rad3d.core.errors import BadVolume
from rad3d.core.types import FloatArray, Note
from rad3d.core.words import counted
from rad3d.volume.decoded import Decoded, Limits, refuse
from rad3d.volume.dicom_file import Opener, OtherObject, Slice, read_pixels, read_slices
from rad3d.volume.dicom_stack import (
    MIN_SLICES,
    SAME_PLACE,
    Stack,
    check_headers,
    check_line,
    check_one_person,
    count_strays,
    depths,
    in_order,
    stacks_of,
)
from rad3d.volume.geometry import Turn, geometry_notes
from rad3d.volume.hounsfield import Hounsfield, slabs

CONVERT = "Convert the series with dcm2niix and give its .nii.gz file."


def decode_dicom(
    files: Sequence[Path],
    limits: Limits,
    unread: int = 0,
    make_room: Callable[[int], None] = lambda voxels: None,
) -> Decoded:
    """Read the CT series with most slices among some files.

    Args:
        files: DICOM files, whatever is in them.
        limits: how large the volume may be.
        unread: files named like these that are no DICOM any more.
        make_room: told the number of voxels before they are read.

    Raises:
        BadVolume: ``bad_dicom``, ``single_dicom``, ``multiframe_dicom``, ``not_ct``,
            ``several_volumes``, ``bad_affine``, ``no_orientation``, ``no_intercept``,
            ``irregular_slices``, ``sheared``, ``too_few_voxels`` or ``too_large``.
    """
    slices: list[Slice] = []
    others: Counter[str] = Counter()
    opener = Opener(limits)
    for path in files:
        try:
            slices += read_slices(opener.open(path), path)
        except OtherObject as error:
            others[str(error)] += 1
        except Exception:  # a damaged header may raise anything
            unread += 1
    if not slices:
        _refuse_others(others)
    stacks = stacks_of(slices)
    check_one_person(stacks)
    chosen, rest = stacks[0], stacks[1:]
    _check_count(chosen, len(files))
    columns, rows = chosen[0].size or (0, 0)
    limits.check_voxels((columns, rows, len(chosen)))
    limits.check_bytes(columns * rows * len(chosen) * 4, "The series, unpacked,")
    make_room(columns * rows * len(chosen))
    opener = Opener(limits)
    ordered = _without_copies(in_order(chosen), opener)
    strays = count_strays(ordered, rest)
    check_line(ordered, strays, unread)
    affine = _affine(ordered)
    scan = _hounsfield(ordered, Turn.of(affine), opener)
    turn = Turn.of(affine)
    affine = turn.affine(affine, (columns, rows, len(ordered)))
    notes = [
        *_choice_notes(ordered, rest, strays),
        *_file_notes(sum(others.values()), unread, len(chosen) - len(ordered)),
        *_value_notes(ordered),
        *geometry_notes(scan.values.shape, affine, turn.codes),
    ]
    text = (
        f"Values from {scan.minimum:.5g} to {scan.maximum:.5g}, kept as {scan.values.dtype.name}."
    )
    notes.append(Note("info", "values", text))
    return Decoded(
        scan.values, affine, tuple(notes), scan.minimum, scan.maximum, scan.invalid, True
    )


def _refuse_others(others: Counter[str]) -> None:
    """Say what there is where no file holds a slice of a CT."""
    if not others:
        refuse(
            "None of the DICOM files can be read: they are damaged, or not DICOM.",
            "Give the image files of one CT series.",
            "bad_dicom",
        )
    if set(others) == {"multi-frame picture"}:
        refuse(
            "This is a multi-frame DICOM file that does not say where its frames lie.",
            "Give the CT series itself, or convert it with dcm2niix and give the .nii.gz file.",
            "multiframe_dicom",
        )
    what = ", ".join(f"{n} x {kind}" for kind, n in others.most_common(4))
    refuse(
        f"The DICOM files hold no slices of a CT, but other objects ({what}).",
        "Give the files of a chest CT series.",
        "not_ct",
    )


def _check_count(chosen: Stack, files: int) -> None:
    if files == 1 and not chosen[0].enhanced:
        refuse(
            "This is a single DICOM file; one file is only a slice of a scan.",
            "Put all DICOM files of the series into one zip and give that.",
            "single_dicom",
        )
    check_headers(chosen)
    if len(chosen) < MIN_SLICES:
        refuse(
            f"The largest CT series has only {counted(len(chosen), 'slice')}.",
            "Put all DICOM files of the series into the zip.",
            "too_few_voxels",
        )


def _without_copies(stack: Stack, opener: Opener) -> Stack:
    """The slices without those that are there twice, pixel by pixel."""
    heights = depths(stack)
    nearest = SAME_PLACE * (heights[-1] - heights[0]) / (len(stack) - 1)
    if heights[-1] - heights[0] < SAME_PLACE:
        return stack  # one place: no copy is too many
    kept = [stack[0]]
    for one_slice, step in zip(stack[1:], np.diff(heights), strict=True):
        if step < nearest and one_slice.scaling == kept[-1].scaling:
            one, other = read_pixels(opener, [kept[-1], one_slice])
            if np.array_equal(one, other):
                continue
        kept.append(one_slice)
    return kept


def _affine(slices: Stack) -> FloatArray:
    """(column, row, slice) index -> RAS+ mm; DICOM itself counts toward Left and Posterior."""
    first = slices[0]
    spacing = max(slices, key=lambda one_slice: one_slice.digits).spacing
    places = np.array([one_slice.position for one_slice in slices])
    affine = np.eye(4)
    affine[:3, :2] = (first.axes * np.reshape(spacing, (2, 1))).T  # type: ignore[operator, arg-type]
    affine[:3, 2] = (places[-1] - places[0]) / (len(slices) - 1)
    affine[:3, 3] = places[0]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _hounsfield(slices: Stack, turn: Turn, opener: Opener) -> Hounsfield:
    """HU with each slice's own slope and intercept; whole numbers where one scale holds for all."""
    columns, rows = slices[0].size or (0, 0)
    shape = columns, rows, len(slices)
    scales = [one_slice.scaling or (1.0, 0.0) for one_slice in slices]
    one = len(set(scales)) == 1
    scan = Hounsfield(shape, *(scales[0] if one else (1.0, 0.0)), turn)
    planes = read_pixels(opener, slices)
    try:
        for part in slabs(shape):
            slab = [
                plane if one else plane * slope + intercept
                for (slope, intercept), plane in zip(scales[part], planes, strict=False)
            ]
            scan.add(np.stack(slab).transpose(2, 1, 0))
    except (RuntimeError, ValueError) as error:
        raise BadVolume(
            "The compressed pixels of the DICOM series cannot be decoded: a file is damaged, or "
            "the method is not known here.",
            CONVERT,
            code="bad_dicom",
        ) from error
    return scan


def _choice_notes(slices: Stack, rest: Sequence[Stack], strays: int) -> list[Note]:
    kind = "multi-frame DICOM file" if slices[0].enhanced else "DICOM series"
    notes = [Note("info", "format", f"Read as a {kind} of {len(slices)} slices.")]
    if rest:
        others = ", ".join(str(len(stack)) for stack in rest)
        text = (
            f"There are {len(rest) + 1} series or image sizes; the one with most slices was taken "
            f"(others: {others})."
        )
        notes.append(Note("info", "largest_series", text))
    if strays:
        text = (
            f"Left out: {counted(strays, 'slice')} beside the scan, whose matrix, pixel size or "
            "series differ. The scan may be incomplete."
        )
        notes.append(Note("warning", "left_out", text))
    pieces = len({one_slice.series for one_slice in slices})
    if pieces > 1:
        text = f"The scan came in {pieces} pieces with different series UIDs; they fit together."
        notes.append(Note("warning", "joined", text))
    return notes


def _file_notes(others: int, unread: int, copies: int) -> list[Note]:
    notes = []
    if others:
        text = (
            f"{counted(others, 'DICOM file')} without CT slices (plans, pictures, documents, other "
            "modalities) left aside."
        )
        notes.append(Note("info", "ignored_files", text))
    if copies:
        text = f"{counted(copies, 'slice')} found twice and taken once."
        notes.append(Note("info", "copies", text))
    if unread:
        text = (
            f"{counted(unread, 'file')} cannot be read (empty or damaged). If slices of this scan "
            "are among them, it is incomplete: copy or export the series again."
        )
        notes.append(Note("warning", "unreadable_files", text))
    return notes


def _value_notes(slices: Stack) -> list[Note]:
    scales = {one_slice.scaling or (1.0, 0.0) for one_slice in slices}
    slope, intercept = min(scales)
    text = f"Rescaled by slope {slope:g} and intercept {intercept:g}, as each file says."
    if len(scales) > 1:
        text = "Rescaled by the slope and intercept of each slice."
    notes = [Note("info", "rescaled", text)]
    if any(one_slice.from_imager for one_slice in slices):
        text = (
            "The pixel size is that of the detector (ImagerPixelSpacing), since PixelSpacing is "
            "missing: sizes in the scan may be wrong."
        )
        notes.append(Note("warning", "imager_spacing", text))
    return notes
