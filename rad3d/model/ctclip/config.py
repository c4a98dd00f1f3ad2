"""Sizes of a CT-CLIP image encoder, and which tensors a checkpoint of those sizes holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from rad3d.errors import BadRequest
from rad3d.labels import N_LABELS
from rad3d.volume.grid import GridSpec

Shape = tuple[int | None, ...]
"""Sizes of a tensor; None where the image side does not know one (the text encoder's width)."""

FEED_FORWARD_RATIO = 4 * (2 / 3)
VIT = "visual_transformer."


@dataclass(frozen=True)
class CtClipConfig:
    """Sizes, named as in the published code; the defaults are the published ones.

    Attributes:
        dim: width of a token.
        codebook_size: rows of the codebook.
        image_size: pixels of a slice (H, W); one number for a square.
        patch_size: pixels of a patch (H, W); one number for a square.
        temporal_patch_size: slices of a patch.
        spatial_depth, temporal_depth: layers of the two transformers.
        dim_head, heads: of every attention.
        channels: of the input.
        dim_latent: size of the image latent.
        num_classes: of the LiPro head; 0 where there is none.
        frames: slices of the model grid.
    """

    dim: int = 512
    codebook_size: int = 8192
    image_size: int | tuple[int, int] = 480
    patch_size: int | tuple[int, int] = 20
    temporal_patch_size: int = 10
    spatial_depth: int = 4
    temporal_depth: int = 4
    dim_head: int = 32
    heads: int = 8
    channels: int = 1
    dim_latent: int = 512
    num_classes: int = N_LABELS
    frames: int = 240

    def __post_init__(self) -> None:
        for name in ("image_size", "patch_size"):
            value = getattr(self, name)
            pair = (value, value) if isinstance(value, int) else tuple(value)
            object.__setattr__(self, name, pair)
        counts = {k: v for k, v in asdict(self).items() if isinstance(v, int)}
        wrong = [k for k, v in counts.items() if v < (0 if k == "num_classes" else 1)]
        if wrong or any(len(p) != 2 or min(p) < 1 for p in (self.image_hw, self.patch_hw)):
            raise BadRequest(
                f"CT-CLIP: sizes must be whole numbers above 0 ({', '.join(wrong) or 'images'}).",
                code="bad_config",
            )
        pieces = (*self.image_hw, self.frames)
        patches = (*self.patch_hw, self.temporal_patch_size)
        if any(size % patch for size, patch in zip(pieces, patches, strict=True)):
            raise BadRequest(
                f"CT-CLIP: {pieces} pixels and slices are no whole number of patches {patches}.",
                code="bad_config",
            )

    @property
    def image_hw(self) -> tuple[int, int]:
        """Pixels of a slice."""
        return self.image_size  # type: ignore[return-value]

    @property
    def patch_hw(self) -> tuple[int, int]:
        """Pixels of a patch."""
        return self.patch_size  # type: ignore[return-value]

    @property
    def grid_thw(self) -> tuple[int, int, int]:
        """Tokens along slices, H and W."""
        (height, width), (high, wide) = self.image_hw, self.patch_hw
        return self.frames // self.temporal_patch_size, height // high, width // wide

    @property
    def patch_values(self) -> int:
        """Voxels of a patch."""
        return self.channels * self.temporal_patch_size * math.prod(self.patch_hw)

    @property
    def inner(self) -> int:
        """Width of the gated hidden layer of the feed-forward."""
        return int(FEED_FORWARD_RATIO * self.dim)

    @property
    def dim_image(self) -> int:
        """Size of the pooled tokens, flattened."""
        _, h, w = self.grid_thw
        return h * w * self.dim

    def grid(self, clip: str = "before") -> GridSpec:
        """The model grid: LPS voxels of 0.75 x 0.75 x 1.5 mm, laid out (slice, x, y).

        Args:
            clip: ``"before"`` resampling, as in the published inference and LiPro training, or
                ``"after"`` it, as in CT-CLIP's training. They differ at the edges of what lies
                beyond -1000 to 1000 HU.
        """
        height, width = self.image_hw
        return GridSpec(
            orientation="LPS",
            spacing_mm=(0.75, 0.75, 1.5),
            shape=(height, width, self.frames),
            axes="zxy",
            resampling="size_ratio",
            clip=clip,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CtClipConfig:
        """The inverse of :meth:`to_dict`; unknown keys are refused."""
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise BadRequest(
                f"CT-CLIP: unknown sizes {', '.join(unknown)}.",
                f"Known: {', '.join(cls.__dataclass_fields__)}.",
                code="bad_config",
            )
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)

    @classmethod
    def from_state(cls, state: Mapping[str, torch.Tensor], **known: Any) -> CtClipConfig:
        """The sizes that a checkpoint's tensors have.

        Args:
            state: keys without ``trained_model.``.
            **known: sizes that the tensors do not tell: ``frames``, and ``image_size`` and
                ``patch_size`` where they are not square.

        Raises:
            BadRequest: a tensor that is needed is missing, or the sizes cannot be told.
        """
        shapes = _Shapes(state)
        dim, patch_values = shapes(f"{VIT}to_patch_emb.2.weight", 2)
        _, codebook_size, _ = shapes(f"{VIT}vq._codebook.embed", 3)
        dim_latent, dim_image = shapes("to_visual_latent.weight", 2)
        (dim_head,) = shapes(f"{VIT}enc_spatial_transformer.layers.0.1.q_scale", 1)
        channels = known.get("channels", 1)
        patch = known.get("patch_size")
        if patch is None:
            (flat,) = shapes(f"{VIT}to_patch_emb_first_frame.1.weight", 1)
            patch = _square_root(flat // channels, "patch_size")
        pair = (patch, patch) if isinstance(patch, int) else tuple(patch)
        image = known.get("image_size")
        if image is None:
            side = _square_root(dim_image // dim, "image_size")
            image = (side * pair[0], side * pair[1])
        classes = state["classifier.weight"].shape[0] if "classifier.weight" in state else 0
        sizes: dict[str, Any] = {
            "dim": dim,
            "codebook_size": codebook_size,
            "image_size": image,
            "patch_size": pair,
            "temporal_patch_size": patch_values // (channels * math.prod(pair)),
            "spatial_depth": _depth(state, "enc_spatial_transformer"),
            "temporal_depth": _depth(state, "enc_temporal_transformer"),
            "dim_head": dim_head,
            "heads": shapes(f"{VIT}spatial_rel_pos_bias.net.2.bias", 1)[0],
            "dim_latent": dim_latent,
            "num_classes": classes,
        }
        return cls.from_dict(sizes | known)


class _Shapes:
    """Shapes of a checkpoint's tensors, refusing in words where one is not there."""

    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        self._state = state

    def __call__(self, key: str, dims: int) -> tuple[int, ...]:
        if key not in self._state:
            raise BadRequest(
                f"This is no CT-CLIP checkpoint: the tensor {key} is missing.",
                "Give CT-CLIP_v2.pt or CT_LiPro_v2.pt of CT-RATE's models/CT-CLIP-Related, or "
                "the sizes with --config.",
                code="not_ctclip",
            )
        shape = tuple(self._state[key].shape)
        if len(shape) != dims:
            raise BadRequest(
                f"This is no CT-CLIP checkpoint: {key} has the shape {shape}.", code="not_ctclip"
            )
        return shape


def _square_root(area: int, name: str) -> int:
    side = math.isqrt(max(area, 0))
    if side * side != area or not side:
        raise BadRequest(
            f"The tensors do not tell {name}: {area} is not the area of a square.",
            f"Give {name} with --config.",
            code="bad_config",
        )
    return side


def _depth(state: Mapping[str, torch.Tensor], transformer: str) -> int:
    prefix = f"{VIT}{transformer}.layers."
    numbers = {int(k[len(prefix) :].split(".")[0]) for k in state if k.startswith(prefix)}
    return max(numbers, default=-1) + 1


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
    return (
        ("enc_spatial_transformer", config.spatial_depth),
        ("enc_temporal_transformer", config.temporal_depth),
    )


def _patch_shapes(prefix: str, values: int, dim: int) -> dict[str, Shape]:
    return {
        f"{prefix}.1.weight": (values,),
        f"{prefix}.1.bias": (values,),
        f"{prefix}.2.weight": (dim, values),
        f"{prefix}.2.bias": (dim,),
        f"{prefix}.3.weight": (dim,),
        f"{prefix}.3.bias": (dim,),
    }
