"""Turns answers of yes and no, wherever they stand, into lines such as ``Emphysema: absent.``

Models answer in tables, lists, check boxes and JSON as often as in sentences. A line with
``present`` or ``absent`` is what the labeller reads.
"""

from __future__ import annotations

import re

from rad3d.text.edits import Edit, Edited

_SEEN = (
    r"(?:seen|present|detected|identified|observed|found|noted|visuali[sz]ed|visible|evident"
    r"|demonstrated|appreciated)"
)
_NO = (
    r"(?:no|none|nil|n|neg(?:ative)?|absent|absence|false|0|0[.,]0+|0[.,][0-4]\d*"
    rf"|not (?:be )?{_SEEN}|no(?:ne| longer)? {_SEEN}|excluded|ruled[ -]out|resolved|disappeared"
    r"|unremarkable|normal|not (?:enlarged|dilated|thickened)|no evidence|nothing|-|[–—−✗✘❌✕☐]"
    r"|\( ?\)|\[ ?\])"
)
_YES = (
    rf"(?:yes|y|pos(?:itive)?|true|1|1[.,]0+|0[.,][5-9]\d*|(?:is |are )?{_SEEN}|\++|[✓✔✅☑☒]"
    r"|\[[x✓]\])"
)
_UNKNOWN = (
    r"(?:n/?a|n\.a\.?|null|nan|unknown|not (?:applicable|assessed|assessable|evaluated|evaluable"
    r"|mentioned|reported|stated|specified|given|available|provided|discussed|commented))"
)
_VALUE = rf"(?:(?P<no>{_NO})|(?P<yes>{_YES})|(?P<unknown>{_UNKNOWN}))"
_ALONE = re.compile(_VALUE, re.IGNORECASE)

_ANSWER = re.compile(
    r"(?<=[\w)\]*/.\"'])(?:"
    r" ?(?::|=>?|->|→|⇒) ?\*{0,2} ?| [-–—]{1,2} | ?(?:\.{3}|…) ?"
    r"| ?\?[\"”]?\s?(?:\**a(?:nswer)?\** ?[:.]\** ?)?)"
    rf"\"?{_VALUE}\"?\*{{0,2}}(?P<end> ?(?:[.,;|]|\)(?=\W|$)|(?=\n|$)))",
    re.IGNORECASE,
)
"""A sign that leads to an answer, the answer, and what shows that it ends there."""

_BRACKETED = re.compile(
    rf"(?<=[\w)]) ?(?:[(\[] ?{_VALUE} ?[)\]]|(?P<mark>[✗✘❌✕✓✔✅☑])) ?[.,;|]?", re.IGNORECASE
)
_BARE = re.compile(
    r"(?<=\w) (?P<no>no)?(?P<yes>yes)?(?P<end>[,;]|\.(?! ?\d)|(?=\n|$))", re.IGNORECASE
)
_MARK = r"(?:(?P<off>\( ?[-–−]? ?\)|\[ ?[-–−]? ?\]|[☐✗✘❌✕])|\( ?[+x✓] ?\)|\[ ?[+x✓] ?\]|[☑☒✓✔✅])"
_MARKED_LINE = re.compile(rf"(?:^|(?<=\n))[ •*#-]{{0,6}}{_MARK} ?(?=\w)", re.IGNORECASE)
_MARKED = re.compile(rf"{_MARK} ?(?=\w)", re.IGNORECASE)

_NAMED = r"(?: (?:findings?|abnormalit(?:y|ies)|labels?|items?|lesions?|diagnos[ei]s))?"
_ABSENT_HEAD = (
    rf"(?:pertinent )?(?:absent|negatives?|excluded|ruled[ -]out|resolved|denied|no|not {_SEEN}"
    rf"|no longer {_SEEN}|no evidence of|disappeared|cleared|removed|false){_NAMED}"
)
_PRESENT_HEAD = rf"(?:pertinent )?(?:present|positives?|yes|new|persist(?:ent|ing)|true){_NAMED}"
_HEAD = re.compile(
    r"(?:^|(?<=\n)|(?<=[.;,\n] ))[ •*#>-]{0,6}"
    rf"(?:(?P<absent>{_ABSENT_HEAD})|{_PRESENT_HEAD}) ?\*{{0,2}}:\*{{0,2}} ?(?P<alone>\n?)",
    re.IGNORECASE,
)
_ITEM = re.compile(r"\n{1,2}[ •*-]{0,4}(?P<text>[^\n:]{1,200})(?=\n|$)")
_UNDERSCORE = re.compile(r"(?<=[A-Za-z])_(?=[A-Za-z])")


def is_answer(text: str) -> bool:
    """Whether a cell is an answer of yes or no, or says that there is none."""
    return _ALONE.fullmatch(text.strip(" *`\"'")) is not None


def spelled(text: str) -> str:
    """``present``, ``absent``, or nothing where a cell holds no answer; other text as it is."""
    found = _ALONE.fullmatch(text.strip(" *`\"'"))
    if found is None:
        return text
    return "absent" if found["no"] else "present" if found["yes"] else ""


def spell_answers(edited: Edited) -> None:
    """Write every answer of yes or no in a text as a line of its own."""
    if "_" in edited.text:
        edited.sub(_UNDERSCORE, " ")
    if _MARKED_LINE.search(edited.text):
        edited.sub(_MARKED, lambda found: "\nAbsent: " if found["off"] else "\n• ")
    edited.apply(_answers(edited.text, _ANSWER))
    edited.sub(_BRACKETED, _bracketed)
    edited.sub(_BARE, lambda found: _line(found) if found["no"] or found["yes"] else None)
    edited.apply(_headed(edited.text))


def _answers(text: str, pattern: re.Pattern[str]) -> list[Edit]:
    edits: list[Edit] = []
    for found in pattern.finditer(text):
        start = found.start()
        if found["unknown"]:  # what is not answered is not stated
            floor = max(edits[-1][1] if edits else 0, start - 120)
            start = 1 + max(floor - 1, *(text.rfind(sign, floor, start) for sign in "\n.,;|"))
        edits.append((start, found.end(), _line(found)))
    return edits


def _line(found: re.Match[str]) -> str:
    groups = found.groupdict()
    if groups.get("unknown"):
        return "\n"
    return ": absent.\n" if groups["no"] else ": present.\n"


def _bracketed(found: re.Match[str]) -> str | None:
    if found["unknown"]:
        return None
    off = found["no"] or (found["mark"] and found["mark"] in "✗✘❌✕")
    return ": absent.\n" if off else ": present.\n"


def _headed(text: str) -> list[Edit]:
    """``Not seen: a, b`` and lists below such a heading, as lines that begin with ``Absent:``."""
    edits: list[Edit] = []
    for found in _HEAD.finditer(text):
        if edits and found.start() < edits[-1][1]:
            continue
        new = "\nAbsent: " if found["absent"] else "\n• "
        if not found["alone"]:
            edits.append((found.start(), found.end(), new))
            continue
        edits.append((found.start(), found.end() - 1, "\n"))
        place = found.end() - 1
        while (item := _ITEM.match(text, place)) and not _HEAD.match(text, item.start("text")):
            edits.append((item.start(), item.start("text"), new))
            place = item.end()
    return edits
