"""DICOM series, written slice by slice: read whole and in HU, or a sentence why not."""

from __future__ import annotations

import io
import math
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset
from volume_files import (
    chest,
    dicom_bytes,
    dicom_series,
    refusal,
    zipped,
    zipped_series,
)

from rad3d.core.errors import BadVolume
from rad3d.core.types import Note, Volume
from rad3d.volume import sandbox as apart
from rad3d.volume.decoded import Decoded
from rad3d.volume.dicom import decode_dicom
from rad3d.volume.dicom_file import Slice
from rad3d.volume.dicom_stack import check_line
from rad3d.volume.load import Limits, read_volume

HU = chest((48, 40, 24))
SPACING = (7.0, 7.0, 10.0)
MANY = len(dicom_series(HU))


def series(**options: Any) -> list[Dataset]:
    return dicom_series(HU, **options)


def changed(
    slices: list[Dataset], change: Callable[[int, Dataset], dict[str, Any]]
) -> list[Dataset]:
    for k, ds in enumerate(slices):
        for keyword, value in change(k, ds).items():
            setattr(ds, keyword, value)
    return slices


def without(slices: list[Dataset], *keywords: str) -> list[Dataset]:
    for ds in slices:
        for keyword in keywords:
            delattr(ds, keyword)
    return slices


def moved(slices: list[Dataset], place: Callable[[int, list[float]], list[Any]]) -> list[Dataset]:
    return changed(
        slices, lambda k, ds: {"ImagePositionPatient": place(k, list(ds.ImagePositionPatient))}
    )


def read(tmp_path: Path, files: list[Any]) -> Volume:
    return read_volume(zipped_series(tmp_path / "s.zip", files))


def decoded(tmp_path: Path, files: list[Any], limits: Limits = Limits()) -> Decoded:  # noqa: B008
    """In this process, which is quicker; for what has nothing to do with the other one."""
    paths = []
    for k, file in enumerate(files):
        path = tmp_path / f"{1000 - k}.dcm"
        path.write_bytes(file if isinstance(file, bytes) else dicom_bytes(file))
        paths.append(path)
    return decode_dicom(paths, limits)


def warnings(notes: tuple[Note, ...]) -> str:
    return " ".join(note.text for note in notes if note.level == "warning")


def assert_whole(result: Decoded) -> None:
    assert np.array_equal(result.values, HU)
    assert warnings(result.notes) == ""


def refused(tmp_path: Path, files: list[Any], *words: str) -> str:
    with pytest.raises(BadVolume) as caught:
        decoded(tmp_path, files)
    assert caught.value.remedy
    assert [w for w in words if w not in caught.value.problem] == [], caught.value.problem
    return caught.value.code


# -- what is read --------------------------------------------------------------------------------


def test_slices_are_ordered_by_position_and_values_are_hounsfield(tmp_path: Path) -> None:
    volume = read(tmp_path, series())
    assert np.array_equal(volume.hu, HU)
    assert volume.spacing_mm == pytest.approx(SPACING)
    far_corner = volume.affine @ [47, 39, 0, 1]
    assert far_corner[:3] == pytest.approx([150, 120, 0])
    assert volume.warnings == ()
    assert "DOE" not in repr(volume)
    assert "/" not in " ".join(note.text for note in volume.notes)


def bare(ds: Dataset, implicit: bool) -> bytes:
    buffer = io.BytesIO()
    del ds.file_meta
    pydicom.dcmwrite(buffer, ds, implicit_vr=implicit, little_endian=True)
    return buffer.getvalue()


@pytest.mark.parametrize("named", ["000.dcm", "IM0001.img"])
@pytest.mark.parametrize(
    "write",
    [
        lambda ds: dicom_bytes(ds)[132:],
        lambda ds: bare(ds, True),
        lambda ds: bare(without([ds], "SOPClassUID")[0], False),
    ],
    ids=["file meta first", "implicit data set alone", "explicit data set alone"],
)
def test_files_without_a_preamble_are_read(
    tmp_path: Path, write: Callable[[Dataset], bytes], named: str
) -> None:
    path = zipped(tmp_path / "s.zip", {f"{k}{named}": write(ds) for k, ds in enumerate(series())})
    assert np.array_equal(read_volume(path).hu, HU)


@pytest.mark.parametrize(
    "syntax",
    [
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
        uid.RLELossless,
    ],
)
def test_every_encoding_of_the_standard_is_read_exactly(tmp_path: Path, syntax: str) -> None:
    if syntax == uid.RLELossless:
        slices = series()
        for ds in slices:
            ds.compress(syntax, generate_instance_uid=False)
    else:
        slices = series(syntax=syntax)
    assert_whole(decoded(tmp_path, slices))


