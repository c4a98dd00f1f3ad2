"""Tells whether a text is a report at all: a language model can also write something else."""

from __future__ import annotations

import re
import unicodedata

from rad3d.reports.labeller import find_mentions

LONGEST_CYCLE = 40
"""Words of the longest passage whose repetition is looked for at the end of a text."""

TIMES, WORDS = 3, 8
"""A passage counts as repeated where it stands there so often and all of it has so many words."""

_CHEST = re.compile(
    r"\b(lung|pulmon|pleura|heart|cardi|aort|chest|thora|mediastin|trachea|bronch|lobe|lobar|hilar|"
    r"liver|spleen|adrenal|kidney|vertebra|esophag|oesophag|effusion|nodul|lymph|"
    r"(?:ab)?normal|unremarkable|finding)",
    re.IGNORECASE,
)


def no_report(text: str) -> str:
    """Why a text is no report, as the end of a sentence about it; empty where it may be one.

    It may be in another script, repeat a passage up to its end, or speak of nothing in the chest.
    """
    words = text.split()
    if not words:
        return "is empty"
    letters = [c for c in text if c.isalpha()]
    foreign = sum(not unicodedata.name(c, "").startswith("LATIN") for c in letters)
    if foreign > len(letters) / 3:
        return "is not in Latin script"
    if repeats(words):
        return "repeats itself to its end"
    if not _CHEST.search(text) and not find_mentions(text):
        return "states nothing about the chest"
    return ""


def repeats(words: list[str]) -> bool:
    """True where the words end with one passage several times, the last time perhaps cut short."""
    for cycle in range(1, min(LONGEST_CYCLE, len(words) // TIMES) + 1):
        need = max(TIMES * cycle, WORDS)
        # Each word of the tail equals the one a cycle before it; the very last may be cut.
        tail = words[-need - 1 : -1]
        if len(tail) == need and tail[cycle:] == tail[:-cycle]:
            return True
    return False
