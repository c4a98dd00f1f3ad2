"""Compares what two reports state, finding by finding, with the sentences as evidence.

A finding that both state earns half a point for being there and half for the share of the
reference's details (place, size, severity) that the prediction gets right; without such details it
earns the whole point. The score is the F1 of these points: twice their sum over the findings of
both reports. Unlike word overlap it does not change when sentences change places, and it falls when
a finding is denied, moved, added or left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from rad3d.core.findings import FINDING_NAMES, SEVERITIES, Finding
from rad3d.core.types import FloatArray
from rad3d.metrics.bootstrap import Combine
from rad3d.metrics.cases import Cases
from rad3d.metrics.measure import Measure, ratio
from rad3d.reports.labeller import REVISION, Mention

KINDS: tuple[str, ...] = (
    "matched",
    "omitted",
    "hallucinated",
    "wrong_place",
    "wrong_size",
    "contradictory",
)
"""Outcomes of matching a finding. ``wrong_size`` also means a severity two steps off."""

SIZE_TOLERANCE_MM = 3.0
SIZE_TOLERANCE = 0.3
"""A size is right within 3 mm or 30% of the reference, whichever is more."""


_QUALIFIED = re.compile(
    r"\b(?:other|apart|aside|except|besides|further|additional|new|newly|enlarged|patholog\w*"
    r"|suspicious|significant\w*|sizable|mass|infiltrat\w*)\b"
)
"""Denials that leave room for the finding: "no pathologic lymph node", "apart from this none"."""


@dataclass(frozen=True)
class Match:
    """The outcome of matching one finding.

    Attributes:
        kind: one of :data:`KINDS`.
        label: the finding.
        reference_sentence: where the reference states it; empty where it does not.
        prediction_sentence: where the prediction states or denies it.
        detail: how the two differ, in a few words.
        credit: points earned, 0 to 1.
    """

    kind: str
    label: str
    reference_sentence: str = ""
    prediction_sentence: str = ""
    detail: str = ""
    credit: float = 0.0


@dataclass(frozen=True)
class Stated:
    """One finding as one report states or denies it, gathered from all its sentences.

    ``firm`` is False for denials that all leave room for the finding.
    """

    label: str
    sides: frozenset[str] = frozenset()
    sites: frozenset[str] = frozenset()
    size_mm: float | None = None
    severity: str | None = None
    sentence: str = ""
    firm: bool = True


@dataclass(frozen=True)
class Statement:
    """The findings that a report asserts or denies, by label."""

    present: dict[str, Stated] = field(default_factory=dict)
    denied: dict[str, Stated] = field(default_factory=dict)


def statement_of(mentions: Iterable[Mention]) -> Statement:
    """Gather the mentions of a report."""
    groups: dict[bool, dict[str, list[Mention]]] = {True: {}, False: {}}
    for mention in mentions:
        groups[mention.present].setdefault(mention.label, []).append(mention)
    present, denied = (
        {label: _gathered(label, statements) for label, statements in groups[key].items()}
        for key in (True, False)
    )
    return Statement(present, denied)


def _gathered(label: str, mentions: Sequence[Mention]) -> Stated:
    firm = [m for m in mentions if m.present or not _QUALIFIED.search(m.sentence.lower())]
    mentions = firm or mentions
    sizes = [m.size_mm for m in mentions if m.size_mm is not None]
    return Stated(
        label,
        frozenset(side for m in mentions for side in _sides(m.side)),
        frozenset(site for m in mentions for site in m.sites),
        max(sizes, default=None),
        max((m.severity for m in mentions if m.severity), key=SEVERITIES.index, default=None),
        mentions[0].sentence,
        bool(firm),
    )


def known_statement(findings: Iterable[Finding], mentions: Iterable[Mention]) -> Statement:
    """The statement of known findings, with the reference's sentences as evidence."""
    written = statement_of(mentions)
    present = {
        f.label: Stated(
            f.label,
            frozenset(_sides(f.side)),
            frozenset(f.sites),
            None if f.size_mm is None else float(f.size_mm),
            f.severity,
            written.present[f.label].sentence if f.label in written.present else "",
        )
        for f in findings
    }
    denied = {name: each for name, each in written.denied.items() if name not in present}
    return Statement(present, denied)


def _sides(side: str | None) -> tuple[str, ...]:
    if side is None:
        return ()
    return ("left", "right") if side == "bilateral" else (side,)


def match_findings(reference: Statement, prediction: Statement) -> tuple[Match, ...]:
    """Match the findings of two reports; one outcome for each, in the order of the labels."""
    return tuple(_matches(reference, prediction))


def _matches(reference: Statement, prediction: Statement) -> Iterator[Match]:
    for label in dict.fromkeys((*FINDING_NAMES, *reference.present, *prediction.present)):
        true, said = reference.present.get(label), prediction.present.get(label)
        denied = prediction.denied.get(label)
        if true and said:
            if denied and label not in reference.denied and _contradicts(denied, said):
                yield Match(
                    "contradictory", label, true.sentence, denied.sentence,
                    f"also states it: {said.sentence}",
                )  # fmt: skip
            else:
                yield _compared(true, said)
        elif true and denied and _contradicts(denied, true):
            yield Match("contradictory", label, true.sentence, denied.sentence, "denies it")
        elif true:
            yield Match("omitted", label, true.sentence)
        elif said:
            evidence = reference.denied.get(label)
            detail = "the reference denies it" if evidence else "the reference does not mention it"
            sentence = evidence.sentence if evidence else ""
            yield Match("hallucinated", label, sentence, said.sentence, detail)


