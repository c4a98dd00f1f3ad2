"""The tensors of a CT-CLIP checkpoint, and the sizes of the network that follow from them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rad3d.core.errors import BadRequest
from rad3d.model.encoders.ctclip.config import CtClipConfig, checked_sizes
from rad3d.model.encoders.ctclip.network import CtClip

VIT = "visual_transformer."
TRANSFORMERS = ("enc_spatial_transformer", "enc_temporal_transformer")
UNREAD = re.compile(
    r"temperature|to_text_latent(_extra)?\.weight|to_visual_latent_extra\.weight"
    r"|visual_transformer\.(to_patch_emb_first_frame\.[123]|to_pixels(_first_frame)?\.0)"
    r"\.(weight|bias)"
    r"|visual_transformer\.vq\._codebook\.(cluster_size|embed_avg|initted)"
    r"|visual_transformer\.enc_(spatial|temporal)_transformer\.layers\.\d+\.1"
    r"\.(null_kv|context_norm\.(gamma|beta))"
)
"""Names of the tensors that image inference does not read, without the text encoder's."""

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
    shapes = partial(_shape, state)
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
    derived = {
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
    return CtClipConfig.from_dict(derived | known)


def _shape(state: Mapping[str, Tensor], key: str, dims: int) -> tuple[int, ...]:
    """The shape of a tensor that must be there, with so many axes."""
    shape = tuple(state[key].shape) if key in state else ()
    if len(shape) != dims or 0 in shape:
        what = f"has the shape {shape}" if key in state else "is missing"
        raise BadRequest(
            f"This is no CT-CLIP checkpoint: the tensor {key} {what}.", GET, code="not_ctclip"
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


def read_shapes(config: CtClipConfig) -> dict[str, tuple[int, ...]]:
    """Key -> shape of every tensor that image inference reads: those of the network itself."""
    with torch.device("meta"):
        state = CtClip(config).state_dict()
    return {key: tuple(value.shape) for key, value in state.items()}
