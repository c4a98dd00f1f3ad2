"""What differs between two texts, word by word, and what a person changed in a report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from rad3d.core.types import Report

Words = list[tuple[str, str]]
"""Pieces of a text, each with the tag ``del`` or ``ins`` where it differs, else without one."""


def differences(before: str, after: str, unfinished: bool = False) -> tuple[Words, Words]:
    """Return the words of two texts in pieces: what only one of them has is marked.

    Args:
        before: the first text.
        after: the second text.
        unfinished: the second one goes on: what the first has after its end is not marked.
    """
    end = len(before.split())
    removed: Words = []
    added: Words = []
    for is_same, old, new, at in _pieces(before, after):
        goes_on = unfinished and at == end
        removed.append((old, "" if is_same or goes_on else "del"))
        added.append((new, "" if is_same else "ins"))
    return [each for each in removed if each[0]], [each for each in added if each[0]]


def merged(before: str, after: str) -> Words:
    """Return both texts as one: what only one of them has is marked."""
    found: Words = []
    for is_same, old, new, _ in _pieces(before, after):
        found += [(new, "")] if is_same else [(old, "del"), (new, "ins")]
    return [each for each in found if each[0]]


def _pieces(before: str, after: str) -> Iterator[tuple[bool, str, str, int]]:
    """Yield whether a piece is in both, it in each, and the place where it ends in the first."""
    old, new = before.split(), after.split()
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        yield kind == "equal", " ".join(old[a:b]), " ".join(new[c:d]), b


@dataclass(frozen=True)
class Changes:
    """What a person changed in a report.

    Attributes:
        seconds: that it took.
        removed, added: numbers of words.
        words: both texts as one.
    """

    seconds: float
    removed: int
    added: int
    words: Words


def changes_of(report: Report) -> Changes | None:
    """Return what a person changed in a report; None where nobody did."""
    if report.revision is None:
        return None
    words = merged(report.text, report.revision.text)
    removed, added = (
        sum(len(piece.split()) for piece, tag in words if tag == which) for which in ("del", "ins")
    )
    return Changes(report.revision.seconds, removed, added, words)
