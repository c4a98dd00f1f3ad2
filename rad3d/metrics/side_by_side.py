"""Several reports on one scan, finding by finding: what each says, and what only one of them says.

Silence, denial and statement are told apart; the words are those that the labeller reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Literal

from rad3d.core.findings import ORGANS
from rad3d.core.types import Diagnosis
from rad3d.metrics.factuality import KINDS, Match, match_findings, statement_of
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
        matches: what became of it in each report, by the truth; None where there is nothing to say.
    """

    label: str
    organ: str
    said: tuple[Said, ...]
    probability: float | None = None
    likely: bool = False
    reference: Said | None = None
    matches: tuple[Match | None, ...] = ()

    @property
    def only(self) -> int | None:
        """The place of the only report that states it; None where several do, or none."""
        stating = [place for place, said in enumerate(self.said) if said.present]
        return stating[0] if len(stating) == 1 else None


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
        true = find_mentions(self.reference, labels) if self.reference else ()
        known, said = self._said(true), [self._said(mentions) for mentions in self.mentions]
        matches = [self._matched(true, mentions) for mentions in self.mentions]
        rows = []
        for name in dict.fromkeys((*labels.names, *known, *chain.from_iterable(said))):
            at = labels.index.get(name)
            row = FindingRow(
                name,
                next((organ for organ, names in ORGANS.items() if name in names), "Other"),
                tuple(each.get(name, Said()) for each in said),
                None if at is None else float(self.diagnosis.probabilities[at]),
                at is not None and self.diagnosis.present[at] and name not in labels.unread,
                known.get(name, Said()) if self.reference else None,
                tuple(each.get(name) for each in matches),
            )
            if row.likely or any(each.present for each in (*row.said, known.get(name, Said()))):
                rows.append(row)
        order = [*ORGANS, "Other"]
        return tuple(sorted(rows, key=lambda row: order.index(row.organ)))

    def stated(self, place: int) -> tuple[int, int, int]:
        """How many findings are likely, how many of them one report states, and unlikely ones."""
        likely = [row for row in self.rows if row.likely]
        others = [row for row in self.rows if not row.likely and row.probability is not None]
        stated, unlikely = (
            sum(row.said[place].present for row in rows) for rows in (likely, others)
        )
        return len(likely), stated, unlikely

    def outcomes(self, place: int) -> dict[str, int]:
        """How often each of :data:`rad3d.metrics.factuality.KINDS` became of a finding."""
        matches = [row.matches[place] for row in self.rows]
        found = Counter(match.kind for match in matches if match is not None)
        return {kind: found[kind] for kind in KINDS}

    def alone(self, place: int) -> tuple[tuple[int, int], ...]:
        """The sentences in which only this report states a finding, as spans of its text."""
        labels = {row.label for row in self.rows if row.only == place}
        spans = {
            (mention.start, mention.end)
            for mention in self.mentions[place]
            if mention.present and labels & set(self._names(mention.label))
        }
        return tuple(sorted(spans))

    def _names(self, finding: str) -> tuple[str, ...]:
        """The labels of the diagnosis that a finding stands for; else the finding itself."""
        return tuple(self.diagnosis.label_set.stated_by.get(finding) or (finding,))

    def _matched(self, true: Sequence[Mention], said: Sequence[Mention]) -> Mapping[str, Match]:
        """What became of each finding; nothing where the truth is not known."""
        if not self.reference:
            return {}
        matches = match_findings(statement_of(true), statement_of(said))
        return {name: match for match in matches for name in self._names(match.label)}

    def _said(self, mentions: Iterable[Mention]) -> Mapping[str, Said]:
        by_name: dict[str, list[Mention]] = {}
        for mention in mentions:
            for name in self._names(mention.label):
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
