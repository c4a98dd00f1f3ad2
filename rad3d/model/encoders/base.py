"""The interface of every encoder in the registry.

A volume on the model grid goes in; a pooled embedding, a token grid, a diagnosis and a novelty
estimate come out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from rad3d.core.labels import LabelSet
from rad3d.core.registry import EncoderRow, resolve
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
    """

    pooled: FloatArray
    tokens: FloatArray
    novelty: Novelty | None


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

    def diagnose(self, pooled: FloatArray) -> Diagnosis:
        """Logits and probabilities of its labels from a (D,) embedding.

        Raises:
            MissingWeights: there is no head; the code is ``no_head``.
        """


def load_encoder(row: EncoderRow, models_dir: Path, device: str = "cpu") -> LoadedEncoder:
    """The encoder of a registry row, with weights from below ``models_dir``, on a device."""
    loader = resolve(row.target)
    return cast(LoadedEncoder, loader.from_pretrained(models_dir / row.source, device))
