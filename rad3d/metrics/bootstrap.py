"""Intervals and tests by re-indexing statistics that were computed once for each report.

A measure turns every report into a row of numbers and a sum of rows into a figure (a mean is a sum
of values over a sum of ones; F1 is made from sums of hits and errors). A bootstrap draw then is a
vector of how often each report was drawn, and a thousand resamples are one matrix product. Nothing
is tokenised or labelled twice.

Statistics are (N, K), or (S, N, K) where a system was trained S times from other seeds: its figure
is then the mean over the seeds, and a draw resamples cases and seeds. Few seeds resampled with
repeats vary too little, by the factor (S - 1) / S, so their part of a draw is stretched by its
inverse root.

Sources: percentile bootstrap, Efron and Tibshirani 1993; approximate randomisation, Noreen 1989;
correction for many comparisons, Holm 1979.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rad3d.core.plain import Number
from rad3d.core.types import FloatArray

Combine = Callable[[FloatArray], FloatArray]
"""(..., K) sums of statistics -> (...) figures, NaN where one is not defined."""

Counts = npt.NDArray[np.uint16]
"""(D, N) how often each of N reports occurs in each of D resamples."""

LEVEL = 0.95
"""Coverage of every interval."""

_CHUNK_NUMBERS = 4_000_000
"""Numbers of one block of draw counts (32 MB), so that memory does not grow with the reports."""

_KEPT_NUMBERS = 4_000_000
"""Numbers of the draw counts that are kept (8 MB): enough for 1,000 reports and 4,000 resamples."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval and the number of cases behind it."""

    value: Number
    low: Number
    high: Number
    n: int

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "not defined"
        return f"{self.value:.3f} {span(self.low, self.high)}"


def span(low: Number, high: Number, spec: str = ".3f") -> str:
    """Return an interval in brackets, its ends formatted by ``spec``; it may not exist."""
    return "(no interval)" if np.isnan(low) else f"[{low:{spec}}, {high:{spec}}]"


