"""Calibration of logits as probabilities, and detection of scans unlike the training scans.

Both are fitted by :mod:`rad3d.train.fit_calibration` and lie beside the weights of an encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from rad3d.core.types import FloatArray, Novelty

HeadState = Literal["none", "uncalibrated", "calibrated"]
"""Output of an encoder for labels: none, logits, or calibrated probabilities as well."""


@dataclass(frozen=True)
class Calibration:
    """Platt scaling and thresholds, fitted on a split that is neither training nor test.

    Attributes:
        slope, offset: (L,) probability = sigmoid(slope * logit + offset).
        threshold: (L,) calibrated probability from which a label counts as present (best F1).
        split: name of the split they were fitted on.
    """

    slope: FloatArray
    offset: FloatArray
    threshold: FloatArray
    split: str

    def probabilities(self, logits: FloatArray) -> FloatArray:
        """(..., L) logits -> calibrated probabilities."""
        return cast(FloatArray, 1 / (1 + np.exp(-(self.slope * logits + self.offset))))


@dataclass(frozen=True)
class NoveltyReference:
    """Feature statistics of the training domain (Lee et al. 2018, arXiv 1807.03888, one class).

    Attributes:
        mean: (F,) mean of the per-scan feature vector, or (K, F), one for each kind of scan.
        whitening: (F, F) matrix W with (v - mean) @ W of unit covariance.
        quantiles: (101,) distances of held-out training-domain scans, percentiles 0 to 100.
        limit: distance from which a scan counts as novel.
    """

    mean: FloatArray
    whitening: FloatArray
    quantiles: FloatArray
    limit: float

    def distance(self, vectors: FloatArray) -> FloatArray:
        """(..., F) feature vectors -> (...) distances from the nearest mean."""
        apart = (vectors[..., None, :] - np.atleast_2d(self.mean)) @ self.whitening
        return cast(FloatArray, np.linalg.norm(apart, axis=-1).min(axis=-1))

    def measure(self, vector: FloatArray) -> Novelty:
        """Distance of one scan's (F,) feature vector."""
        distance = float(self.distance(vector))
        percentile = float(np.interp(distance, self.quantiles, np.arange(101)))
        return Novelty(distance=distance, percentile=percentile, limit=self.limit)


def novelty_vector(tokens: FloatArray) -> FloatArray:
    """(C, X, Y, Z) tokens -> (2C,) mean and spread per channel, what novelty is measured on."""
    flat = tokens.reshape(tokens.shape[0], -1)
    return np.concatenate((flat.mean(axis=1), flat.std(axis=1))).astype(np.float64)
