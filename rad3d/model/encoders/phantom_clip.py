"""The second shipped CT encoder: an embedding learned from reports, a head on the token grid.

Three parts, and what each of them learned from:

* The **trunk** turns a scan into tokens of 9 mm. It starts from the convolutions of the first
  encoder, whose tokens are 12 mm, and learned which findings lie in which token (known exactly for
  phantoms), the 18 labels and their details. No report reached it.
* The **heads** read labels and details (side, site, kind, severity, ...) of each finding from the
  tokens, one small network for each label, and not from the embedding.
* The **read-out** turns the tokens into the embedding. It learned by contrast with reports alone,
  as CT-CLIP (arXiv 2403.17834). No label or detail reached it, and it did not reach the trunk.

So the embedding holds what the contrast with reports put there, and the logits hold what the labels
taught: the two priors of the paper, apart.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rad3d.core.details import attribute_names
from rad3d.core.errors import BadRequest
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.types import Diagnosis, FloatArray
from rad3d.model.encoders.base import Encoding
from rad3d.model.encoders.calibration import (
    Calibration,
    HeadState,
    NoveltyReference,
    novelty_vector,
)
from rad3d.model.encoders.phantom_cnn import (
    REGIONS,
    TOKEN_STRIDE,
    WINDOWS_HU,
    ConvEncoder,
    Trunk,
    block_planes,
)
from rad3d.model.encoders.weights import below, read_calibration, read_weights, write_weights
from rad3d.volume.grid import GridSpec

CELL_STRIDE = 16
"""Model-grid voxels per cell that the read-out sees."""

FREQUENCIES = (1.0, 2.0)
"""Half waves over the grid in which the trunk is told where a token lies."""

PLACES = 3 * (1 + 2 * len(FREQUENCIES))


@dataclass(frozen=True)
class ClipConfig:
    """Shape of :class:`ClipNetwork`.

    Attributes:
        channels: width of the trunk at a quarter and an eighth of the grid's resolution.
        local_dim: width of the feature that is pooled for each label.
        hidden: width of each label's head.
        readout: width of the read-out.
        queries: number of places that the read-out attends to.
        embedding_dim: D, the size of the image embedding.
        grid: the model grid, (X, Y, Z) RAS+, a multiple of 16.
    """

    channels: tuple[int, int] = (32, 64)
    local_dim: int = 24
    hidden: int = 32
    readout: int = 128
    queries: int = 16
    embedding_dim: int = 256
    grid: GridSpec = field(
        default_factory=lambda: GridSpec(spacing_mm=(2.25, 2.25, 2.25), shape=(144, 128, 128))
    )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"channels": list(self.channels), "grid": self.grid.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClipConfig:
        """The inverse of :meth:`to_dict`."""
        grid = GridSpec.from_dict(values["grid"])
        return cls(**values | {"channels": tuple(values["channels"]), "grid": grid})


class PlacedTrunk(Trunk):
    """The convolutions of the first encoder, told where in the grid a token lies.

    (B, 5, X/2, Y/2, Z/2) int16 of :func:`scan_planes` -> tokens (B, C, X/4, Y/4, Z/4) and coarse
    features (B, K, X/8, Y/8, Z/8).
    """

    def __init__(self, config: ClipConfig) -> None:
        super().__init__(config.channels)
        self.place = nn.Conv3d(PLACES, config.channels[0], 1)
        nn.init.zeros_(self.place.weight)
        self.places: Tensor
        self.register_buffer("places", place_waves(config.grid.shape), persistent=False)

    def forward(self, planes: Tensor, places: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``places`` (B, P, X/4, Y/4, Z/4) of a part of the grid; by default of the whole."""
        device, dtype = planes.device.type, self.place.weight.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        offset = self.place(self.places if places is None else places)
        return self.features(windows(planes, dtype), offset)


def scan_planes(x: Tensor) -> Tensor:
    """(X, Y, Z) in [-1, 1] -> (5, X/2, Y/2, Z/2) int16 HU of
    :func:`rad3d.model.encoders.phantom_cnn.blocks`, the means rounded.
    """
    mean, *extremes = block_planes((x * 1000).round().to(torch.int16))
    return torch.stack([mean.round().to(torch.int16), *extremes])


