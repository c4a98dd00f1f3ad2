"""Scores over labels: F1, precision and recall, CRG, AUROC; positive means present.

Everything here takes arrays of labels; who made the reports does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rad3d.core.types import FloatArray, IntArray
from rad3d.metrics.cases import Cases
from rad3d.metrics.measure import LABEL_SET, Measure
from rad3d.reports.labeller import REVISION


def label_counts(truth: IntArray, predicted: IntArray) -> FloatArray:
    """(N, L) labels -> (N, 3 L) hits, false alarms and misses of each report."""
    hits = (truth == 1) & (predicted == 1)
    false = (truth == 0) & (predicted == 1)
    missed = (truth == 1) & (predicted == 0)
    return np.concatenate((hits, false, missed), axis=1).astype(np.float64)


def per_label(counts: FloatArray) -> dict[str, FloatArray]:
    """(..., 3 L) sums -> precision, recall, f1, support and predicted: (..., L) each.

    Precision is 0 where a label occurs and is never predicted; recall is NaN where it does not
    occur; f1 is NaN where it neither occurs nor is predicted.
    """
    hits, false, missed = np.split(counts, 3, axis=-1)
    support, predicted = hits + missed, hits + false
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "precision": np.where(
                predicted > 0, hits / predicted, np.where(support > 0, 0.0, np.nan)
            ),
            "recall": np.where(support > 0, hits / support, np.nan),
            "f1": np.where(support + predicted > 0, 2 * hits / (support + predicted), np.nan),
            "support": support,
            "predicted": predicted,
        }


def _macro(name: str) -> Callable[[FloatArray], FloatArray]:
    """Compute the mean over the labels that occur in the truth."""

    def combine(counts: FloatArray) -> FloatArray:
        scores = per_label(counts)
        occurs = scores["support"] > 0
        total = np.where(occurs, scores[name], 0.0).sum(axis=-1)
        with np.errstate(invalid="ignore"):
            return np.where(occurs.any(axis=-1), total / occurs.sum(axis=-1), np.nan)

    return combine


def _micro(name: str) -> Callable[[FloatArray], FloatArray]:
    """Compute the figure over all labels of all reports together."""

    def combine(counts: FloatArray) -> FloatArray:
        pooled = np.stack([part.sum(axis=-1) for part in np.split(counts, 3, axis=-1)], axis=-1)
        score: FloatArray = per_label(pooled)[name][..., 0]
        return score

    return combine


def crg(counts: FloatArray) -> FloatArray:
    """CRG of (..., 3 L) sums with a last column of label decisions: (...).

    With X decisions of which A are positive, a hit earns and a miss costs r = (X - A) / 2A, a
    false alarm costs 1, and U = (X - A) / 2 scales the sum s = r TP - r FN - FP to U / (2U - s):
    1 for perfect reports, 1/3 for reports that state nothing (CT2Rep's challenge, VLM3D).
    """
    decisions = counts[..., -1]
    hits, false, missed = (part.sum(axis=-1) for part in np.split(counts[..., :-1], 3, axis=-1))
    positive = hits + missed
    with np.errstate(invalid="ignore", divide="ignore"):
        weight, scale = (decisions - positive) / (2 * positive), (decisions - positive) / 2
        score = scale / (2 * scale - (weight * hits - weight * missed - false))
    return np.where((positive > 0) & (positive < decisions), score, np.nan)


def _collect_counts(cases: Cases) -> FloatArray:
    return label_counts(cases.truth, cases.said)


def _collect_decisions(cases: Cases) -> FloatArray:
    decisions = np.full((cases.n, 1), float(len(cases.label_set)))
    return np.concatenate((_collect_counts(cases), decisions), axis=1)


def _signature(name: str) -> Callable[[], str]:
    return lambda: f"{name}|{LABEL_SET}|positive:present|labeller:{REVISION}"


macro_f1, micro_f1 = _macro("f1"), _micro("f1")
"""(..., 3 L) sums -> (...) mean F1 of the labels that occur in the truth."""

F1_MACRO = Measure("labels", _collect_counts, macro_f1, _signature("f1|macro"))
F1_MICRO = Measure("labels", _collect_counts, micro_f1, _signature("f1|micro"))
PRECISION_MACRO = Measure(
    "labels", _collect_counts, _macro("precision"), _signature("precision|macro")
)
PRECISION_MICRO = Measure(
    "labels", _collect_counts, _micro("precision"), _signature("precision|micro")
)
RECALL_MACRO = Measure("labels", _collect_counts, _macro("recall"), _signature("recall|macro"))
RECALL_MICRO = Measure("labels", _collect_counts, _micro("recall"), _signature("recall|micro"))
CRG = Measure("decisions", _collect_decisions, crg, _signature("crg"))


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


def label_table(counts: FloatArray, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """(3 L,) sums -> label -> precision, recall, f1, support and predicted."""
    scores = per_label(counts)
    return {
        label: {name: float(values[i]) for name, values in scores.items()}
        for i, label in enumerate(names)
    }
