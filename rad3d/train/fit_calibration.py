"""Calibration of logits and the novelty reference, for the shipped encoder and for any other.

Both are fitted on scans that the network has not learned from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rad3d.core.types import FloatArray
from rad3d.model.encoders.calibration import Calibration, NoveltyReference

MIN_CASES = 5
"""Cases with a label, and without it, below which its slope cannot be told."""


def calibrate(
    logits: FloatArray,
    labels: npt.NDArray[Any],
    split: str,
    usable: npt.NDArray[np.bool_] | None = None,
) -> Calibration:
    """Platt scaling per label, and the threshold of best F1.

    Args:
        logits: (N, L).
        labels: (N, L), 0 or 1.
        split: name of the cases.
        usable: (L,) False where the logits of a label say nothing.

    A label that is not usable, or that fewer than :data:`MIN_CASES` cases have or lack, gets its
    prevalence as its probability, whatever its logit.
    """
    n, positives = len(labels), labels.sum(axis=0)
    known = np.minimum(positives, n - positives) >= MIN_CASES
    if usable is not None:
        known &= usable
    slope, offset = np.zeros(len(positives)), np.log((positives + 1) / (n - positives + 1))
    threshold = np.full(len(positives), 0.5)
    for j in np.flatnonzero(known):
        slope[j], offset[j] = platt(logits[:, j], labels[:, j])
        probability = 1 / (1 + np.exp(-(slope[j] * logits[:, j] + offset[j])))
        threshold[j] = _best_threshold(probability, labels[:, j])
    return Calibration(slope, offset, threshold, split)


def platt(logit: FloatArray, label: npt.NDArray[Any]) -> tuple[float, float]:
    """Slope and offset by Newton's method with Platt's target smoothing (Platt 1999)."""
    positive, negative = label.sum(), (1 - label).sum()
    target = np.where(label == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    weights = np.zeros(2)
    x = np.stack((logit, np.ones_like(logit)), axis=1).astype(np.float64)
    weights[0] = 1.0
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        gradient = x.T @ (p - target)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-3 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        weights -= np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    return max(float(weights[0]), 0.05), float(weights[1])


def _best_threshold(probability: FloatArray, label: npt.NDArray[Any]) -> float:
    """The middle of the gap below the cut with the best F1."""
    order = np.argsort(-probability)
    hits = np.cumsum(label[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + label.sum())
    best = int(f1.argmax())
    here = probability[order[best]]
    below = probability[order[best + 1]] if best + 1 < len(order) else 0.0
    return float((here + below) / 2)


def novelty_reference(
    training: FloatArray,
    held_out: FloatArray,
    kinds: npt.NDArray[Any] | None = None,
    margin: float = 1.5,
) -> NoveltyReference:
    """Mahalanobis statistics from (N, F) training vectors, calibrated on held-out ones.

    Args:
        training: (N, F).
        held_out: (M, F), of scans that are not among them.
        kinds: (N,) names; scans of a kind lie around a mean of their own, all with one covariance.
        margin: the limit is so many times the 99th percentile of the held-out distances.
    """
    names, kind = np.unique(
        np.zeros(len(training)) if kinds is None else kinds, return_inverse=True
    )
    means = np.stack([training[kind == k].mean(axis=0) for k in range(len(names))])
    values, vectors = np.linalg.eigh(_shrunk_covariance(training - means[kind]))
    floor = 1e-3 * values.max()
    whitening = vectors / np.sqrt(np.maximum(values, floor))
    mean = means[0] if kinds is None else means
    distances = NoveltyReference(mean, whitening, np.zeros(101), 0.0).distance(held_out)
    return NoveltyReference(
        mean=mean,
        whitening=whitening,
        quantiles=np.percentile(distances, np.arange(101)),
        limit=float(margin * np.percentile(distances, 99)),
    )


def _shrunk_covariance(centred: FloatArray) -> FloatArray:
    """(N, F) -> (F, F), shrunk towards a sphere by as much as N is small for F.

    Ledoit and Wolf 2004, doi 10.1016/S0047-259X(03)00096-4.
    """
    n, f = centred.shape
    sample = centred.T @ centred / n
    sphere = np.trace(sample) / f * np.eye(f)
    spread = ((sample - sphere) ** 2).sum()
    error = (((centred**2).sum(axis=1) ** 2).sum() / n - (sample**2).sum()) / n
    share = min(error / spread, 1.0) if spread > 0 else 1.0
    shrunk: FloatArray = share * sphere + (1 - share) * sample
    return shrunk
