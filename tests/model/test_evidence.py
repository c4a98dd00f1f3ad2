"""Evidence lies where it is in the patient, is bound to weights, is offered where it works."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scripts_as_modules import script
from tiny_models import CountingEncoder, FakeEncoderStore, volume

from rad3d.core.encoders import SHIPPED_ENCODER
from rad3d.core.errors import BadRequest, CorruptWeights, UnknownName
from rad3d.core.evidence import Evidence, Localisation
from rad3d.core.findings import Finding, Truth
from rad3d.core.labels import LABELS, N_LABELS
from rad3d.core.settings import Settings
from rad3d.core.types import FloatArray, Volume
from rad3d.model.encoders.base import Encoding
from rad3d.model.engine import Engine
from rad3d.model.evidence import find_evidence, measured
from rad3d.model.store import ModelStore
from rad3d.synthetic.phantom.acquisition import draw_acquisition
from rad3d.synthetic.phantom.render import RenderedPhantom, render
from rad3d.volume.grid import GridSpec
from rad3d.volume.load import read_volume

NODULE = "Lung nodule"
CELLS = 4


class BrightCells(CountingEncoder):
    """Rates a cell of 4 x 4 x 4 voxels by its brightest voxel, for every label alike."""

    def __init__(self, grid: GridSpec) -> None:
        super().__init__()
        self.grid = grid

    def encode(self, values: FloatArray) -> Encoding:
        xyz = values.transpose([self.grid.axes.index(axis) for axis in "xyz"])
        x, y, z = (n // CELLS for n in xyz.shape)
        cells = xyz.reshape(x, CELLS, y, CELLS, z, CELLS).max(axis=(1, 3, 5))
        return Encoding(np.zeros(256, np.float32), cells[None].astype(np.float32), None)

    def token_logits(self, tokens: FloatArray) -> FloatArray:
        """-8 to 8."""
        return np.repeat(8 * tokens, N_LABELS, axis=0)


def turned(degrees: float) -> np.ndarray:
    """A turn about an oblique axis."""
    angle = np.deg2rad(degrees)
    a, b = np.eye(4), np.eye(4)
    a[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    b[1:3, 1:3] = a[:2, :2]
    return a @ b


@pytest.mark.parametrize("stored", ["RAS", "LPS", "SAL"])
@pytest.mark.parametrize("degrees", [0, 14])
@pytest.mark.parametrize(("orientation", "axes"), [("RAS", "xyz"), ("LPS", "zyx")])
def test_the_strongest_cell_lies_at_the_same_place_of_the_patient_however_the_scan_is_stored(
    tmp_path: Path, stored: str, degrees: float, orientation: str, axes: str
) -> None:
    hu = np.random.default_rng(0).normal(-990, 12, (40, 36, 30))
    hu[:, 4:20] += 1030  # tissue below air
    hu[28:31, 9:12, 19:22] = 900
    affine = turned(degrees) @ np.diag([3.0, 3.2, 4.0, 1.0])
    affine[:3, 3] += (-70.0, 15.0, 410.0)
    place = (affine @ [29.0, 10.0, 20.0, 1.0])[:3]
    image = nib.Nifti1Image(hu.astype(np.int16), affine)
    turn = nib.orientations.axcodes2ornt(tuple(stored))
    path = tmp_path / "scan.nii.gz"
    image.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(affine), turn)
    ).to_filename(path)
    grid = GridSpec(orientation, (5.0, 4.0, 5.0), (32, 36, 32), axes=axes)
    engine = Engine(FakeEncoderStore(replace(Settings(), models_dir=tmp_path), BrightCells(grid)))
    found = find_evidence(engine, read_volume(path), NODULE)
    assert found.strength.shape == (8, 9, 8)
    assert np.all(
        np.abs(np.array(found.peak_mm) - place) <= np.array(grid.spacing_mm) * CELLS / 2 + 4
    )
    assert not found.is_empty


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(ModelStore(Settings()))


@pytest.fixture(scope="module")
def phantom() -> RenderedPhantom:
    effusion = Finding("Pleural effusion", "left", severity="severe", size_mm=60)
    nodule = Finding(NODULE, "right", ("right upper lobe",), "solid", None, 22, 1)
    return render(Truth(3, "in", (effusion, nodule)), draw_acquisition(3, "in"))


@pytest.mark.slow
@pytest.mark.parametrize("label", ["Pleural effusion", NODULE])
@pytest.mark.parametrize("degrees", [0, 6])
def test_the_shipped_encoder_points_into_the_finding(
    engine: Engine, phantom: RenderedPhantom, label: str, degrees: float
) -> None:
    affine = turned(degrees) @ phantom.affine
    found = find_evidence(engine, Volume.from_array(phantom.hu, affine), label)
    places = np.argwhere(phantom.masks[label]) @ affine[:3, :3].T + affine[:3, 3]
    nearest = np.linalg.norm(places - found.peak_mm, axis=1).min()
    assert nearest <= found.cell_mm / 2
    opposite = np.array(found.peak_mm) * [-1, 1, 1]
    assert np.linalg.norm(places - opposite, axis=1).min() > nearest


def test_what_was_measured_of_the_shipped_encoder_is_about_its_weights() -> None:
    known = measured(Settings().models_dir, SHIPPED_ENCODER, GridSpec().id)
    assert set(known) == set(LABELS), "measure anew: python scripts/measure_where.py"
    assert sum(each.works for each in known.values()) >= 12


def test_places_measured_with_other_weights_or_another_grid_count_as_unknown(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "encoders" / "phantom-cnn"
    folder.mkdir(parents=True)
    assert measured(tmp_path, SHIPPED_ENCODER, "grid") == {}
    stored = {
        "schema": "rad3d-where/1",
        "encoder": {"sha256": "0", "preprocessing": "grid"},
        "shown": "test-in",
        "labels": {},
    }
    (folder / "where.json").write_text(json.dumps(stored))
    assert measured(tmp_path, SHIPPED_ENCODER, "grid") == {}
    (folder / "where.json").write_text("{")
    with pytest.raises(CorruptWeights, match="measure_where"):
        measured(tmp_path, SHIPPED_ENCODER, "grid")


def test_an_encoder_that_does_not_rate_cells_is_said_not_to(tmp_path: Path) -> None:
    store = FakeEncoderStore(replace(Settings(), models_dir=tmp_path), CountingEncoder())
    with pytest.raises(BadRequest, match="does not say in which part of a scan"):
        find_evidence(Engine(store), volume(), NODULE)


def test_an_unknown_finding_is_named(tmp_path: Path) -> None:
    store = FakeEncoderStore(replace(Settings(), models_dir=tmp_path), BrightCells(GridSpec()))
    with pytest.raises(UnknownName, match="Gallstones"):
        find_evidence(Engine(store), volume(), "Gallstones")


@pytest.mark.parametrize(
    ("pointing", "gain", "dice_gain", "works"),
    [
        ((0.9, 0.8, 1.0), (0.4, 0.3, 0.5), (0.1, -0.1, 0.2), True),
        ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.2, 0.1, 0.3), True),  # right there, and in extent
        ((0.6, 0.4, 0.8), (0.4, 0.2, 0.5), (0.2, 0.1, 0.3), False),  # perhaps wrong in half
        ((0.9, 0.8, 1.0), (0.0, -0.1, 0.1), (0.0, -0.1, 0.1), False),  # no better than a guess
    ],
)
def test_places_are_offered_where_they_are_right_and_better_than_a_constant_guess(
    pointing: tuple[float, float, float],
    gain: tuple[float, float, float],
    dice_gain: tuple[float, float, float],
    works: bool,
) -> None:
    assert Localisation(0.5, 30, pointing, gain, (0.7, 0.6, 0.8), dice_gain).works is works


def test_places_that_fail_out_of_domain_are_not_offered_unless_the_scans_are_too_few() -> None:
    good = {"threshold": 0.5, "n": 40, "pointing": (0.9, 0.8, 1.0), "dice": (0.7, 0.6, 0.8)}
    good |= {"gain": (0.4, 0.3, 0.5), "dice_gain": (0.4, 0.3, 0.5)}
    bad = {**good, "pointing": (0.2, 0.1, 0.3)}
    assert Localisation.of({"in": good, "out": good}, "in").works
    assert not Localisation.of({"in": good, "out": bad}, "in").works
    assert Localisation.of({"in": good, "out": {**bad, "n": 2}}, "in").works
    assert not Localisation.of({"in": {**bad, "n": 2}, "out": good}, "in").works


def test_pointing_and_dice_count_what_they_say() -> None:
    """Four scans whose finding lies at a corner; in the fourth it is seen in another one."""
    measure = script("measure_where")
    right = np.zeros((3, 3, 3), bool)
    right[0, 0, :2] = True
    seen = np.where(right, 0.8, 0.1).astype(np.float32)
    cases = [measure.Seen(seen, right)] * 3 + [measure.Seen(seen[::-1], right)]
    threshold, guess = measure.learned(cases[:3])
    assert 0.1 < threshold <= 0.8
    assert guess.peak in (0, 1)
    found = measure.measured(cases, threshold, guess)
    assert (found.n, found.pointing[0], found.dice[0]) == (4, 0.75, 0.75)
    assert found.gain[0] == found.dice_gain[0] == -0.25, "a constant guess is always right here"
    assert not found.works


def test_evidence_below_its_threshold_is_none() -> None:
    strength = np.full((2, 2, 2), 0.3, np.float32)
    found = Evidence(NODULE, strength, np.eye(4), 0.4, "Looked.")
    assert found.is_empty
    assert not replace(found, threshold=0.2).is_empty
    assert "was not measured" in found.sentence
