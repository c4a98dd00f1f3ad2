"""Whether reports listen to their prior: what changes when one label of it is flipped.

Read from a variant's reports and from those under the ablation ``logit-flipped``, in which one
label of each case lies on the other side of its threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from rad3d.core.labels import LabelSet
from rad3d.data.samples import Prediction, PredictionSet
from rad3d.evaluation.leaderboard import StudyView
from rad3d.evaluation.run_types import EvaluationRun
from rad3d.evaluation.storage import RUN_FILE, read_texts
from rad3d.evaluation.system_names import PLUS
from rad3d.metrics.bootstrap import Estimate, estimate, span
from rad3d.metrics.measure import ratio, values_and_ones
from rad3d.reports.labeller import label_report

FLIPPED = "logit-flipped"

RESAMPLES = 1000
"""Of the cases, behind the intervals of a run on disk."""

MOST_COLUMNS = 6
"""Variants in one table."""


@dataclass(frozen=True)
class Listening:
    """What a flipped label does to the reports.

    Attributes:
        changed: share of reports that are another text.
        followed: share of reports that state the label as the flipped prior has it.
    """

    changed: Estimate
    followed: Estimate


def listening(run: EvaluationRun, variant: str, sample_set: str) -> dict[str, Listening]:
    """Label -> what flipping it does, and ``""`` for all together; empty where none was flipped."""
    own = run.predictions.get((variant, sample_set))
    flipped = run.predictions.get((f"{variant}{PLUS}{FLIPPED}", sample_set))
    if own is None or flipped is None:
        return {}
    return _listening(own, flipped, run.sample_sets[sample_set].label_set, run.request.draws)


def stored_listening(directory: Path, variant: str, sample_set: str) -> dict[str, Listening]:
    """The same of a run on disk, of which only the variant's own file is read.

    It takes half a second for 200 reports, and is kept until the run is written again. Raises
    BadRequest where a file is damaged or the run has gone.
    """
    run = directory / RUN_FILE
    return _stored(directory, variant, sample_set, run.stat().st_mtime_ns if run.is_file() else 0)


@lru_cache(64)
def _stored(
    directory: Path, variant: str, sample_set: str, written_ns: int
) -> dict[str, Listening]:
    labels, texts = read_texts(directory, variant, sample_set)
    own, flipped = texts.get(variant), texts.get(f"{variant}{PLUS}{FLIPPED}")
    return {} if own is None or flipped is None else _listening(own, flipped, labels, RESAMPLES)


def _listening(
    own: PredictionSet, flipped: PredictionSet, labels: LabelSet, resamples: int
) -> dict[str, Listening]:
    before = {each.id: each for each in own.predictions}
    rows: dict[str, list[tuple[bool, bool]]] = {"": []}
    for after in flipped.predictions:
        label = _flipped_label(before.get(after.id), after)
        if label:
            says = bool(label_report(after.text, labels)[labels.index[label]])
            asked = label in (after.seen or ())
            row = (before[after.id].text != after.text, says == asked)
            rows.setdefault(label, []).append(row)
            rows[""].append(row)
    return {label: _of(found, resamples) for label, found in rows.items() if found}


def listening_table(
    run: EvaluationRun, view: StudyView, sample_set: str
) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table: all labels together, then the share that follows for each label.

    A column for each variant that was tried, of several seeds the first, the most pairs first; no
    rows where none was tried.
    """
    tried = sorted(
        (
            (view.systems[card.name], found)
            for card in view.on(sample_set, controls=False)
            if (found := listening(run, view.single(card.name), sample_set))
        ),
        key=lambda each: -each[0].pairs,
    )[:MOST_COLUMNS]
    if not tried:
        return [], []
    rows = [
        ["Reports that change", *(_share(found[""].changed) for _, found in tried)],
        ["Reports that follow", *(_share(found[""].followed) for _, found in tried)],
    ]
    for label in run.sample_sets[sample_set].label_set.names:
        if any(label in found for _, found in tried):
            cells = (_share(f[label].followed) if label in f else "–" for _, f in tried)
            rows.append([f"{label}, follow", *cells])
    return ["Label that is flipped", *(system.short for system, _ in tried)], rows


def _share(e: Estimate) -> str:
    return f"{e.value:.0%} {span(e.low, e.high, '.0%')}, {e.n}"


def _flipped_label(before: Prediction | None, after: Prediction) -> str:
    """The one label on which two priors differ; empty where there is none."""
    if before is None or before.seen is None or after.seen is None:
        return ""
    apart = set(before.seen) ^ set(after.seen)
    return apart.pop() if len(apart) == 1 else ""


def _of(rows: list[tuple[bool, bool]], resamples: int) -> Listening:
    shares = np.array(rows, dtype=np.float64).T
    changed, followed = (estimate(values_and_ones(each), ratio, resamples) for each in shares)
    return Listening(changed, followed)