COMPRESS = """
import gdcm, os, sys
kept = []  # its writer frees twice what it shares with the reader
for path in sys.argv[2:]:
    reader, writer = gdcm.ImageReader(), gdcm.ImageWriter()
    change = gdcm.ImageChangeTransferSyntax()
    kept += [reader, writer, change]
    reader.SetFileName(path)
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(sys.argv[1])))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(path)
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
os._exit(0)
"""


def compressed(folder: Path, syntax: str) -> list[bytes]:
    """Files as GDCM compresses them, without loss, of 12 signed bits."""
    pytest.importorskip("gdcm")
    paths = []
    for k, ds in enumerate(series()):
        ds.PixelData = HU[::-1, ::-1, k].T.astype("<i2").tobytes()
        ds.PixelRepresentation, ds.BitsStored, ds.HighBit, ds.RescaleIntercept = 1, 12, 11, "0"
        paths.append(folder / f"frame{k}.dcm")
        paths[-1].write_bytes(dicom_bytes(ds))
    subprocess.run([sys.executable, "-c", COMPRESS, syntax, *map(str, paths)], check=True)
    return [path.read_bytes() for path in paths]


@pytest.mark.parametrize(
    "syntax", [uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless]
)
def test_compressed_slices_are_read_exactly_and_a_cut_one_is_noticed(
    tmp_path: Path, syntax: str
) -> None:
    files = compressed(tmp_path, syntax)
    assert_whole(decoded(tmp_path, files))
    ds = pydicom.dcmread(io.BytesIO(files[3]))
    ds.PixelData = pydicom.encaps.encapsulate([pydicom.encaps.get_frame(ds.PixelData, 0)[:-200]])
    whole_file_cut_frame = dicom_bytes(ds)
    for damaged in (files[3][:-200], whole_file_cut_frame):
        code = refused(tmp_path, [*files[:3], damaged, *files[4:]], "1 of the 24", "damaged")
        assert code == "bad_dicom"


def test_bits_that_do_not_count_are_left_out(tmp_path: Path) -> None:
    slices = series()
    for ds in slices:
        stored = np.frombuffer(ds.PixelData, "<u2")
        ds.PixelData = (stored | np.uint16(0xA000)).tobytes()
        ds.BitsStored, ds.HighBit = 12, 11
    assert_whole(decoded(tmp_path, slices))


def test_every_slice_has_its_own_scale_to_fractions_of_a_unit(tmp_path: Path) -> None:
    slopes = [1.0] + [0.5 + 0.01 * (k % 7) for k in range(1, MANY)]
    result = decoded(tmp_path, series(slope=slopes))
    assert np.abs(result.values - HU).max() <= 0.29
    assert result.values.dtype == np.float32


def test_how_values_are_shown_does_not_change_them(tmp_path: Path) -> None:
    slices = changed(series(), lambda *_: {"PhotometricInterpretation": "MONOCHROME1"})
    assert_whole(decoded(tmp_path, slices))


def group(**elements: Any) -> list[Dataset]:
    return changed([Dataset()], lambda *_: elements)


def enhanced(slices: list[Dataset]) -> Dataset:
    """All slices as frames of one object, in an order that is not that of their places."""
    slices = slices[::2] + slices[1::2]
    first, shared = slices[0], Dataset()
    shared.PixelMeasuresSequence = group(PixelSpacing=first.PixelSpacing)
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=first.ImageOrientationPatient)
    frames = []
    for ds in slices:
        scale = group(RescaleIntercept=ds.RescaleIntercept, RescaleSlope=ds.RescaleSlope)
        place = group(ImagePositionPatient=ds.ImagePositionPatient)
        frames += group(PlanePositionSequence=place, PixelValueTransformationSequence=scale)
    first.PixelData, first.NumberOfFrames = b"".join(ds.PixelData for ds in slices), len(slices)
    without([first], "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
            "RescaleSlope", "RescaleIntercept")  # fmt: skip
    first.SharedFunctionalGroupsSequence, first.PerFrameFunctionalGroupsSequence = [shared], frames
    first.SOPClassUID = uid.EnhancedCTImageStorage
    return first


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless])
def test_a_multi_frame_ct_is_read_alone_and_from_a_zip(tmp_path: Path, syntax: str) -> None:
    ds = enhanced(series())
    if syntax == uid.RLELossless:
        ds.compress(syntax, generate_instance_uid=False)
    path = tmp_path / "one.dcm"
    path.write_bytes(dicom_bytes(ds))
    for given_path in (path, zipped_series(tmp_path / "s.zip", [ds])):
        volume = read_volume(given_path)
        assert np.array_equal(volume.hu, HU)
        assert volume.spacing_mm == pytest.approx(SPACING)
    path.write_bytes(path.read_bytes()[:-3000])
    assert "fewer pixels" in refusal(path).problem


