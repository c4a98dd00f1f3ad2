"""Tiny CT-CLIP checkpoints with random weights, and what `rad3d convert` makes of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rad3d import cli
from rad3d.model.encoders.ctclip.config import CtClipConfig
from rad3d.model.encoders.ctclip.layout import VIT

SMALL = CtClipConfig(
    dim=16, codebook_size=24, image_size=32, patch_size=8, temporal_patch_size=4, spatial_depth=1,
    temporal_depth=2, dim_head=4, heads=2, dim_latent=12, frames=16,
)  # fmt: skip


def published_shapes(config: CtClipConfig) -> dict[str, tuple[int, ...]]:
    """Key -> shape of every published tensor that image inference reads."""
    c = config
    inner_heads = c.heads * c.dim_head
    shapes: dict[str, tuple[int, ...]] = {
        f"{VIT}spatial_rel_pos_bias.net.0.0.weight": (c.dim, 2),
        f"{VIT}spatial_rel_pos_bias.net.0.0.bias": (c.dim,),
        f"{VIT}spatial_rel_pos_bias.net.1.0.weight": (c.dim, c.dim),
        f"{VIT}spatial_rel_pos_bias.net.1.0.bias": (c.dim,),
        f"{VIT}spatial_rel_pos_bias.net.2.weight": (c.heads, c.dim),
        f"{VIT}spatial_rel_pos_bias.net.2.bias": (c.heads,),
        **_patch_shapes(f"{VIT}to_patch_emb", c.patch_values, c.dim),
    }
    for name, depth in _depths(c).items():
        for i in range(depth):
            layer = f"{VIT}{name}.layers.{i}"
            shapes |= {
                f"{layer}.0.dsconv.weight": (c.dim, 1, 3, 3, 3),
                f"{layer}.0.dsconv.bias": (c.dim,),
                f"{layer}.1.q_scale": (c.dim_head,),
                f"{layer}.1.k_scale": (c.dim_head,),
                f"{layer}.1.norm.gamma": (c.dim,),
                f"{layer}.1.norm.beta": (c.dim,),
                f"{layer}.1.to_q.weight": (inner_heads, c.dim),
                f"{layer}.1.to_kv.weight": (2 * inner_heads, c.dim),
                f"{layer}.1.to_out.weight": (c.dim, inner_heads),
                f"{layer}.3.0.weight": (c.dim,),
                f"{layer}.3.0.bias": (c.dim,),
                f"{layer}.3.1.weight": (2 * c.inner, c.dim),
                f"{layer}.3.4.weight": (c.dim, c.inner),
            }
        shapes |= {
            f"{VIT}{name}.norm_out.gamma": (c.dim,),
            f"{VIT}{name}.norm_out.beta": (c.dim,),
        }
    shapes[f"{VIT}vq._codebook.embed"] = (1, c.codebook_size, c.dim)
    shapes["to_visual_latent.weight"] = (c.dim_latent, c.dim_image)
    if c.num_classes:
        shapes["classifier.weight"] = (c.num_classes, c.dim_latent)
        shapes["classifier.bias"] = (c.num_classes,)
    return shapes


def _patch_shapes(prefix: str, values: int, dim: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}.1.weight": (values,),
        f"{prefix}.1.bias": (values,),
        f"{prefix}.2.weight": (dim, values),
        f"{prefix}.2.bias": (dim,),
        f"{prefix}.3.weight": (dim,),
        f"{prefix}.3.bias": (dim,),
    }


def _depths(c: CtClipConfig) -> dict[str, int]:
    return {
        "enc_spatial_transformer": c.spatial_depth,
        "enc_temporal_transformer": c.temporal_depth,
    }


def unread_shapes(config: CtClipConfig, text_width: int = 6) -> dict[str, tuple[int, ...]]:
    """Key -> shape of the tensors that are not read, without those of the text encoder."""
    c = config
    frame_values = c.channels * math.prod(c.patch_hw)
    shapes: dict[str, tuple[int, ...]] = {
        "temperature": (),
        "to_text_latent.weight": (c.dim_latent, text_width),
        "to_text_latent_extra.weight": (c.dim_latent, text_width),
        "to_visual_latent_extra.weight": (c.dim_latent, c.dim_image),
        **_patch_shapes(f"{VIT}to_patch_emb_first_frame", frame_values, c.dim),
        f"{VIT}vq._codebook.cluster_size": (1, c.codebook_size),
        f"{VIT}to_pixels_first_frame.0.weight": (frame_values, c.dim),
        f"{VIT}to_pixels_first_frame.0.bias": (frame_values,),
        f"{VIT}to_pixels.0.weight": (c.patch_values, c.dim),
        f"{VIT}to_pixels.0.bias": (c.patch_values,),
    }
    for name, depth in _depths(c).items():
        for i in range(depth):
            attention = f"{VIT}{name}.layers.{i}.1"
            shapes |= {
                f"{attention}.null_kv": (c.heads, 0, c.dim_head),
                f"{attention}.context_norm.gamma": (c.dim,),
                f"{attention}.context_norm.beta": (c.dim,),
            }
    return shapes


def random_state(config: CtClipConfig, seed: int) -> dict[str, Tensor]:
    """Weights of any size and sign; norms' shifts not zero, codebook rows not of unit length."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in published_shapes(config).items():
        value = torch.randn(shape, generator=generator)
        one = key.endswith(("gamma", "_scale")) or (value.ndim == 1 and key.endswith("weight"))
        scale = 0.3 if value.ndim < 2 else value[0].numel() ** -0.5
        state[key] = value * scale + float(one)
    return state


def lipro_state(config: CtClipConfig = SMALL, seed: int = 0) -> dict[str, Tensor]:
    """A whole LiPro checkpoint: what is read, what is not, and a text encoder."""
    state = random_state(config, seed)
    for key, shape in unread_shapes(config).items():
        state[key] = torch.randn(shape)
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
