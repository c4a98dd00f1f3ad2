"""CT-RATE's metadata table: raw values, values that are in HU already, spacing and orientation."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from volume_files import chest, image_of

from rad3d import cli
from rad3d.core.errors import BadRequest, BadVolume
from rad3d.core.types import Volume
from rad3d.service.service import Service
from rad3d.service.sessions import Session
from rad3d.volume.ctrate import MetadataTable, ScanMetadata
from rad3d.volume.load import read_volume

COLUMNS = "VolumeName,Manufacturer,RescaleIntercept,RescaleSlope,XYSpacing,ZSpacing"
NAME = "train_1_a_1.nii.gz"
SPACING = (7.0, 7.0, 8.0)
HU = chest()
STORED = HU[::-1, ::-1]
"""As CT-RATE stores it: LPS."""


def table(folder: Path, *rows: str, columns: str = COLUMNS) -> Path:
    path = folder / "train_metadata.csv"
    path.write_text("\n".join([columns, *rows]) + "\n")
    return path


def metadata(slope: float = 1, intercept: float = 0) -> ScanMetadata:
    return ScanMetadata(NAME, slope, intercept, SPACING)


def nifti(folder: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path = folder / NAME
    nib.save(image_of(values, np.diag([-7.0, -7.0, 8.0, 1.0]) if affine is None else affine), path)
    return path


def codes(volume: Volume) -> list[str]:
    return [note.code for note in volume.notes]


def test_a_row_is_found_by_the_name_of_the_file(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        f'{NAME},Siemens,-8192.0,1.0,"[0.67, 0.68]",1.25',
        'train_2_a_1.nii.gz,GE,0,1,"(0.8, 0.8)",5',
    )
    found = MetadataTable(path)
    assert found.row(NAME) == ScanMetadata(NAME, 1.0, -8192.0, (0.68, 0.67, 1.25))
    assert found.row("train_2_a_1.nii.gz").spacing_mm == (0.8, 0.8, 5.0)
    assert NAME in found
    assert "train_3_a_1.nii.gz" not in found


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no row for train_1_a_1"),
        ([f'{NAME},S,,1,"[0.7, 0.7]",1'], "no number"),
        ([f'{NAME},S,0,1,"[]",1'], "no number"),
        ([f'{NAME},S,0,0,"[0.7, 0.7]",1'], "slope of 0"),
        ([f'{NAME},S,0,1,"[0.7, 0.7]",0'], "impossible"),
        ([f'{NAME},S,nan,1,"[0.7, 0.7]",1'], "impossible"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused(
    rows: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadRequest, match=message):
        MetadataTable(table(tmp_path, *rows)).row(NAME)


def test_a_file_that_is_no_such_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="lacks the columns RescaleSlope"):
        MetadataTable(table(tmp_path, columns="VolumeName,RescaleIntercept,XYSpacing,ZSpacing"))
    with pytest.raises(BadRequest, match="no file"):
        MetadataTable(tmp_path / "nothing.csv")
    (tmp_path / "b.csv").write_bytes(b"VolumeName\n\x81")
    with pytest.raises(BadRequest, match="neither UTF-8 nor"):
        MetadataTable(tmp_path / "b.csv")


@pytest.mark.parametrize(("slope", "intercept"), [(1, -8192), (1, -1024), (0.5, -1024)])
def test_raw_stored_values_become_hounsfield_units(
    slope: float, intercept: float, tmp_path: Path
) -> None:
    raw = np.rint((STORED - intercept) / slope).astype(np.int16)
    path = nifti(tmp_path, raw)
    with pytest.raises(BadVolume):  # without the table nobody knows
        read_volume(path)
    volume = read_volume(path, metadata=metadata(slope, intercept))
    assert np.abs(volume.hu - HU).max() <= 0.5
    assert "rescaled" in codes(volume)


@pytest.mark.parametrize("intercept", [-1024, -8192])
def test_values_in_hounsfield_units_are_not_rescaled_twice(
    intercept: float, tmp_path: Path
) -> None:
    volume = read_volume(nifti(tmp_path, STORED), metadata=metadata(1, intercept))
    assert np.array_equal(volume.hu, HU)
    assert "already_hu" in codes(volume)


def test_a_table_that_does_not_fit_the_values_is_no_way_around_the_checks(tmp_path: Path) -> None:
    raw = (STORED + 8192).astype(np.int16)
    with pytest.raises(BadVolume):
        read_volume(nifti(tmp_path, raw), metadata=metadata(1, -4000))


def test_the_table_wins_over_a_wrong_header(tmp_path: Path) -> None:
    """Spacing 1 and the identity as direction, as in CT-RATE's first release."""
    volume = read_volume(nifti(tmp_path, STORED, np.eye(4)), metadata=metadata())
    assert volume.spacing_mm == SPACING
    assert np.array_equal(volume.hu, HU)
    (note,) = [n for n in volume.notes if n.code == "metadata_geometry"]
    assert "direction" in note.text
    assert "1 x 1 x 1" in note.text


def test_a_header_that_agrees_with_the_table_is_not_mentioned(tmp_path: Path) -> None:
    volume = read_volume(nifti(tmp_path, STORED), metadata=metadata())
    assert "metadata_geometry" not in codes(volume)
    assert volume.spacing_mm == SPACING


def test_the_orientation_of_the_table_is_followed(tmp_path: Path) -> None:
    """Feet first and prone: rows run towards the right, columns towards the front."""
    row = f'{NAME},S,0,1,"[7.0, 7.0]",8.0,"[-1.0, 0.0, 0.0, 0.0, -1.0, 0.0]"'
    path = table(tmp_path, row, columns=f"{COLUMNS},ImageOrientationPatient")
    volume = read_volume(nifti(tmp_path, HU, np.eye(4)), metadata=MetadataTable(path).row(NAME))
    assert np.array_equal(volume.hu, HU)


def test_spacing_of_the_table_is_not_rounded_to_float32(tmp_path: Path) -> None:
    found = ScanMetadata(NAME, 1, 0, (7.1, 7.1, 8.3))
    assert read_volume(nifti(tmp_path, STORED), metadata=found).spacing_mm == (7.1, 7.1, 8.3)


def test_a_table_beside_a_zip_is_refused(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "scan.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(nifti(tmp_path, STORED), NAME)
    with pytest.raises(BadRequest, match="zip"):
        read_volume(path, metadata=metadata())


def test_report_uses_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[Volume] = []

    def generate(self: Service, session: Session, *_unused: object) -> list[object]:
        assert session.volume is not None
        opened.append(session.volume)
        raise BadRequest("far enough")

    monkeypatch.setattr(Service, "generate", generate)
    scan = nifti(tmp_path, (STORED + 8192).astype(np.int16), np.eye(4))
    path = table(tmp_path, f'{NAME},S,-8192,1,"[7.0, 7.0]",8.0')
    assert cli.main(["report", str(scan)]) == 1
    assert "not Hounsfield units" in capsys.readouterr().err
    assert cli.main(["report", str(scan), "--metadata", str(path)]) == 1
    assert "far enough" in capsys.readouterr().err
    assert np.array_equal(opened[0].hu, HU)
