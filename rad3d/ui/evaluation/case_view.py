"""HTML of single cases: which ones there are, and reference and report side by side.

What became of a finding is told by a sign, a word and a line style; colour only adds to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from rad3d.core.labels import LABEL_INDEX, N_LABELS
from rad3d.data.samples import Prediction, Sample
from rad3d.metrics.scorecard import CaseScore, Match, Scorecard
from rad3d.reports.sections import split_report


@dataclass(frozen=True)
class Kind:
    """What can become of a finding: how it is called, and its sign."""

    name: str
    sign: str
    about: str


KINDS: dict[str, Kind] = {
    "matched": Kind("matched", "✓", "both state it, with details that agree"),
    "omitted": Kind("missed", "−", "only the reference states it"),
    "hallucinated": Kind("invented", "+", "only the report states it"),
    "wrong_place": Kind("wrong place", "↔", "wrong side or wrong site"),
    "wrong_size": Kind("wrong size", "±", "wrong size, or mild instead of severe"),
    "contradictory": Kind("contradicted", "≠", "there, and denied"),
}

_SEVERITY = ("contradictory", "hallucinated", "wrong_place", "wrong_size", "omitted", "matched")
"""Which kind colours a sentence that holds several."""

ORDERS: dict[str, str] = {
    "set": "As in the set",
    "worst": "Worst first",
    "best": "Best first",
    "invented": "Most invented first",
}

_ERRORS = ("omitted", "hallucinated", "wrong_place", "wrong_size", "contradictory")


def ordered_ids(card: Scorecard, order: str, label: str = "") -> list[str]:
    """Ids of the cases to list.

    Args:
        card: of a system on a set.
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
    """``"found"``, ``"invented"`` or ``"missed"``; empty where neither report states the label."""
    counts = card.statistics.get("labels")
    if counts is None:
        return ""
    at = np.arange(3) * N_LABELS + LABEL_INDEX[label]
    hit, false, missed = counts[row, at] > 0
    return "found" if hit else "invented" if false else "missed" if missed else ""


def case_list(card: Scorecard, ids: Sequence[str], chosen: str, label: str = "") -> str:
    """The cases as buttons with their scores."""
    if not ids:
        return '<p class="r3-fine">No case of this choice.</p>'
    rows = {case.id: i for i, case in enumerate(card.cases)}
    items = "".join(_item(card, rows[id_], id_ == chosen, label) for id_ in ids)
    return (
        f'<p class="r3-count">{len(ids)} of {card.n} cases, with the factuality of each</p>'
        f'<div class="r3-cases" role="listbox" tabindex="-1" aria-label="Cases">{items}</div>'
    )


def _item(card: Scorecard, row: int, chosen: bool, label: str) -> str:
    case = card.cases[row]
    score = case.values.get("factuality")
    shown = "–" if score is None else f"{score:.2f}"
    signs = "".join(
        f'<b class="{kind}" title="{escape(KINDS[kind].name)}">{KINDS[kind].sign}{n}</b>'
        for kind in _ERRORS
        if (n := int(case.values.get(kind, 0)))
    )
    state = f"<em>{label_state(card, row, label)}</em>" if label else ""
    return (
        f'<button type="button" role="option" aria-selected="{str(chosen).lower()}" '
        f'data-case="{escape(case.id, quote=True)}"><span>{escape(case.id)}</span>'
        f'<span title="Factuality of this case">{shown}</span>'
        f'<span class="r3-signs">{state}{signs or "<b class=matched>✓</b>"}</span></button>'
    )


def legend() -> str:
    """What the signs mean."""
    items = "".join(
        f'<li><mark class="{key}">{kind.sign} {escape(kind.name)}</mark> {escape(kind.about)}</li>'
        for key, kind in KINDS.items()
    )
    return f'<ul class="r3-kinds" aria-label="Legend">{items}</ul>'


