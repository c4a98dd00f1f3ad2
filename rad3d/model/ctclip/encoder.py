"""CT-CLIP as an encoder of the registry: a volume on its grid in, embedding and diagnosis out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rad3d.errors import BadRequest
from rad3d.labels import N_LABELS
from rad3d.model.calibration import Calibration
from rad3d.model.ctclip.checkpoint import load_network
from rad3d.model.ctclip.network import CtClip
from rad3d.model.encoder import Encoding
from rad3d.registry import ENCODERS, lookup
from rad3d.types import Diagnosis, FloatArray
from rad3d.volume.grid import GridSpec

ENCODER_ID = "ct-clip"
PRECISIONS: dict[str, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16}
"""What the linear maps of the CT-ViT may run in."""

RANGE = 1.001
"""Values on the model grid lie in [-1, 1]; anything beyond is not on that scale."""


class CtClipEncoder:
    """:class:`CtClip` for one scan at a time.

    Args:
        network: with weights, on the device it is to run on.
        grid: the model grid.
        calibration: of the head; without one, probabilities are plain sigmoids, and said to be.
        precision: a key of :data:`PRECISIONS`.
    """

    id = ENCODER_ID

    def __init__(
        self,
        network: CtClip,
        grid: GridSpec,
        calibration: Calibration | None = None,
        precision: str = "float32",
    ) -> None:
        self.network = network.with_linear_dtype(lookup("precision", PRECISIONS, precision))
        self.grid = grid
        self.embedding_dim = network.config.dim_latent
        self.calibration = calibration
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
        seen = self.network(self._slabs(values))
        tokens = seen.tokens[0].permute(3, 1, 2, 0)  # t, h, w are slices, x, y
        return Encoding(seen.latent[0].cpu().numpy(), tokens.contiguous().cpu().numpy(), None)

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

    def diagnose(self, pooled: FloatArray) -> Diagnosis:
        """(512,) image latent -> diagnosis.

        Raises:
            MissingWeights: the checkpoint had no head.
        """
        device = self.network.to_visual_latent.weight.device
        latent = torch.as_tensor(pooled, dtype=torch.float32, device=device)
        logits = self.network.classify(latent[None])[0].cpu().numpy().astype(np.float64)
        known = self.calibration
        return Diagnosis(
            logits=logits,
            probabilities=known.probabilities(logits) if known else 1 / (1 + np.exp(-logits)),
            thresholds=known.threshold.astype(np.float64) if known else np.full(N_LABELS, 0.5),
            source=self.id,
            calibrated=known is not None,
        )

    @classmethod
    def from_pretrained(cls, directory: Path, device: str = "cpu") -> CtClipEncoder:
        """Read what ``rad3d convert`` wrote.

        Raises:
            MissingWeights: a file is absent; the remedy is the exact way to it.
            CorruptWeights: the weights do not match the recorded hash or sizes.
        """
        network, config = load_network(directory, ENCODERS[ENCODER_ID].get)
        return cls(
            network.to(device),
            GridSpec.from_dict(config["grid"]),
            read_calibration(config["calibration"]) if config.get("calibration") else None,
            config.get("precision", "float32"),
        )


def read_calibration(values: Any) -> Calibration:
    """A calibration from JSON values: ``slope``, ``offset``, ``threshold`` (18 each), ``split``.

    Raises:
        BadRequest: something is missing, too much, or no number.
    """
    parts = ("slope", "offset", "threshold")
    try:
        if not isinstance(values, Mapping) or set(values) != {*parts, "split"}:
            raise ValueError
        arrays = {name: np.array(values[name], dtype=np.float64) for name in parts}
        if any(a.shape != (N_LABELS,) or not np.isfinite(a).all() for a in arrays.values()):
            raise ValueError
    except (TypeError, ValueError) as error:
        raise BadRequest(
            f"A calibration needs {', '.join(parts)} with {N_LABELS} numbers each in the published "
            "order of the labels, and split, the name of the scans it was fitted on.",
            code="bad_calibration",
        ) from error
    return Calibration(**arrays, split=str(values["split"]))
