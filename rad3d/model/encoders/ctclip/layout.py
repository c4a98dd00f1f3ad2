"""The tensors of a CT-CLIP checkpoint, and the sizes of the network that follow from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rad3d.core.errors import BadRequest
from rad3d.model.encoders.ctclip.config import CtClipConfig, checked_sizes

Shape = tuple[int | None, ...]
"""Sizes of a tensor; None where the image side does not know one (the text encoder's width)."""

VIT = "visual_transformer."
TRANSFORMERS = ("enc_spatial_transformer", "enc_temporal_transformer")
GET = (
    "Give CT-CLIP_v2.pt or CT_LiPro_v2.pt of CT-RATE's models/CT-CLIP-Related, or the sizes with "
    "--config."
)


def told_config(state: Mapping[str, Tensor], **known: Any) -> CtClipConfig:
    """The sizes that a checkpoint's tensors have.

    Args:
        state: keys without ``trained_model.``.
        **known: sizes that the tensors do not tell: ``frames`` (the published 240 unless given),
            ``channels`` (1), and ``image_size`` and ``patch_size`` (squares).

    Raises:
        BadRequest: a tensor that is needed is missing, or the sizes cannot be told.
    """
    known = checked_sizes(known)
    shapes = _Shapes(state)
    dim, patch_values = shapes(f"{VIT}to_patch_emb.2.weight", 2)
    dim_latent, dim_image = shapes("to_visual_latent.weight", 2)
    channels = known.get("channels", CtClipConfig.channels)
    if "patch_size" not in known:
        (flat,) = shapes(f"{VIT}to_patch_emb_first_frame.1.weight", 1)
        side = _square_root(flat // channels, "patch_size")
        known["patch_size"] = (side, side)
    high, wide = known["patch_size"]
    if "image_size" not in known:
        side = _square_root(dim_image // dim, "image_size")
        known["image_size"] = (side * high, side * wide)
    head = "classifier.weight"
    told = {
        "dim": dim,
        "codebook_size": shapes(f"{VIT}vq._codebook.embed", 3)[1],
        "temporal_patch_size": patch_values // (channels * high * wide),
        "spatial_depth": _depth(state, TRANSFORMERS[0]),
        "temporal_depth": _depth(state, TRANSFORMERS[1]),
        "dim_head": shapes(f"{VIT}{TRANSFORMERS[0]}.layers.0.1.q_scale", 1)[0],
        "heads": shapes(f"{VIT}spatial_rel_pos_bias.net.2.bias", 1)[0],
        "dim_latent": dim_latent,
        "num_classes": shapes(head, 2)[0] if head in state else 0,
    }
    return CtClipConfig.from_dict(told | known)


class _Shapes:
    """Shapes of a checkpoint's tensors, refusing in words where one is not there."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self._state = state

    def __call__(self, key: str, dims: int) -> tuple[int, ...]:
        if key not in self._state:
            raise BadRequest(
                f"This is no CT-CLIP checkpoint: the tensor {key} is missing.",
                GET,
                code="not_ctclip",
            )
        shape = tuple(self._state[key].shape)
        if len(shape) != dims or 0 in shape:
            raise BadRequest(
                f"This is no CT-CLIP checkpoint: {key} has the shape {shape}.",
                GET,
                code="not_ctclip",
            )
        return shape


def _square_root(area: int, name: str) -> int:
    side = math.isqrt(area)
    if side * side != area or not side:
        raise BadRequest(
            f"The tensors do not tell {name}: {area} is not the area of a square.",
            f"Give {name} with --config.",
            code="bad_config",
        )
    return side


def _depth(state: Mapping[str, Tensor], transformer: str) -> int:
    """The number of layers. A gap in their numbering shows when they are sorted."""
    prefix = f"{VIT}{transformer}.layers."
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def read_shapes(config: CtClipConfig) -> dict[str, Shape]:
    """Key -> shape of every tensor that image inference reads."""
    c = config
    inner_heads = c.heads * c.dim_head
    shapes: dict[str, Shape] = {
        f"{VIT}spatial_rel_pos_bias.net.0.0.weight": (c.dim, 2),
        f"{VIT}spatial_rel_pos_bias.net.0.0.bias": (c.dim,),
        f"{VIT}spatial_rel_pos_bias.net.1.0.weight": (c.dim, c.dim),
        f"{VIT}spatial_rel_pos_bias.net.1.0.bias": (c.dim,),
        f"{VIT}spatial_rel_pos_bias.net.2.weight": (c.heads, c.dim),
        f"{VIT}spatial_rel_pos_bias.net.2.bias": (c.heads,),
        **_patch_shapes(f"{VIT}to_patch_emb", c.patch_values, c.dim),
    }
    for name, depth in _transformers(c):
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


def unread_shapes(config: CtClipConfig) -> dict[str, Shape]:
    """Key -> shape of the tensors a checkpoint holds beside those and the text encoder's."""
    c = config
    frame_values = c.channels * math.prod(c.patch_hw)
    shapes: dict[str, Shape] = {
        "temperature": (),
        "to_text_latent.weight": (c.dim_latent, None),
        "to_text_latent_extra.weight": (c.dim_latent, None),
        "to_visual_latent_extra.weight": (c.dim_latent, c.dim_image),
        **_patch_shapes(f"{VIT}to_patch_emb_first_frame", frame_values, c.dim),
        f"{VIT}vq._codebook.cluster_size": (1, c.codebook_size),
        f"{VIT}to_pixels_first_frame.0.weight": (frame_values, c.dim),
        f"{VIT}to_pixels_first_frame.0.bias": (frame_values,),
        f"{VIT}to_pixels.0.weight": (c.patch_values, c.dim),
        f"{VIT}to_pixels.0.bias": (c.patch_values,),
    }
    for name, depth in _transformers(c):
        for i in range(depth):
            attention = f"{VIT}{name}.layers.{i}.1"
            shapes |= {
                f"{attention}.null_kv": (c.heads, 0, c.dim_head),
                f"{attention}.context_norm.gamma": (c.dim,),
                f"{attention}.context_norm.beta": (c.dim,),
            }
    return shapes


def _transformers(config: CtClipConfig) -> tuple[tuple[str, int], ...]:
    return tuple(zip(TRANSFORMERS, (config.spatial_depth, config.temporal_depth), strict=True))


def _patch_shapes(prefix: str, values: int, dim: int) -> dict[str, Shape]:
    return {
        f"{prefix}.1.weight": (values,),
        f"{prefix}.1.bias": (values,),
        f"{prefix}.2.weight": (dim, values),
        f"{prefix}.2.bias": (dim,),
        f"{prefix}.3.weight": (dim,),
        f"{prefix}.3.bias": (dim,),
    }
