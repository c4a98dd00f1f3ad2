"""A study whose readers are drawn by a computer: shows the whole, and tests the statistics.

Every system is better than the one before by a known step, readers are strict or mild, and cases
hard or easy. The texts are true reports of phantoms and do not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np

from rad3d.core.errors import BadRequest
from rad3d.core.words import counted
from rad3d.data.sample_sets import SAMPLE_SETS
from rad3d.readers.order import screens_of
from rad3d.readers.store import MAX_READERS, RatingStore
from rad3d.readers.types import Answer, Case, Design, Preference, Screen, Study

SYSTEMS = ("simulated A", "simulated B", "simulated C")

_READER, _CASE, _NOISE, _INDIFFERENT = 0.3, 0.4, 0.6, 0.35
"""Standard deviations in points of the scale, and below which gap a reader sees no difference."""


def simulate(
    store: RatingStore, readers: int = 2, cases: int = 20, step: float = 0.6, seed: int = 0
) -> Study:
    """Store a simulated study with all its ratings, through the same calls as the page's.

    Args:
        store: keeps it.
        readers, cases: how many.
        step: by how many points each system is better than the one before.
        seed: of everything but the secrets.
    """
    split = SAMPLE_SETS["phantom-in"]
    if not 1 <= readers <= MAX_READERS or not 1 <= cases <= split.n:
        raise BadRequest(
            f"A simulation has 1 to {MAX_READERS} readers and 1 to {split.n} cases.",
            code="bad_option",
        )
    samples = split.sample_set(cases).samples
    design = Design(
        f"{counted(readers, 'reader')} x {counted(cases, 'case')}",
        SYSTEMS,
        tuple(
            Case(s.id, s.scan, s.reference, dict.fromkeys(SYSTEMS, s.reference)) for s in samples
        ),
        per_case=2,
        seed=seed,
        source={"a drawing with steps of": f"{step:g} points"},
        simulated=True,
    )
    study, _ = store.create(design)
    numbers = [store.reader(study, store.join(study)) for _ in range(readers)]
    for number, screen in drawn_answers(study, numbers, step):
        assert screen.answer is not None
        store.save(study, number, screen.position, screen.answer, 0)
    return store.study(study.id)


def drawn_answers(
    study: Study, readers: Sequence[int], step: float
) -> Iterator[tuple[int, Screen]]:
    """Yield the reader's number and the rated report, for everything that readers are asked.

    Args:
        study: its seed draws the answers as well.
        readers: their numbers.
        step: as for :func:`simulate`.
    """
    rng = np.random.default_rng(study.seed)
    hard = rng.normal(0, _CASE, study.cases)
    for number, strict in zip(readers, rng.normal(0, _READER, len(readers)), strict=True):
        before = 0.0
        for screen in screens_of(
            study.seed, number, study.cases, len(study.systems), study.per_case
        ):
            quality = 3 + step * (screen.system - 1) + hard[screen.case] + strict
            felt, style = quality + rng.normal(0, _NOISE, 2)
            scores = {
                "accuracy": _rounded(felt, 5),
                "language": _rounded(style + 0.5, 5),
                "harm": _rounded(4.6 - 0.8 * felt, 4),
            }
            preference = _preferred(felt - before) if screen.slot else ""
            seconds = round(float(rng.lognormal(4.0, 0.4)), 1)
            yield number, replace(screen, answer=Answer(scores, preference, "", seconds))  # type: ignore[arg-type]
            before = felt


def _rounded(value: float, most: int) -> int:
    return int(np.clip(round(value), 1, most))


def _preferred(gap: float) -> Preference:
    before, same, this = get_args(Preference)
    answer: Preference = same if abs(gap) < _INDIFFERENT else this if gap > 0 else before
    return answer
