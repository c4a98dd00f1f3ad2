"""Where the sentences of a report begin and end, as exact character spans."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)} | {ord("×"): ord("x")}

_ABBREVIATION = re.compile(
    r"(?:\b(?:dr|mr|mrs|vs|approx|e\.g|i\.e|eg|ie|cf|fig|ca|max|min|inc|resp|ant|post|lat|inf|sup"
    r"|seg|segm|diam|prev|ser|img|im|no|nr|dx|hx|s/p|w\.r\.t)|(?:^|[\s(.])[a-z])\.$"
)
_BREAK = re.compile(
    r"[.!]+(?=[\s\"”“'’)\]]|$)|(?<=[a-z)])\.(?=[A-Z])|\?(?=\s+[\"“•A-Z]|\s*$)"
    r"|[\"“”•·;]|\n\s*\n|\n(?=\s*(?:[-*•]|\d+[.)]\s|[A-Z]))"
)
_LIST_NUMBER = re.compile(r"^(?:\s*|.*:\s+)\d{1,2}$")
_HEADING = re.compile(
    r"(?:\s*(?:[-*#>]+|\d{1,2}[.)])\s+)?"
    r"(?:\s*\**(?:findings?|impressions?|conclusions?|results?|opinion|report|comparison|technique)"
    r"\**\s*[:\-]\s*)?(?:\d{1,2}[.)]\s+)?",
    re.IGNORECASE,
)
_UNSTATED = re.compile(
    r"(?:^|(?<=\n)|(?<=[.:;?] ))[ \t*#]*(?:clinical(?: \w+)?|indications?|(?:\w+ )?history"
    r"|reason for (?:\w+ )?(?:exam\w*|study|scan)|technique|comparison)\**\s*:\**\s*",
    re.IGNORECASE,
)
_UNSTATED_END = re.compile(
    r"\n\s*\n|\n[ \t*#]*[a-z][\w /&-]{2,40}:"
    r"|\b(?:findings?|impressions?|conclusions?|results?|opinion|report)\**\s*:",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Sentence:
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
    start = 0
    depth_from = 0
    for found in _BREAK.finditer(report):
        before = report[start : found.start()]
        mark = found.group()
        if mark == "." and _is_abbreviation(before, report[found.end() : found.end() + 2]):
            continue
        if mark.startswith("?") and before.count("(", depth_from - start) > before.count(")"):
            continue
        yield from _trimmed(report, start, found.start() + (mark[0] in ".!?"))
        start = depth_from = found.end()
    yield from _trimmed(report, start, len(report))


def unstated_spans(report: str) -> list[tuple[int, int]]:
    """Where a report tells of the patient's past, the question or the technique, not of this scan.

    Such a section runs from its heading to the next one or to an empty line; where neither comes,
    to the end of its first sentence, so that a report without headings is not lost.
    """
    spans = []
    ends = iter(_UNSTATED_END.finditer(report))
    end = next(ends, None)
    for found in _UNSTATED.finditer(report):
        while end is not None and end.start() < found.end():
            end = next(ends, None)
        last = end or _BREAK.search(report, found.end())
        spans.append((found.start(), last.start() if last else len(report)))
    return spans


def _is_abbreviation(before: str, after: str) -> bool:
    if _LIST_NUMBER.match(before):
        return True
    found = _ABBREVIATION.search(lower_case(before[-8:]) + ".")
    if found is None:
        return False
    if found.group() == "no.":
        return after.strip()[:1].isdigit()
    return not (len(found.group().strip(" (.")) > 1 and after.strip()[:1].isupper())


def _trimmed(report: str, start: int, end: int) -> Iterator[Sentence]:
    heading = _HEADING.match(report, start, end)
    if heading is not None:
        start = heading.end()
    while start < end and report[start] in " \t\r\n*-–:,.":
        start += 1
    while end > start and report[end - 1] in " \t\r\n,-–*":
        end -= 1
    if end > start:
        text = report[start:end]
        yield Sentence(text, lower_case(text), start, end)
