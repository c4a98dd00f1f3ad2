"""Tests of the variants against baselines and ablations, and of runs against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rad3d.evaluation.run_types import EvaluationRun, Key, Verdict
from rad3d.evaluation.system_names import CONTROLS, PLUS, system_of
from rad3d.metrics.bootstrap import span
from rad3d.metrics.compare import Difference, compare_all, differences
from rad3d.metrics.registry import PRIMARY, metric_row
from rad3d.metrics.scorecard import Scorecard


def verdicts(
    cards: Mapping[Key, Scorecard], variants: Sequence[str], resamples: int, seed: int
) -> tuple[Verdict, ...]:
    """Test every compared system against every ablation and baseline, set by set.

    Args:
        cards: of a run.
        variants: names of the variants and of files of predictions.
        resamples, seed: of the paired tests.

    Compared are the metrics of :data:`rad3d.metrics.registry.PRIMARY`. The correction is over all
    systems and metrics that are compared with the same baseline or ablation on the same set.
    """
    tests: list[Verdict] = []
    for sample_set in dict.fromkeys(name for _, name in cards):
        ours = [cards[v, sample_set] for v in variants if (v, sample_set) in cards]
        for control in CONTROLS.values():
            tests += _against(control.id, sample_set, ours, cards, resamples, seed)
    return tuple(tests)


def _against(
    control: str,
    sample_set: str,
    ours: Sequence[Scorecard],
    cards: Mapping[Key, Scorecard],
    resamples: int,
    seed: int,
) -> Iterator[Verdict]:
    pairs = [
        (cards[name, sample_set], card)
        for card in ours
        for name in _controls_of(card.name, control)
        if (name, sample_set) in cards
    ]
    for difference in _corrected(pairs, resamples, seed):
        beats = difference.better == difference.b
        yield Verdict(
            difference.b, difference.a, sample_set, difference, beats, _sentence(difference)
        )


def _controls_of(system: str, control: str) -> tuple[str, ...]:
    """The ids that a control may have for a system: its own, or that of its encoder."""
    if CONTROLS[control].per_variant:
        return (f"{system}{PLUS}{control}",)
    encoder = system_of(system, {}).encoder
    return (f"{control} ({encoder})" if encoder else control,)


def _corrected(
    pairs: Sequence[tuple[Scorecard, Scorecard]], resamples: int, seed: int
) -> tuple[Difference, ...]:
    """Return the differences of all pairs, corrected for their number."""
    shared = [m for m in PRIMARY if all(m in c.estimates for pair in pairs for c in pair)]
    return differences(pairs, shared, resamples, seed)


def _sentence(d: Difference) -> str:
    says = "beats" if d.better == d.b else "does worse than" if d.better == d.a else "does not beat"
    return (
        f"{d.b} {says} {d.a} in {metric_row(d.metric).name}: {d.value:+.3f} "
        f"{span(d.low, d.high, '+.3f')}, corrected p {d.p_adjusted:.3g}, n {d.n}."
    )


def compare_runs(
    a: EvaluationRun, b: EvaluationRun, *, resamples: int = 1000, seed: int = 0
) -> tuple[tuple[str, Difference], ...]:
    """Compare the systems that two runs share: (set, run b minus run a).

    Only sets of which both runs evaluated the same cases; the correction is over everything.
    """
    pairs: list[tuple[str, tuple[Scorecard, Scorecard]]] = []
    for (system, sample_set), card in b.cards.items():
        other = a.cards.get((system, sample_set))
        if other and [c.id for c in other.cases] == [c.id for c in card.cases]:
            named = (
                replace(other, name=f"{system} in {a.id}"),
                replace(card, name=f"{system} in {b.id}"),
            )
            pairs.append((sample_set, named))
    rows = _corrected([pair for _, pair in pairs], resamples, seed)
    per_pair = len(rows) // len(pairs) if pairs else 0
    return tuple((pairs[i // per_pair][0], difference) for i, difference in enumerate(rows))


def compare_systems(
    run: EvaluationRun, sample_set: str, baseline: str | None = None, *, resamples: int, seed: int
) -> tuple[Difference, ...]:
    """Compare the systems of one run on one set, every pair or all with a baseline."""
    cards = [card for (_, name), card in run.cards.items() if name == sample_set]
    return compare_all(cards, baseline=baseline, resamples=resamples, seed=seed)