def windows(planes: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, 5, x, y, z) int16 -> (B, 15, x, y, z): each window of HU scaled to [-1, 1].

    One scan after the other, so that each stays in the processor's cache.
    """
    shape = (len(planes), 5 * len(WINDOWS_HU), *planes.shape[2:])
    out = torch.empty(
        shape, dtype=dtype, device=planes.device, memory_format=torch.channels_last_3d
    )
    for whole, seen in zip(planes, out, strict=True):
        for i, (low, high) in enumerate(WINDOWS_HU):
            centred = whole.clamp(int(low), int(high)).sub_(int(low + high) // 2)
            seen[5 * i : 5 * i + 5] = centred.to(dtype).mul_(2 / (high - low))
    return out


def place_waves(shape: tuple[int, ...]) -> Tensor:
    """(1, P, x, y, z): the place of each token in [-1, 1], and sines and cosines of it."""
    axes = [token_places(np.arange(n // TOKEN_STRIDE), n) for n in shape]
    return waves(torch.stack(torch.meshgrid(*axes, indexing="ij")))[None]


def token_places(index: np.ndarray[Any, Any], n: int) -> Tensor:
    """Centres of tokens, by number along an axis of ``n`` voxels, in [-1, 1] of the grid."""
    return torch.from_numpy((index + 0.5) * (2 * TOKEN_STRIDE / n) - 1).float()


def waves(places: Tensor) -> Tensor:
    """(3, ...) in [-1, 1] -> (P, ...)."""
    angles = [math.pi * frequency / 2 * places for frequency in FREQUENCIES]
    return torch.cat((places, *(f(angle) for angle in angles for f in (torch.sin, torch.cos))))


class FindingHeads(nn.Module):
    """A logit for each label and each of its details, from what the tokens show of that label.

    A label's head does not see the other labels, so that it does not learn which findings occur
    together: that differs between hospitals.

    Args:
        config: the shape.
        label_set: the labels; their details are those of
            :func:`rad3d.core.details.attribute_names`.
    """

    def __init__(self, config: ClipConfig, label_set: LabelSet) -> None:
        super().__init__()
        fine, n = config.channels[0], len(label_set)
        self.dense = nn.Conv3d(fine, n, 1)
        nn.init.constant_(self.dense.bias, -5.0)  # type: ignore[arg-type]  # most hold no finding
        self.local = nn.Conv3d(fine, config.local_dim, 1)
        self.sharpness = nn.Parameter(torch.ones(n, 1))
        seen = config.local_dim + 3 + 2 * math.prod(REGIONS) + 1
        self.inner = _grouped(n, seen, config.hidden)
        self.inner_bias = nn.Parameter(torch.zeros(n, config.hidden))
        names = label_set.names
        rows = [*range(n), *(names.index(label) for label, _ in attribute_names(label_set))]
        self.outer = _grouped(len(rows), config.hidden)
        self.outer_bias = nn.Parameter(torch.zeros(len(rows)))
        self.of_label: Tensor
        self.register_buffer("of_label", torch.tensor(rows), persistent=False)
        self.coordinates: Tensor
        places = place_waves(config.grid.shape)[0, :3].flatten(1)
        self.register_buffer("coordinates", places, persistent=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens -> (B, L + A) logits of labels and details, and (B, L, x, y, z) of tokens."""
        dense = self.dense(tokens).float()
        flat = dense.flatten(2)
        attention = torch.softmax(flat * self.sharpness, dim=2)
        local = torch.einsum("bkn,bcn->bkc", attention, self.local(tokens).float().flatten(2))
        place = torch.einsum("bkn,cn->bkc", attention, self.coordinates)
        peaks = F.adaptive_max_pool3d(dense, REGIONS).flatten(2) / 4
        share = F.adaptive_avg_pool3d(torch.sigmoid(dense), REGIONS).flatten(2)
        extents = torch.log1p(share * (flat.shape[2] / math.prod(REGIONS)))
        highest = flat.amax(dim=2, keepdim=True) / 4
        seen = torch.cat((local, place, peaks, extents, highest), dim=2)
        inner = F.relu(torch.einsum("bks,ksh->bkh", seen, self.inner) + self.inner_bias)
        logits = (inner[:, self.of_label] * self.outer).sum(dim=2) + self.outer_bias
        found = torch.zeros_like(logits)
        found[:, : len(self.sharpness)] = 4 * highest[..., 0]  # where the heads start from
        return logits + found, dense


def _grouped(*shape: int) -> nn.Parameter:
    """Weights of several linear maps side by side."""
    return nn.Parameter(torch.randn(shape) / math.sqrt(shape[1]))


