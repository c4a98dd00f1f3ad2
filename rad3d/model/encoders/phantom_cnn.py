"""The shipped CT encoder: a small 3-D convolutional network with an 18-label head.

The network is supervised twice during training: per token (which findings lie in this cell, known
exactly for phantoms) and per volume (the 18 labels and their attributes, read from the embedding).
The per-token logits tell the pooling where to look, so the embedding carries place and size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rad3d.core.labels import CT_RATE, N_LABELS
from rad3d.core.types import Diagnosis, FloatArray
from rad3d.model.encoders.base import Encoding
from rad3d.model.encoders.calibration import (
    Calibration,
    HeadState,
    NoveltyReference,
    novelty_vector,
)
from rad3d.model.encoders.weights import below, read_calibration, read_weights, write_weights
from rad3d.volume.grid import GridSpec

WINDOWS_HU: tuple[tuple[float, float], ...] = ((-1000.0, -400.0), (-150.0, 250.0), (100.0, 1000.0))
"""(low, high) of the three input channels: lung, soft tissue, calcification and metal."""


TOKEN_STRIDE = 4
"""Model-grid voxels per token along each axis."""

REGIONS = (2, 2, 3)
"""Parts of the grid along X, Y, Z in which every finding is looked for on its own."""


@dataclass(frozen=True)
class ConvEncoderConfig:
    """Shape of :class:`ConvEncoder`.

    Attributes:
        channels: width of the two stages, at a quarter and an eighth of the grid's resolution.
        local_dim: width of the feature that is pooled for each label.
        embedding_dim: D, the size of the image embedding.
        grid: the model grid, (X, Y, Z) RAS+.
    """

    channels: tuple[int, int] = (32, 64)
    local_dim: int = 24
    embedding_dim: int = 256
    grid: GridSpec = field(default_factory=GridSpec)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "channels": list(self.channels),
            "local_dim": self.local_dim,
            "embedding_dim": self.embedding_dim,
            "grid": self.grid.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ConvEncoderConfig:
        """The inverse of :meth:`to_dict`."""
        return cls(
            tuple(values["channels"]),
            values["local_dim"],
            values["embedding_dim"],
            GridSpec.from_dict(values["grid"]),
        )


def _eroded(x: Tensor) -> Tensor:
    """(X, Y, Z) -> the smallest value in the cube of 3 voxels around each; the border repeats."""
    for axis, n in enumerate(x.shape):
        y = x.clone()
        for first, second in ((0, 1), (1, 0)):
            target = y.narrow(axis, first, n - 1)
            torch.minimum(target, x.narrow(axis, second, n - 1), out=target)
        x = y
    return x


def _pairs(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The even and the odd planes along an axis."""
    every = [slice(None)] * 3
    even, odd = every.copy(), every.copy()
    even[axis], odd[axis] = slice(0, None, 2), slice(1, None, 2)
    return x[tuple(even)], x[tuple(odd)]


def _block_max(x: Tensor, border: bool = False) -> Tensor:
    """(X, Y, Z), even -> (X/2, Y/2, Z/2): the largest value in each block.

    With ``border`` the block and one voxel around it: the same as a dilation by a cube of 3 first.
    """
    for axis in range(3):
        even, odd = _pairs(x, axis)
        x = torch.maximum(even, odd)
        if border:
            n = x.shape[axis]
            for first, neighbours in (
                (1, odd.narrow(axis, 0, n - 1)),
                (0, even.narrow(axis, 1, n - 1)),
            ):
                target = x.narrow(axis, first, n - 1)
                torch.maximum(target, neighbours, out=target)
    return x


def block_planes(x: Tensor) -> tuple[Tensor, ...]:
    """(X, Y, Z) int16 -> five of (X/2, Y/2, Z/2), the mean as float32; see :func:`blocks`."""
    negative = -x
    return (
        F.avg_pool3d(x.float()[None], 2)[0],
        _block_max(x),
        -_block_max(negative),
        _block_max(_eroded(x), border=True),
        -_block_max(_eroded(negative), border=True),
    )