def case_view(
    sample: Sample,
    prediction: Prediction,
    score: CaseScore,
    place: tuple[int, int],
    system: str,
) -> str:
    """Reference and generated report side by side, and what became of every finding.

    Args:
        sample, prediction: the case.
        score: its findings and figures.
        place: position in the list, from 1, and length of the list.
        system: shown name.
    """
    shown = [
        ("Factuality", score.values.get("factuality")),
        ("Label F1", score.values.get("f1_micro")),
        ("ROUGE-L", score.values.get("hf_rouge_l")),
    ]
    scores = "".join(
        f"<div><dt>{name}</dt><dd>{value:.2f}</dd></div>"
        for name, value in shown
        if value is not None
    )
    return (
        f'<header class="r3-case-head"><h3>{escape(sample.id)} <small>{place[0]} of {place[1]}'
        f"</small></h3><dl>{scores}</dl></header>"
        '<div class="r3-pair">'
        + _report("Reference", sample.reference, score.findings, "reference_sentence")
        + _generated(system, prediction, score.findings)
        + "</div>"
        + legend()
        + _findings(score.findings)
    )


def _generated(system: str, prediction: Prediction, findings: Sequence[Match]) -> str:
    if prediction.failure:
        return (
            f'<section class="r3-text"><h4>{escape(system)}</h4><div class="r3-notice error">'
            f"No report: {escape(prediction.failure)}. It is scored as empty text.</div></section>"
        )
    return _report(system, prediction.text, findings, "prediction_sentence")


def _report(title: str, text: str, findings: Sequence[Match], side: str) -> str:
    parts = split_report(text)
    body = "".join(
        f"<h5>{name}</h5><p>{_marked(part, findings, side)}</p>"
        for name, part in (("Findings", parts.findings), ("Impression", parts.impression))
        if part
    )
    empty = '<p class="r3-fine">Empty.</p>'
    return f'<section class="r3-text"><h4>{escape(title)}</h4>{body or empty}</section>'


def _marked(text: str, findings: Sequence[Match], side: str) -> str:
    """The text, escaped, with each sentence that states a finding marked and signed."""
    by_sentence: dict[str, list[Match]] = {}
    for match in findings:
        if sentence := getattr(match, side):
            by_sentence.setdefault(sentence, []).append(match)
    places = sorted((at, sentence) for sentence in by_sentence if (at := text.find(sentence)) >= 0)
    pieces: list[str] = []
    end = 0
    for at, sentence in places:
        if at < end:
            continue
        pieces.append(escape(text[end:at]))
        pieces.append(_mark(sentence, by_sentence[sentence], side))
        end = at + len(sentence)
    pieces.append(escape(text[end:]))
    return "".join(pieces).replace("\n", "<br>")


def _mark(sentence: str, matches: Sequence[Match], side: str) -> str:
    kinds = {match.kind for match in matches}
    worst = next(kind for kind in _SEVERITY if kind in kinds)
    signs = "".join(
        f'<sup class="{m.kind}" title="{escape(_hint(m), quote=True)}">'
        f"{KINDS[m.kind].sign}&nbsp;{escape(m.label)}</sup>"
        for m in matches
        if side == "prediction_sentence" or m.kind != "hallucinated"
    )
    return f'<mark class="{worst}">{escape(sentence)}</mark>{signs}'


def _hint(match: Match) -> str:
    return f"{KINDS[match.kind].name}{f': {match.detail}' if match.detail else ''}"


def _findings(findings: Sequence[Match]) -> str:
    """Every finding with its verdict as a table."""
    if not findings:
        return '<p class="r3-fine">Neither report states a finding.</p>'
    rows = "".join(
        f'<tr><th scope="row">{escape(m.label)}</th>'
        f'<td><mark class="{m.kind}">{KINDS[m.kind].sign} {KINDS[m.kind].name}</mark></td>'
        f"<td>{escape(m.detail)}</td></tr>"
        for m in sorted(findings, key=lambda m: _SEVERITY.index(m.kind))
    )
    return (
        '<div class="r3-scroll"><table class="r3-verdicts"><thead><tr><th scope="col">Finding</th>'
        '<th scope="col">What became of it</th><th scope="col">How they differ</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