class Readout(nn.Module):
    """Tokens -> embedding; it learns by contrast with reports, and nothing reaches the trunk."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        fine, coarse = config.channels
        width = config.readout
        cells = math.prod(n // CELL_STRIDE for n in config.grid.shape)
        self.normalise = nn.LayerNorm(2 * fine + coarse)
        self.narrow = nn.Linear(2 * fine + coarse, width)
        self.place = nn.Parameter(0.1 * torch.randn(cells, width))
        self.queries = nn.Parameter(torch.randn(config.queries, width))
        self.attend = nn.MultiheadAttention(width, 8, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.embed = nn.Sequential(
            nn.Linear(config.queries * width, config.embedding_dim),
            nn.LayerNorm(config.embedding_dim),
        )

    def forward(self, cells: Tensor) -> Tensor:
        """(B, S, 2C + K) of :func:`readout_cells` -> (B, D)."""
        cells = F.gelu(self.narrow(self.normalise(cells))) + self.place
        queries = self.queries.expand(len(cells), -1, -1)
        seen = queries + self.attend(queries, cells, cells, need_weights=False)[0]
        return self.embed((seen + self.mlp(seen)).flatten(1))


def readout_cells(tokens: Tensor, coarse: Tensor) -> Tensor:
    """Mean and peak of the tokens in each cell, and the mean of the coarse features; no gradient.

    (B, C, 4x, 4y, 4z) and (B, K, 2x, 2y, 2z) -> (B, xyz, 2C + K) float32.
    """
    tokens, coarse = tokens.detach().float(), coarse.detach().float()
    pooled = F.avg_pool3d(tokens, 4), F.max_pool3d(tokens, 4), F.avg_pool3d(coarse, 2)
    return torch.cat(pooled, dim=1).flatten(2).transpose(1, 2)


class ClipNetwork(nn.Module):
    """Trunk, heads and read-out; see the module."""

    def __init__(self, config: ClipConfig, label_set: LabelSet = CT_RATE) -> None:
        super().__init__()
        self.config = config
        self.label_set = label_set
        self.trunk = PlacedTrunk(config)
        self.heads = FindingHeads(config, label_set)
        self.readout = Readout(config)

    def start_from(self, network: ConvEncoder) -> None:
        """Take over the convolutions of a trained network of the first encoder."""
        state = network.state_dict()
        for module in (self.trunk, self.heads):
            own = module.state_dict()
            same = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
            module.load_state_dict(same, strict=False)


class ClipEncoder:
    """:class:`ClipNetwork` with its calibration and novelty reference, for inference."""

    def __init__(
        self,
        encoder_id: str,
        network: ClipNetwork,
        calibration: Calibration,
        details: FloatArray,
        reference: NoveltyReference | None,
    ) -> None:
        self.id = encoder_id
        self.network = network.eval().requires_grad_(False)
        self.grid = network.config.grid
        self.label_set = network.label_set
        self.embedding_dim = network.config.embedding_dim
        self.calibration = calibration
        self.details = details
        self.reference = reference

    @torch.inference_mode()
    def encode(self, values: FloatArray) -> Encoding:
        """(X, Y, Z) float32 in [-1, 1] -> embedding, tokens, readings of the heads, novelty."""
        device = next(self.network.parameters()).device
        x = torch.from_numpy(np.array(values, dtype=np.float32)).to(device)
        tokens, coarse = self.network.trunk(scan_planes(x)[None])
        readings, _ = self.network.heads(tokens)
        pooled = self.network.readout(readout_cells(tokens, coarse))
        grid = tokens[0].cpu().numpy()
        novelty = self.reference.measure(novelty_vector(grid)) if self.reference else None
        return Encoding(pooled[0].cpu().numpy(), grid, novelty, readings[0].cpu().numpy())

    @torch.inference_mode()
    def token_logits(self, tokens: FloatArray) -> FloatArray:
        """(C, X, Y, Z) tokens -> (L, X, Y, Z): the logits that tell the heads where to look."""
        dense = self.network.heads.dense
        x = torch.as_tensor(np.array(tokens), device=dense.weight.device)
        found: FloatArray = dense(x[None])[0].float().cpu().numpy()
        return found

    def diagnose(self, pooled: FloatArray, readings: FloatArray | None = None) -> Diagnosis:
        """The diagnosis of what the heads read; the embedding says nothing to them."""
        if readings is None:
            raise BadRequest(
                f"{self.id} reads labels from its tokens, and these features do not hold them.",
                f"Encode the scans again with: rad3d features compute SCANS --encoder {self.id}",
                code="no_readings",
            )
        logits, details = np.split(np.asarray(readings, np.float64), [len(self.label_set)])
        slope, offset = self.details
        return Diagnosis(
            logits=logits,
            probabilities=self.calibration.probabilities(logits),
            thresholds=self.calibration.threshold.astype(np.float64),
            source=self.id,
            label_set=self.label_set,
            details=1 / (1 + np.exp(-(slope * details + offset))),
        )

    def save_pretrained(self, directory: Path, facts: dict[str, Any] | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors`` (float32), with the file's hash."""
        config = {
            "encoder": self.id,
            "network": self.network.config.to_dict(),
            "label_set": self.label_set.to_plain(),
            "facts": facts or {},
        }
        more = {"details": self.details}
        write_weights(directory, self.network, self.calibration, self.reference, config, more)

    @classmethod
    def from_pretrained(cls, directory: Path, device: str = "cpu") -> ClipEncoder:
        """Read what :meth:`save_pretrained` wrote, onto a device.

        Raises:
            MissingWeights: a file is absent.
            CorruptWeights: the weights do not match the recorded hash.
        """
        config, tensors = read_weights(directory)
        label_set = LabelSet.from_plain(config["label_set"])
        network = ClipNetwork(ClipConfig.from_dict(config["network"]), label_set)
        network.load_state_dict(below(tensors, "network."), strict=True)
        calibration, reference = read_calibration(config, tensors)
        fitted = tensors["details"].double().numpy()
        return cls(config["encoder"], network.to(device), calibration, fitted, reference)

    @classmethod
    def own_head(cls, directory: Path) -> HeadState:
        """It is trained with its heads."""
        return "calibrated"
