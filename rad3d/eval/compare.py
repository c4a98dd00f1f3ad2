"""Differences between systems on the same cases, with intervals and corrected p-values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from rad3d.errors import BadRequest, UnknownName
from rad3d.eval.registry import measure, metric_row
from rad3d.eval.resampling import holm, paired_test
from rad3d.eval.scorecard import Scorecard

SIGNIFICANT = 0.05
"""A difference counts where its adjusted p-value is below this."""


@dataclass(frozen=True)
class Difference:
    """How system ``b`` differs from system ``a`` in one metric.

    Attributes:
        metric: a key of :data:`rad3d.eval.registry.METRICS`.
        a, b: names of the systems.
        value: figure of b minus figure of a.
        low, high: its 95% paired bootstrap interval.
        p_bootstrap, p_randomisation: two-sided, uncorrected.
        p_adjusted: ``p_randomisation`` after Holm's correction over all differences of the same
            call.
        n: cases.
    """

    metric: str
    a: str
    b: str
    value: float
    low: float
    high: float
    p_bootstrap: float
    p_randomisation: float
    p_adjusted: float
    n: int

    @property
    def significant(self) -> bool:
        """Whether the difference is more than chance after the correction."""
        return self.p_adjusted < SIGNIFICANT

    @property
    def better(self) -> str:
        """The name of the better system where the difference is significant, else empty."""
        if not self.significant:
            return ""
        return self.b if (self.value > 0) == metric_row(self.metric).higher_is_better else self.a


def compare(
    a: Scorecard,
    b: Scorecard,
    *,
    metrics: Sequence[str] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[Difference, ...]:
    """Compare two systems that were scored on the same cases.

    Args:
        a: the baseline.
        b: the system that is compared with it.
        metrics: by default all that both were scored with.
        draws: bootstrap draws, and random swaps.
        seed: of both.
    """
    return _corrected(_differences(a, b, metrics, draws, seed))


def compare_all(
    cards: Sequence[Scorecard],
    *,
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[Difference, ...]:
    """Compare several systems; the correction is over all pairs and metrics together.

    Args:
        cards: of the same cases, with different names.
        baseline: name of the system that all others are compared with; None for every pair.
        metrics, draws, seed: see :func:`compare`.
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
    found = [d for a, b in pairs for d in _differences(a, b, metrics, draws, seed)]
    return _corrected(found)


def _differences(
    a: Scorecard, b: Scorecard, metrics: Sequence[str] | None, draws: int, seed: int
) -> list[Difference]:
    if [case.id for case in a.cases] != [case.id for case in b.cases]:
        raise BadRequest(
            f"{a.name} and {b.name} were not scored on the same cases.",
            "Score both on one sample set.",
            code="different_cases",
        )
    names = metrics if metrics is not None else [m for m in a.estimates if m in b.estimates]
    found = []
    for name in names:
        rows_a, rows_b = a.rows(name), b.rows(name)
        if a.signature[name] != b.signature[name]:
            raise BadRequest(
                f"{name} was computed in two ways: {a.signature[name]} and {b.signature[name]}.",
                "Score both again.",
                code="different_signatures",
            )
        test = paired_test(rows_a, rows_b, measure(name).combine, draws, seed)
        found.append(
            Difference(
                name,
                a.name,
                b.name,
                test.value,
                test.low,
                test.high,
                test.p_bootstrap,
                test.p_randomisation,
                test.p_randomisation,
                test.n,
            )
        )
    return found


def _corrected(found: Sequence[Difference]) -> tuple[Difference, ...]:
    adjusted = holm([difference.p_randomisation for difference in found])
    return tuple(replace(d, p_adjusted=p) for d, p in zip(found, adjusted, strict=True))
