"""DICOM series, written slice by slice, are read whole and in HU."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_parts import (
    HU,
    MANY,
    SPACING,
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
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset
from volume_files import (
    dicom_bytes,
    dicom_series,
    refusal,
    zipped,
    zipped_series,
)

from rad3d.core.errors import BadVolume
from rad3d.volume.dicom_file import Slice
from rad3d.volume.dicom_stack import check_line
from rad3d.volume.load import read_volume


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_one_slice_alone_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_bytes(series()[3]))
    assert refusal(path).code == "single_dicom"


# -- one series stays one ------------------------------------------------------------------------


@pytest.mark.slow
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


@pytest.mark.slow
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
