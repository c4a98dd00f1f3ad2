"""Zipped DICOM series, written by SimpleITK for the test: order, gaps, tilt, junk, modality."""

from __future__ import annotations

import struct
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from volume_files import chest, write_dicom_slice

from rad3d.errors import BadVolume
from rad3d.types import Volume
from rad3d.volume.dicom import MOST_SLICE_BYTES
from rad3d.volume.load import Limits, read_volume

HU = chest((48, 40, 24))
SPACING = (7.0, 7.0, 10.0)


def write_series(
    folder: Path,
    hu: np.ndarray = HU,
    uid: str = "1.2.3.1",
    z: Sequence[float] | None = None,
    modality: str = "CT",
    tilt: float = 0.0,
) -> None:
    """Files of an axial series; names run against the order of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    heights = list(z) if z is not None else [k * SPACING[2] for k in range(hu.shape[2])]
    for k, height in enumerate(heights):
        # RAS+ arrays count toward right and front, DICOM toward left and back.
        plane = hu[::-1, ::-1, k].T
        tags = {
            "0008|0060": modality,
            "0020|000e": uid,
            "0020|000d": "1.2.3",
            "0008|0018": f"{uid}.{k + 1}",
            "0020|0032": f"-150\\{-120 + tilt * height}\\{height}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(k),
            "0010|0010": "DOE^JANE",
        }
        write_dicom_slice(folder / f"{1000 - k}.dcm", plane, SPACING, tags)


def zip_folder(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as out:
        for file in sorted(folder.rglob("*")):
            out.write(file, file.relative_to(folder))
    return path


def refusal(path: Path, limits: Limits = Limits()) -> str:  # noqa: B008
    with pytest.raises(BadVolume) as caught:
        read_volume(path, limits=limits)
    assert caught.value.remedy
    return caught.value.code


def test_slices_are_ordered_by_position_and_values_are_hounsfield(tmp_path: Path) -> None:
    write_series(tmp_path / "s")
    volume = read_volume(zip_folder(tmp_path / "s"))
    assert (volume.hu == HU).all()
    assert volume.spacing_mm == pytest.approx(SPACING)
    far_corner = volume.affine @ [47, 39, 0, 1]
    assert far_corner[:3] == pytest.approx([150, 120, 0])
    assert volume.warnings == ()
    assert "DOE" not in repr(volume)


def test_the_largest_series_is_chosen_and_said(tmp_path: Path) -> None:
    write_series(tmp_path / "s")
    write_series(tmp_path / "s" / "scout", HU[:, :, :5], uid="1.2.3.9")
    (tmp_path / "s" / "DICOMDIR").write_bytes(b"junk")
    (tmp_path / "s" / "readme.dcm").write_bytes(bytes(128) + b"DICM" + b"junk" * 50)
    volume = read_volume(zip_folder(tmp_path / "s"))
    assert (volume.hu == HU).all()
    assert {"largest_series", "ignored_files"} <= {n.code for n in volume.notes}


def gap() -> list[float]:
    return [k * 10.0 + (10.0 if k > 11 else 0.0) for k in range(24)]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"z": gap()}, "irregular_slices"),
        ({"z": [*range(0, 230, 10), 220.0]}, "irregular_slices"),
        ({"modality": "MR"}, "not_ct"),
        ({"tilt": 0.2}, "sheared"),
        ({"hu": HU[:, :, :2]}, "too_few_voxels"),
        ({"hu": HU + np.int16(1024)}, "no_intercept"),
    ],
    ids=["missing slice", "doubled slice", "MR", "tilted", "two slices", "no intercept"],
)
def test_series_that_cannot_be_used_are_refused(tmp_path: Path, options: dict, code: str) -> None:
    write_series(tmp_path / "s", **options)
    assert refusal(zip_folder(tmp_path / "s")) == code


def test_limits_hold_before_pixels_are_read(tmp_path: Path) -> None:
    write_series(tmp_path / "s")
    path = zip_folder(tmp_path / "s")
    assert refusal(path, Limits(max_voxels=HU.size - 1)) == "too_large"
    assert refusal(path, Limits(max_bytes=HU.nbytes // 2)) == "too_large"


def test_damaged_dicom_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as out:
        for i in range(4):
            out.writestr(f"{i}.dcm", bytes(128) + b"DICM" + b"nonsense" * 80)
    assert refusal(path) == "bad_dicom"


def test_cut_pixels_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "s")
    victim = tmp_path / "s" / "990.dcm"
    victim.write_bytes(victim.read_bytes()[:-2000])
    assert refusal(zip_folder(tmp_path / "s")) in ("bad_dicom", "irregular_slices")


def test_a_volume_keeps_no_trace_of_the_temporary_folder(tmp_path: Path) -> None:
    write_series(tmp_path / "s")
    volume: Volume = read_volume(zip_folder(tmp_path / "s"))
    assert "/" not in " ".join(note.text.replace(".hdr/.img", "") for note in volume.notes)


# -- what the decoders would not survive, or would fill from memory --------------------------------


def before_pixels(data: bytes, elements: bytes) -> bytes:
    at = data.rfind(b"\xe0\x7f\x10\x00")
    return data[:at] + elements + data[at:]


def nested(depth: int) -> bytes:
    """A sequence in a sequence in a sequence, in the implicit encoding of the other elements."""
    open_end = 2**32 - 1
    opened = struct.pack("<HHIHHI", 0x40, 0x275, open_end, 0xFFFE, 0xE000, open_end)
    closed = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return opened * depth + closed * depth


def test_a_series_that_crashes_its_decoder_is_refused_and_nothing_else_happens(
    tmp_path: Path,
) -> None:
    write_series(tmp_path / "s")
    for file in (tmp_path / "s").iterdir():
        file.write_bytes(before_pixels(file.read_bytes(), nested(3)))
    assert (read_volume(zip_folder(tmp_path / "s")).hu == HU).all(), "a few levels are fine"
    file.write_bytes(before_pixels(file.read_bytes(), nested(100_000)))
    path = zip_folder(tmp_path / "s")
    assert refusal(path) == "bad_dicom"
    assert decoded_alone(path) < 0, "in this process it would have ended everything"


def decoded_alone(path: Path) -> int:
    """How a process ends that decodes the files of a zip by itself."""
    folder = path.with_suffix(".unpacked")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    code = (
        "import sys; from pathlib import Path; from rad3d.volume.dicom import decode_dicom; "
        "from rad3d.volume.decoded import Limits; "
        "decode_dicom(sorted(Path(sys.argv[1]).rglob('*.dcm')), Limits())"
    )
    return subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode


@pytest.mark.parametrize("rows", [41, 80, 400])
def test_a_slice_with_fewer_pixels_than_it_claims_is_never_filled_up(
    tmp_path: Path, rows: int
) -> None:
    """The decoder would take what its memory held before."""
    write_series(tmp_path / "s")
    for file in (tmp_path / "s").iterdir():
        data = file.read_bytes()
        claimed = struct.pack("<HHIH", 0x28, 0x10, 2, HU.shape[1])
        assert data.count(claimed) == 1
        file.write_bytes(data.replace(claimed, struct.pack("<HHIH", 0x28, 0x10, 2, rows)))
    assert refusal(zip_folder(tmp_path / "s")) == "bad_dicom"


def test_a_file_far_larger_than_a_slice_is_ignored(tmp_path: Path) -> None:
    write_series(tmp_path / "s")
    last = tmp_path / "s" / "977.dcm"
    size = MOST_SLICE_BYTES
    private = struct.pack("<HHI", 0x29, 0x1001, size) + bytes(size)
    last.write_bytes(before_pixels(last.read_bytes(), private))
    path = tmp_path / "s.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        for file in (tmp_path / "s").iterdir():
            out.write(file, file.name)
    volume = read_volume(path)
    assert volume.shape[2] == HU.shape[2] - 1
    assert "ignored_files" in {note.code for note in volume.notes}


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
    write_series(tmp_path / "s")
    read_volume(zip_folder(tmp_path / "s"))
    assert "secret" not in repr(given["env"])
    assert "".join(capfd.readouterr()) == ""
