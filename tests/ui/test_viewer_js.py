"""The viewer's pure JavaScript: reading NIfTI, orientation, slices. Runs in node."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from rad3d.core.errors import BadVolume
from rad3d.volume.load import decode

DTYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8")


@pytest.fixture
def node() -> str:
    """Path of node; skips where it is absent."""
    path = shutil.which("node")
    if path is None:
        pytest.skip("no node on this machine (18 or newer runs the viewer's unit tests)")
    return path


def _expected(path: Path) -> dict[str, object]:
    """What nibabel makes of a file: canonical shape, spacing, affine and some voxels."""
    image: Any = nib.load(path)
    if len(image.shape) == 4:
        image = image.__class__(np.asanyarray(image.dataobj)[..., 0], image.affine)
    image = nib.as_closest_canonical(image)
    return _facts(path, np.asarray(image.dataobj, dtype=np.float64), image.affine)


def _facts(path: Path, values: np.ndarray, affine: np.ndarray) -> dict[str, object]:
    """What the viewer must find in a file."""
    places = itertools.product(*[sorted({0, n // 3, n // 2, n - 1}) for n in values.shape])
    samples = [
        {"at": list(at), "value": None if np.isnan(values[at]) else float(values[at])}
        for at in places
    ]
    return {
        "path": str(path),
        "dims": list(values.shape),
        "spacing": [float(z) for z in np.linalg.norm(affine[:3, :3], axis=0)],
        "affine": affine.tolist(),
        "samples": samples,
    }


def _oblique(order: tuple[int, int, int], signs: tuple[int, int, int]) -> np.ndarray:
    """Permuted, mirrored, anisotropic and tilted by about 9 degrees."""
    affine = np.zeros((4, 4))
    for stored, world in enumerate(order):
        affine[world, stored] = signs[stored] * (0.7, 0.9, 2.5)[stored]
    angle = 0.16
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = tilt @ affine
    affine[:3, 3] = (12.0, -80.5, 300.25)
    affine[3, 3] = 1.0
    return affine


def _cases(folder: Path) -> list[Path]:
    """Every type in both byte orders and both versions, and every orientation."""
    rng = np.random.default_rng(5)
    paths: list[Path] = []

    def save(image: nib.Nifti1Image, name: str, **header: int) -> None:
        path = folder / name
        for field, value in header.items():
            image.header[field] = value
        image.to_filename(path)
        paths.append(path)

    for dtype, order in itertools.product(DTYPES, "<>"):
        low, high = (0, 200) if dtype.startswith("u") else (-100, 100)
        values = rng.integers(low, high, (4, 5, 6)).astype(dtype)
        for kind in (nib.Nifti1Image, nib.Nifti2Image):
            image = kind(values, _oblique((0, 1, 2), (-1, -1, 1)), dtype=np.dtype(dtype))
            header = image.header.as_byteswapped(order)
            image = kind(values, None, header)
            suffix = ".nii.gz" if kind is nib.Nifti1Image else ".nii"
            save(image, f"{kind.__name__}-{dtype}-{'le' if order == '<' else 'be'}{suffix}")
    axes = itertools.permutations(range(3))
    for number, (order_, signs) in enumerate(
        itertools.product(axes, itertools.product((1, -1), repeat=3))
    ):
        values = rng.integers(-1000, 2000, (3, 4, 5)).astype(np.int16)
        affine = _oblique(order_, signs)  # type: ignore[arg-type]
        image = nib.Nifti1Image(values, affine)
        only_qform = number % 3 == 0
        image.set_qform(affine, code=1)
        image.set_sform(affine, code=0 if only_qform else 2)
        save(image, f"axes-{number}.nii")
    scaled = nib.Nifti1Image(np.linspace(-1024, 3071, 120).reshape(4, 5, 6), np.eye(4))
    scaled.set_data_dtype(np.int16)
    save(scaled, "scaled.nii.gz")
    nothing = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), None)
    nothing.header.set_zooms((1.5, 2.0, 3.0))
    save(nothing, "no-affine.nii")
    holes = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    holes[1, 2, 2] = np.nan
    save(nib.Nifti1Image(holes, np.eye(4)), "nan.nii.gz")
    return paths


@pytest.mark.slow
def test_viewer_modules_hold_their_unit_tests(node: str, tmp_path: Path, repo_root: Path) -> None:
    expectations = tmp_path / "expected.json"
    expectations.write_text(json.dumps([_expected(path) for path in _cases(tmp_path)]))
    _run_node(node, repo_root, expectations)


@pytest.mark.slow
def test_viewer_and_server_take_the_same_form_and_the_same_sides(
    node: str, tmp_path: Path, repo_root: Path
) -> None:
    """Whatever the codes, the sign of the qform and the damage to one of the forms."""
    rng = np.random.default_rng(8)
    facts = []
    for number in range(300):
        image = nib.Nifti1Image(rng.integers(0, 99, (3, 4, 5)).astype(np.int16), np.eye(4))
        order, signs = rng.permutation(3), rng.choice([-1, 1], 3)
        image.set_qform(_oblique(tuple(order), tuple(signs)), code=1)
        order, signs = rng.permutation(3), rng.choice([-1, 1], 3)
        image.set_sform(_oblique(tuple(order), tuple(signs)), code=2)
        fields = image.header
        fields["qform_code"] = rng.choice([0, 1, 1, 9])
        fields["sform_code"] = rng.choice([0, 0, 2, 2, -1])
        fields["pixdim"][0] = rng.choice([-1, 1, 0, -0.5, 7, np.nan])
        fields["pixdim"][1:4] *= rng.choice([-1, 1], 3)
        if rng.random() < 0.3:
            fields["srow_y"] = rng.choice([0, np.nan, np.inf])
        if rng.random() < 0.3:
            fields["quatern_c"] += rng.choice([0.001, 2, np.nan])
        path = tmp_path / f"{number}.nii"
        path.write_bytes(
            fields.binaryblock + bytes(4) + np.asanyarray(image.dataobj).tobytes(order="F")
        )
        with contextlib.suppress(BadVolume):
            decoded = decode([path])
            facts.append(_facts(path, decoded.values, decoded.affine))
    assert len(facts) > 150
    expectations = tmp_path / "expected.json"
    expectations.write_text(json.dumps(facts))
    _run_node(node, repo_root, expectations)


@pytest.mark.slow
def test_viewer_reads_other_peoples_files_as_nibabel_does(
    node: str, tmp_path: Path, repo_root: Path, shared_dir: Path
) -> None:
    data = shared_dir / "data"
    names = (
        "nifti_cases/nifti-rs_float64.nii",
        "nifti_cases/nibabel_anatomical.nii",
        "nifti_cases/cornerstone_avg152T1_LR_nifti2.nii.gz",
        "nifti_cases/nifti-reader-js_little_4Dsingleton.nii.gz",
        "nifti_cases/nifti-reader-js_with_extension.nii.gz",
        "nifti_cases/panimg_10x11x12_qformonly.nii.gz",
        "nifti_cases/freesurferformats_tiny_slope0.nii",
        "nifti_cases/niivue_space_LPS.nii.gz",
        "nifti_cases/niivue_space_RAS.nii.gz",
        "nifti_cases/niivue_space_PSR.nii.gz",
        "nifti_cases/nibabel_resampled_NaN.nii",
        "ct/lungdx_A0002_chest_8mm_dcm2niix.nii.gz",
        "ct/totalsegmentator_abdomen_pelvis_3mm.nii.gz",
    )
    expectations = tmp_path / "expected.json"
    expectations.write_text(json.dumps([_expected(data / name) for name in names]))
    _run_node(node, repo_root, expectations)


def _run_node(node: str, repo_root: Path, expectations: Path) -> None:
    script = repo_root / "tests" / "browser" / "viewer.test.mjs"
    run = subprocess.run(
        [node, "--test", str(script)],
        env={**os.environ, "NIFTI_CASES": str(expectations)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert "# skipped 0" in run.stdout
