"""Clinical scores over the 18 labels, and seeded bootstrap intervals.

Everything here takes arrays of labels; who made the reports does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rad3d.findings import Finding, Truth
from rad3d.labels import LABEL_INDEX

IntArray = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval and the number of cases behind it."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class LabelScores:
    """F1 over labels: ``per_label`` is (L,), NaN where a label has no positive case and no hit."""

    macro: float
    micro: float
    per_label: npt.NDArray[np.float64]


def label_f1(truth: IntArray, predicted: IntArray) -> LabelScores:
    """F1 of (N, L) binary predictions; positive means present.

    Macro F1 averages the labels that occur in ``truth``. A label that occurs and is never
    predicted scores 0.
    """
    hits = ((truth == 1) & (predicted == 1)).sum(axis=0)
    false = ((truth == 0) & (predicted == 1)).sum(axis=0)
    missed = ((truth == 1) & (predicted == 0)).sum(axis=0)
    total = 2 * hits + false + missed
    with np.errstate(invalid="ignore"):
        per_label = np.where(total > 0, 2 * hits / np.maximum(total, 1), np.nan)
    occurs = (hits + missed) > 0
    macro = float(per_label[occurs].mean()) if occurs.any() else float("nan")
    micro = float(2 * hits.sum() / max(total.sum(), 1))
    return LabelScores(macro=macro, micro=micro, per_label=per_label)


@dataclass(frozen=True)
class SideScores:
    """Agreement on the side of findings that have one.

    Attributes:
        right, stated, total: (N,) per report: findings whose side is right, findings that the
            report asserts, and findings that have a side in truth.
    """

    right: IntArray
    stated: IntArray
    total: IntArray

    def accuracy(self, rows: npt.NDArray[np.intp]) -> float:
        """Share of right sides among the asserted findings of these reports."""
        return float(self.right[rows].sum() / max(self.stated[rows].sum(), 1))

    def strict(self, rows: npt.NDArray[np.intp]) -> float:
        """The same with findings that the report does not mention counted as wrong."""
        return float(self.right[rows].sum() / max(self.total[rows].sum(), 1))


def side_scores(truths: Sequence[Truth], reports: Sequence[Sequence[Finding]]) -> SideScores:
    """Compare the side of every finding of ``truths`` with what the reports assert."""
    counts = []
    for truth, findings in zip(truths, reports, strict=True):
        said = {finding.label: finding.side for finding in findings}
        sided = [f for f in truth.findings if f.side is not None and f.label in LABEL_INDEX]
        stated = [f for f in sided if f.label in said]
        right = sum(said[f.label] == f.side for f in stated)
        counts.append((right, len(stated), len(sided)))
    return SideScores(*np.array(counts, dtype=np.int64).reshape(-1, 3).T)


def auroc(truth: IntArray, score: npt.NDArray[np.floating[Any]]) -> float:
    """Area under the ROC curve of (N,) scores: the share of positive-negative pairs ranked right.

    Ties count half. NaN where a class is missing.
    """
    positive, negative = score[truth == 1], np.sort(score[truth == 0])
    if not len(positive) or not len(negative):
        return float("nan")
    below = np.searchsorted(negative, positive, side="left")
    up_to = np.searchsorted(negative, positive, side="right")
    return float((below + up_to).mean() / 2 / len(negative))


def macro_auroc(truth: IntArray, score: npt.NDArray[np.floating[Any]]) -> float:
    """Mean :func:`auroc` over the columns of (N, L) that hold both classes."""
    return float(np.nanmean([auroc(truth[:, j], score[:, j]) for j in range(truth.shape[1])]))


def bootstrap(
    statistic: Callable[[npt.NDArray[np.intp]], float], n: int, draws: int = 1000, seed: int = 0
) -> Estimate:
    """A statistic of cases with its percentile bootstrap interval.

    Args:
        statistic: indices of cases (with repeats) -> value; called with ``arange(n)`` for the
            point estimate.
        n: number of cases.
        draws: bootstrap samples; cases are drawn with replacement.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    values = np.array([statistic(rng.integers(0, n, n)) for _ in range(draws)])
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return Estimate(float(statistic(np.arange(n))), float(low), float(high), n)
