"""Rules that recognise a finding in a sentence: wording, look-alikes and context."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """One way to name a finding.

    Attributes:
        label: the finding.
        hints: the sentence must contain one of these, which is quicker to see than the pattern.
        term: the wording.
        mask: wordings that only look like the term; blanked out before it is tried.
        needs: must occur in the sentence as well (tried on the masked sentence).
        unless: must not occur in the sentence.
        normal: the wording itself denies the finding ("the heart is not enlarged").
    """

    label: str
    hints: tuple[str, ...]
    term: re.Pattern[str]
    mask: re.Pattern[str] | None = None
    needs: re.Pattern[str] | None = None
    unless: re.Pattern[str] | None = None
    normal: bool = False


def any_of(*parts: str) -> re.Pattern[str]:
    """One pattern that matches any of the regular expressions."""
    return re.compile("|".join(parts))