def test_one_slice_alone_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_bytes(series()[3]))
    assert refusal(path).code == "single_dicom"


# -- one series stays one ------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-7, 1e-6, 1e-5, 1e-4]), st.floats(0, 0.1))
def test_noise_and_spelling_do_not_part_a_series(
    tmp_path_factory: pytest.TempPathFactory, seed: int, noise: float, angle: float
) -> None:
    rng = np.random.default_rng(seed)
    slices = dicom_series(HU, (0.9765625, 0.9765625, 1.25))
    for ds in slices:
        cos, sin = (f(angle + rng.normal(0, noise)) for f in (math.cos, math.sin))
        ds.ImageOrientationPatient = [f"{v:.7f}" for v in (cos, sin, 0, -sin, cos, 0)]
        digits = int(rng.integers(3, 8))
        ds.PixelSpacing = [f"{0.9765625:.{digits}f}"] * 2
    result = decoded(tmp_path_factory.mktemp("noise"), slices)
    assert_whole(result)
    assert np.linalg.norm(result.affine[:3, 0]) == pytest.approx(0.9765625, rel=1e-3)


def at_heights(heights: Sequence[float]) -> list[Slice]:
    plain = Slice(Path("a.dcm"), ("", ""), ("", ""), "CT", spacing=(0.7, 0.7), axes=np.eye(2, 3))
    return [replace(plain, position=np.array([-150.0, -120.0, z])) for z in heights]


def rounded(start: float, step: float, unit: float, count: int) -> list[float]:
    return [round(round((start + k * step) / unit) * unit, 4) for k in range(count)]


@settings(max_examples=200, deadline=None)
@given(
    st.floats(0.4, 10),
    st.sampled_from([1.0, 0.5, 0.1, 0.01, 0.001]),
    st.floats(-500, 500),
    st.integers(8, 400),
    st.data(),
)
def test_rounded_positions_are_no_gaps_and_a_missing_slice_still_is_one(
    step: float, unit: float, start: float, count: int, data: st.DataObject
) -> None:
    assume(unit <= 0.38 * step)
    heights = rounded(start, step, unit, count)
    check_line(at_heights(heights))
    gone = data.draw(st.integers(1, count - 2))
    with pytest.raises(BadVolume, match="not evenly spaced"):
        check_line(at_heights(heights[:gone] + heights[gone + 1 :]))


def test_a_series_rounded_to_tenths_is_read_at_its_true_step(tmp_path: Path) -> None:
    heights = rounded(0, 0.625, 0.1, MANY)
    result = decoded(tmp_path, moved(series(), lambda k, p: [*p[:2], heights[k]]))
    assert_whole(result)
    assert np.linalg.norm(result.affine[:3, 2]) == pytest.approx(0.625, abs=0.005)


def test_a_series_whose_uid_changes_midway_is_joined_with_a_warning(tmp_path: Path) -> None:
    slices = changed(series(), lambda k, _: {"SeriesInstanceUID": f"2.25.{1 + (k > 5)}"})
    result = decoded(tmp_path, slices)
    assert np.array_equal(result.values, HU)
    assert "2 pieces" in warnings(result.notes)


def test_slices_of_another_matrix_are_not_left_out_in_silence(tmp_path: Path) -> None:
    narrow = dicom_series(HU[2:])
    assert "6 slices" in warnings(decoded(tmp_path, narrow[:6] + series()[6:]).notes)
    mixed = series()[:9] + narrow[9:12] + series()[12:]
    assert refused(tmp_path, mixed, "3 slices", "matrix") == "irregular_slices"


def test_slices_that_are_there_twice_count_once(tmp_path: Path) -> None:
    result = decoded(tmp_path, series() + series())
    assert np.array_equal(result.values, HU)
    assert "24 slices found twice" in " ".join(note.text for note in result.notes)


# -- choice --------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("rest", [b"", bytes(4000), b"<html>", bytes(128) + b"DICM" + b"junk" * 90])
def test_files_that_are_nothing_any_more_are_a_warning(tmp_path: Path, rest: bytes) -> None:
    files = [rest if k < 4 else dicom_bytes(ds) for k, ds in enumerate(series())]
    volume = read(tmp_path, files)
    assert volume.shape[2] == MANY - 4
    assert "4 files cannot be read" in warnings(volume.notes)


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
