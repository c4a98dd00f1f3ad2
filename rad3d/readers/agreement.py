"""Agreement of readers: Krippendorff's alpha for ordinal scores.

Source: Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011. Written here because the
packages that have it are under the GPL.
"""

from __future__ import annotations

import numpy as np

from rad3d.core.types import FloatArray
from rad3d.metrics.bootstrap import Estimate, estimate


def coincidences(scores: FloatArray, choices: int) -> FloatArray:
    """Count the pairs of scores that readers gave to the same report.

    Args:
        scores: (R, U) of R readers on U reports, 1 to ``choices``; NaN where there is none.
        choices: K.

    Returns:
        (U, K * K): for each report, how often score k met score l, weighted so that each of its m
        scores counts once; zeros where fewer than two readers scored it.
    """
    counts = np.stack([(scores == k).sum(axis=0) for k in range(1, choices + 1)], axis=1)
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(choices)
    others = np.maximum(counts.sum(axis=1) - 1, 1)
    weighted: FloatArray = (pairs / others[:, None, None]).reshape(len(counts), choices**2)
    return weighted


def ordinal_alpha(sums: FloatArray) -> FloatArray:
    """Return alpha from sums of :func:`coincidences`, (..., K * K) -> (...).

    NaN where no two scores can be paired, or all are the same: nothing could then disagree.
    """
    choices = int(round(sums.shape[-1] ** 0.5))
    observed = sums.reshape(*sums.shape[:-1], choices, choices)
    marginal = observed.sum(axis=-1)
    middle = marginal.cumsum(axis=-1) - marginal / 2
    distance = (middle[..., :, None] - middle[..., None, :]) ** 2
    total = marginal.sum(axis=-1)
    expected = (marginal[..., :, None] * marginal[..., None, :] * distance).sum(axis=(-2, -1))
    disagreement = (observed * distance).sum(axis=(-2, -1)) * (total - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, 1 - disagreement / expected, np.nan)


def alpha(scores: FloatArray, choices: int, resamples: int, seed: int) -> Estimate:
    """Return alpha of (R, N, S) scores with its bootstrap interval over the N cases.

    Args:
        scores: of R readers on N cases and S systems, NaN where there is none.
        choices: of the scale.
        resamples, seed: of the bootstrap.
    """
    readers, cases, systems = scores.shape
    units = coincidences(scores.reshape(readers, cases * systems), choices)
    by_case = units.reshape(cases, systems, choices**2).sum(axis=1)
    return estimate(by_case, ordinal_alpha, resamples, seed)
