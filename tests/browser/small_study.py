"""A small study without models: phantom reports, and systems that get a known share of them right.

Scored by the real :func:`rad3d.metrics.scorecard.score`, so that what the page shows is what it
would show of real systems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rad3d.core.findings import Finding, Truth
from rad3d.data.samples import Prediction, PredictionSet, Sample, SampleSet
from rad3d.metrics.scorecard import Scorecard, score
from rad3d.synthetic.grammar import write_report
from rad3d.synthetic.truth import draw_truth

SETS = {"phantom-in": ("in", 30_000), "phantom-out": ("out", 40_000)}

SKILL = {
    "phantom-s/v1": 0.80, "phantom-s/v3": 0.78, "phantom-s/linear": 0.62,
    "phantom-m/v1": 0.80, "phantom-m/v3": 0.83, "phantom-m/linear": 0.64,
    "phantom-l/v3": 0.88, "phantom-l/v3+logits-only": 0.82, "phantom-l/v3+image-shuffled": 0.25,
    "lookup": 0.84, "majority": 0.2,
}  # fmt: skip
"""System -> share of the findings that its reports state; out of domain it is 0.2 less."""


def small_set(name: str, n: int) -> SampleSet:
    """``n`` phantoms of one domain with their reports and truth; nothing is rendered."""
    domain, first = SETS[name]
    truths = [draw_truth(first + i, domain) for i in range(n)]
    samples = tuple(
        Sample(
            id=f"{domain}-{truth.seed:06d}",
            reference=write_report(truth).text,
            labels=truth.labels(),
            findings=truth.findings,
            scan=f"phantom:{domain}:{truth.seed}",
        )
        for truth in truths
    )
    shown = {"in": "Phantoms, in domain", "out": "Phantoms, out of domain"}[domain]
    return SampleSet(name, shown, samples, domain=domain, licence="Apache-2.0")


def written(system: str, samples: SampleSet) -> PredictionSet:
    """What a system of known skill writes; the third case fails for the weakest system."""
    skill = SKILL[system] - (0.2 if samples.domain == "out" else 0.0)
    predictions = []
    for i, sample in enumerate(samples.samples):
        seed = int(sample.id.split("-")[1])
        rng = np.random.default_rng([seed, sum(system.encode())])
        truth = Truth(seed, samples.domain, _seen(sample.findings or (), skill, rng, samples))
        text = write_report(truth, seed=seed + 7).text
        failure = "the model ran out of memory" if system == "majority" and i == 2 else ""
        predictions.append(Prediction(sample.id, text, failure, 0.4, "end"))
    return PredictionSet(system, samples.id, tuple(predictions), {"date": "2026-11-24"})


def _seen(
    findings: tuple[Finding, ...], skill: float, rng: np.random.Generator, samples: SampleSet
) -> tuple[Finding, ...]:
    """Some findings left out, some on the other side, some invented."""
    other = {"left": "right", "right": "left"}
    kept = [f for f in findings if rng.random() < skill]
    kept = [
        replace(f, side=other[f.side])
        if f.side in other and not f.sites and rng.random() < 0.3
        else f
        for f in kept
    ]
    names = {f.label for f in findings}
    pool = [f for s in samples.samples for f in s.findings or () if f.label not in names]
    if pool and rng.random() > skill:
        kept.append(pool[int(rng.integers(len(pool)))])
    return tuple(kept)


def small_cards(
    n: int = 24,
    resamples: int = 200,
    systems: Sequence[str] = tuple(SKILL),
    names: Sequence[str] = tuple(SETS),
) -> tuple[
    dict[str, SampleSet],
    dict[tuple[str, str], PredictionSet],
    dict[tuple[str, str], Scorecard],
]:
    """Sample sets, predictions and scorecards; the keys are (system, set)."""
    sets = {name: small_set(name, n) for name in names}
    predictions = {(s, name): written(s, sets[name]) for s in systems for name in names}
    cards = {
        key: score(sets[key[1]], each, resamples=resamples) for key, each in predictions.items()
    }
    return sets, predictions, cards