def _contradicts(denied: Stated, stated: Stated) -> bool:
    """Return whether a firm denial may concern the same place; an unstated side is any side."""
    one_place = not denied.sides or not stated.sides or bool(denied.sides & stated.sides)
    return denied.firm and one_place


def _compared(true: Stated, said: Stated) -> Match:
    """Compare the details of a finding that both reports state."""
    right: list[bool] = []
    wrong_place = wrong_size = ""
    if true.sides:
        right.append(true.sides == said.sides)
        if said.sides and not right[-1]:
            wrong_place = f"{_words(said.sides)} instead of {_words(true.sides)}"
    if true.sites:
        right.append(_overlap(true.sites, said.sites) >= 0.5)
        if said.sites and not right[-1] and not wrong_place:
            wrong_place = f"{_words(said.sites)} instead of {_words(true.sites)}"
    if true.size_mm is not None:
        tolerance = max(SIZE_TOLERANCE_MM, SIZE_TOLERANCE * true.size_mm)
        right.append(said.size_mm is not None and abs(said.size_mm - true.size_mm) <= tolerance)
        if said.size_mm is not None and not right[-1]:
            wrong_size = f"{said.size_mm:g} mm instead of {true.size_mm:g} mm"
    if true.severity is not None:
        right.append(said.severity == true.severity)
        if {said.severity, true.severity} == {SEVERITIES[0], SEVERITIES[-1]}:
            wrong_size = wrong_size or f"{said.severity} instead of {true.severity}"
    kind = "wrong_place" if wrong_place else "wrong_size" if wrong_size else "matched"
    credit = 0.5 + 0.5 * sum(right) / len(right) if right else 1.0
    detail = "; ".join(filter(None, (wrong_place, wrong_size)))
    return Match(kind, true.label, true.sentence, said.sentence, detail, credit)


def _overlap(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b)


def _words(parts: frozenset[str]) -> str:
    return " and ".join(sorted(parts))


def statements(cases: Cases, row: int) -> tuple[Statement, Statement]:
    """Return the statements of the reference and of the prediction of a case."""
    sample = cases.samples[row]
    mentions = cases.reference_mentions[row]
    known = sample.findings
    reference = statement_of(mentions) if known is None else known_statement(known, mentions)
    return reference, statement_of(cases.text_mentions[row])


def matches_of(cases: Cases) -> tuple[tuple[Match, ...], ...]:
    """Apply :func:`match_findings` to every case."""
    return tuple(match_findings(*statements(cases, row)) for row in range(cases.n))


_COLUMNS = ("credit", "true", "said", "side_right", "side_stated", "reports", *KINDS)


def _collect(cases: Cases) -> FloatArray:
    rows = np.zeros((cases.n, len(_COLUMNS)))
    for i in range(cases.n):
        reference, prediction = statements(cases, i)
        for match in match_findings(reference, prediction):
            rows[i, 0] += match.credit
            rows[i, 1] += match.kind != "hallucinated"
            # To deny what is there is a statement as well, and a wrong one.
            rows[i, 2] += match.kind != "omitted"
            rows[i, _COLUMNS.index(match.kind)] += 1
            true, said = (s.present.get(match.label) for s in (reference, prediction))
            if true and said and true.sides:
                rows[i, 3] += true.sides == said.sides
                rows[i, 4] += 1
        rows[i, 5] = 1
    return rows


def _f1(sums: FloatArray) -> FloatArray:
    both = sums[..., 1] + sums[..., 2]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(both > 0, 2 * sums[..., 0] / both, np.nan)


def _column_ratio(numerator: str, denominator: str) -> Combine:
    above, below = _COLUMNS.index(numerator), _COLUMNS.index(denominator)
    return lambda sums: ratio(sums, above, below)


def _measure(name: str, combine: Combine) -> Measure:
    return Measure("findings", _collect, combine, lambda: f"{name}|labeller:{REVISION}")


FACTUALITY = _measure("factuality|f1|half for presence, half for details", _f1)
FACTUALITY_PRECISION = _measure("factuality|precision", _column_ratio("credit", "said"))
FACTUALITY_RECALL = _measure("factuality|recall", _column_ratio("credit", "true"))
SIDE = _measure("side|right over stated", _column_ratio("side_right", "side_stated"))
HALLUCINATED = _measure("hallucinated|per report", _column_ratio("hallucinated", "reports"))
OMITTED = _measure("omitted|per report", _column_ratio("omitted", "reports"))
CONTRADICTORY = _measure("contradictory|per report", _column_ratio("contradictory", "reports"))
WRONG_PLACE = _measure("wrong place|per report", _column_ratio("wrong_place", "reports"))
WRONG_SIZE = _measure("wrong size|per report", _column_ratio("wrong_size", "reports"))


def _collect_silence(cases: Cases) -> FloatArray:
    """Count findings of the classifier that the report does not mention, and reports: (N, 2)."""
    rows = np.zeros((cases.n, 2))
    for i, (prediction, mentions) in enumerate(
        zip(cases.predictions, cases.text_mentions, strict=True)
    ):
        if prediction.seen is not None and not prediction.failure:
            rows[i] = len(set(prediction.seen) - {m.label for m in mentions}), 1
    return rows


NOT_MENTIONED = Measure(
    "silence", _collect_silence, ratio, lambda: f"not mentioned|per report|labeller:{REVISION}"
)
