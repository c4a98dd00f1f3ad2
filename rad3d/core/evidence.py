"""Where in a scan an encoder found evidence for a label, and how far that place can be trusted."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.linalg import norm

from rad3d.core.types import FloatArray

Interval = tuple[float, float, float]
"""A figure with the lower and the upper bound of its 95% interval."""

LEAST_POINTING = 0.5
"""Lower bound of the pointing game from which the places of a label are offered."""

LEAST_SCANS = 10
"""Scans of another domain from which a failure there counts."""


@dataclass(frozen=True)
class Localisation:
    """How well the evidence for a label shows where the finding is, on scans with known places.

    Attributes:
        threshold: strength from which a cell is shown; chosen on other scans.
        n: scans with the finding in which the classifier sees it.
        pointing: share of them in which the strongest cell holds part of the finding (the pointing
            game, Zhang et al. 2016).
        gain: by how much that is better than always pointing at the likeliest cell.
        dice: of the cells that are shown and the cells that hold part of the finding.
        dice_gain: by how much that is better than always showing the likeliest cells.
        holds: whether the pointing game holds on every other measured set of enough scans.
    """

    threshold: float
    n: int
    pointing: Interval
    gain: Interval
    dice: Interval
    dice_gain: Interval
    holds: bool = True

    @property
    def works(self) -> bool:
        """Whether the places are right often enough, and say more than where it usually is."""
        is_better = max(self.gain[1], self.dice_gain[1]) > 0
        return self.pointing[1] >= LEAST_POINTING and is_better and self.holds

    @classmethod
    def of(cls, sets: Mapping[str, Mapping[str, Any]], shown: str) -> Localisation:
        """The figures of one set, held against those of the others.

        Args:
            sets: name of a set -> the fields but ``holds``.
            shown: the set whose figures are given.
        """
        failed = [
            row["pointing"][1] < LEAST_POINTING for row in sets.values() if row["n"] >= LEAST_SCANS
        ]
        return cls(**sets[shown], holds=not any(failed))


@dataclass(frozen=True)
class Evidence:
    """The cells of a scan in which an encoder found evidence for a label.

    Attributes:
        label: of the encoder's label set.
        strength: (X, Y, Z) float32 in [0, 1], on a coarse grid of cells.
        affine: (4, 4) index of a cell's centre -> RAS+ mm.
        threshold: strength from which a cell counts as evidence.
        method: how it was found, in one sentence.
        known: how well this shows the place; None where nobody has measured it.
    """

    label: str
    strength: FloatArray
    affine: FloatArray
    threshold: float
    method: str
    known: Localisation | None = None

    @property
    def is_empty(self) -> bool:
        """True where no cell reaches the threshold."""
        return bool(self.strength.max() < self.threshold)

    @property
    def peak_mm(self) -> tuple[float, float, float]:
        """The centre of the strongest cell, RAS+ in mm."""
        cell = np.unravel_index(int(self.strength.argmax()), self.strength.shape)
        x, y, z = (self.affine @ [*cell, 1.0])[:3].tolist()
        return x, y, z

    @property
    def cell_mm(self) -> float:
        """The size of a cell, that of its longest side."""
        return float(norm(self.affine[:3, :3], axis=0).max())

    @property
    def sentence(self) -> str:
        """How it was found, and how well it shows the place."""
        if self.known is None:
            return f"{self.method} How well it shows the place was not measured for this encoder."
        value, low, high = (round(100 * share) for share in self.known.pointing)
        if low == 100:
            return (
                f"{self.method} In each of {self.known.n} phantoms with this finding the strongest "
                "cell held part of it."
            )
        return (
            f"{self.method} In {self.known.n} phantoms with this finding the strongest cell held "
            f"part of it in {value} % [{low}, {high}]."
        )

    def to_dict(self) -> Mapping[str, Any]:
        """Plain JSON values; ``strength`` as base64 of bytes 0 to 255, the first axis fastest."""
        data = np.rint(255 * self.strength).astype(np.uint8).tobytes(order="F")
        return {
            "label": self.label,
            "shape": list(self.strength.shape),
            "affine": self.affine.tolist(),
            "strength": base64.b64encode(data).decode(),
            "threshold": self.threshold,
            "peak_mm": list(self.peak_mm),
            "cell_mm": self.cell_mm,
            "sentence": self.sentence,
        }
