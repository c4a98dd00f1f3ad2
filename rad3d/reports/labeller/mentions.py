"""Finds which of the findings a report asserts or denies, and with which attributes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from rad3d.core.findings import LOBES, SCHEMA, Attributes, Finding, side_of_sites
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.reports.labeller.attributes import (
    read_count,
    read_kind,
    read_severity,
    read_side,
    read_sites,
    read_size_mm,
)
from rad3d.reports.labeller.ellipsis import is_gone, said_elsewhere, said_still
from rad3d.reports.labeller.negation import Polarity, blank, polarity
from rad3d.reports.labeller.rules import Rule
from rad3d.reports.labeller.splitter import Sentence, stated_sentences
from rad3d.reports.labeller.terms import rules_of
from rad3d.reports.reading import plain_sentences
from rad3d.reports.replacements import Edited

_CUT = re.compile(
    r"[,;:]|\b(?:and|with|but|plus|however|whereas|while|accompan\w+|as well as|along with"
    r"|in addition|which|causing|without|adjacent|associated)\b"
)
_JOINED = re.compile(
    r"[\s,/&+-]*(?:(?:and|or|with|plus|as well as|associated|accompanying|accompanied by|adjacent"
    r"|mild|minimal|moderate|severe|areas? of|linear|subsegmental|compressive|passive|small|the"
    r"|an?"
    r"|some|patchy|focal|also|slight|underlying|surrounding|areas?|changes?|overlying)[\s,/&-]*)*"
)
_LEADING_PLACE = re.compile(
    r"\s*(?:(?:and|also|again|additionally|furthermore|similarly|likewise)[\s,]+)?"
    r"(?:in|at|within|on|both|throughout|bilaterally|the (?:right|left))\b"
)

_ASKED = re.compile(
    r"\b(?:(?:evaluat\w*|assess\w*|protocol\w*|sensitiv\w*|optimi[sz]ed|history|h/o|risk)\s+"
    r"(?:for|of|in terms of)|hx)\s+(?:\w+\s+){0,3}$"
    r"|\bif (?:clinically )?(?:suspected|concern for)\s+$"
)


@dataclass(frozen=True)
class Mention:
    """One finding that one sentence asserts or denies.

    Attributes:
        label: a name of ``FINDING_NAMES``, or a label that has terms of its own.
        present: False where the sentence denies it.
        hedged: whether the clause leaves it open ("possible", "may represent", "?").
        side: the patient's side: left, right, bilateral or None where it is not stated.
        sites: places of the label's schema.
        size_mm: largest stated size in mm (short axis of lymph nodes).
        severity: mild, moderate, severe or None.
        count: stated number of lesions.
        sentence: the sentence as written.
        start: first character of the sentence in the text.
        end: one past its last character.
        kind: sub-type of the label's schema.
        term: span of the words that name the finding, in the text.
    """

    label: str
    present: bool
    hedged: bool
    side: str | None
    sites: tuple[str, ...]
    size_mm: float | None
    severity: str | None
    count: int | None
    sentence: str
    start: int
    end: int
    kind: str | None = None
    term: tuple[int, int] = (0, 0)


_PLAIN = Attributes()
"""What is read of a label that has only terms: a side, and nothing else."""


class _Hit(NamedTuple):
    """A term of a label in a sentence, before its attributes are read.

    At first ``denied`` says whether the wording itself denies the finding, later whether the
    sentence does.
    """

    label: str
    start: int
    end: int
    denied: bool


def find_mentions(text: str, label_set: LabelSet = CT_RATE) -> tuple[Mention, ...]:
    """Every finding that ``text`` asserts or denies, in the order of the text.

    A sentence gives at most one asserted and one denied mention of a label. Any text is accepted,
    also empty, truncated or repetitive text.

    Args:
        text: of a report.
        label_set: the terms of its labels are looked for as well.
    """
    rules = rules_of(label_set)
    mentions: list[Mention] = []
    plain = plain_sentences(text)
    before: Sentence | None = None
    reach = 0
    for sentence in stated_sentences(plain.text):
        said = _mentions_of(sentence, plain, before if reach else None, rules)
        if not said and reach and is_gone(sentence.lower):
            mentions[-reach:] = [replace(mention, present=False) for mention in mentions[-reach:]]
        mentions += said
        before, reach = sentence, len(said)
    return tuple(mentions)


def label_report(text: str, label_set: LabelSet = CT_RATE) -> tuple[int, ...]:
    """The labels of a report as 0 or 1 in their order; hedged findings count as present.

    Raises:
        BadRequest: no rule finds one of the labels.
    """
    return stated_labels(find_mentions(text, label_set), label_set)


def stated_labels(mentions: Iterable[Mention], label_set: LabelSet) -> tuple[int, ...]:
    """The labels that mentions assert, as :func:`label_report` gives them."""
    label_set.require_rules()
    stated = {m.label for m in mentions if m.present}
    present = {name for key in stated for name in label_set.stated_by.get(key, ())}
    return tuple(int(name in present) for name in label_set.names)


def findings_in(text: str) -> tuple[Finding, ...]:
    """The findings a report asserts, one per label, merged over all sentences, in schema order.

    Sides of several mentions add up (left and right make bilateral), the largest size and number
    win, and severity and sub-type are the first that is stated.
    """
    grouped: dict[str, list[Mention]] = {}
    for mention in find_mentions(text):
        if mention.present:
            grouped.setdefault(mention.label, []).append(mention)
    return tuple(_merged(label, grouped[label]) for label in SCHEMA if label in grouped)


def _mentions_of(
    sentence: Sentence, plain: Edited, before: Sentence | None, rules: Sequence[Rule]
) -> list[Mention]:
    """Mentions in one sentence: of findings that it names, or that the sentence before denied."""
    hits = _hits(sentence.lower, rules)
    mentions: list[Mention] = []
    if not hits:
        if before is None:
            return mentions
        match = said_elsewhere(sentence.lower) or said_still(sentence.lower)
        label = _denied_last(before, rules) if match else ""
        return [_elsewhere(label, match, sentence, plain)] if label and match else []
    scope = polarity(sentence.lower)
    hits = [hit._replace(denied=hit.denied or scope.is_denied(hit.end)) for hit in hits]
    hedged = _hedged(sentence.lower, hits, scope)
    seen: set[tuple[str, bool]] = set()
    for i, hit in enumerate(hits):
        present = not hit.denied
        if _is_heading(sentence.lower, hits, i):
            continue
        if (hit.label, present) not in seen and not _is_not_stated(sentence.lower, hit):
            seen.add((hit.label, present))
            clause = _window(sentence.lower, hits, i)
            place = _place(sentence.lower, hits, i)
            mentions.append(_mention(hit, present, hedged[i], clause, place, sentence, plain))
        if not present and (hit.label, True) not in seen:
            end = hits[i + 1].start if i + 1 < len(hits) else len(sentence.lower)
            if match := said_elsewhere(sentence.lower, hit.end, end):
                seen.add((hit.label, True))
                mentions.append(_elsewhere(hit.label, match, sentence, plain))
    return mentions


def _mention(
    hit: _Hit,
    present: bool,
    hedged: bool,
    window: tuple[int, int],
    place: tuple[str | None, tuple[str, ...]],
    sentence: Sentence,
    plain: Edited,
) -> Mention:
    """A hit with what its clause says of it."""
    schema, clause = SCHEMA.get(hit.label, _PLAIN), sentence.lower[slice(*window)]
    start, end = plain.span(sentence.start, sentence.end)
    return Mention(
        label=hit.label,
        present=present,
        hedged=hedged,
        side=place[0],
        sites=place[1],
        size_mm=read_size_mm(hit.label, clause) if schema.size_mm else None,
        severity=read_severity(clause, hit.start - window[0]),
        count=read_count(schema, clause),
        sentence=plain.given[start:end],
        start=start,
        end=end,
        kind=read_kind(schema, clause),
        term=plain.span(sentence.start + hit.start, sentence.start + hit.end),
    )


def _is_heading(lower: str, hits: list[_Hit], i: int) -> bool:
    """Whether a term only leads to a sentence about the finding: "Nodule: there is no nodule"."""
    after = lower[hits[i].end : hits[i].end + 2].lstrip()
    return after.startswith(":") and any(hit.label == hits[i].label for hit in hits[i + 1 :])


def _denied_last(sentence: Sentence, rules: Sequence[Rule]) -> str:
    """The finding that a sentence names last, if it denies it; else nothing."""
    hits = _hits(sentence.lower, rules)
    if not hits or not polarity(sentence.lower).is_denied(hits[-1].end):
        return ""
    return hits[-1].label


def _elsewhere(label: str, match: re.Match[str], sentence: Sentence, plain: Edited) -> Mention:
    """A finding that was denied, where the words ``found`` say that it is elsewhere, or still."""
    sites = read_sites(label, match.group())
    place = read_side(match.group()) or side_of_sites(sites), sites
    hit = _Hit(label, *match.span(), denied=False)
    return _mention(hit, True, False, match.span(), place, sentence, plain)


def _hedged(lower: str, hits: list[_Hit], scope: Polarity) -> list[bool]:
    """Whether each hit is hedged; a joined hit shares the hedge of the one before."""
    values: list[bool] = []
    for i, hit in enumerate(hits):
        before = hits[i - 1].end if i else 0
        joined = i > 0 and _JOINED.fullmatch(lower, before, hit.start) is not None
        own = scope.is_hedged(before, hit.start, _window(lower, hits, i)[1])
        values.append(own or (joined and values[-1]))
    return values


def _is_not_stated(lower: str, hit: _Hit) -> bool:
    """Whether the term is only a question: "(lymph node?)" or "evaluation for embolism"."""
    if _ASKED.search(lower, 0, hit.start):
        return True
    opened = lower.rfind("(", 0, hit.start)
    if opened < 0 or ")" in lower[opened : hit.start]:
        return False
    return lower[hit.end : hit.end + 2].lstrip().startswith("?")


def _hits(lower: str, rules: Sequence[Rule]) -> list[_Hit]:
    """Terms in a sentence in order of appearance, overlapping ones of a label only once."""
    hits: list[_Hit] = []
    for rule in rules:
        for hint in rule.hints:
            if hint in lower:
                break
        else:
            continue
        text = lower if rule.mask is None else blank(rule.mask, lower)
        if rule.needs is not None and rule.needs.search(text) is None:
            continue
        if rule.unless is not None and rule.unless.search(lower) is not None:
            continue
        for found in rule.term.finditer(text):
            hits.append(_Hit(rule.label, found.start(), found.end(), rule.normal))
    return sorted(hits, key=lambda hit: (hit.start, hit.end))


def _window(lower: str, hits: list[_Hit], i: int) -> tuple[int, int]:
    """The clause of hit ``i``, up to the separators from hits of other labels or the opposite."""
    hit = hits[i]
    own = hit.label, hit.denied
    before = [h for h in hits[:i] if (h.label, h.denied) != own and h.end <= hit.start]
    after = [h for h in hits[i + 1 :] if (h.label, h.denied) != own and h.start >= hit.end]
    start = _cut(lower, before[-1].end, hit.start) if before else 0
    end = _cut(lower, hit.end, after[0].start) if after else len(lower)
    return start, end


def _cut(lower: str, left: int, right: int) -> int:
    """The position that splits the words between two terms: the last comma or connecting word."""
    cuts = list(_CUT.finditer(lower, left, right))
    return cuts[-1].start() if cuts else right


def _place(lower: str, hits: list[_Hit], i: int) -> tuple[str | None, tuple[str, ...]]:
    """Side and sites of hit ``i``, taken over from a leading place or from a joined finding."""
    label = hits[i].label
    start, end = _window(lower, hits, i)
    candidates = [lower[start:end]]
    following = [h for h in hits[i + 1 :] if h.label != label and h.start >= hits[i].end]
    if following and _JOINED.fullmatch(lower, hits[i].end, following[0].start):
        a, b = _window(lower, hits, hits.index(following[0]))
        candidates.append(lower[a:b])
    if _LEADING_PLACE.match(lower) and hits[0].start > 0:
        candidates.append(lower[: hits[0].start])
    for clause in candidates:
        sites = read_sites(label, clause)
        side = read_side(clause) or side_of_sites(sites)
        if side is not None:
            return side, sites
    return None, read_sites(label, candidates[0])


def _merged(label: str, mentions: list[Mention]) -> Finding:
    schema = SCHEMA[label]
    named = {site for mention in mentions for site in mention.sites}
    sites = tuple(site for site in schema.sites if site in named)[: schema.max_sites]
    sizes = [mention.size_mm for mention in mentions if mention.size_mm is not None]
    counts = [mention.count for mention in mentions if mention.count is not None]
    return Finding(
        label=label,
        side=_allowed(_joined_side(mentions, sites), schema.sides),
        sites=sites,
        kind=next((mention.kind for mention in mentions if mention.kind), None),
        severity=_allowed(
            next((mention.severity for mention in mentions if mention.severity), None),
            schema.severities,
        ),
        size_mm=round(max(sizes)) if sizes and schema.size_mm is not None else None,
        count=max(counts) if counts else None,
    )


def _joined_side(mentions: list[Mention], sites: tuple[str, ...]) -> str | None:
    sides = {mention.side for mention in mentions if mention.side is not None}
    if not sides:
        return side_of_sites(tuple(site for site in sites if site in LOBES))
    return "bilateral" if len(sides) > 1 else sides.pop()


def _allowed(value: str | None, allowed: tuple[str, ...]) -> str | None:
    return value if value in allowed else None
