"""Clauses that speak of a finding without naming it again: "none on the right, small on the left".

Such a clause matters where the finding itself was denied, for one side or for an earlier scan.
"""

from __future__ import annotations

import re
import sys

_AMOUNT = (
    r"(?:tiny|small|minimal|minor|mild|slight|trace|discrete|moderate|medium(?:[- ]sized)?|large"
    r"|massive|extensive|marked|severe|loculated|present|positive|visible|seen|several|multiple"
    r"|few|two|three|some|one|yes)"
)
_ONE = r"(?: ones?| amounts?| volumes?| quantit(?:y|ies))?"
_LEAD = r"(?:^|[,;:.(]|\b(?:but|and|while|whereas|however|though|although))[ ,]*"
_FILLER = (
    r"(?:(?:but|and|only|there|is|are|it|however|an?|some|the|very|rather|still|also|yes)[ ,]+)*"
)
_WHERE = (
    r"(?:(?:on|in|at|along|of) the (?:left|right|other|contralateral|opposite)\b"
    r"|(?:left|right)(?:[- ]sided)?(?=\W*$|[,;]))"
)
_ELSEWHERE = re.compile(
    rf"{_LEAD}{_FILLER}{_AMOUNT}{_ONE}(?: (?:is|are|present|seen|visible|found"
    rf"|effusion))* {_WHERE}"
    rf"|{_LEAD}{_FILLER}{_WHERE}(?: side| lung| hemithorax)?,? ?(?:there )?(?:is |are |it is "
    rf"|has )?"
    rf"(?:an? |some |rather |very )?{_AMOUNT}{_ONE}(?=\W*$|[,;.]| and\b)"
    rf"|\bbut (?:(?:only|is|are) )?(?:on|in) the (?:left|right)\b(?: side| lung)?(?=\W*$|[,;.])"
    rf"|{_LEAD}(?:the )?(?:left|right)(?: side)?:? (?:is |are )?{_AMOUNT}{_ONE}(?=\W*$|[,;.])"
)
_KNOWN = re.compile(
    r"\b(?:known|existing|older?|remaining|other) (?:ones? )?(?:is|are|remains?|has|have)"
    r" (?:\w+ly )?(?:stable|unchanged|smaller|larger|grown|increased|decreased)\b"
)
_KEPT = re.compile(
    r"^(?:it|this|these|they|which)\b.{0,60}?\b(?:measur\w+|unchanged|stable|larger|smaller"
    r"|increas\w+|decreas\w+|persist\w*|remain\w*|grow\w*|grew)\b"
)
_GONE = re.compile(
    r"^(?:it|this|these|they|the (?:latter|lesion|finding)s?|which)\b(?: \w+){0,4}? (?:has|have"
    r"|is|are"
    r"|was|were|can)\b(?: (?:now|since|meanwhile|all|both|completely|fully|been|be))*"
    r" (?:resolved|disappeared|cleared|gone|not (?:seen|visible|present|found)|no longer"
    r"|vanished)\b"
)


def said_elsewhere(lower: str, start: int = 0, end: int = sys.maxsize) -> re.Match[str] | None:
    """Detect words on another side, or on the known ones, that do not name the finding again."""
    if match := _KNOWN.search(lower, start, end):
        return match
    if not any(word in lower for word in ("left", "right", "other", "contralateral", "opposite")):
        return None
    return _ELSEWHERE.search(lower, start, end)


def said_still(lower: str) -> re.Match[str] | None:
    """Detect a sentence which says that the finding named before is still there."""
    return _KEPT.match(lower)


def is_gone(lower: str) -> bool:
    """Whether a sentence says that what was spoken of is there no more."""
    return _GONE.match(lower) is not None
