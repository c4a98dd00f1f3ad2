"""Small synthetic scans, the files they come in, and how they are refused, for tests of readers."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian

from rad3d.core.errors import BadVolume
from rad3d.volume.decoded import Limits
from rad3d.volume.load import read_volume

AFFINE = np.diag([7.0, 7.0, 8.0, 1.0])
AFFINE[:3, 3] = (-165, -140, -120)


def chest(shape: tuple[int, int, int] = (48, 40, 32), seed: int = 0) -> np.ndarray:
    """int16 HU, RAS+: an oval body with two lungs, heart on the left and spine at the back."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    hu = np.full(shape, -1000.0)
    hu[(x / 0.86) ** 2 + (y / 0.76) ** 2 < 1] = 40
    for side in (-1, 1):
        lung = ((x - side * 0.42) / 0.33) ** 2 + (y / 0.55) ** 2 + (z / 0.85) ** 2 < 1
        hu[lung] = -820
    hu[(x + 0.15) ** 2 + (y - 0.15) ** 2 + z**2 < 0.08] = 45
    hu[(x**2 + (y + 0.6) ** 2) < 0.012] = 500
    noise = np.random.default_rng(seed).normal(0, 12, shape)
    return np.clip(np.rint(hu + noise), -1024, 3000).astype(np.int16)


def image_of(
    values: np.ndarray,
    affine: np.ndarray = AFFINE,
    kind: type[nib.Nifti1Image] = nib.Nifti1Image,
    dtype: str | None = None,
    order: Literal["<", ">"] = "<",
) -> nib.Nifti1Image:
    """An image whose stored values are exactly ``values``."""
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype(dtype or values.dtype).newbyteorder(order))
    return kind(values.astype(dtype or values.dtype), affine, header)


def save(path: Path, values: np.ndarray, **options: object) -> Path:
    """Write ``values`` as they are; the file's name decides about compression."""
    image = image_of(values, **options)  # type: ignore[arg-type]
    nib.save(image, path)
    return path


def patched(path: Path, offset: int, fmt: str, *values: float) -> Path:
    """Overwrite header fields of a ``.nii`` in place."""
    data = bytearray(path.read_bytes())
    struct.pack_into(fmt, data, offset, *values)
    path.write_bytes(bytes(data))
    return path


def gzipped_zeros(path: Path, head: bytes, megabytes: int) -> Path:
    """A gzip file: ``head``, then that many MB of zeros; tiny on disk."""
    with gzip.open(path, "wb", compresslevel=9) as out:
        out.write(head)
        for _ in range(megabytes):
            out.write(bytes(10**6))
    return path


def dicom_series(
    hu: np.ndarray,
    spacing_mm: Sequence[float] = (7.0, 7.0, 10.0),
    uid: str = "2.25.1",
    modality: str = "CT",
    slope: Sequence[float] | float = 1,
    syntax: str = ExplicitVRLittleEndian,
) -> list[Dataset]:
    """A data set for each axial slice of RAS+ voxels, from the feet up.

    RAS+ arrays count toward right and front, DICOM toward left and back.
    """
    slopes = np.broadcast_to(slope, hu.shape[2:])
    return [
        _dicom_slice(hu, k, spacing_mm, uid, modality, slopes[k], syntax)
        for k in range(len(slopes))
    ]


def _dicom_slice(
    hu: np.ndarray, k: int, spacing_mm: Sequence[float], uid: str, modality: str, slope: float,
    syntax: str,
) -> Dataset:  # fmt: skip
    stored = np.rint((hu[::-1, ::-1, k].T + 1024.0) / slope)
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"{uid}.1.{k + 1}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.9", uid
    ds.ImageType, ds.Modality = ["ORIGINAL", "PRIMARY", "AXIAL"], modality
    ds.PatientID, ds.PatientName = "MRN-4711", "DOE^JANE"
    ds.ImagePositionPatient = [-150, -120, round(k * spacing_mm[2], 5)]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [spacing_mm[1], spacing_mm[0]]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.RescaleIntercept, ds.RescaleSlope = "-1024", f"{slope:g}"
    ds.PixelData = stored.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return ds


def dicom_bytes(ds: Dataset) -> bytes:
    """The file of a data set."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def zipped_series(path: Path, files: Sequence[Dataset | bytes]) -> Path:
    """A zip of them; names run against the order."""
    packed = [file if isinstance(file, bytes) else dicom_bytes(file) for file in files]
    return zipped(path, {f"S/{1000 - k}.dcm": data for k, data in enumerate(packed)})


def pair(folder: Path, kind: type = nib.Nifti1Pair) -> tuple[Path, Path]:
    """The ``.hdr`` and the ``.img`` of :func:`chest`."""
    folder.mkdir(exist_ok=True)
    image = kind(chest(), AFFINE)
    nib.save(image, folder / "scan.img")
    return folder / "scan.hdr", folder / "scan.img"


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    """A zip file of these files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return path


def refusal(path: Path | list[Path], limits: Limits = Limits()) -> BadVolume:  # noqa: B008
    """Why a file is refused; the refusal is a sentence, a remedy and a code."""
    with pytest.raises(BadVolume) as caught:
        read_volume(path, limits=limits)
    error = caught.value
    assert error.code
    assert error.problem.endswith(".")
    assert error.remedy.endswith(".")
    return error
