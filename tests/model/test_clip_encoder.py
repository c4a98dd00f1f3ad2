"""The second shipped encoder: which part learns from what, what its heads read, how it is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from close import assert_near

from rad3d.core.details import attribute_names
from rad3d.core.errors import BadRequest
from rad3d.core.labels import LABELS, N_LABELS
from rad3d.model.encoders.base import visual_tokens
from rad3d.model.encoders.calibration import Calibration
from rad3d.model.encoders.phantom_clip import (
    ClipConfig,
    ClipEncoder,
    ClipNetwork,
    readout_cells,
    scan_planes,
    windows,
)
from rad3d.model.encoders.phantom_cnn import ConvEncoder, ConvEncoderConfig, blocks, window
from rad3d.volume.grid import GridSpec

pytestmark = pytest.mark.numeric

GRID = GridSpec(spacing_mm=(9.0, 9.0, 9.0), shape=(32, 32, 32))
CONFIG = ClipConfig((8, 16), 4, 6, 16, 2, 24, GRID)
DETAILS = attribute_names()


def network() -> ClipNetwork:
    torch.manual_seed(0)
    return ClipNetwork(CONFIG).eval()


def encoder() -> ClipEncoder:
    plain = Calibration(np.ones(N_LABELS), np.zeros(N_LABELS), np.full(N_LABELS, 0.5), "none")
    details = np.stack((np.ones(len(DETAILS)), np.zeros(len(DETAILS))))
    return ClipEncoder("phantom-clip", network(), plain, details, None)


def scan(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, GRID.shape).astype(np.float32)


def test_planes_are_the_blocks_of_the_first_encoder_in_whole_hu() -> None:
    x = torch.from_numpy(scan())
    found = windows(scan_planes(x)[None], torch.float32)
    # Half a HU of rounding, in a window 400 HU wide that is scaled to [-1, 1].
    torch.testing.assert_close(found, window(blocks(x[None, None])), atol=1.1 / 400, rtol=0)


def test_contrast_with_reports_does_not_reach_the_trunk() -> None:
    model = network()
    tokens, coarse = model.trunk(scan_planes(torch.from_numpy(scan()))[None])
    model.readout(readout_cells(tokens, coarse)).square().sum().backward()
    assert all(p.grad is None for p in (*model.trunk.parameters(), *model.heads.parameters()))
    assert any(p.grad is not None for p in model.readout.parameters())


def test_labels_and_details_do_not_reach_the_embedding() -> None:
    model = network()
    readings, dense = model.heads(model.trunk(scan_planes(torch.from_numpy(scan()))[None])[0])
    (readings.sum() + dense.sum()).backward()
    assert all(p.grad is None for p in model.readout.parameters())


def test_the_head_of_a_label_does_not_see_the_other_labels() -> None:
    model = network()
    tokens = torch.rand(1, 8, 8, 8, 8)
    with torch.no_grad():
        before, _ = model.heads(tokens)
        model.heads.dense.weight[3] += torch.rand_like(model.heads.dense.weight[3])
        after, _ = model.heads(tokens)
    changed = (before != after)[0]
    names = [*LABELS, *(label for label, _ in DETAILS)]
    assert changed.any()
    assert {name for name, c in zip(names, changed.tolist(), strict=True) if c} == {LABELS[3]}


def test_the_convolutions_of_the_first_encoder_are_taken_over() -> None:
    first = ConvEncoder(ConvEncoderConfig((8, 16), 4, 16, GRID))
    model = network()
    model.start_from(first)
    torch.testing.assert_close(model.trunk.merge[0].weight, first.merge[0].weight)
    torch.testing.assert_close(model.heads.dense.weight, first.dense.weight)


def test_an_encoder_is_the_same_after_saving_and_loading(tmp_path: Path) -> None:
    made = encoder()
    made.save_pretrained(tmp_path, {"steps": 1})
    back = ClipEncoder.from_pretrained(tmp_path)
    one, two = made.encode(scan()), back.encode(scan())
    assert one.pooled.shape == (24,)
    assert one.tokens.shape == (8, 8, 8, 8)
    assert one.readings is not None
    assert two.readings is not None
    assert one.readings.shape == (N_LABELS + len(DETAILS),)
    assert_near(two.pooled, one.pooled)
    assert_near(two.readings, one.readings)
    found = back.diagnose(two.pooled, two.readings)
    assert found.details is not None
    assert found.details.shape == (len(DETAILS),)
    assert_near(found.logits, one.readings[:N_LABELS])


def test_features_without_readings_are_refused_with_the_way_out() -> None:
    with pytest.raises(BadRequest, match="features compute") as refused:
        encoder().diagnose(np.zeros(24, np.float32))
    assert refused.value.code == "no_readings"


def test_visual_tokens_keep_a_small_bright_spot_in_its_place() -> None:
    tokens = np.zeros((3, 8, 8, 12), np.float32)
    tokens[1, 7, 0, 11] = 5.0
    found = visual_tokens(tokens)
    assert found.shape == (64, 6)
    assert np.argwhere(found == 5.0).tolist() == [[3 * 16 + 0 * 4 + 3, 3 + 1]]
