"""Replacements in a text that remember where every character came from."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable

Edit = tuple[int, int, str]
"""First character, one past the last, and what stands there instead."""


class Edited:
    """A text after rounds of replacements, with the way back to the text as it was given."""

    def __init__(self, text: str) -> None:
        self.given = text
        self.text = text
        self._rounds: list[tuple[list[int], list[Edit]]] = []

    def sub(
        self, pattern: re.Pattern[str], new: str | Callable[[re.Match[str]], str | None]
    ) -> None:
        """Replace every match, as ``re.sub`` does; a function may give None to leave one."""
        edits = []
        for match in pattern.finditer(self.text):
            value = new if isinstance(new, str) else new(match)
            if value is not None and value != match.group():
                edits.append((match.start(), match.end(), value))
        self.apply(edits)

    def apply(self, edits: Iterable[Edit]) -> None:
        """Make replacements that are in order and do not overlap."""
        edits = list(edits)
        if not edits:
            return
        parts: list[str] = []
        starts: list[int] = []
        done = length = 0
        for start, end, value in edits:
            parts += (self.text[done:start], value)
            starts.append(length + start - done)
            length += start - done + len(value)
            done = end
        parts.append(self.text[done:])
        self.text = "".join(parts)
        self._rounds.append((starts, edits))

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The span in the original text of characters ``start`` to ``end`` of the edited text."""
        for starts, edits in reversed(self._rounds):
            start, end = _before(starts, edits, start, 0), _before(starts, edits, end, 1)
        return start, max(start, end)


def _before(starts: list[int], edits: list[Edit], place: int, side: int) -> int:
    """A place before one round; ``side`` is 0 for the start of a span and 1 for its end."""
    i = bisect_right(starts, place if side == 0 else place - 1) - 1
    if i < 0:
        return place
    begin, end, value = edits[i]
    beyond = place - starts[i] - len(value)
    inside = beyond < 0 or (side == 1 and beyond == 0)
    return (begin, end)[side] if inside else end + beyond