def bootstrap(
    statistic: Callable[[npt.NDArray[np.intp]], float], n: int, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """A statistic of cases with its percentile bootstrap interval; for statistics of any form.

    Args:
        statistic: indices of cases (with repeats) -> value; called with ``arange(n)`` for the
            point estimate.
        n: number of cases.
        resamples: of the cases, drawn with replacement.
        seed: of the resamples.
    """
    rng = np.random.default_rng(seed)
    values = np.array([statistic(rng.integers(0, n, n)) for _ in range(resamples)])
    low, high = interval(values)
    return Estimate(float(statistic(np.arange(n))), low, high, n)


def draw_counts(n: int, resamples: int, seed: int) -> Iterator[Counts]:
    """Count how often each of ``n`` reports occurs in each resample, in blocks of (D, N).

    The same arguments give the same resamples, so two systems see the same reports; those of the
    usual sizes are kept, since a comparison asks for them hundreds of times.
    """
    keep = n * resamples <= _KEPT_NUMBERS
    yield from _kept_counts(n, resamples, seed) if keep else _drawn_counts(n, resamples, seed)


@lru_cache(maxsize=4)
def _kept_counts(n: int, resamples: int, seed: int) -> tuple[Counts, ...]:
    blocks = tuple(_drawn_counts(n, resamples, seed))
    for block in blocks:
        block.setflags(write=False)
    return blocks


def _drawn_counts(n: int, resamples: int, seed: int) -> Iterator[Counts]:
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK_NUMBERS // max(n, 1))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, n, (rows, n)) + np.arange(rows)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=rows * n)
        yield counts.reshape(rows, n).astype(np.uint16)


def figure_of(rows: FloatArray, combine: Combine) -> float:
    """The figure of (N, K) or (S, N, K) statistics."""
    return float(combine(rows.sum(axis=-2)).mean())


def estimate(rows: FloatArray, combine: Combine, resamples: int = 1000, seed: int = 0) -> Estimate:
    """The figure of (N, K) or (S, N, K) statistics with its percentile bootstrap interval.

    One case has none: whatever is drawn from it is the same.
    """
    n = rows.shape[-2]
    values = bootstrap_values(rows, combine, resamples, seed) if n > 1 else np.empty(0)
    return Estimate(figure_of(rows, combine), *interval(values), n)


def bootstrap_values(rows: FloatArray, combine: Combine, resamples: int, seed: int) -> FloatArray:
    """Compute the figure of each resample, (resamples,), of (N, K) or (S, N, K) statistics.

    Two systems with equally many seeds see the same seeds in a resample: seeds are paired.
    """
    repeats = rows if rows.ndim == 3 else rows[None]
    blocks = [
        combine(counts.astype(np.float64) @ repeats)
        for counts in draw_counts(rows.shape[-2], resamples, seed)
    ]
    return _over_seeds(np.concatenate(blocks, axis=1), seed) if blocks else np.empty(0)


def _over_seeds(values: FloatArray, seed: int) -> FloatArray:
    """(S, resamples) figures of each seed -> (resamples,) means over resampled seeds."""
    n = len(values)
    mean = values.mean(axis=0)
    if n == 1:
        return mean
    drawn = np.random.default_rng([seed, 2]).integers(0, n, values.shape)
    apart = np.take_along_axis(values, drawn, axis=0).mean(axis=0) - mean
    stretched: FloatArray = mean + np.sqrt(n / (n - 1)) * apart
    return stretched


def interval(values: FloatArray) -> tuple[float, float]:
    """The central :data:`LEVEL` of the values that are defined; NaN where none is."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(defined, (tail, 100 - tail))
    return float(low), float(high)


@dataclass(frozen=True)
class PairedTest:
    """A paired test of two systems on the same reports.

    Attributes:
        value: figure of b minus figure of a.
        low, high: its bootstrap interval.
        p_bootstrap: two-sided, from the share of resamples on the other side of zero.
        p_randomisation: two-sided, from swapping the two systems' reports at random; where a
            system has several seeds, which no swap of reports varies, it is ``p_bootstrap``.
        n: reports.
    """

    value: float
    low: float
    high: float
    p_bootstrap: float
    p_randomisation: float
    n: int


def paired_test(
    a: FloatArray,
    b: FloatArray,
    combine: Combine,
    resamples: int = 1000,
    swaps: int = 1000,
    seed: int = 0,
) -> PairedTest:
    """Compare two systems by their statistics on the same cases in the same order.

    Args:
        a, b: (N, K) or (S, N, K) statistics of the systems.
        combine: sums -> figure.
        resamples: of the bootstrap.
        swaps: random swaps of approximate randomisation; with several seeds, resamples at least.
        seed: of both.

    Both p-values count the observed difference as one of the resamples, so they are never 0. Where
    the figure is not defined for the whole set, everything is NaN.
    """
    value = figure_of(b, combine) - figure_of(a, combine)
    seeds = a.ndim == 3 or b.ndim == 3
    resamples = max(resamples, swaps) if seeds else resamples
    n = a.shape[-2]
    if n == 1:  # nothing can be resampled, and nothing be significant
        p = float("nan") if np.isnan(value) else 1.0
        return PairedTest(value, float("nan"), float("nan"), p, p, n)
    drawn = bootstrap_values(b, combine, resamples, seed) - bootstrap_values(
        a, combine, resamples, seed
    )
    low, high = interval(drawn)
    if np.isnan(value):
        return PairedTest(value, low, high, float("nan"), float("nan"), n)
    drawn = drawn[~np.isnan(drawn)]
    beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, 2 * (beyond + 1) / (len(drawn) + 1))
    swapped = p if seeds else _randomisation(a, b, combine, value, swaps, seed)
    return PairedTest(value, low, high, p, swapped, n)


def _randomisation(
    a: FloatArray, b: FloatArray, combine: Combine, value: float, swaps: int, seed: int
) -> float:
    """Share of random permutations with a difference at least as large as the observed one."""
    rng = np.random.default_rng([seed, 1])
    both, change = a.sum(axis=0) + b.sum(axis=0), b - a
    step = max(1, _CHUNK_NUMBERS // max(len(a), 1))
    as_far = total = 0
    for start in range(0, swaps, step):
        drawn = rng.integers(0, 2, (min(step, swaps - start), len(a)), dtype=np.uint8)
        swapped = drawn.astype(np.float64)
        one = a.sum(axis=0) + swapped @ change
        gaps = combine(both - one) - combine(one)
        gaps = gaps[~np.isnan(gaps)]
        # A swap of reports that score alike leaves the difference as it is, up to rounding.
        as_far += int((np.abs(gaps) >= abs(value) - 1e-12).sum())
        total += len(gaps)
    return (as_far + 1) / (total + 1)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjust p-values for their number by Holm's method; NaN stays NaN."""
    order = sorted((p, i) for i, p in enumerate(p_values) if p == p)
    adjusted = [float("nan")] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        adjusted[i] = largest
    return tuple(adjusted)
