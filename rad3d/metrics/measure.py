"""The parts of a metric: statistics of each report, and how their sums become a figure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.types import FloatArray
from rad3d.metrics.bootstrap import Combine
from rad3d.metrics.cases import Cases, Places

LABEL_SET = "{labels}"
"""Stands for the label set in a signature."""

State = Literal["ready", "needs package", "needs weights", "needs gpu", "broken"]


@dataclass(frozen=True)
class MetricStatus:
    """Availability of a metric on this machine.

    Attributes:
        state: ``"ready"``, or what stands in the way.
        reason: one sentence; empty where it is ready.
        command: what makes it ready, where a command does.
    """

    state: State = "ready"
    reason: str = ""
    command: str = ""

    @property
    def ready(self) -> bool:
        """True if the metric can run here."""
        return self.state == "ready"


@dataclass(frozen=True)
class Measure:
    """A metric with its statistics and the formula that turns their sums into a figure.

    Attributes:
        statistic: name of the statistics; measures that share it share the array.
        collect: cases -> (N, K) statistics of each report.
        combine: (..., K) sums of statistics -> (...) figures.
        signature: names and settings that fix the figure, such as ``"bleu|tok:13a|..."``; with
            ``LABEL_SET`` where the labels do.
        status: whether it can run here.
        facts: what else fixes the figure and depends on the place: weights, foreign packages.
    """

    statistic: str
    collect: Callable[[Cases], FloatArray]
    combine: Combine
    signature: Callable[[], str]
    status: Callable[[Places], MetricStatus] = lambda places: MetricStatus()
    facts: Callable[[Places], str] = lambda places: ""

    def signed(self, places: Places, label_set: LabelSet = CT_RATE) -> str:
        """The whole signature of a figure that was computed here."""
        labels = f"labels:{len(label_set)}"
        if label_set != CT_RATE:
            rules = hashlib.sha256(repr(label_set.labels).encode()).hexdigest()[:8]
            labels += f":{label_set.id}:{rules}"
        own = self.signature().replace(LABEL_SET, labels)
        return "|".join(filter(None, (own, self.facts(places))))


def ratio(sums: FloatArray, numerator: int = 0, denominator: int = 1) -> FloatArray:
    """Divide one column by another, NaN where that is 0; with values and ones it is the mean."""
    below = sums[..., denominator]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, sums[..., numerator] / below, np.nan)


def values_and_ones(values: FloatArray) -> FloatArray:
    """(N,) values -> (N, 2) statistics whose :func:`ratio` is the mean of the defined values."""
    defined = ~np.isnan(values)
    return np.stack((np.where(defined, values, 0.0), defined), axis=1).astype(np.float64)


def weights_digest(folder: Path) -> str:
    """``"weights:<12 hex digits>"`` of a folder: its config, and the sizes of its files."""
    digest = hashlib.sha256()
    if (config := folder / "config.json").is_file():
        digest.update(config.read_bytes())
    for path in sorted(p for p in folder.glob("*") if p.is_file()):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return f"weights:{digest.hexdigest()[:12]}"
