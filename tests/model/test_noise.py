"""Scans are told from phantoms by their noise, whatever was done to them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from rad3d.core.encoders import ENCODERS, SHIPPED_ENCODER
from rad3d.core.errors import CorruptWeights
from rad3d.core.settings import Settings
from rad3d.model.encoders.calibration import NoveltyReference
from rad3d.model.encoders.noise import (
    FARTHEST,
    noise_novelty,
    noise_vector,
    read_reference,
    write_reference,
)
from rad3d.model.store import ModelStore
from rad3d.synthetic.phantom.acquisition import draw_acquisition
from rad3d.synthetic.phantom.render import render
from rad3d.synthetic.truth import draw_truth
from rad3d.volume.load import read_volume

pytestmark = pytest.mark.numeric

Array = npt.NDArray[Any]

FOLDER = Settings().models_dir / ENCODERS[SHIPPED_ENCODER].source
SCANS = (
    "lungdx_A0002_chest_8mm_dcm2niix.nii.gz",
    "lungdx_A0002_chest_dicom.zip",
    "innereye_thorax_scan_small.nii.gz",
    "totalsegmentator_cardiac_cta_crop.nii.gz",
    "totalsegmentator_abdomen_pelvis_3mm.nii.gz",
)
NEW = 70_000
"""A seed from which on no phantom was rendered for learning or for choosing the limit."""


def _noisy(hu: Array, sd: float) -> Array:
    return hu + np.random.default_rng(0).normal(0, sd, hu.shape)


def _cropped(hu: Array) -> Array:
    x, y, z = (n // 6 for n in hu.shape)
    return hu[x:-x, y:-y, z:-z]


CHANGES: dict[str, Callable[[Array], Array]] = {
    "as it is": lambda hu: hu,
    "cropped": _cropped,
    "mirrored": lambda hu: hu[::-1, :, ::-1],
    "blurred a little": lambda hu: ndimage.gaussian_filter(hu, 0.5),
    "blurred": lambda hu: ndimage.gaussian_filter(hu, 1.5),
    "median": lambda hu: ndimage.median_filter(hu, (3, 3, 1)),
    "every second voxel": lambda hu: hu[::2, ::2],
    "smaller": lambda hu: ndimage.zoom(hu, (0.6, 0.6, 1), order=1),
    "larger": lambda hu: ndimage.zoom(hu, (1.3, 1.3, 1), order=1),
    "noisier": lambda hu: _noisy(hu, 10),
    "much noisier": lambda hu: _noisy(hu, 60),
    "smooth and noisier": lambda hu: _noisy(ndimage.gaussian_filter(hu, 1), 20),
    "shifted by 30 HU": lambda hu: hu + 30,
}


def _whole(hu: Array) -> Array:
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


@pytest.fixture(scope="module")
def reference() -> NoveltyReference:
    found = read_reference(FOLDER)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def real_scans(shared_dir: Path) -> dict[str, Array]:
    return {name: read_volume(shared_dir / "data" / "ct" / name).hu for name in SCANS}


QUICK = ("as it is", "much noisier")


@pytest.mark.slow
@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize(
    "change",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CHANGES],
)
def test_a_real_scan_is_no_phantom_whatever_was_done_to_it(
    real_scans: dict[str, Array], reference: NoveltyReference, name: str, change: str
) -> None:
    changed = CHANGES[change](real_scans[name].astype(np.float32))
    found = noise_novelty(_whole(changed), reference)
    assert found.is_novel
    assert found.distance > 2 * found.limit, "with room for other real scans"


@pytest.mark.slow
@pytest.mark.parametrize(("domain", "kernel"), [("in", "soft"), ("out", "sharp")])
def test_a_new_phantom_is_one_and_stays_one_when_cropped_or_mirrored(
    reference: NoveltyReference, domain: str, kernel: str
) -> None:
    seed = next(s for s in range(NEW, NEW + 99) if draw_acquisition(s, domain).kernel == kernel)
    hu = render(draw_truth(seed, domain)).hu
    assert not noise_novelty(hu, reference).is_novel
    assert not noise_novelty(hu[::-1, :, ::-1], reference).is_novel
    assert not noise_novelty(hu[10:-10, 10:-10, 4:-4].astype(np.float32), reference).is_novel


@pytest.mark.slow
def test_one_new_phantom_in_a_hundred_at_most_is_called_unlike(reference: NoveltyReference) -> None:
    novel = [
        noise_novelty(render(draw_truth(NEW + i, "in")).hu, reference).is_novel for i in range(200)
    ]
    assert sum(novel) <= 2


@pytest.mark.slow
def test_a_phantom_that_a_scanner_or_a_program_went_over_is_none(
    reference: NoveltyReference,
) -> None:
    hu = render(draw_truth(NEW, "in")).hu.astype(np.float32)
    for change in ("blurred a little", "smaller", "much noisier"):
        assert noise_novelty(_whole(CHANGES[change](hu)), reference).is_novel, change
    rng = np.random.default_rng(0)
    scanner = ndimage.gaussian_filter(rng.normal(0, 40, hu.shape), (0.8, 0.8, 0.3))
    smooth = ndimage.gaussian_filter(hu, 0.8)
    assert noise_novelty(_whole(smooth + scanner), reference).is_novel


@pytest.mark.parametrize("value", [-1000, 0, 40])
def test_a_scan_without_noise_or_tissue_is_as_far_as_can_be(
    reference: NoveltyReference, value: int
) -> None:
    flat = np.full((64, 64, 32), value, np.int16)
    assert noise_vector(flat) is None
    found = noise_novelty(flat, reference)
    assert found.is_novel
    assert found.distance == FARTHEST
    assert found.measured == "noise"


def test_the_reference_comes_back_as_it_was_written(
    reference: NoveltyReference, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert read_reference(tmp_path) is None
    write_reference(tmp_path, reference, {"fitted": 3})
    back = read_reference(tmp_path)
    assert back is not None
    assert back.limit == reference.limit
    np.testing.assert_array_equal(back.whitening, reference.whitening)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"limit": "far"}'])
def test_a_damaged_reference_gets_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "noise.json").write_text(text)
    with pytest.raises(CorruptWeights, match=r"noise\.json is damaged"):
        read_reference(tmp_path)


def test_the_reference_is_read_with_the_encoder_and_no_more(tmp_path: Path) -> None:
    folder = tmp_path / ENCODERS[SHIPPED_ENCODER].source
    shutil.copytree(FOLDER, folder)
    store = ModelStore(Settings(models_dir=tmp_path))
    store.encoder(SHIPPED_ENCODER)
    (folder / "noise.json").write_text("{")
    assert store.noise(SHIPPED_ENCODER) is not None
    with pytest.raises(CorruptWeights, match=r"noise\.json is damaged"):
        ModelStore(Settings(models_dir=tmp_path)).encoder(SHIPPED_ENCODER)


def test_the_shipped_reference_says_what_it_was_fitted_on() -> None:
    facts = json.loads((FOLDER / "noise.json").read_text())["facts"]
    assert facts == {"fitted": 300, "held_out": 250, "beyond_limit": 0}