def blocks(x: Tensor) -> Tensor:
    """(B, 1, X, Y, Z) -> (B, 5, X/2, Y/2, Z/2), from each block of 2 x 2 x 2 voxels.

    Mean, brightest and darkest voxel, so that a plaque or a small airway survives the first
    halving whatever a convolution would learn. Then the brightest voxel of the grey opening by a
    cube of 3 voxels and the darkest of the closing (Serra 1982): what stays bright inside the lung
    when thin tubes are gone is a nodule and not a vessel.
    """
    hu = (x[:, 0].float() * 1000).round().to(torch.int16)
    planes = (torch.stack([p.float() for p in block_planes(volume)]) for volume in hu)
    return torch.stack(list(planes)) / 1000


def window(x: Tensor) -> Tensor:
    """(B, C, ...) in [-1, 1] -> (B, 3C, ...): each of :data:`WINDOWS_HU` scaled to [-1, 1]."""
    return torch.cat(
        [((x * 1000).clamp(low, high) - low) * (2 / (high - low)) - 1 for low, high in WINDOWS_HU],
        dim=1,
    )


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A convolution of 3 voxels with normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(),
    )


class Residual(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = nn.Sequential(
            nn.Conv3d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm3d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class Trunk(nn.Module):
    """Convolutions from blocks of voxels to tokens.

    A path down to an eighth and a sixteenth of the grid's resolution brings context, a path back
    up to a quarter keeps place (a feature pyramid, Lin et al. 2017).
    """

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        fine, coarse = channels
        self.fine = nn.Sequential(convolution(5 * len(WINDOWS_HU), fine, 2), Residual(fine))
        self.coarse = nn.Sequential(convolution(fine, coarse, 2), Residual(coarse))
        self.context = nn.Sequential(convolution(coarse, coarse, 2), Residual(coarse))
        self.merge = convolution(2 * coarse, coarse)
        self.narrow = nn.Conv3d(coarse, fine, 1)
        self.refine = convolution(2 * fine, fine)

    def features(self, x: Tensor, offset: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Windowed blocks -> tokens (B, C, X/4, Y/4, Z/4) and coarse (B, K, X/8, Y/8, Z/8).

        ``offset`` is added to the features at the resolution of the tokens.
        """
        fine = self.fine(x)
        if offset is not None:
            fine = fine + offset
        coarse = self.coarse(fine)
        wide = F.interpolate(self.context(coarse), size=coarse.shape[2:], mode="nearest")
        coarse = self.merge(torch.cat((coarse, wide), dim=1))
        back = F.interpolate(self.narrow(coarse), size=fine.shape[2:], mode="nearest")
        return self.refine(torch.cat((fine, back), dim=1)), coarse


class ConvEncoder(Trunk):
    """A 3-D CNN whose pooling is guided by per-token finding logits.

    Input (B, 1, X, Y, Z) in [-1, 1] (HU / 1000); tokens are (B, C, X/4, Y/4, Z/4);
    the embedding is (B, D); the head gives (B, 18) logits.
    """

    def __init__(self, config: ConvEncoderConfig) -> None:
        super().__init__(config.channels)
        self.config = config
        fine, coarse = config.channels
        self.dense = nn.Conv3d(fine, N_LABELS, 1)
        self.local = nn.Conv3d(fine, config.local_dim, 1)
        self.sharpness = nn.Parameter(torch.ones(N_LABELS, 1))
        per_label = config.local_dim + 3 + 2 * math.prod(REGIONS)
        self.embed = nn.Sequential(
            nn.Linear(N_LABELS * per_label + 2 * fine + 2 * coarse, config.embedding_dim),
            nn.LayerNorm(config.embedding_dim),
        )
        nn.init.constant_(cast(Tensor, self.dense.bias), -5.0)  # most cells hold no finding
        self.head = nn.Linear(config.embedding_dim, N_LABELS)
        self.coordinates: Tensor
        self.register_buffer("coordinates", _coordinates(config.grid.shape), persistent=False)

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, X, Y, Z) -> tokens (B, C, X/4, Y/4, Z/4) and context (B, 2K)."""
        x = window(blocks(x)).contiguous(memory_format=torch.channels_last_3d)
        tokens, coarse = self.features(x)
        return tokens, _mean_and_peak(coarse)

    def pool(self, tokens: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and context -> (B, D) embedding and (B, 18, x, y, z) per-token finding logits."""
        dense = self.dense(tokens).float()
        flat = dense.flatten(2)
        attention = torch.softmax(flat * self.sharpness, dim=2)
        local = torch.einsum("bkn,bcn->bkc", attention, self.local(tokens).float().flatten(2))
        place = torch.einsum("bkn,cn->bkc", attention, self.coordinates)
        peaks = F.adaptive_max_pool3d(dense, REGIONS).flatten(2)
        share = F.adaptive_avg_pool3d(torch.sigmoid(dense), REGIONS).flatten(2)
        extents = torch.log1p(share * (flat.shape[2] / math.prod(REGIONS)))
        per_label = torch.cat((local, place, peaks / 4, extents), dim=2)
        pooled = torch.cat((per_label.flatten(1), _mean_and_peak(tokens), context), dim=1)
        return self.embed(pooled), dense

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 1, X, Y, Z) -> embedding (B, D), logits (B, 18), token logits (B, 18, x, y, z)."""
        embedding, dense = self.pool(*self.tokens(x))
        return embedding, self.head(embedding), dense


def _mean_and_peak(x: Tensor) -> Tensor:
    """(B, C, x, y, z) -> (B, 2C) float32."""
    flat = x.float().flatten(2)
    return torch.cat((flat.mean(dim=2), flat.amax(dim=2)), dim=1)


def _coordinates(shape: tuple[int, ...]) -> Tensor:
    """(3, N) token centres in [-1, 1] along X, Y, Z; negative x is the patient's left."""
    axes = [torch.linspace(-1, 1, steps=-(-n // TOKEN_STRIDE)) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)


class ShippedEncoder:
    """:class:`ConvEncoder` with its calibration and novelty reference, for inference."""

    label_set = CT_RATE

    def __init__(
        self,
        encoder_id: str,
        network: ConvEncoder,
        calibration: Calibration,
        reference: NoveltyReference | None,
    ) -> None:
        self.id = encoder_id
        self.network = network.eval().requires_grad_(False)
        self.grid = network.config.grid
        self.embedding_dim = network.config.embedding_dim
        self.calibration = calibration
        self.reference = reference

    @torch.inference_mode()
    def encode(self, values: FloatArray) -> Encoding:
        """(X, Y, Z) float32 in [-1, 1] -> embedding, tokens and novelty."""
        device = next(self.network.parameters()).device
        x = torch.from_numpy(np.array(values, dtype=np.float32)).to(device)
        tokens, context = self.network.tokens(x[None, None])
        pooled, _ = self.network.pool(tokens, context)
        grid = tokens[0].cpu().numpy()
        novelty = self.reference.measure(novelty_vector(grid)) if self.reference else None
        return Encoding(pooled[0].cpu().numpy(), grid, novelty)

    @torch.inference_mode()
    def token_logits(self, tokens: FloatArray) -> FloatArray:
        """(C, X, Y, Z) tokens -> (18, X, Y, Z): the logits that guide the pooling."""
        dense = self.network.dense
        x = torch.as_tensor(np.array(tokens), device=dense.weight.device)
        found: FloatArray = dense(x[None])[0].float().cpu().numpy()
        return found

    @torch.inference_mode()
    def diagnose(self, pooled: FloatArray, readings: FloatArray | None = None) -> Diagnosis:
        """(D,) embedding -> diagnosis."""
        head = self.network.head
        x = torch.as_tensor(pooled, dtype=torch.float32, device=head.weight.device)
        logits = head(x).cpu().numpy().astype(np.float64)
        return Diagnosis(
            logits=logits,
            probabilities=self.calibration.probabilities(logits),
            thresholds=self.calibration.threshold.astype(np.float64),
            source=self.id,
        )

    def save_pretrained(self, directory: Path, facts: dict[str, Any] | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors`` (float32), with the file's hash."""
        config = {
            "encoder": self.id,
            "network": self.network.config.to_dict(),
            "facts": facts or {},
        }
        write_weights(directory, self.network, self.calibration, self.reference, config)

    @classmethod
    def from_pretrained(cls, directory: Path, device: str = "cpu") -> ShippedEncoder:
        """Read what :meth:`save_pretrained` wrote, onto a device.

        Raises:
            MissingWeights: a file is absent.
            CorruptWeights: the weights do not match the recorded hash.
        """
        config, tensors = read_weights(directory)
        network = ConvEncoder(ConvEncoderConfig.from_dict(config["network"]))
        network.load_state_dict(below(tensors, "network."), strict=True)
        return cls(config["encoder"], network.to(device), *read_calibration(config, tensors))

    @classmethod
    def own_head(cls, directory: Path) -> HeadState:
        """It is trained with its head."""
        return "calibrated"
