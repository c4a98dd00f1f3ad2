"""Several reports on one scan, finding by finding: what each says, and what only one of them says.

Silence, denial and statement are told apart; the words are those that the labeller reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from rad3d.core.findings import ORGANS
from rad3d.core.types import Diagnosis
from rad3d.reports.labeller import Mention, find_mentions

How = Literal["stated", "considered", "denied", ""]
"""How a report treats a finding; empty where it does not mention it."""


@dataclass(frozen=True)
class Said:
    """What one report says of one finding.

    Attributes:
        how: whether it states, considers or denies it.
        details: side, places, severity and size in a few words; empty where it gives none.
        sentences: where it says so.
    """

    how: How = ""
    details: str = ""
    sentences: tuple[str, ...] = ()

    @property
    def present(self) -> bool:
        """True where the report states or considers the finding."""
        return self.how in ("stated", "considered")


@dataclass(frozen=True)
class FindingRow:
    """One finding across the reports.

    Attributes:
        label: its name.
        organ: a key of :data:`rad3d.core.findings.ORGANS`, or ``"Other"``.
        said: by each report, in their order.
        probability, likely: of the diagnosis; None and False where it has no such label.
        reference: what is true of it, where that is known.
    """

    label: str
    organ: str
    said: tuple[Said, ...]
    probability: float | None = None
    likely: bool = False
    reference: Said | None = None

    @property
    def only(self) -> int | None:
        """The place of the only report that states it; None where several do, or none."""
        stating = [place for place, said in enumerate(self.said) if said.present]
        return stating[0] if len(stating) == 1 else None

    def outcome(self, place: int) -> str:
        """What became of it in one report, by the truth: matched, hallucinated, omitted or ``""``.

        Args:
            place: of the report.
        """
        if self.reference is None:
            return ""
        true, said = self.reference.present, self.said[place].present
        return "matched" if true and said else "hallucinated" if said else "omitted" if true else ""


@dataclass(frozen=True)
class SideBySide:
    """Reports on one scan with what is known of it.

    Attributes:
        texts: of the reports.
        diagnosis: of the scan.
        reference: the report that is true of it; empty where none is known.
    """

    texts: tuple[str, ...]
    diagnosis: Diagnosis
    reference: str = ""

    @cached_property
    def mentions(self) -> tuple[tuple[Mention, ...], ...]:
        """What each report states or denies."""
        return tuple(find_mentions(text, self.diagnosis.label_set) for text in self.texts)

    @cached_property
    def rows(self) -> tuple[FindingRow, ...]:
        """A row for each finding that a report or the truth states, or that the diagnosis sees."""
        labels = self.diagnosis.label_set
        known = None
        if self.reference:
            known = self._said(find_mentions(self.reference, labels))
        said = [self._said(mentions) for mentions in self.mentions]
        rows = []
        for name in dict.fromkeys((*labels.names, *(name for each in said for name in each))):
            at = labels.index.get(name)
            row = FindingRow(
                name,
                next((organ for organ, names in ORGANS.items() if name in names), "Other"),
                tuple(each.get(name, Said()) for each in said),
                None if at is None else float(self.diagnosis.probabilities[at]),
                at is not None and self.diagnosis.present[at] and name not in labels.unread,
                None if known is None else known.get(name, Said()),
            )
            true = row.reference is not None and row.reference.present
            if row.likely or true or any(each.present for each in row.said):
                rows.append(row)
        order = [*ORGANS, "Other"]
        return tuple(sorted(rows, key=lambda row: order.index(row.organ)))

    def counts(self, place: int) -> dict[str, int]:
        """How one report agrees with the diagnosis and, where it is known, with the truth.

        Returns:
            ``likely`` findings, how many of them are ``stated``, and ``unlikely`` ones stated;
            ``matched``, ``hallucinated`` and ``omitted`` of the truth.
        """
        likely = [row for row in self.rows if row.likely]
        others = [row for row in self.rows if not row.likely and row.probability is not None]
        counts = {
            "likely": len(likely),
            "stated": sum(row.said[place].present for row in likely),
            "unlikely": sum(row.said[place].present for row in others),
        }
        if self.reference:
            outcomes = [row.outcome(place) for row in self.rows]
            kinds = ("matched", "hallucinated", "omitted")
            counts |= {kind: outcomes.count(kind) for kind in kinds}
        return counts

    def alone(self, place: int) -> tuple[tuple[int, int], ...]:
        """The sentences in which only this report states a finding, as spans of its text."""
        labels = {row.label for row in self.rows if row.only == place}
        spans = {
            (mention.start, mention.end)
            for mention in self.mentions[place]
            if mention.present and labels & set(self._names(mention))
        }
        return tuple(sorted(spans))

    def _names(self, mention: Mention) -> tuple[str, ...]:
        """The labels of the diagnosis that a mention is about; else the finding itself."""
        return self.diagnosis.label_set.stated_by.get(mention.label) or (mention.label,)

    def _said(self, mentions: Iterable[Mention]) -> Mapping[str, Said]:
        by_name: dict[str, list[Mention]] = {}
        for mention in mentions:
            for name in self._names(mention):
                by_name.setdefault(name, []).append(mention)
        return {name: _merged(each) for name, each in by_name.items()}


def _merged(mentions: Sequence[Mention]) -> Said:
    """What all mentions of a finding say together; a statement counts more than a denial."""
    present = [mention for mention in mentions if mention.present]
    if not present:
        return Said("denied", "", _sentences(mentions))
    hedged = all(mention.hedged for mention in present)
    return Said("considered" if hedged else "stated", _details(present), _sentences(present))


def _sentences(mentions: Sequence[Mention]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(mention.sentence for mention in mentions))


def _details(mentions: Sequence[Mention]) -> str:
    sizes = [mention.size_mm for mention in mentions if mention.size_mm is not None]
    sites = [site for mention in mentions for site in mention.sites]
    sides = {mention.side for mention in mentions if mention.side}
    side = sides.pop() if len(sides) == 1 else "bilateral" if sides else ""
    parts = [
        next((mention.severity for mention in mentions if mention.severity), None),
        next((mention.kind for mention in mentions if mention.kind), None),
        None if any(side in site for site in sites) else side,
        " and ".join(dict.fromkeys(sites)) or None,
        f"{max(sizes):g} mm" if sizes else None,
    ]
    return ", ".join(part for part in parts if part)
