"""CT-CLIP as an encoder of the registry: a volume on its grid in, embedding and diagnosis out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import BadRequest
from rad3d.core.labels import CT_RATE, N_LABELS
from rad3d.core.lookup import lookup
from rad3d.core.types import Diagnosis, FloatArray
from rad3d.model.encoders.base import Encoding
from rad3d.model.encoders.calibration import Calibration, HeadState
from rad3d.model.encoders.ctclip.checkpoint import CONFIG_FILE, load_network
from rad3d.model.encoders.ctclip.network import CtClip
from rad3d.volume.grid import GridSpec

ENCODER_ID = "ct-clip"
PRECISIONS: dict[str, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16}
"""Precisions in which the linear maps of the CT-ViT may run."""

RANGE = 1.001
"""Values on the model grid lie in [-1, 1]; anything beyond is not on that scale."""


class CtClipEncoder:
    """:class:`CtClip` for one scan at a time.

    Its probabilities are plain sigmoids and are said to be: the published head was trained with
    positive weights. ``rad3d head calibrate`` puts a calibration in front of them.

    Args:
        network: with weights, on the device it is to run on.
        grid: the model grid.
        precision: a key of :data:`PRECISIONS`.
    """

    label_set = CT_RATE

    id = ENCODER_ID

    def __init__(
        self,
        network: CtClip,
        grid: GridSpec,
        precision: str = "float32",
    ) -> None:
        self.network = network.with_linear_dtype(lookup("precision", PRECISIONS, precision))
        self.grid = grid
        self.embedding_dim = network.config.dim_latent
        self.calibration: Calibration | None = None
        self.precision = precision

    def encode(self, values: FloatArray) -> Encoding:
        """(slice, x, y) float32 in [-1, 1] -> image latent of unit length and tokens.

        Raises:
            BadRequest: the values are not on the model grid or not on its scale.
        """
        if values.shape != self.grid.layout_shape:
            raise BadRequest(
                f"CT-CLIP was given a volume of {values.shape}, not {self.grid.layout_shape}.",
                "Put the scan onto the encoder's grid first.",
                code="bad_grid",
            )
        output = self.network(self._slabs(values))
        tokens = output.tokens[0].permute(3, 1, 2, 0)  # t, h, w are slices, x, y
        return Encoding(output.latent[0].cpu().numpy(), tokens.contiguous().cpu().numpy(), None)

    def _slabs(self, values: FloatArray) -> Iterator[Tensor]:
        """(1, 1, pt, H, W) for each layer of patches; only one of them is copied at a time."""
        size = self.network.config.temporal_patch_size
        for first in range(0, len(values), size):
            part = np.array(values[first : first + size], dtype=np.float32)
            if not np.abs(part).max() <= RANGE:
                raise BadRequest(
                    "The values are not on CT-CLIP's scale of -1 to 1.",
                    "Give HU, clipped to -1000 to 1000 and divided by 1000.",
                    code="bad_grid",
                )
            yield torch.from_numpy(part)[None, None]

    def diagnose(self, pooled: FloatArray, readings: FloatArray | None = None) -> Diagnosis:
        """(512,) image latent -> diagnosis.

        Raises:
            MissingWeights: the checkpoint had no head.
        """
        device = self.network.to_visual_latent.weight.device
        latent = torch.as_tensor(pooled, dtype=torch.float32, device=device)
        logits = self.network.classify(latent[None])[0].cpu().numpy().astype(np.float64)
        return Diagnosis(
            logits=logits,
            probabilities=1 / (1 + np.exp(-logits)),
            thresholds=np.full(N_LABELS, 0.5),
            source=self.id,
            calibrated=False,
        )

    @classmethod
    def from_pretrained(cls, directory: Path, device: str = "cpu") -> CtClipEncoder:
        """Read what ``rad3d convert`` wrote.

        Raises:
            MissingWeights: a file is absent; the remedy is the exact way to it.
            CorruptWeights: the weights do not match the recorded hash or sizes.
        """
        network, grid, precision = load_network(directory, ENCODERS[ENCODER_ID].get)
        return cls(network.to(device), grid, precision)

    @classmethod
    def own_head(cls, directory: Path) -> HeadState:
        """The state of the LiPro head, where the checkpoint had one."""
        try:
            config = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
            return "uncalibrated" if config["network"]["num_classes"] else "none"
        except (OSError, ValueError, KeyError, TypeError):
            return "none"  # files that cannot be read are named when they are loaded
