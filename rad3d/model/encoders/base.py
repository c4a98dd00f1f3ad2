"""The interface of every encoder in the registry.

A volume on the model grid goes in; a pooled embedding, a token grid, a diagnosis and a novelty
estimate come out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from rad3d.core.encoders import EncoderRow
from rad3d.core.labels import LabelSet
from rad3d.core.lookup import resolve
from rad3d.core.types import Diagnosis, FloatArray, Novelty
from rad3d.model.encoders.calibration import Calibration
from rad3d.volume.grid import GridSpec


@dataclass(frozen=True)
class Encoding:
    """The output of an encoder for one volume.

    Attributes:
        pooled: (D,) float32 embedding.
        tokens: (C, X, Y, Z) float32 token grid.
        novelty: how unlike the training scans it is, or None where that is not known.
        readings: (L + A,) raw logits of the labels and of their attributes, where a head reads
            them from the tokens; None where it reads the embedding.
    """

    pooled: FloatArray
    tokens: FloatArray
    novelty: Novelty | None
    readings: FloatArray | None = None


class LoadedEncoder(Protocol):
    """An encoder with weights, ready to use on the CPU or a GPU."""

    id: str
    grid: GridSpec
    embedding_dim: int
    label_set: LabelSet
    """Of its logits, where it has some."""

    @property
    def calibration(self) -> Calibration | None:
        """The calibration of its logits; None where there are none, or they are not calibrated."""

    def encode(self, values: FloatArray) -> Encoding:
        """Encode one volume: float32 in [-1, 1], laid out as ``grid`` says."""

    def diagnose(self, pooled: FloatArray, readings: FloatArray | None = None) -> Diagnosis:
        """Logits and probabilities of its labels, from a (D,) embedding or an encoding's readings.

        Raises:
            MissingWeights: there is no head; the code is ``no_head``.
            BadRequest: the head needs readings, and there are none; the code is ``no_readings``.
        """


VISUAL_TOKENS = (4, 4, 4)
"""Cells of the scan along X, Y, Z that give one visual token each."""


def visual_tokens(tokens: FloatArray) -> FloatArray:
    """(C, X, Y, Z) tokens -> (64, 2C) float32: mean and peak of each cell of a coarse grid.

    For modes that show a language model the image itself (R2GenGPT, arXiv 2309.09812).
    """
    import torch
    from torch.nn import functional as F

    grid = torch.from_numpy(np.array(tokens, np.float32))[None]
    pooled = (
        F.adaptive_avg_pool3d(grid, VISUAL_TOKENS),
        F.adaptive_max_pool3d(grid, VISUAL_TOKENS),
    )
    found: FloatArray = torch.cat(pooled, dim=1)[0].flatten(1).T.contiguous().numpy()
    return found


def load_encoder(row: EncoderRow, models_dir: Path, device: str = "cpu") -> LoadedEncoder:
    """The encoder of a registry row, with weights from below ``models_dir``, on a device."""
    loader = resolve(row.target)
    return cast(LoadedEncoder, loader.from_pretrained(models_dir / row.source, device))
