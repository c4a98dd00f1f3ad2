"""Holds a report against the diagnosis of the same scan: what do they say differently?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rad3d.labels import LABEL_INDEX
from rad3d.text.labeller import Mention, find_mentions
from rad3d.types import Diagnosis

ContradictionKind = Literal["asserted_but_unlikely", "denied_but_likely"]


@dataclass(frozen=True)
class Contradiction:
    """One place where the report contradicts the diagnosis.

    Attributes:
        label: one of the 18.
        kind: what the report does with it.
        start, end: span of the words in the report's text.
        probability: what the classifier gives the label, in [0, 1].
    """

    label: str
    kind: ContradictionKind
    start: int
    end: int
    probability: float


def cross_check(text: str, diagnosis: Diagnosis) -> tuple[Contradiction, ...]:
    """Where the text asserts a label below its threshold, or denies one that reaches it.

    A finding that is only considered ("possible") contradicts nothing, and a denial that belongs
    to an assertion elsewhere ("right effusion; none on the left") does not either.

    Returns:
        In the order of the text, which may be unfinished or empty.
    """
    mentions = [m for m in find_mentions(text) if m.label in LABEL_INDEX]
    asserted = {m.label for m in mentions if m.present}
    found = []
    for mention in mentions:
        index = LABEL_INDEX[mention.label]
        likely = diagnosis.present[index]
        kind: ContradictionKind
        if mention.present and not mention.hedged and not likely:
            kind = "asserted_but_unlikely"
        elif not mention.present and likely and mention.label not in asserted:
            kind = "denied_but_likely"
        else:
            continue
        start, end = _span(mention)
        probability = float(diagnosis.probabilities[index])
        found.append(Contradiction(mention.label, kind, start, end, probability))
    return tuple(sorted(found, key=lambda item: (item.start, item.end)))


def _span(mention: Mention) -> tuple[int, int]:
    """The words that name the finding, or the whole sentence where they are not known."""
    start, end = mention.term
    return (start, end) if end > start else (mention.start, mention.end)
