"""What the shipped encoder's first layers and pooling see."""

from __future__ import annotations

import pytest
import torch
from close import assert_near
from torch.nn import functional as F

from rad3d.core.encoders import ENCODERS, SHIPPED_ENCODER
from rad3d.core.errors import BadRequest
from rad3d.core.settings import Settings
from rad3d.model.encoders.base import load_encoder
from rad3d.model.encoders.phantom_cnn import ConvEncoder, ConvEncoderConfig, ShippedEncoder, blocks
from rad3d.model.store import ModelStore
from rad3d.volume.grid import GridSpec

pytestmark = pytest.mark.numeric


def test_blocks_hold_mean_extremes_opening_and_closing() -> None:
    torch.manual_seed(0)
    x = torch.randint(-1000, 1001, (2, 1, 12, 10, 8)) / 1000

    def dilate(x: torch.Tensor) -> torch.Tensor:
        return F.max_pool3d(F.pad(x, (1,) * 6, mode="replicate"), 3, 1)

    def opened(x: torch.Tensor) -> torch.Tensor:
        return dilate(-dilate(-x))

    found = blocks(x)
    wanted = (
        F.avg_pool3d(x, 2),
        F.max_pool3d(x, 2),
        -F.max_pool3d(-x, 2),
        F.max_pool3d(opened(x), 2),
        -F.max_pool3d(opened(-x), 2),
    )
    assert_near(found, torch.cat(wanted, dim=1))


def test_a_vessel_vanishes_from_the_opening_and_a_nodule_stays() -> None:
    x = torch.full((1, 1, 24, 24, 24), -0.85)
    x[..., 4:6, 4:6, :] = 0.05  # a tube of 2 voxels
    x[..., 14:18, 14:18, 14:18] = 0.05  # a ball of 4 voxels
    brightest, opening = blocks(x)[0, 1], blocks(x)[0, 3]
    assert brightest[2, 2].min() > 0
    assert opening[2, 2].max() < -0.8
    assert opening[7:9, 7:9, 7:9].min() > 0


@pytest.mark.parametrize("side", [0, 1])
def test_the_embedding_knows_on_which_side_a_finding_lies(side: int) -> None:
    torch.manual_seed(0)
    config = ConvEncoderConfig((4, 8), 4, 16, GridSpec(shape=(32, 32, 32)))
    network = ConvEncoder(config).eval()
    seen = []
    network.embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    tokens = torch.zeros(1, 4, 8, 8, 8)
    tokens[:, :, 4 * side + 1, 4, 4] = 100.0
    with torch.no_grad():
        network.dense.weight.fill_(1.0)
        network.pool(tokens, torch.zeros(1, 16))
    place = seen[0].view(-1)[: 18 * (4 + 3 + 24)].view(18, -1)[:, 4]
    assert torch.equal(place > 0, torch.full((18,), bool(side)))


def test_an_encoder_goes_to_the_device_that_is_asked_for() -> None:
    row = ENCODERS[SHIPPED_ENCODER]
    encoder = load_encoder(row, Settings().models_dir, "meta")
    assert isinstance(encoder, ShippedEncoder)
    assert {p.device.type for p in encoder.network.parameters()} == {"meta"}


def test_a_device_that_is_not_here_is_refused_for_encoders_too() -> None:
    with pytest.raises(BadRequest, match="no device cuda:77"):
        ModelStore(Settings(device="cuda:77")).encoder(SHIPPED_ENCODER)


def test_where_a_gpu_is_lent_for_reports_encoders_stay_on_the_processor() -> None:
    assert ModelStore(Settings(device="cuda:77", zero_gpu=True)).device == "cpu"
