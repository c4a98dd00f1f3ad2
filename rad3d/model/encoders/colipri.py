"""COLIPRI (Wald et al. 2026, arXiv 2510.15042; MIT licence) as one more CT encoder.

The network is that of the package ``colipri``, an optional extra; its text encoder, which needs
code from the hub, is left out. It comes without a head for labels: as published it gives
embeddings and tokens, and a diagnosis once a head was fitted (:mod:`rad3d.model.encoders.head`).

Preprocessing is the package's published one: RAS+, 2 mm, 192 x 192 x 192 voxels around the centre,
-1000 to 1000 HU. Its resampling and ours differ in the interpolation of fine scans, and outside the
scan it pads with the lowest value of the scan, we with air.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import CorruptWeights, MissingWeights
from rad3d.core.labels import CT_RATE
from rad3d.core.types import Diagnosis, FloatArray
from rad3d.model.encoders.base import Encoding
from rad3d.model.encoders.calibration import Calibration, HeadState
from rad3d.model.encoders.head import no_head
from rad3d.volume.grid import GridSpec

ID = "colipri"
WEIGHTS_FILE = "model.safetensors"
IMAGE_PREFIX = "image_encoder."
IGNORED = ("text_encoder.", "softmax_temperature")
"""Tensors of the published file that are not needed here."""

GRID = GridSpec(spacing_mm=(2.0, 2.0, 2.0), shape=(192, 192, 192))
EMBEDDING_DIM = 768


class ColipriEncoder:
    """The image side of COLIPRI behind the interface of every encoder.

    Args:
        network: COLIPRI's image encoder: ``encode`` (B, 1, X, Y, Z) -> (B, C, X/8, Y/8, Z/8),
            ``projector`` (a convolution of size 1) and ``pooler`` (B, N, D) -> (B, D).
        grid: the model grid, the published one by default.
        embedding_dim: D.
    """

    label_set = CT_RATE

    def __init__(
        self, network: nn.Module, grid: GridSpec = GRID, embedding_dim: int = EMBEDDING_DIM
    ) -> None:
        self.id = ID
        self.network: Any = network.eval().requires_grad_(False)
        self.grid = grid
        self.embedding_dim = embedding_dim
        self.calibration: Calibration | None = None

    @torch.inference_mode()
    def encode(self, values: FloatArray) -> Encoding:
        """(X, Y, Z) float32 in [-1, 1] -> unit-length embedding and the backbone's tokens."""
        device = next(self.network.parameters()).device
        x = torch.from_numpy(np.array(values, dtype=np.float32)).to(device)
        tokens = self.network.encode(x[None, None])
        sequence = self.network.projector(tokens).flatten(2).transpose(1, 2)
        pooled = F.normalize(self.network.pooler(sequence), dim=1)
        return Encoding(pooled[0].cpu().numpy(), tokens[0].cpu().numpy(), None)

    def diagnose(self, pooled: FloatArray, readings: FloatArray | None = None) -> Diagnosis:
        """Raise :class:`MissingWeights` with the way to a head: it is published without one."""
        raise no_head(self.id)

    @classmethod
    def from_pretrained(
        cls,
        directory: Path,
        device: str = "cpu",
        build: Callable[[], nn.Module] | None = None,
    ) -> ColipriEncoder:
        """Load the published ``model.safetensors``, strictly.

        Args:
            directory: holds the file.
            device: where it is to run.
            build: makes the image encoder; by default the package does.

        Raises:
            MissingWeights: the package or the file is absent; the remedy is how to get it.
            CorruptWeights: the file is not COLIPRI's.
        """
        weights = directory / WEIGHTS_FILE
        if not weights.is_file():
            raise MissingWeights(
                "The weights of COLIPRI are not here.", ENCODERS[ID].get, code="missing_weights"
            )
        network = (build or _published)()
        try:
            network.load_state_dict(image_weights(load_file(weights)), strict=True)
        except (SafetensorError, RuntimeError) as error:
            raise CorruptWeights(
                f"{directory.name}/{weights.name} does not hold the weights of COLIPRI.",
                "Download it again.",
                code="corrupt_weights",
            ) from error
        return cls(network.to(device))

    @classmethod
    def own_head(cls, directory: Path) -> HeadState:
        """COLIPRI is published without a head."""
        return "none"


def image_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image encoder's part of the published file; raises CorruptWeights for unknown keys."""
    strange = [key for key in tensors if not key.startswith((IMAGE_PREFIX, *IGNORED))]
    if strange:
        raise CorruptWeights(
            f"The weights of COLIPRI have unexpected entries, such as {strange[0]}.",
            "Download them again.",
            code="corrupt_weights",
        )
    return {
        key.removeprefix(IMAGE_PREFIX): value
        for key, value in tensors.items()
        if key.startswith(IMAGE_PREFIX)
    }


def _published() -> nn.Module:
    try:
        from colipri import get_model
    except ImportError as error:
        raise MissingWeights(
            f"COLIPRI needs its own package ({error}).",
            'Run: pip install -e ".[colipri]"',
            code="missing_package",
        ) from error
    network: nn.Module = get_model(pretrained=False, image_only=True).image_encoder
    return network
