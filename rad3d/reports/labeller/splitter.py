"""Split a report into sentences, as exact character spans."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)} | {ord("×"): ord("x")}

_ABBREVIATION = re.compile(
    r"(?:\b(?:dr|mr|mrs|vs|approx|e\.g|i\.e|eg|ie|cf|fig|ca|max|min|inc|resp|ant|post|lat|inf|sup"
    r"|seg|segm|diam|prev|ser|img|im|no|nr|dx|hx|s/p|w\.r\.t)|(?:^|[\s(.])[a-z])\.$"
)
_BREAK = re.compile(
    r"[.!?\"“”•·;\n](?:(?<=[.!])[.!]{0,8}(?=[\s\"”“'’)\]]|$)|(?<=[.!])[.!]{1,8}(?=[A-Z])|(?<=[a-z)]\.)(?=[A-Z])"
    r"|(?<=\?)(?=\s+[\"“•A-Z]|\s*$)|(?<=[\"“”•·;])|(?<=\n)\s*\n"
    r"|(?<=\n)(?=\s*(?:[-*•]|\d+[.)]\s|[A-Z])))"
)
_LIST_NUMBER = re.compile(r"(?:^|:)\s+\d{1,2}$")
_HEADING = re.compile(
    r"(?:\s*(?:[-*#>]+|\d{1,2}[.)])\s+)?"
    r"(?:\s*\**(?:findings?|impressions?|conclusions?|results?|opinion|report|comparison"
    r"|technique)"
    r"\**\s*[:\-]\s*)?(?:\d{1,2}[.)]\s+)?",
    re.IGNORECASE,
)
_UNSTATED = re.compile(
    r"(?:^|(?<=\n)|(?<=[.:;?] ))[ \t*#]*(?:clinical(?: \w+)?|indications?|(?:\w+ ){0,2}history"
    r"|reason for (?:\w+ )?(?:exam\w*|study|scan)|technique|comparison)\**\s*:\**\s*",
    re.IGNORECASE,
)
_UNSTATED_WORDS = ("clinical", "indication", "history", "reason for", "technique", "comparison")
_UNSTATED_END = re.compile(
    r"\n\s*\n|\n[ \t*#]*[a-z][\w /&-]{2,40}:"
    r"|\b(?:findings?|impressions?|conclusions?|results?|opinion|report)\**\s*:",
    re.IGNORECASE,
)

MAX_SENTENCE = 1500
"""Characters of a sentence that are read together; keeps the time linear in the text."""


class Sentence(NamedTuple):
    """A sentence of a text.

    Attributes:
        text: the sentence as written, ``report[start:end]``.
        lower: the same length in lower-case ASCII letters, for matching.
        start: first character in the report.
        end: one past the last character in the report.
    """

    text: str
    lower: str
    start: int
    end: int


def lower_case(text: str) -> str:
    """``text`` in lower case without changing its length, as ``str.lower`` can."""
    return text.translate(_LOWER)


def split_sentences(report: str) -> Iterator[Sentence]:
    """The sentences of a report in order, without headings, bullets and surrounding blanks.

    Full stops inside decimals and after common abbreviations do not end a sentence; semicolons,
    quotation marks, bullets and new lines before a capital letter do.
    """
    lower = lower_case(report)
    start = counted = depth = 0
    for found in _BREAK.finditer(report):
        mark = found.group()
        if mark == "." and _is_abbreviation(lower, start, found):
            continue
        if mark.startswith("?"):
            depth += report.count("(", counted, found.start())
            depth -= report.count(")", counted, found.start())
            counted = found.start()
            if depth > 0:
                continue
        yield from _trimmed(report, lower, start, found.start() + (mark[0] in ".!?"))
        start, counted, depth = found.end(), found.end(), 0
    yield from _trimmed(report, lower, start, len(report))


def stated_sentences(report: str) -> Iterator[Sentence]:
    """The sentences that speak of this scan, none longer than ``MAX_SENTENCE`` characters."""
    spans = iter(_unstated_spans(report))
    span = next(spans, None)
    for sentence in split_sentences(report):
        while span is not None and span[1] <= sentence.start:
            span = next(spans, None)
        if span is None or sentence.start < span[0]:
            yield from _in_pieces(sentence)


def _in_pieces(sentence: Sentence) -> Iterator[Sentence]:
    """A sentence that runs on, cut at commas or spaces; most rules look at every pair of words."""
    text, place = sentence.text, 0
    if len(text) <= MAX_SENTENCE:
        yield sentence
        return
    while place < len(text):
        end = place + MAX_SENTENCE
        if end < len(text):
            cut = max(text.rfind(sign, place + MAX_SENTENCE // 2, end) for sign in ", ")
            end = cut + 1 if cut > 0 else end
        piece = text[place:end]
        start = sentence.start + place
        yield Sentence(piece, sentence.lower[place:end], start, start + len(piece))
        place = end


def _unstated_spans(report: str) -> list[tuple[int, int]]:
    """Spans that state the history, the clinical question or the technique, not findings of this
    scan.

    Such a section runs from its heading to the next one or to an empty line; where neither comes,
    to the end of its first sentence, so that a report without headings is not lost.
    """
    spans: list[tuple[int, int]] = []
    lower = lower_case(report)
    if not any(word in lower for word in _UNSTATED_WORDS):
        return spans
    ends = iter(_UNSTATED_END.finditer(report))
    end = next(ends, None)
    for found in _UNSTATED.finditer(report):
        if spans and found.start() < spans[-1][1]:
            continue
        while end is not None and end.start() < found.end():
            end = next(ends, None)
        last = end or _BREAK.search(report, found.end())
        spans.append((found.start(), last.start() if last else len(report)))
    return spans


def _is_abbreviation(lower: str, start: int, match: re.Match[str]) -> bool:
    """Whether the full stop belongs to an abbreviation or to the number of a list's item."""
    before = lower[max(start, match.start() - 8) : match.start()]
    begins = match.start() - start <= 4 and re.fullmatch(r"\s*\d{1,2}", before)
    if begins or _LIST_NUMBER.search(before):
        return True
    short = _ABBREVIATION.search(before + ".")
    if short is None:
        return False
    after = match.string[match.end() : match.end() + 2].strip()
    if short.group() == "no.":
        return after[:1].isdigit()
    return not (len(short.group().strip(" (.")) > 1 and after[:1].isupper())


def _trimmed(report: str, lower: str, start: int, end: int) -> Iterator[Sentence]:
    heading = _HEADING.match(report, start, end)
    if heading is not None:
        start = heading.end()
    while start < end and report[start] in " \t\r\n*-–:,.":
        start += 1
    while end > start and report[end - 1] in " \t\r\n,-–*":
        end -= 1
    if end > start:
        yield Sentence(report[start:end], lower[start:end], start, end)
