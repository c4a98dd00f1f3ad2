"""Training of the second encoder: what a batch holds, what is learned, what is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rad3d.core.details import attribute_names
from rad3d.core.findings import Finding, Truth
from rad3d.model.encoders.phantom_clip import ClipConfig, ClipNetwork, Readout
from rad3d.synthetic.phantom.acquisition import KERNELS, draw_acquisition, draw_wide_acquisition
from rad3d.synthetic.truth import draw_truth
from rad3d.train.clip_finish import calibrate_details
from rad3d.train.clip_schedule import ClipTraining
from rad3d.train.clip_training import Examples, cell_losses, train_trunk
from rad3d.train.contrast import train_readout
from rad3d.train.loop import LoopConfig
from rad3d.train.phantoms import PhantomArrays, Split
from rad3d.train.scanners import augmented_planes, part
from rad3d.volume.grid import GridSpec

GRID = GridSpec(spacing_mm=(9.0, 9.0, 9.0), shape=(32, 32, 32))
CONFIG = ClipConfig((8, 8), 4, 6, 16, 2, 24, GRID)


def arrays(n: int = 4) -> PhantomArrays:
    rng = np.random.default_rng(0)
    planes = rng.integers(-1000, 1000, (n, 5, 16, 16, 16)).astype(np.int16)
    cells = (rng.random((n, 18, 8, 8, 8)) < 0.01).astype(np.uint8)
    return PhantomArrays(Split("s", "in", 0, n), planes, cells)


@pytest.mark.slow
def test_wide_acquisitions_cover_the_scanners_of_both_domains() -> None:
    wide = [draw_wide_acquisition(seed) for seed in range(400)]
    known = [draw_acquisition(seed, domain) for seed in range(100) for domain in ("in", "out")]
    assert {a.kernel for a in wide} == set(KERNELS)
    assert {a.contrast for a in wide} == {True, False}
    values: tuple[Any, ...] = (
        lambda a: a.noise_hu,
        lambda a: a.spacing_mm[0],
        lambda a: a.spacing_mm[2],
    )
    for value in values:
        assert min(map(value, wide)) <= min(map(value, known))
        assert max(map(value, wide)) >= max(map(value, known))


def test_augmentation_depends_on_the_seed_alone_and_leaves_some_scans_as_they_are() -> None:
    hu = np.random.default_rng(1).integers(-1000, 1000, GRID.shape).astype(np.int16)
    made = [augmented_planes(hu, seed) for seed in range(6)]
    np.testing.assert_array_equal(made[0], augmented_planes(hu, 0))
    kinds = {planes.tobytes() for planes in made}
    assert 2 <= len(kinds) < len(made)
    assert all(np.abs(planes).max() <= 1000 for planes in made)


def test_a_part_outside_the_scan_is_filled() -> None:
    values = np.arange(64).reshape(1, 4, 4, 4)
    found = part(values, np.array([-1, 2, 0]), (3, 4, 2), -7)
    np.testing.assert_array_equal(found[0, 1:, :2], values[0, :2, 2:, :2])
    assert (found[0, 0] == -7).all()
    assert (found[0, :, 2:] == -7).all()


def test_parts_and_whole_scans_hold_planes_cells_and_targets_of_one_scan() -> None:
    examples = Examples(arrays(), CONFIG)
    whole = examples.whole(0, 2, 0)
    assert whole["planes"].shape == (2, 5, 16, 16, 16)
    assert whole["cells"].shape == (2, 18, 8, 8, 8)
    assert whole["target"].shape == (2, len(attribute_names()))
    again = examples.parts(3, 2)
    for name, values in examples.parts(3, 2).items():
        torch.testing.assert_close(values, again[name])


def test_small_findings_weigh_as_much_as_large_ones() -> None:
    cells = torch.zeros(1, 18, 8, 8, 8)
    cells[0, 0, :4] = 1
    cells[0, 1, 0, 0, 0] = 1
    missed: Any = torch.full((1, 18, 8, 8, 8), -5.0)
    losses = []
    for label in (0, 1):
        dense = missed.clone()
        dense[0, label][cells[0, label] > 0] = 5.0
        losses.append(float(cell_losses(dense, cells, torch.ones(18))["loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_training_the_trunk_leaves_the_readout_alone(tmp_path: Path) -> None:
    loop = LoopConfig(2, 1e-2, warmup=1, precision="no")
    training = ClipTraining(loop, loop, loop, parts_batch=2, whole_batch=2)
    torch.manual_seed(training.parts.seed)
    before = ClipNetwork(CONFIG).state_dict()
    found, facts = train_trunk(arrays(), CONFIG, training, tmp_path)
    changed = {
        name.partition(".")[0]
        for name, values in found.state_dict().items()
        if not torch.equal(values, before[name])
    }
    assert changed == {"trunk", "heads"}
    assert facts["steps"] == 4


@pytest.mark.slow
def test_the_readout_learns_which_report_belongs_to_which_scan(tmp_path: Path) -> None:
    truths = [draw_truth(seed) for seed in range(12)]
    cells = np.random.default_rng(0).normal(size=(12, 8, 24)).astype(np.float16)
    readout = Readout(CONFIG)
    loop = LoopConfig(60, 3e-3, warmup=5, precision="no", weight_decay=0.0)
    facts = train_readout(readout, cells, truths, 24, 12, loop, tmp_path)
    assert facts["final_loss"] < 0.6 * np.log(12)


def test_a_detail_is_calibrated_where_enough_scans_show_it() -> None:
    rng = np.random.default_rng(0)
    names = attribute_names()
    column = names.index(("Pleural effusion", "left"))
    truths, logits = [], np.zeros((400, len(names)))
    for i in range(400):
        chance = rng.normal()
        left = rng.random() < 1 / (1 + np.exp(-chance))
        effusion = Finding("Pleural effusion", side="left" if left else "right")
        truths.append(Truth(i, "in", (effusion,)))
        logits[i, column] = 3 * chance + 1
    slope, offset = calibrate_details(logits, truths)
    assert slope[column] == pytest.approx(1 / 3, rel=0.3)
    assert slope[names.index(("Cardiomegaly", "mild"))] == 1
    assert offset[names.index(("Cardiomegaly", "mild"))] == 0
