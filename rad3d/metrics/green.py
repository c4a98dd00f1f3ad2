"""GREEN's formula, and its judge's answers read strictly (Ostmeier et al. 2024, arXiv 2405.03595).

The judge, a language model, writes three headed lists: significant errors (a) to (f), insignificant
errors (a) to (f), and matched findings, each as a number and the things counted. An answer that
does not is not scored as a bad report: it is flagged and left out, and counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CATEGORIES: tuple[str, ...] = (
    "false finding",
    "missing finding",
    "wrong place",
    "wrong severity",
    "comparison that is not there",
    "missing comparison",
)
"""The kinds of error that the letters (a) to (f) of the judge's answer stand for."""

_SECTION = r"\[{name}\]:\s*(.*?)(?=\n\s*\[|\Z)"
_ERROR = re.compile(r"^\s*\(([a-f])\)[^\n]*?:\s*(\d+)\s*(?:\.|$)", re.MULTILINE)
_MATCHED = re.compile(r"^\s*(\d+)\s*(?:\.|$)", re.MULTILINE)


@dataclass(frozen=True)
class Judgement:
    """The numbers of errors and of matched findings that the judge counted.

    Attributes:
        significant, insignificant: errors of each of :data:`CATEGORIES`.
        matched: findings that both reports state.
        well_formed: whether all three lists were there, each error list with (a) to (f) once.
    """

    significant: tuple[int, ...]
    insignificant: tuple[int, ...]
    matched: int
    well_formed: bool

    @property
    def score(self) -> float:
        """Matched findings over matched findings and significant errors; 0 where none matches.

        NaN where the answer is not well formed.
        """
        if not self.well_formed:
            return float("nan")
        return self.matched / (self.matched + sum(self.significant)) if self.matched else 0.0


def read_judgement(answer: str) -> Judgement:
    """Read one answer of the judge."""
    significant, whole = _errors(answer, "Clinically Significant Errors")
    insignificant, also_whole = _errors(answer, "Clinically Insignificant Errors")
    counts = _MATCHED.findall(_section(answer, "Matched Findings"))
    return Judgement(
        significant=significant,
        insignificant=insignificant,
        matched=sum(map(int, counts[:1])),
        well_formed=whole and also_whole and len(counts) == 1,
    )


def _section(answer: str, name: str) -> str:
    sections = re.findall(_SECTION.format(name=re.escape(name)), answer, re.DOTALL)
    return sections[0] if len(sections) == 1 else ""


def _errors(answer: str, name: str) -> tuple[tuple[int, ...], bool]:
    matches = _ERROR.findall(_section(answer, name))
    counts = {letter: int(count) for letter, count in matches}
    whole = len(matches) == len(counts) == len(CATEGORIES)
    return tuple(counts.get(letter, 0) for letter in "abcdef"), whole
