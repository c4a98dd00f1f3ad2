"""Training is resumable and deterministic, and its targets say what the truth says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rad3d.core.details import attribute_names
from rad3d.core.errors import BadRequest
from rad3d.core.findings import Finding, Truth
from rad3d.core.types import Volume
from rad3d.synthetic.phantom.acquisition import draw_acquisition
from rad3d.synthetic.phantom.render import render
from rad3d.train.attribute_targets import attribute_targets
from rad3d.train.encoder_training import EncoderTraining, augment
from rad3d.train.fit_calibration import calibrate, novelty_reference
from rad3d.train.loop import LoopConfig, fit
from rad3d.train.phantoms import Split, build_split, token_cells
from rad3d.volume.grid import GridSpec, to_grid

pytestmark = pytest.mark.numeric


class _Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.out = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.out(x)


def _batch(step: int) -> tuple[Tensor, Tensor]:
    x = torch.from_numpy(np.random.default_rng(step).normal(size=(16, 4))).float()
    return x, x.sum(dim=1, keepdim=True)


def _square(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    return {"loss": ((model(batch[0]) - batch[1]) ** 2).mean()}


class _StopError(Exception):
    pass


def _stop_at(step: int) -> Callable[[nn.Module, int], None]:
    def stop(model: nn.Module, now: int) -> None:
        if now == step:
            raise _StopError

    return stop


@pytest.mark.slow
@pytest.mark.parametrize("muon", [0.0, 0.02])
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    tmp_path: Path, muon: float
) -> None:
    config = LoopConfig(40, 1e-2, warmup=5, precision="no", muon_rate=muon, save_every=10)
    whole = _Line()
    fit(whole, _batch, _square, config, tmp_path / "a", name="a")
    with pytest.raises(_StopError):
        fit(_Line(), _batch, _square, config, tmp_path / "b", name="b", on_step=_stop_at(25))
    resumed = _Line()
    fit(resumed, _batch, _square, config, tmp_path / "b", name="b")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, msg=name)


@pytest.mark.slow
def test_training_lowers_the_loss_and_leaves_frozen_weights_alone(tmp_path: Path) -> None:
    model = _Line()
    model.layers[0].requires_grad_(False)
    before = model.layers[0].get_parameter("weight").clone()
    start = _square(model, _batch(999))["loss"].item()
    fit(model, _batch, _square, LoopConfig(200, 5e-2, warmup=5), tmp_path, name="x")
    assert _square(model, _batch(999))["loss"].item() < 0.5 * start
    torch.testing.assert_close(model.layers[0].weight, before)


def test_a_directory_with_another_configuration_is_refused(tmp_path: Path) -> None:
    fit(_Line(), _batch, _square, LoopConfig(2, 1e-2), tmp_path, name="x")
    with pytest.raises(BadRequest, match="another configuration"):
        fit(_Line(), _batch, _square, LoopConfig(3, 1e-2), tmp_path, name="x")


def test_attribute_targets_state_the_finding_and_leave_the_rest_unknown() -> None:
    effusion = Finding("Pleural effusion", side="left", severity="severe", size_mm=80)
    target, known = attribute_targets(Truth(0, "in", (effusion,)))
    values = {name: target[i] for i, name in enumerate(attribute_names()) if known[i]}
    assert {label for label, _ in values} == {"Pleural effusion"}
    assert values["Pleural effusion", "left"] == 1
    assert values["Pleural effusion", "right"] == 0
    assert values["Pleural effusion", "severe"] == 1
    assert values["Pleural effusion", "large"] == 1


@pytest.mark.slow
def test_token_cells_lie_on_the_side_of_the_finding() -> None:
    effusion = Finding("Pleural effusion", side="left", severity="severe", size_mm=70)
    truth = Truth(3, "in", (effusion,))
    phantom = render(truth, draw_acquisition(3, "in", matrix=96, slices=64))
    grid = GridSpec()
    model_grid = to_grid(Volume.from_array(phantom.hu, phantom.affine), grid)
    cells = token_cells(phantom, model_grid.affine, grid)
    found = np.argwhere(cells[12])
    assert len(found) > 5
    assert (found[:, 0] < cells.shape[1] // 2).all(), "the patient's left is at low x in RAS+"
    assert cells.sum() == cells[12].sum()


@pytest.mark.process
def test_a_split_is_made_once_and_the_same_in_one_or_two_processes(tmp_path: Path) -> None:
    split = Split("s", "in", 50, 2)
    grid = GridSpec(spacing_mm=(12.0, 12.0, 12.0), shape=(32, 24, 24))
    one = build_split(split, grid, tmp_path / "one", jobs=1)
    two = build_split(split, grid, tmp_path / "two", jobs=2)
    np.testing.assert_array_equal(one.hu, two.hu)
    np.testing.assert_array_equal(one.cells, two.cells)
    assert one.hu.std() > 100
    with pytest.raises(BadRequest, match="another split"):
        build_split(Split("s", "in", 51, 2), grid, tmp_path / "one", jobs=1)


def test_augmentation_moves_scan_and_cells_together_without_wrapping_around() -> None:
    hu: Any = np.full((32, 32, 32), -1000, dtype=np.int16)
    hu[8:12, 16:20, 0:4] = 500
    cells: Any = np.zeros((2, 8, 8, 8), dtype=np.uint8)
    cells[1, 2, 4, 0] = 1
    config = EncoderTraining((LoopConfig(1, 1e-3),), noise_hu=0.0)
    seen = set()
    for seed in range(40):
        values, moved = augment(hu, cells, np.random.default_rng(seed), config)
        assert values.min() >= -1
        assert values.max() <= 1
        assert not moved[0].any()
        assert (values[:, :, 16:] < -0.9).all(), "what leaves below must not come in above"
        if moved.any():
            corner = np.argwhere(moved[1])[0] * 4
            bright = np.argwhere(values > 0)
            assert np.abs(bright.min(axis=0) - corner).max() <= 1
            seen.add(tuple(corner.tolist()))
    assert len(seen) > 5, "different seeds must shift differently"


def test_calibration_turns_overconfident_logits_into_true_probabilities() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(4000, 18))
    labels = (rng.random((4000, 18)) < 1 / (1 + np.exp(-truth))).astype(float)
    calibration = calibrate(5 * truth + 2, labels, "held out")
    probability = calibration.probabilities(5 * truth + 2)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-truth)), atol=0.05)
    assert calibration.split == "held out"


def test_a_far_scan_is_novel_and_a_near_one_is_not() -> None:
    rng = np.random.default_rng(0)
    reference = novelty_reference(rng.normal(size=(400, 6)), rng.normal(size=(200, 6)))
    near, far = reference.measure(np.zeros(6)), reference.measure(np.full(6, 9.0))
    assert not near.is_novel
    assert far.is_novel
    assert near.percentile < far.percentile == 100
