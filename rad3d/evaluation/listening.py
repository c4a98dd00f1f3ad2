"""Whether reports listen to their prior: what changes when one label of it is flipped.

Read from a variant's reports and from those under the ablation ``logit-flipped``, in which one
label of each case lies on the other side of its threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rad3d.data.samples import Prediction
from rad3d.evaluation.leaderboard import StudyView
from rad3d.evaluation.run_types import EvaluationRun
from rad3d.evaluation.system_names import PLUS
from rad3d.metrics.bootstrap import Estimate, estimate
from rad3d.metrics.measure import ratio, values_and_ones
from rad3d.reports.labeller import label_report

FLIPPED = "logit-flipped"

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
    labels = run.sample_sets[sample_set].label_set
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
    return {label: _of(found, run.request.draws) for label, found in rows.items() if found}


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
    return f"{e.value:.0%} [{e.low:.0%}, {e.high:.0%}], {e.n}"


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
