"""Differences between systems on the same cases, with intervals and corrected p-values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.plain import Number
from rad3d.metrics.bootstrap import holm, paired_test
from rad3d.metrics.registry import PRIMARY, measure, metric_row
from rad3d.metrics.scorecard import Scorecard

SIGNIFICANT = 0.05
"""A difference counts where its adjusted p-value is below this."""

Z_LEVEL, Z_POWER = 1.960, 0.842
"""Standard errors of a 95% interval, and what 80% power adds to them."""

SWAPS_PER_COMPARISON = 40
"""The least p-value is one in the number of swaps, and the correction multiplies it by the number
of comparisons: with 40 swaps for each, 1/40 is still below :data:`SIGNIFICANT`."""


@dataclass(frozen=True)
class Difference:
    """The difference of system ``b`` from system ``a`` in one metric.

    Attributes:
        metric: a key of :data:`rad3d.metrics.registry.METRICS`.
        a, b: names of the systems.
        value: figure of b minus figure of a.
        low, high: its 95% paired bootstrap interval.
        p_bootstrap, p_randomisation: two-sided, uncorrected, see
            :class:`rad3d.metrics.bootstrap.PairedTest`.
        p_adjusted: ``p_randomisation`` after Holm's correction over all differences of the same
            call.
        n: cases.
    """

    metric: str
    a: str
    b: str
    value: Number
    low: Number
    high: Number
    p_bootstrap: Number
    p_randomisation: Number
    p_adjusted: Number
    n: int

    @property
    def significant(self) -> bool:
        """True if the difference is significant at the 5% level after the correction."""
        return self.p_adjusted < SIGNIFICANT

    @property
    def detectable(self) -> float:
        """The smallest true difference that such cases and seeds would show with 80% power.

        From the interval's width: 2.80 standard errors for a two-sided test at 5%.
        """
        return (self.high - self.low) / 2 * (1 + Z_POWER / Z_LEVEL)

    @property
    def better(self) -> str:
        """The name of the better system if the difference is significant, else empty."""
        if not self.significant:
            return ""
        return self.b if (self.value > 0) == metric_row(self.metric).higher_is_better else self.a


def compare(
    a: Scorecard,
    b: Scorecard,
    *,
    metrics: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[Difference, ...]:
    """Compare two systems that were scored on the same cases.

    Args:
        a: the baseline.
        b: the system that is compared with it.
        metrics: by default all that both were scored with.
        resamples: of the bootstrap, and at least as many random swaps.
        seed: of both.
    """
    names = metrics if metrics is not None else [m for m in a.estimates if m in b.estimates]
    return differences([(a, b)], names, resamples, seed)


def compare_all(
    cards: Sequence[Scorecard],
    *,
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[Difference, ...]:
    """Compare several systems; the correction is over all pairs and metrics together.

    Args:
        cards: of the same cases, with different names.
        baseline: name of the system that all others are compared with; None for every pair.
        metrics: by default those of :data:`rad3d.metrics.registry.PRIMARY` that all were scored
            with.
        resamples, seed: see :func:`compare`.
    """
    names = [card.name for card in cards]
    if len(set(names)) != len(names):
        raise BadRequest("Two scorecards have the same name.", code="duplicate_names")
    if baseline is None:
        pairs = list(combinations(cards, 2))
    elif baseline in names:
        first = cards[names.index(baseline)]
        pairs = [(first, card) for card in cards if card is not first]
    else:
        raise UnknownName("system", baseline, names)
    if metrics is None:
        metrics = [name for name in PRIMARY if all(name in card.estimates for card in cards)]
    return differences(pairs, metrics, resamples, seed)


def differences(
    pairs: Sequence[tuple[Scorecard, Scorecard]], metrics: Sequence[str], resamples: int, seed: int
) -> tuple[Difference, ...]:
    """All pairs in all metrics, with the p-values corrected for their number."""
    swaps = max(resamples, SWAPS_PER_COMPARISON * len(pairs) * len(metrics))
    found = [_difference(a, b, name, resamples, swaps, seed) for a, b in pairs for name in metrics]
    return corrected(found)


def corrected(found: Sequence[Difference]) -> tuple[Difference, ...]:
    """Differences with their p-values corrected for how many they are."""
    adjusted = holm([difference.p_randomisation for difference in found])
    return tuple(replace(d, p_adjusted=p) for d, p in zip(found, adjusted, strict=True))


def _difference(
    a: Scorecard, b: Scorecard, metric: str, resamples: int, swaps: int, seed: int
) -> Difference:
    if [case.id for case in a.cases] != [case.id for case in b.cases]:
        raise BadRequest(
            f"{a.name} and {b.name} were not scored on the same cases.",
            "Score both on one sample set.",
            code="different_cases",
        )
    rows_a, rows_b = a.rows(metric), b.rows(metric)
    if a.signature[metric] != b.signature[metric]:
        raise BadRequest(
            f"{metric} was computed in two ways: {a.signature[metric]} and {b.signature[metric]}.",
            "Score both again.",
            code="different_signatures",
        )
    test = paired_test(rows_a, rows_b, measure(metric).combine, resamples, swaps, seed)
    return Difference(
        metric=metric,
        a=a.name,
        b=b.name,
        value=test.value,
        low=test.low,
        high=test.high,
        p_bootstrap=test.p_bootstrap,
        p_randomisation=test.p_randomisation,
        p_adjusted=test.p_randomisation,
        n=test.n,
    )
