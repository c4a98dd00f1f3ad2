"""HTML of the cases: the list, and one case with reference and report side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rad3d.data.samples import Prediction, Sample
from rad3d.metrics.scorecard import CaseScore, Scorecard
from rad3d.ui.html import evaluation_html

ORDERS: dict[str, str] = {
    "set": "As in the set",
    "worst": "Worst first",
    "best": "Best first",
    "invented": "Most invented first",
}

_ERRORS = ("omitted", "hallucinated", "wrong_place", "wrong_size", "contradictory")


def ordered_ids(card: Scorecard, order: str, label: str = "") -> list[str]:
    """Return the ids of the cases to list, in order.

    Args:
        card: scorecard of a system on a set.
        order: a key of :data:`ORDERS`.
        label: only cases in which the reference or the report states it; empty for all.
    """
    cases = [case for i, case in enumerate(card.cases) if not label or label_state(card, i, label)]
    if order == "invented":
        cases.sort(key=lambda case: -case.values.get("hallucinated", 0.0))
    elif order in ("worst", "best"):
        sign = 1 if order == "worst" else -1
        cases.sort(key=lambda case: sign * case.values.get("factuality", sign * 2.0))
    return [case.id for case in cases]


def label_state(card: Scorecard, row: int, label: str) -> str:
    """Tell if a label was matched, invented or omitted; empty where neither report states it."""
    counts = card.statistics.get("labels")
    names = list(card.per_label)
    if counts is None or label not in names:
        return ""
    at = np.arange(3) * len(names) + names.index(label)
    hit, false, omitted = counts[row, at] > 0
    return "matched" if hit else "invented" if false else "omitted" if omitted else ""


def case_list(card: Scorecard, ids: Sequence[str], chosen: str, label: str = "") -> str:
    """Return the cases as buttons with their scores."""
    rows = {case.id: i for i, case in enumerate(card.cases)}
    items = [
        (
            card.cases[rows[id_]],
            id_ == chosen,
            label_state(card, rows[id_], label) if label else None,
        )
        for id_ in ids
    ]
    return evaluation_html("case_list", items=items, n=card.n, errors=_ERRORS)


def case_view(
    sample: Sample,
    prediction: Prediction,
    score: CaseScore,
    place: tuple[int, int],
    system: str,
) -> str:
    """Return reference and report side by side, and what became of every finding.

    Args:
        sample, prediction: the case.
        score: its findings and figures.
        place: position in the list, from 1, and length of the list.
        system: shown name.
    """
    figures = {"Factuality": "factuality", "Label F1": "f1_micro", "ROUGE-L": "hf_rouge_l"}
    return evaluation_html(
        "case_view",
        sample=sample,
        prediction=prediction,
        score=score,
        place=place,
        system=system,
        shown={
            name: f"{score.values[metric]:.2f}"
            for name, metric in figures.items()
            if metric in score.values
        },
    )
