"""Tiny CT-CLIP checkpoints with random weights, and what `rad3d convert` makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rad3d import cli
from rad3d.model.encoders.ctclip.config import CtClipConfig
from rad3d.model.encoders.ctclip.layout import read_shapes, unread_shapes

SMALL = CtClipConfig(
    dim=16, codebook_size=24, image_size=32, patch_size=8, temporal_patch_size=4, spatial_depth=1,
    temporal_depth=2, dim_head=4, heads=2, dim_latent=12, frames=16,
)  # fmt: skip


def random_state(config: CtClipConfig, seed: int) -> dict[str, Tensor]:
    """Weights of any size and sign; norms' shifts not zero, codebook rows not of unit length."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in read_shapes(config).items():
        value = torch.randn([n for n in shape if n is not None], generator=generator)
        one = key.endswith(("gamma", "_scale")) or (value.ndim == 1 and key.endswith("weight"))
        scale = 0.3 if value.ndim < 2 else value[0].numel() ** -0.5
        state[key] = value * scale + float(one)
    return state


def lipro_state(config: CtClipConfig = SMALL, seed: int = 0) -> dict[str, Tensor]:
    """A whole LiPro checkpoint: what is read, what is not, and a text encoder."""
    state = random_state(config, seed)
    for key, shape in unread_shapes(config).items():
        state[key] = torch.randn([6 if n is None else n for n in shape])
    state["visual_transformer.vq._codebook.initted"] = torch.ones(1)
    state["text_transformer.embeddings.position_ids"] = torch.arange(5)[None]
    state["text_transformer.pooler.dense.weight"] = torch.randn(6, 6)
    head = ("classifier.weight", "classifier.bias")
    return {k if k in head else f"trained_model.{k}": v for k, v in state.items()}


def convert(*arguments: Any) -> int:
    return cli.main(["convert", *map(str, arguments)])


def small_config(tmp_path: Path) -> Path:
    path = tmp_path / "sizes.json"
    path.write_text(json.dumps({"frames": 16}))
    return path


def converted(lipro: Path, tmp_path: Path, *options: Any) -> Path:
    out = tmp_path / "encoder"
    assert convert(lipro, "--out", out, "--config", small_config(tmp_path), *options) == 0
    return out
