"""Strength of systems from pairwise preferences: Bradley and Terry's model.

Fitted by the minorisation-maximisation of Hunter (2004). No difference is half a win for both. Half
a tie is added to every pair, so that a system that always wins has a finite strength.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rad3d.core.types import FloatArray
from rad3d.metrics.bootstrap import Estimate, draw_counts, interval
from rad3d.readers.types import Rating

_STEPS = 200


@dataclass(frozen=True)
class Preferences:
    """What the pairwise preferences say.

    Attributes:
        wins: how often the system of the row was preferred to that of the column; no difference
            counts half.
        strength: system -> the chance that it is preferred to another one of the study.
        n: preferences.
    """

    wins: tuple[tuple[float, ...], ...]
    strength: dict[str, Estimate]
    n: int


def strengths(wins: FloatArray) -> FloatArray:
    """Return the log strengths (..., S), of mean 0, for (..., S, S) wins."""
    n = wins.shape[-1]
    wins = wins + 0.25 * (1 - np.eye(n))
    met, won = wins + np.swapaxes(wins, -1, -2), wins.sum(axis=-1)
    power = np.ones(wins.shape[:-1])
    for _ in range(_STEPS):
        power = won / (met / (power[..., :, None] + power[..., None, :])).sum(axis=-1)
        power /= np.exp(np.log(power).mean(axis=-1, keepdims=True))
    logs: FloatArray = np.log(power)
    return logs


def chances(logs: FloatArray) -> FloatArray:
    """Return the chance of each system to be preferred to another one drawn at random."""
    n = logs.shape[-1]
    over = 1 / (1 + np.exp(logs[..., None, :] - logs[..., :, None]))
    mean: FloatArray = (over.sum(axis=-1) - 0.5) / (n - 1)
    return mean


def preferences(
    ratings: Sequence[Rating], systems: Sequence[str], resamples: int, seed: int
) -> Preferences | None:
    """Fit the model, with intervals by bootstrap over readers and cases; None without preferences.

    With one reader they are over cases alone.
    """
    asked = [rating for rating in ratings if rating.before]
    if not asked:
        return None
    readers = sorted({rating.reader for rating in asked})
    cases = sorted({rating.case for rating in asked})
    at = {name: i for i, name in enumerate(systems)}
    wins = np.zeros((len(readers), len(cases), len(systems), len(systems)))
    for rating in asked:
        share = {"before": 0.0, "same": 0.5, "this": 1.0}[rating.answer.preference or "same"]
        this, before = at[rating.system], at[rating.before]
        cell = wins[readers.index(rating.reader), cases.index(rating.case)]
        cell[this, before] += share
        cell[before, this] += 1 - share
    total = wins.sum(axis=(0, 1))
    drawn = chances(_drawn(wins, resamples, seed))
    values = chances(strengths(total))
    strength = {
        name: Estimate(float(values[i]), *interval(drawn[:, i]), len(asked))
        for name, i in at.items()
    }
    return Preferences(tuple(map(tuple, total.tolist())), strength, len(asked))


def _drawn(wins: FloatArray, resamples: int, seed: int) -> FloatArray:
    """(D, S) log strengths of resamples of readers and cases.

    Few readers resampled with repeats vary too little; their part is stretched as that of seeds is
    in :mod:`rad3d.metrics.bootstrap`.
    """
    readers = len(wins)
    of_cases, of_both = [], []
    whose = np.concatenate(list(draw_counts(readers, resamples, seed + 1))).astype(np.float64)
    start = 0
    for counts in draw_counts(wins.shape[1], resamples, seed):
        stop = start + len(counts)
        by_reader = np.einsum("dn,rnij->drij", counts.astype(np.float64), wins)
        of_cases.append(strengths(by_reader.sum(axis=1)))
        of_both.append(strengths(np.einsum("dr,drij->dij", whose[start:stop], by_reader)))
        start = stop
    cases, both = np.concatenate(of_cases), np.concatenate(of_both)
    if readers == 1:
        return cases
    stretched: FloatArray = cases + np.sqrt(readers / (readers - 1)) * (both - cases)
    return stretched
