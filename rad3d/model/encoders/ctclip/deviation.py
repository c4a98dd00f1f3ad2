"""The effect of a lower precision: one synthetic scan through the same weights in both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rad3d.model.encoders.ctclip.checkpoint import build
from rad3d.model.encoders.ctclip.config import CtClipConfig
from rad3d.model.encoders.ctclip.encoder import PRECISIONS
from rad3d.model.encoders.ctclip.network import CtClip, Seen
from rad3d.synthetic.phantom.cohort import make_case
from rad3d.volume.grid import GridSpec, to_grid

SEED = 0
"""Seed of the phantom that is encoded: the same voxels on every machine."""


@dataclass(frozen=True)
class Deviation:
    """The deviation of a precision from float32.

    Attributes:
        latent: largest difference between two numbers of the latents / the largest number.
        logits: likewise; None where the checkpoint has no head.
        codes_changed: tokens that become another row of the codebook.
        codes: tokens of a scan.
    """

    latent: float
    logits: float | None
    codes_changed: int
    codes: int

    def __str__(self) -> str:
        logits = "" if self.logits is None else f", the logits by {self.logits:.1e}"
        return (
            f"the latent differs from that of float32 by {self.latent:.1e} of its largest "
            f"number{logits}, and {self.codes_changed:,} of {self.codes:,} codes change"
        )


def deviation(
    config: CtClipConfig, tensors: Mapping[str, Tensor], grid: GridSpec, precision: str
) -> Deviation:
    """Compare a precision with float32 on phantom 0.

    Args:
        config, tensors: of a sorted checkpoint.
        grid: the model grid.
        precision: a key of :data:`rad3d.model.encoders.ctclip.encoder.PRECISIONS`.
    """
    values = torch.tensor(to_grid(make_case(SEED).volume, grid).values)
    video = values.expand(1, config.channels, *values.shape)
    network = build(config, tensors)
    exact = _outputs(network, video)
    rounded = _outputs(network.with_linear_dtype(PRECISIONS[precision]), video)
    changed = int((exact[0].codes != rounded[0].codes).sum())
    return Deviation(
        _relative(rounded[0].latent, exact[0].latent),
        None if exact[1] is None or rounded[1] is None else _relative(rounded[1], exact[1]),
        changed,
        exact[0].codes.numel(),
    )


def _outputs(network: CtClip, video: Tensor) -> tuple[Seen, Tensor | None]:
    output = network(video)
    return output, network.classify(output.latent) if network.config.num_classes else None


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())
