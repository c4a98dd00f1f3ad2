"""The CT-ViT, the image latent and the LiPro head, with the published names of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rad3d.core.errors import BadRequest
from rad3d.model.encoders.ctclip.config import CtClipConfig
from rad3d.model.encoders.ctclip.layers import (
    Attention,
    FeedForward,
    PositionBias,
    Trace,
    Transformer,
    ignore,
    linear,
)
from rad3d.model.encoders.head import no_head

SEARCH_ROWS = 512
"""Tokens compared with the codebook at a time: 16 MB of similarities for 8192 codes."""


class Codebook(nn.Module):
    """The rows a token may become."""

    embed: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("embed", F.normalize(torch.randn(1, size, dim), dim=-1))


class Quantiser(nn.Module):
    """Replaces each token by the codebook row of largest cosine, the first where several are.

    Rows are brought to unit length for the comparison only; the row itself is returned.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self._codebook = Codebook(size, dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, dim) -> rows (N, dim), codes (N,)."""
        rows = self._codebook.embed[0].float()
        units = F.normalize(rows, dim=-1).T
        # max finds the place in a quarter of the time of argmax, and the first of equals likewise.
        parts = (F.normalize(part, dim=-1) @ units for part in x.split(SEARCH_ROWS))
        codes = torch.cat([part.max(dim=-1).indices for part in parts])
        return rows[codes], codes


class CTViT(nn.Module):
    """CT volume -> grid of quantised tokens.

    Args:
        config: sizes.
    """

    def __init__(self, config: CtClipConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        sizes = (c.dim, c.dim_head, c.heads, c.inner)
        self.to_patch_emb = nn.ModuleDict(
            {
                "1": nn.LayerNorm(c.patch_values),
                "2": nn.Linear(c.patch_values, c.dim),
                "3": nn.LayerNorm(c.dim),
            }
        )
        self.spatial_rel_pos_bias = PositionBias(c.dim, c.heads)
        self.enc_spatial_transformer = Transformer(c.spatial_depth, *sizes)
        self.enc_temporal_transformer = Transformer(c.temporal_depth, *sizes)
        self.vq = Quantiser(c.codebook_size, c.dim)

    def slabs(self, video: Tensor) -> Iterator[Tensor]:
        """(B, C, F, H, W) -> (B, C, pt, H, W), one layer of patches after the other."""
        size = self.config.temporal_patch_size
        fits = (self.config.channels, *self.config.image_hw)
        sizes = (video.shape[1], *video.shape[3:])
        if video.ndim != 5 or sizes != fits or not video.shape[2] or video.shape[2] % size:
            raise BadRequest(
                f"CT-CLIP was given {tuple(video.shape)}, not (batch, {fits[0]}, a multiple of "
                f"{size} slices, {fits[1]}, {fits[2]}).",
                code="bad_grid",
            )
        return iter(video.split(size, dim=2))

    def embed(self, slabs: Iterable[Tensor]) -> Tensor:
        """(B, C, pt, H, W) for each layer of patches -> (B, t, h, w, dim)."""
        high, wide = self.config.patch_hw
        first, last = self.to_patch_emb["1"], self.to_patch_emb["3"]
        projection = cast(nn.Linear, self.to_patch_emb["2"])
        tokens = []
        for slab in slabs:
            x = slab.to(projection.bias.device, torch.float32)
            x = x.unflatten(4, (-1, wide)).unflatten(3, (-1, high))
            x = x.permute(0, 3, 5, 1, 2, 4, 6).flatten(3)  # b h w (c pt ph pw)
            tokens.append(last(linear(first(x), projection.weight, projection.bias)))
        return torch.stack(tokens, dim=1)

    def encode(self, tokens: Tensor, trace: Trace = ignore) -> Tensor:
        """(B, t, h, w, dim) patches, overwritten -> (B, t, h, w, dim), before quantisation."""
        trace("patch_tokens", tokens)
        b, t, h, w, dim = tokens.shape
        bias = self.spatial_rel_pos_bias(h, w)
        trace("rel_pos_bias", bias)
        flat = tokens.reshape(b * t, h * w, dim)
        flat = self.enc_spatial_transformer(flat, (t, h, w), bias, trace, "spatial")
        trace("after_spatial", flat.view(tokens.shape))
        turned = flat.view(b, t, h * w, dim).transpose(1, 2).contiguous().view(b * h * w, t, dim)
        del flat, tokens
        turned = self.enc_temporal_transformer(turned, (t, h, w), None, trace, "temporal")
        encoded = turned.view(b, h * w, t, dim).transpose(1, 2).reshape(b, t, h, w, dim)
        trace("after_temporal", encoded)
        return encoded

    def quantise(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """(B, t, h, w, dim) -> codebook rows (B, t, h, w, dim), codes (B, t * h * w)."""
        rows, codes = self.vq(encoded.flatten(0, 3))
        return rows.view(encoded.shape), codes.view(encoded.shape[0], -1)

    @torch.inference_mode()
    def forward(self, video: Tensor, trace: Trace = ignore) -> tuple[Tensor, Tensor]:
        """(B, C, F, H, W) in [-1, 1] -> rows (B, t, h, w, dim), codes (B, t * h * w)."""
        return self.quantise(self.encode(self.embed(self.slabs(video)), trace))


@dataclass(frozen=True)
class Seen:
    """The output of CT-CLIP for a batch of volumes.

    Attributes:
        tokens: (B, t, h, w, dim) codebook rows.
        codes: (B, t * h * w) their numbers.
        latent: (B, dim_latent) of unit length.
    """

    tokens: Tensor
    codes: Tensor
    latent: Tensor


class CtClip(nn.Module):
    """CT-ViT, image latent and, with ``num_classes``, the LiPro head; inference only.

    Its state dict has the published keys and shapes without ``trained_model.``, and no others.
    """

    def __init__(self, config: CtClipConfig) -> None:
        super().__init__()
        self.config = config
        self.visual_transformer = CTViT(config)
        self.to_visual_latent = nn.Linear(config.dim_image, config.dim_latent, bias=False)
        self.classifier = (
            nn.Linear(config.dim_latent, config.num_classes) if config.num_classes else None
        )

    def with_linear_dtype(self, dtype: torch.dtype) -> CtClip:
        """Run the linear maps of the CT-ViT in ``dtype``, in place.

        Norms, residual stream, attention, code search and image latent stay in float32, so with
        bfloat16 only the products are rounded; codes whose runner-up is close may change.
        """
        maps: list[tuple[nn.Module, str]] = [(self.visual_transformer.to_patch_emb["2"], "weight")]
        for module in self.modules():
            if isinstance(module, Attention):
                maps += [(part, "weight") for part in (module.to_q, module.to_kv, module.to_out)]
            elif isinstance(module, FeedForward):
                maps += [(module, "up"), (module, "down")]
        for module, name in maps:
            value = getattr(module, name).detach().to(dtype)
            setattr(module, name, nn.Parameter(value, requires_grad=False))
        return self

    def latent(self, tokens: Tensor, trace: Trace = ignore) -> Tensor:
        """(B, t, h, w, dim) codebook rows -> (B, dim_latent) of unit length."""
        pooled = tokens.mean(dim=1).flatten(1)
        trace("pooled", pooled)
        raw = linear(pooled, self.to_visual_latent.weight)
        trace("image_latent_raw", raw)
        return F.normalize(raw, dim=-1)

    @torch.inference_mode()
    def classify(self, latent: Tensor) -> Tensor:
        """(B, dim_latent) -> (B, num_classes) logits.

        Raises:
            MissingWeights: the checkpoint had no head.
        """
        if self.classifier is None:
            raise no_head("ct-clip")
        return linear(F.relu(latent), self.classifier.weight, self.classifier.bias)

    @torch.inference_mode()
    def forward(self, slabs: Iterable[Tensor] | Tensor, trace: Trace = ignore) -> Seen:
        """(B, C, F, H, W) in [-1, 1], whole or layer by layer of patches -> what is seen."""
        vit = self.visual_transformer
        if isinstance(slabs, Tensor):
            slabs = vit.slabs(slabs)
        tokens, codes = vit.quantise(vit.encode(vit.embed(slabs), trace))
        trace("encoded_tokens", tokens)
        latent = self.latent(tokens, trace)
        trace("image_latent", latent)
        return Seen(tokens, codes, latent)
