"""DICOM that is no whole CT series of one person ends in a sentence, and within its limits."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_parts import (
    HU,
    MANY,
    assert_whole,
    changed,
    decoded,
    moved,
    read,
    refused,
    series,
    warnings,
    without,
)
from pydicom import uid
from pydicom.dataset import Dataset
from volume_files import (
    chest,
    dicom_bytes,
    dicom_series,
    refusal,
    zipped_series,
)

from rad3d.core.errors import BadVolume
from rad3d.volume import sandbox as apart
from rad3d.volume.decoded import Limits

PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
SCALE = ("RescaleSlope", "RescaleIntercept")


def frames(sop_class: str, modality: str, count: int) -> Dataset:
    ds = without(series(uid="2.25.7", modality=modality)[:1], *PLACE, *SCALE)[0]
    ds.NumberOfFrames, ds.PixelData, ds.SOPClassUID = count, ds.PixelData * count, sop_class
    return ds


MULTI_FRAME_CAPTURE = uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage
BESIDE: dict[str, Callable[[], list[Any]]] = {
    "segmentation": lambda: [frames(uid.SegmentationStorage, "SEG", 5)],
    "dose": lambda: [frames(uid.RTDoseStorage, "RTDOSE", 4)],
    "multi-frame capture": lambda: [frames(MULTI_FRAME_CAPTURE, "OT", 4)],
    "multi-frame capture of the CT": lambda: [frames(MULTI_FRAME_CAPTURE, "CT", 40)],
    "captures of the CT": lambda: 30 * [frames(uid.SecondaryCaptureImageStorage, "CT", 1)],
    "PET of more slices": lambda: dicom_series(chest((24, 20, 40)), uid="2.25.5", modality="PT"),
    "localizer": lambda: changed(
        dicom_series(HU[:, :, :2], uid="2.25.6"),
        lambda *_: {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "StudyInstanceUID": "2.25.99"},
    ),
    "shorter series": lambda: dicom_series(HU[:, :, :5], uid="2.25.6"),
}


@pytest.mark.parametrize("beside", BESIDE)
def test_other_objects_beside_the_ct_do_not_matter(tmp_path: Path, beside: str) -> None:
    others = BESIDE[beside]()
    result = decoded(tmp_path, [*others, *series()])
    assert_whole(result)
    assert {note.code for note in result.notes} & {"ignored_files", "largest_series"}


@pytest.mark.parametrize(
    ("elements", "word"),
    [
        ({"PatientID": "B", "StudyInstanceUID": "2.25.99"}, "2 patients"),
        ({"PatientID": "B"}, "2 patients"),
        ({"StudyInstanceUID": "2.25.99"}, "2 studies"),
    ],
)
def test_two_patients_or_studies_are_refused(
    tmp_path: Path, elements: dict[str, str], word: str
) -> None:
    other = changed(dicom_series(HU[::-1, :, :20], uid="2.25.2"), lambda *_: elements)
    assert refused(tmp_path, series() + other, word) == "several_volumes"


@pytest.mark.parametrize(
    ("objects", "code"),
    [
        (lambda: series(modality="MR"), "not_ct"),
        (lambda: [frames(uid.SegmentationStorage, "SEG", 5)] * 2, "not_ct"),
        (lambda: [frames(MULTI_FRAME_CAPTURE, "CT", 40)], "multiframe_dicom"),
        (lambda: [frames(uid.EnhancedCTImageStorage, "CT", 40)], "multiframe_dicom"),
    ],
    ids=["MR", "segmentations", "multi-frame capture", "frames without a place"],
)
def test_without_a_ct_it_is_said_what_there_is(
    tmp_path: Path, objects: Callable[[], list[Any]], code: str
) -> None:
    assert refused(tmp_path, objects()) == code


# -- what is missing or damaged ------------------------------------------------------------------


@pytest.mark.parametrize("cut", [range(6), range(0, MANY, 2), [MANY - 1]])
@pytest.mark.parametrize("size", [-2000, -1, 900])
def test_files_cut_short_are_counted_in_the_refusal(tmp_path: Path, cut: Any, size: int) -> None:
    files = [dicom_bytes(ds) for ds in series()]
    files = [file[:size] if k in cut else file for k, file in enumerate(files)]
    assert refused(tmp_path, files, f"{len(cut)} of the 24", "damaged") == "bad_dicom"


@pytest.mark.slow
@pytest.mark.parametrize("rest", [b"", bytes(4000), b"<html>", bytes(128) + b"DICM" + b"junk" * 90])
def test_files_that_are_nothing_any_more_are_a_warning(tmp_path: Path, rest: bytes) -> None:
    files = [rest if k < 4 else dicom_bytes(ds) for k, ds in enumerate(series())]
    volume = read(tmp_path, files)
    assert volume.shape[2] == MANY - 4
    assert "4 files cannot be read" in warnings(volume.notes)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [2, 3, 4])
@pytest.mark.parametrize("rest", [b"", bytes(4000)])
def test_unreadable_files_never_make_a_scan_of_larger_steps(
    tmp_path: Path, kept: int, rest: bytes
) -> None:
    files = [dicom_bytes(ds) for ds in dicom_series(HU)]
    damaged = [data if k % kept == 0 else rest for k, data in enumerate(files)]
    lost = damaged.count(rest)
    error = refusal(zipped_series(tmp_path / "a.zip", damaged))
    assert error.code == "bad_dicom"
    assert f"Of {len(files)} files {lost} cannot be read" in error.problem


def test_a_gap_beside_unreadable_files_is_blamed_on_them(tmp_path: Path) -> None:
    files = [b"junk" if k in (8, 9) else dicom_bytes(ds) for k, ds in enumerate(series())]
    assert refused(tmp_path, files, "2 files cannot be read", "damaged") == "irregular_slices"


@pytest.mark.parametrize(
    ("keyword", "word"),
    [
        ("PixelSpacing", "pixel size (PixelSpacing)"),
        ("ImagePositionPatient", "position (ImagePositionPatient)"),
        ("ImageOrientationPatient", "orientation (ImageOrientationPatient)"),
    ],
)
@pytest.mark.parametrize("value", [None, "", "nan", ["0"], ["0"] * 6, ["x"] * 2])
def test_geometry_that_is_not_in_the_files_is_refused_by_name(
    tmp_path: Path, keyword: str, word: str, value: Any
) -> None:
    slices = series()
    for ds in slices:
        delattr(ds, keyword)
        if value is not None:
            ds[keyword] = pydicom.DataElement(keyword, "LO", value)
    refused(tmp_path, slices, "24 of the 24 slices", word)


def test_the_detectors_pixel_size_is_taken_with_a_warning(tmp_path: Path) -> None:
    slices = changed(series(), lambda *_: {"ImagerPixelSpacing": [7.0, 7.0]})
    result = decoded(tmp_path, without(slices, "PixelSpacing"))
    assert np.linalg.norm(result.affine[:3, 0]) == pytest.approx(7.0)
    assert "detector" in warnings(result.notes)


def test_a_scale_that_some_slices_lack_is_refused(tmp_path: Path) -> None:
    slices = series()
    without(slices[:5], "RescaleIntercept")
    assert refused(tmp_path, slices, "5 of the 24", "RescaleIntercept") == "no_intercept"


@pytest.mark.slow
def test_values_without_their_intercept_are_refused(tmp_path: Path) -> None:
    slices = without(series(), "RescaleIntercept", "RescaleSlope")
    assert refusal(zipped_series(tmp_path / "s.zip", slices)).code == "no_intercept"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (lambda k, p: [*p[:2], 10.0 * k + 10 * (k > 11)], ("1 slice is missing",)),
        (lambda k, p: [*p[:2], min(10.0 * k, 220.0)], ("1 of the 24", "same position")),
        (lambda k, p: [*p[:2], 10.0 * (k // 2)], ("12 of the 24", "same position")),
        (lambda k, p: [0, 0, 0], ("one position",)),
        (lambda k, p: [p[0] + 9.0 * (8 <= k < 14), *p[1:]], ("sideways by 9.0 mm",)),
        (lambda k, p: [p[0], p[1] - 30.0 * (k == 23), p[2]], ("sideways by 30.0 mm",)),
        (lambda k, p: [p[0], p[1] + 2.0 * k, p[2]], ("slant of 11 degrees",)),
        (lambda k, p: [*p[:2], 10.0 * k + 3 * (k % 2)], ("not evenly spaced", "7.00 to 13.00")),
    ],
    ids=["missing", "doubled", "two phases", "one place", "shift", "jump", "tilt", "uneven"],
)
def test_slices_out_of_line_are_named_as_what_they_are(
    tmp_path: Path, place: Callable[[int, list[float]], list[Any]], words: tuple[str, ...]
) -> None:
    code = refused(tmp_path, moved(series(), place), *words)
    assert code in ("irregular_slices", "sheared")


def test_two_slices_are_too_few(tmp_path: Path) -> None:
    assert refused(tmp_path, series()[:2]) == "too_few_voxels"


# -- what asks for too much ----------------------------------------------------------------------


@pytest.mark.slow
def test_limits_hold_before_pixels_are_read(tmp_path: Path) -> None:
    path = zipped_series(tmp_path / "s.zip", series())
    assert refusal(path, Limits(max_voxels=HU.size - 1)).code == "too_large"
    assert refusal(path, Limits(max_bytes=HU.nbytes // 2)).code == "too_large"


def before_pixels(data: bytes, elements: bytes) -> bytes:
    at = data.rfind(b"\xe0\x7f\x10\x00")
    return data[:at] + elements + data[at:]


def nested(depth: int) -> bytes:
    """A sequence in a sequence in a sequence."""
    open_end = 2**32 - 1
    opened = struct.pack("<HH2sHIHHI", 0x40, 0x275, b"SQ", 0, open_end, 0xFFFE, 0xE000, open_end)
    closed = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return opened * depth + closed * depth


def test_sequences_nested_too_deep_are_damage_and_nothing_else_happens(tmp_path: Path) -> None:
    files = [dicom_bytes(ds) for ds in series()]
    assert_whole(decoded(tmp_path, [before_pixels(file, nested(3)) for file in files]))
    deep = [before_pixels(file, nested(100_000)) for file in files[:2]]
    assert refused(tmp_path, deep, "damaged") == "bad_dicom"


def deflated_zeros(ds: Dataset, megabytes: int) -> bytes:
    """A small file with a private element that is large once it is inflated."""
    ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    plain = dicom_bytes(ds)
    ds.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    head = [
        file[: 144 + struct.unpack_from("<I", file, 140)[0]] for file in (plain, dicom_bytes(ds))
    ]
    body, size = plain[len(head[0]) :], megabytes * 2**20
    element = struct.pack("<HH2sHI", 0x29, 0x1001, b"OB", 0, size) + bytes(size)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return head[1] + packer.compress(before_pixels(body, element)) + packer.flush()


@pytest.mark.slow
def test_what_deflated_files_inflate_to_is_bounded_in_sum(tmp_path: Path) -> None:
    files = [deflated_zeros(ds, 2) for ds in series()]
    assert_whole(decoded(tmp_path, files))
    with pytest.raises(BadVolume, match=r"fewer pixels|can be read"):
        decoded(tmp_path, files, Limits(max_bytes=16 * 2**20))


def test_memory_is_small_before_the_headers_say_how_large_the_scan_is() -> None:
    pytest.importorskip("resource")
    code = (
        "import resource; from rad3d.volume import sandbox as apart; apart._end_first(); "
        f"apart._bound({apart.OWN_BYTES}, {2 * apart.OWN_BYTES}); before = "
        "resource.getrlimit(resource.RLIMIT_AS); apart._make_room(10**6); "
        "print(*before, *resource.getrlimit(resource.RLIMIT_AS), "
        "open('/proc/self/oom_score_adj').read())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    soft, hard, grown, same, ended_first = map(int, run.stdout.split())
    assert (soft, hard) == (apart.OWN_BYTES, 2 * apart.OWN_BYTES)
    assert (grown, same) == (apart.OWN_BYTES + apart.BYTES_A_VOXEL * 10**6, hard)
    assert ended_first == 1000
    largest = apart.OWN_BYTES + apart.BYTES_A_VOXEL * Limits().max_voxels
    assert 2 * largest < 8 * 2**30, "two at once leave half of a small Space's 16 GB"


@pytest.mark.parametrize("rows", [41, 80, 400])
def test_a_slice_with_fewer_pixels_than_it_claims_is_never_filled_up(
    tmp_path: Path, rows: int
) -> None:
    files = changed(series(), lambda *_: {"Rows": rows})
    assert refused(tmp_path, files, "24 of the 24", "fewer pixels") == "bad_dicom"


@pytest.mark.slow
def test_the_process_that_decodes_gets_no_secret_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, object] = {}
    run = subprocess.run

    def watched(*arguments: object, **options: object) -> object:
        given.update(options)
        return run(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setenv("RAD3D_LOGIN", "anna:secret")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(subprocess, "run", watched)
    read(tmp_path, series())
    assert "secret" not in repr(given["env"])
    assert "".join(capfd.readouterr()) == ""
