"""Other people's files, read in place: each ends as the table beside them says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rad3d.core.errors import BadVolume
from rad3d.core.types import Volume
from rad3d.volume.grid import GridSpec, to_grid
from rad3d.volume.load import decode, read_volume
from rad3d.volume.slices import render_slice

NOT_HU = ("not_hu", "label_map", "constant")
REFUSED: dict[str, tuple[str, ...]] = {
    "ct/mricrogl_head_ct_0to1.nii.gz": NOT_HU,
    "ct/dicom2nifti_missing_slice.zip": ("irregular_slices",),
    "nifti_cases/nifti-rs_float64.nii": ("too_few_voxels",),
    "nifti_cases/nifti-rs_int8.nii": ("too_few_voxels",),
    "nifti_cases/nifti-rs_rgb_3D.nii": ("not_scalar",),
    "nifti_cases/niivue_complex_image.nii.gz": ("not_scalar",),
    "nifti_cases/nibabel_anatomical.nii": NOT_HU,
    "nifti_cases/pair_minimal/minimal.hdr": NOT_HU,
    "nifti_cases/pair_minimal/minimal.img": NOT_HU,
    "nifti_cases/cornerstone_avg152T1_LR_nifti2.nii.gz": NOT_HU,
    "nifti_cases/nibabel_functional_4D.nii": ("not_3d",),
    "nifti_cases/nifti-reader-js_little_4Dsingleton.nii.gz": NOT_HU,
    "nifti_cases/dipy_S0_10slices_sheared.nii.gz": ("sheared",),
    "nifti_cases/panimg_10x11x12_qformonly.nii.gz": ("too_few_voxels",),
    "nifti_cases/nibabel_standard_sformonly.nii.gz": ("too_few_voxels",),
    "nifti_cases/freesurferformats_tiny_slope0.nii": ("too_few_voxels",),
    "nifti_cases/bids_AIR_1x1x1.nii.gz": ("too_few_voxels",),
    "nifti_cases/nifti-reader-js_with_extension.nii.gz": NOT_HU,
    "nifti_cases/nifti.jl_empty.nii.gz": ("empty_file",),
    "nifti_cases/nifti-rs_fuzz_crash-1.nii": ("corrupt_header",),
    "nifti_cases/bids_zeros_not_gzip.nii.gz": ("not_gzip",),
    "nifti_cases/bids_header_only_352B.nii": ("truncated",),
    "nifti_cases/flashdrr_CTChest_git-lfs-pointer.nii.gz": ("lfs_pointer",),
    "nifti_cases/totalsegmentator_example_seg_labelmap.nii.gz": NOT_HU,
    "nifti_cases/totalsegmentator_example_mr_sm.nii.gz": NOT_HU,
    "nifti_cases/simpleitk_r16slice_2D.nii.gz": ("not_3d",),
    "nifti_cases/niivue_space_LPS.nii.gz": NOT_HU,
    "nifti_cases/niivue_space_RAS.nii.gz": NOT_HU,
    "nifti_cases/niivue_space_PSR.nii.gz": NOT_HU,
    "nifti_cases/nibabel_resampled_NaN.nii": ("too_few_voxels",),
}
ACCEPTED: dict[str, list[str]] = {
    "ct/lungdx_A0002_chest_8mm_dcm2niix.nii.gz": [],
    "ct/lungdx_A0002_chest_dicom.zip": [],
    "ct/innereye_thorax_scan_small.nii.gz": ["implausible_body"],
    "ct/totalsegmentator_cardiac_cta_crop.nii.gz": ["cropped_fov"],
    "ct/totalsegmentator_abdomen_pelvis_3mm.nii.gz": ["not_chest"],
}
"""Readable CTs and the warnings they must carry."""


@pytest.fixture(scope="module")
def data(shared_dir: Path) -> Path:
    return shared_dir / "data"


def test_the_table_misses_no_file(data: Path) -> None:
    folders = (data / "ct", data / "nifti_cases")
    there = {str(p.relative_to(data)) for f in folders for p in f.rglob("*") if p.is_file()}
    assert there == set(REFUSED) | set(ACCEPTED)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "expected"), REFUSED.items(), ids=REFUSED)
def test_what_is_no_chest_ct_is_refused_with_a_reason(
    data: Path, file: str, expected: tuple[str, ...]
) -> None:
    with pytest.raises(BadVolume) as caught:
        read_volume(data / file)
    assert caught.value.code in expected
    assert caught.value.remedy


@pytest.mark.slow
@pytest.mark.parametrize(("file", "warnings"), ACCEPTED.items(), ids=ACCEPTED)
def test_a_ct_is_read_and_warned_about_where_it_is_odd(
    data: Path, file: str, warnings: list[str]
) -> None:
    volume = read_volume(data / file)
    assert [note.code for note in volume.warnings] == warnings
    assert volume.hu.dtype == np.int16
    grid = to_grid(volume, GridSpec())
    assert grid.values.min() >= -1
    assert grid.values.std() > 0.1


@pytest.mark.slow
def test_a_dicom_series_and_its_conversion_are_the_same_patient(data: Path) -> None:
    nifti = read_volume(data / "ct/lungdx_A0002_chest_8mm_dcm2niix.nii.gz")
    dicom = read_volume(data / "ct/lungdx_A0002_chest_dicom.zip")
    assert (nifti.hu == dicom.hu).all()
    assert np.abs(nifti.affine - dicom.affine).max() < 1e-2
    assert dicom.hu.min() == -1024
    assert dicom.hu.max() == 1548
    assert "-1024" in next(n.text for n in dicom.notes if n.code == "rescaled")


def test_half_of_a_real_pair_is_refused(data: Path, tmp_path: Path) -> None:
    for half in ("hdr", "img"):
        alone = tmp_path / f"minimal.{half}"
        alone.write_bytes((data / f"nifti_cases/pair_minimal/minimal.{half}").read_bytes())
        with pytest.raises(BadVolume) as caught:
            read_volume(alone)
        assert caught.value.code == "half_pair"
        alone.unlink()


def test_three_orientations_of_one_head_are_bit_identical(data: Path) -> None:
    one, *others = (
        decode([data / f"nifti_cases/niivue_space_{name}.nii.gz"]) for name in ("RAS", "LPS", "PSR")
    )
    for other in others:
        assert (one.values == other.values).all()
        assert one.affine == pytest.approx(other.affine, abs=1e-4)


def test_values_and_geometry_are_read_as_measured(data: Path) -> None:
    folder = data / "nifti_cases"
    big = decode([folder / "nibabel_anatomical.nii"])
    assert (big.minimum, big.maximum) == (-610, 30393)
    none = decode([folder / "freesurferformats_tiny_slope0.nii"])
    assert (none.minimum, none.maximum) == (1, 9)
    two = decode([folder / "cornerstone_avg152T1_LR_nifti2.nii.gz"])
    assert two.values.shape == (91, 109, 91)
    extended = decode([folder / "nifti-reader-js_with_extension.nii.gz"])
    assert (extended.minimum, extended.maximum) == (0, 1)
    holes = decode([folder / "nibabel_resampled_NaN.nii"])
    assert holes.invalid == 153
    assert holes.maximum == pytest.approx(13360.96, abs=0.1)
    qform = decode([folder / "panimg_10x11x12_qformonly.nii.gz"])
    assert np.linalg.norm(qform.affine[:3, :3], axis=0) == pytest.approx([1, 2, 3])
    assert qform.oriented


def test_the_liver_hangs_on_the_left_of_the_screen(data: Path) -> None:
    """In a real chest the right dome of the diaphragm, with the liver, is the denser side."""
    volume = read_volume(data / "ct/lungdx_A0002_chest_8mm_dcm2niix.nii.gz")
    picture = render_slice(volume, "coronal", volume.shape[1] // 2, 400, 40)
    low = picture[-120:-60]
    half = low.shape[1] // 2
    assert low[:, half // 2 : half].mean() > low[:, half : half + half // 2].mean()
    assert abs(picture.shape[0] / picture.shape[1] - 240 / 331) < 0.01


def test_a_volume_is_not_tied_to_its_file_name(data: Path) -> None:
    path = data / "ct/totalsegmentator_cardiac_cta_crop.nii.gz"
    one, two = read_volume(path, "one"), read_volume(path, "a/b\x00\n" + "x" * 300)
    assert one.sha256 == two.sha256
    assert isinstance(one, Volume)
    assert len(two.name) <= 120
    assert two.name.isprintable()
