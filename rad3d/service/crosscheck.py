"""Holds a report against the diagnosis of the same scan: what do they say differently?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rad3d.labels import LABEL_INDEX
from rad3d.text.labeller import Mention, find_mentions
from rad3d.types import Diagnosis

Kind = Literal["asserted", "considered", "denied", "asserted_but_unlikely", "denied_but_likely"]
"""What the report does with a label; the last two contradict the diagnosis."""


@dataclass(frozen=True)
class Statement:
    """One place where the report speaks of a label of the diagnosis.

    Attributes:
        label: one of the 18.
        kind: what the report does with it.
        start, end: span of the words in the report's text.
        probability: what the classifier gives the label, in [0, 1].
    """

    label: str
    kind: Kind
    start: int
    end: int
    probability: float

    @property
    def contradicts(self) -> bool:
        """Whether the report and the diagnosis cannot both be right."""
        return self.kind in ("asserted_but_unlikely", "denied_but_likely")


def statements(text: str, diagnosis: Diagnosis) -> tuple[Statement, ...]:
    """Every place where the text speaks of one of the 18 labels, held against its probability.

    It contradicts where it asserts a label below its threshold, or denies one that reaches it. A
    finding that is only considered ("possible") contradicts nothing, and a denial that belongs
    to an assertion elsewhere ("right effusion; none on the left") does not either.

    Returns:
        In the order of the text, which may be unfinished or empty.
    """
    mentions = [m for m in find_mentions(text) if m.label in LABEL_INDEX]
    asserted = {m.label for m in mentions if m.present}
    found = []
    for mention in mentions:
        index = LABEL_INDEX[mention.label]
        kind = _kind(mention, diagnosis.present[index], mention.label in asserted)
        start, end = _span(mention)
        probability = float(diagnosis.probabilities[index])
        found.append(Statement(mention.label, kind, start, end, probability))
    return tuple(sorted(found, key=lambda item: (item.start, item.end)))


def cross_check(text: str, diagnosis: Diagnosis) -> tuple[Statement, ...]:
    """The statements that contradict the diagnosis."""
    return tuple(item for item in statements(text, diagnosis) if item.contradicts)


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
