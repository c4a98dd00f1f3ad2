"""Discrimination and calibration of a multi-label classifier: AUROC, AP, F1, calibration error.

Plain arrays in: known labels, probabilities, and thresholds that were chosen elsewhere. Bins of the
calibration curve hold equally many decisions (adaptive bins, Nixon et al. 2019, arXiv 1904.01685);
the error is the mean gap between what is stated and what is true, weighted by the bins' sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rad3d.core.errors import BadRequest
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.plain import Number
from rad3d.core.types import FloatArray, IntArray
from rad3d.metrics.bootstrap import Estimate, interval
from rad3d.metrics.clinical import auroc

Rows = npt.NDArray[np.intp]
"""Indices of cases in a resample, with repeats."""

BINS = 10
MACRO = ("auroc", "average_precision", "f1", "brier", "calibration_error")
"""Figures over all labels, in the order they are shown."""


@dataclass(frozen=True)
class LabelFigures:
    """The figures of a classifier on one label.

    Attributes:
        auroc, average_precision: NaN where the label is always or never present.
        f1: at the threshold.
        threshold: probability from which the label counts as present.
        positives: cases that have it.
    """

    auroc: Estimate
    average_precision: Estimate
    f1: Estimate
    threshold: Number
    positives: int


@dataclass(frozen=True)
class Bin:
    """Decisions whose probabilities lie together.

    Attributes:
        probability: their mean.
        share: of them that are positive, with its interval; ``n`` is how many there are.
    """

    probability: Number
    share: Estimate


@dataclass(frozen=True)
class ClassifierCard:
    """The figures of a classifier on one sample set.

    Attributes:
        name: of the classifier.
        sample_set: id of the set.
        n: cases.
        labels: label -> figures.
        macro: figure of :data:`MACRO` -> mean over the labels it is defined for.
        bins: the calibration curve over all labels together.
        threshold_split: the other split that the thresholds and the calibration come from.
        settings: ``draws`` (the number of resamples) and ``seed``.
    """

    name: str
    sample_set: str
    n: int
    labels: Mapping[str, LabelFigures]
    macro: Mapping[str, Estimate]
    bins: tuple[Bin, ...]
    threshold_split: str
    settings: Mapping[str, Any]


def classifier_card(
    name: str,
    sample_set: str,
    truth: IntArray,
    probabilities: FloatArray,
    thresholds: FloatArray,
    threshold_split: str,
    resamples: int = 1000,
    seed: int = 0,
    patients: Sequence[str] = (),
    label_set: LabelSet = CT_RATE,
) -> ClassifierCard:
    """Score a classifier.

    Args:
        name: of the classifier.
        sample_set: id of the set.
        truth: (N, L) 0 or 1.
        probabilities: (N, L).
        thresholds: (L,), chosen on another split.
        threshold_split: which one.
        resamples: of cases.
        seed: of the resamples.
        patients: of the cases, where some have several; then patients are drawn, with their cases.
        label_set: the L labels.
    """
    if truth.shape != probabilities.shape or truth.ndim != 2 or truth.shape[1] != len(label_set):
        raise BadRequest(
            f"Labels {truth.shape} and probabilities {probabilities.shape} do not fit together.",
            code="bad_shape",
        )
    n_labels = len(label_set)
    rows = [np.arange(len(truth)), *_drawn(len(truth), patients, resamples, seed)]
    said = (probabilities >= thresholds).astype(np.int64)
    figures = {
        "auroc": _each(rows, n_labels, lambda r, j: auroc(truth[r, j], probabilities[r, j])),
        "average_precision": _each(
            rows, n_labels, lambda r, j: average_precision(truth[r, j], probabilities[r, j])
        ),
        "f1": _each(rows, n_labels, lambda r, j: _f1(truth[r, j], said[r, j])),
    }
    whole = {
        **{key: _mean(values) for key, values in figures.items()},
        "brier": np.array([float(((probabilities[r] - truth[r]) ** 2).mean()) for r in rows]),
        "calibration_error": np.array(
            [calibration_error(truth[r], probabilities[r]) for r in rows]
        ),
    }
    n = len(truth)
    return ClassifierCard(
        name=name,
        sample_set=sample_set,
        n=n,
        labels={
            label: LabelFigures(
                **{key: _interval_of(values[:, j], n) for key, values in figures.items()},
                threshold=float(thresholds[j]),
                positives=int(truth[:, j].sum()),
            )
            for j, label in enumerate(label_set.names)
        },
        macro={key: _interval_of(whole[key], n) for key in MACRO},
        bins=_curve(truth, probabilities, rows[1:]),
        threshold_split=threshold_split,
        settings={"draws": resamples, "seed": seed, "bins": BINS},
    )


def average_precision(truth: IntArray, score: FloatArray) -> float:
    """Mean precision at each positive case of (N,) scores, ties taken together; NaN without any."""
    positives = int(truth.sum())
    if not positives:
        return float("nan")
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(truth[order])
    last = np.append(np.diff(score[order]) != 0, True)  # the end of each group of equal scores
    n_hits, n_cases = hits[last], np.flatnonzero(last) + 1
    gained = np.diff(n_hits, prepend=0)
    return float((gained * n_hits / n_cases).sum() / positives)


def calibration_error(truth: IntArray, probabilities: FloatArray, bins: int = BINS) -> float:
    """Mean gap between probability and share of positives over bins of equally many decisions."""
    p, y = probabilities.ravel(), truth.ravel()
    groups = np.array_split(np.argsort(p, kind="stable"), bins)
    return float(sum(abs(p[g].mean() - y[g].mean()) * len(g) for g in groups if len(g)) / len(p))


def _drawn(n: int, patients: Sequence[str], resamples: int, seed: int) -> list[Rows]:
    """Return the cases of each bootstrap resample, of n cases or of whole patients."""
    rng = np.random.default_rng(seed)
    if not patients:
        return list(rng.integers(0, n, (resamples, n)))
    groups = rows_by_patient(patients)
    return [
        np.concatenate([groups[g] for g in rng.integers(0, len(groups), len(groups))])
        for _ in range(resamples)
    ]


def rows_by_patient(patients: Sequence[str]) -> list[Rows]:
    """The cases of each patient, patients in the order of their names."""
    _, of_case = np.unique(np.array(patients), return_inverse=True)
    return np.split(np.argsort(of_case, kind="stable"), np.cumsum(np.bincount(of_case))[:-1])


def _curve(truth: IntArray, probabilities: FloatArray, rows: list[Rows]) -> tuple[Bin, ...]:
    """The bins of the calibration curve; cases are resampled, as their labels belong together."""
    p, y = probabilities.ravel(), truth.ravel()
    edges = np.unique(np.quantile(p, np.linspace(0, 1, BINS + 1)[1:-1]))
    place = np.searchsorted(edges, probabilities, side="right")
    k = len(edges) + 1
    inside = np.stack([(place == b).sum(axis=1) for b in range(k)], axis=1)
    hits = np.stack([((place == b) & (truth == 1)).sum(axis=1) for b in range(k)], axis=1)
    drawn_inside = np.array([inside[r].sum(axis=0) for r in rows]).reshape(-1, k)
    drawn_hits = np.array([hits[r].sum(axis=0) for r in rows]).reshape(-1, k)
    bins = []
    for b in range(k):
        members = place.ravel() == b
        if not members.any():
            continue
        counts, found_in = drawn_inside[:, b], drawn_hits[:, b]
        shares = np.where(counts > 0, found_in / np.maximum(counts, 1), np.nan)
        low, high = interval(shares)
        share = Estimate(float(y[members].mean()), low, high, int(members.sum()))
        bins.append(Bin(float(p[members].mean()), share))
    return tuple(bins)


def _each(rows: list[Rows], n: int, figure: Callable[[Rows, int], float]) -> FloatArray:
    """Compute (1 + resamples, L) figures: of all cases, then of each resample."""
    return np.array([[figure(r, j) for j in range(n)] for r in rows])


def _mean(values: FloatArray) -> FloatArray:
    """Mean over the labels that are defined on all cases."""
    defined = ~np.isnan(values[0])
    if not defined.any():
        return np.full(len(values), np.nan)
    kept = values[:, defined]
    known = ~np.isnan(kept)
    return np.where(known, kept, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)


def _interval_of(values: FloatArray, n: int) -> Estimate:
    low, high = interval(values[1:] if n > 1 else values[:0])
    return Estimate(float(values[0]), low, high, n)


def _f1(truth: IntArray, said: IntArray) -> float:
    stated = int(truth.sum() + said.sum())
    return 2 * float((truth & said).sum()) / stated if stated else float("nan")
