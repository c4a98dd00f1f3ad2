"""Results of a reader study: means, paired differences, agreement, preferences and times.

A reader's mean is over the reports that the reader has rated; the figure is the mean over readers,
so that each counts the same. Intervals resample readers and cases together (two-level bootstrap),
differences the same ones for both systems, and on the scans on which a reader rated both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from rad3d.core.plain import Number
from rad3d.core.types import FloatArray
from rad3d.metrics.bootstrap import Estimate, estimate, holm, paired_test
from rad3d.metrics.compare import SIGNIFICANT
from rad3d.metrics.measure import ratio, values_and_ones
from rad3d.readers.agreement import alpha
from rad3d.readers.preferences import Preferences, preferences
from rad3d.readers.types import QUESTIONS, Rating, Study


@dataclass(frozen=True)
class Gap:
    """The difference of system ``b`` from system ``a`` on one question.

    Attributes:
        question: its id.
        a, b: the systems.
        value, low, high: mean of b minus mean of a, with its 95% interval.
        p_adjusted: two-sided, by bootstrap, Holm-corrected over all differences of the study.
        pairs: scans on which a reader rated both, which alone count; 0 where a reader has none, and
            all that was rated counts.
    """

    question: str
    a: str
    b: str
    value: Number
    low: Number
    high: Number
    p_adjusted: Number
    pairs: int

    @property
    def better(self) -> str:
        """The better system where the difference is significant, else empty."""
        if not self.p_adjusted < SIGNIFICANT:
            return ""
        up = next(q.higher_is_better for q in QUESTIONS if q.id == self.question)
        return self.b if (self.value > 0) == up else self.a


@dataclass(frozen=True)
class Results:
    """The results of a study.

    Attributes:
        study: which.
        readers: who have rated at least one report.
        counted: of these, those who have rated a report of every system: the others are left out
            of means and differences.
        cases: with at least one rating.
        ratings: reports rated.
        means: question -> system -> mean.
        differences: of every pair of systems on every question.
        agreement: question -> Krippendorff's ordinal alpha, with its interval over cases.
        preferences: None where nobody was asked for one.
        seconds: system -> median time on one report.
        resamples, seed: of the bootstrap.
    """

    study: Study
    readers: int
    counted: int
    cases: int
    ratings: int
    means: Mapping[str, Mapping[str, Estimate]]
    differences: tuple[Gap, ...]
    agreement: Mapping[str, Estimate]
    preferences: Preferences | None
    seconds: Mapping[str, float]
    resamples: int
    seed: int


def results_of(
    study: Study, ratings: Sequence[Rating], resamples: int = 1000, seed: int = 0
) -> Results:
    """Compute the results; without ratings every figure is absent."""
    readers = sorted({rating.reader for rating in ratings})
    cases = sorted({rating.case for rating in ratings})
    scores = {q.id: _scores(ratings, readers, cases, study.systems, q.id) for q in QUESTIONS}
    rated = ~np.isnan(scores[QUESTIONS[0].id])
    whole = np.all(rated.any(axis=1), axis=1)
    means = {
        question: {
            system: estimate(_rows(each[whole, :, i]), ratio, resamples, seed)
            for i, system in enumerate(study.systems)
        }
        for question, each in scores.items()
        if whole.any()
    }
    return Results(
        study,
        len(readers),
        int(whole.sum()),
        len(cases),
        len(ratings),
        means,
        _differences(study, {q: s[whole] for q, s in scores.items()}, resamples, seed),
        {q.id: alpha(scores[q.id], len(q.choices), resamples, seed) for q in QUESTIONS},
        preferences(ratings, study.systems, resamples, seed),
        {
            system: float(np.median([r.answer.seconds for r in ratings if r.system == system]))
            for system in study.systems
            if any(r.system == system for r in ratings)
        },
        resamples,
        seed,
    )


def _scores(
    ratings: Sequence[Rating],
    readers: Sequence[int],
    cases: Sequence[str],
    systems: Sequence[str],
    question: str,
) -> FloatArray:
    """(R, N, S) scores, NaN where there is none."""
    row, column = ({each: i for i, each in enumerate(names)} for names in (readers, cases))
    found = np.full((len(readers), len(cases), len(systems)), np.nan)
    for rating in ratings:
        place = (row[rating.reader], column[rating.case], systems.index(rating.system))
        found[place] = rating.answer.scores[question]
    return found


def _rows(scores: FloatArray) -> FloatArray:
    """(R, N) scores -> (R, N, 2) statistics, readers in the place of seeds."""
    return np.stack([values_and_ones(of_reader) for of_reader in scores])


def _differences(
    study: Study, scores: Mapping[str, FloatArray], resamples: int, seed: int
) -> tuple[Gap, ...]:
    gaps, p_values = [], []
    for question, each in scores.items():
        if not len(each):
            continue
        for i, j in combinations(range(len(study.systems)), 2):
            both = ~np.isnan(each[:, :, i] + each[:, :, j])
            paired = bool(both.any(axis=1).all())
            a, b = (_rows(np.where(both | (not paired), each[:, :, k], np.nan)) for k in (i, j))
            test = paired_test(a, b, ratio, resamples, resamples, seed)
            p_values.append(test.p_bootstrap)
            names = study.systems[i], study.systems[j]
            pairs = int(both.sum()) if paired else 0
            gaps.append(Gap(question, *names, test.value, test.low, test.high, 1.0, pairs))
    adjusted = holm(p_values)
    return tuple(replace(gap, p_adjusted=p) for gap, p in zip(gaps, adjusted, strict=True))
