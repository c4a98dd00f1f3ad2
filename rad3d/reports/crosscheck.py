"""Compares a report with the diagnosis of the same scan.

Silence counts: a finding that reaches its threshold and that the report does not mention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rad3d.core.types import Diagnosis
from rad3d.reports.labeller import Mention, find_mentions

Kind = Literal["asserted", "considered", "denied", "asserted_but_unlikely", "denied_but_likely"]
"""Ways in which a report treats a label; the last two contradict the diagnosis."""


@dataclass(frozen=True)
class Statement:
    """One place where the report speaks of a label of the diagnosis.

    Attributes:
        label: of the diagnosis.
        kind: what the report does with it.
        start, end: span of the words in the report's text.
        probability: of the label in the diagnosis, in [0, 1].
        likely: whether that reaches the label's threshold.
        edited: whether a person set it.
    """

    label: str
    kind: Kind
    start: int
    end: int
    probability: float
    likely: bool
    edited: bool = False

    @property
    def contradicts(self) -> bool:
        """True if the report and the diagnosis cannot both be right."""
        return self.kind in ("asserted_but_unlikely", "denied_but_likely")


@dataclass(frozen=True)
class Seen:
    """A label that reaches its threshold.

    Attributes:
        label: of the diagnosis.
        probability, threshold: of the classifier, in [0, 1].
    """

    label: str
    probability: float
    threshold: float


@dataclass(frozen=True)
class CrossCheck:
    """A report beside the diagnosis of the same scan.

    Attributes:
        statements: where the report speaks of a label, in the order of the text.
        seen: the labels that reach their threshold, likeliest first.
    """

    statements: tuple[Statement, ...]
    seen: tuple[Seen, ...]

    @property
    def contradictions(self) -> tuple[Statement, ...]:
        """The statements that contradict the diagnosis."""
        return tuple(item for item in self.statements if item.contradicts)

    @property
    def not_mentioned(self) -> tuple[Seen, ...]:
        """Labels above their threshold that the report does not mention in any way."""
        spoken = {item.label for item in self.statements}
        return tuple(item for item in self.seen if item.label not in spoken)

    @property
    def added(self) -> tuple[Statement, ...]:
        """Findings that the report states or considers below threshold, one for each label."""
        by_label: dict[str, Statement] = {}
        for item in self.statements:
            if not item.likely and item.kind in ("asserted_but_unlikely", "considered"):
                by_label.setdefault(item.label, item)
        return tuple(by_label.values())


def cross_check(text: str, diagnosis: Diagnosis) -> CrossCheck:
    """Every place where the text speaks of a label of the diagnosis, and what it leaves out.

    It contradicts where it asserts a label below its threshold, or denies one that reaches it. A
    finding that is only considered ("possible") contradicts nothing, and a denial that belongs
    to an assertion elsewhere ("right effusion; none on the left") does not either. A label that no
    rule finds in a text is left out of everything.

    Args:
        text: of the report, which may be unfinished or empty.
        diagnosis: of the same scan.
    """
    labels = diagnosis.label_set
    mentions = [
        (label, mention)
        for mention in find_mentions(text, labels)
        for label in labels.stated_by.get(mention.label, ())
    ]
    asserted = {label for label, mention in mentions if mention.present}
    statements = []
    for label, mention in mentions:
        index = labels.index[label]
        likely = diagnosis.present[index]
        kind = _kind(mention, likely, label in asserted)
        start, end = _span(mention)
        probability = float(diagnosis.probabilities[index])
        edited = label in diagnosis.edited
        statements.append(Statement(label, kind, start, end, probability, likely, edited))
    seen = [
        Seen(label, float(diagnosis.probabilities[i]), float(diagnosis.thresholds[i]))
        for i, label in enumerate(labels.names)
        if diagnosis.present[i] and label not in labels.unread
    ]
    return CrossCheck(
        tuple(sorted(statements, key=lambda item: (item.start, item.end))),
        tuple(sorted(seen, key=lambda item: -item.probability)),
    )


def _kind(mention: Mention, likely: bool, asserted_elsewhere: bool) -> Kind:
    if mention.present:
        if mention.hedged:
            return "considered"
        return "asserted" if likely else "asserted_but_unlikely"
    return "denied_but_likely" if likely and not asserted_elsewhere else "denied"


def _span(mention: Mention) -> tuple[int, int]:
    """The words that name the finding, or the whole sentence where they are not known."""
    start, end = mention.term
    return (start, end) if end > start else (mention.start, mention.end)
