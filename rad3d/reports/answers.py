"""Turns answers of yes and no into lines such as ``Emphysema: absent.``

Models answer in tables, lists, check boxes and JSON as often as in sentences. A line with
``present`` or ``absent`` is what the labeller reads.
"""

from __future__ import annotations

import re

from rad3d.reports.replacements import Edit, Edited

_SEEN = (
    r"(?:seen|present|detected|identified|observed|found|noted|visuali[sz]ed|visible|evident"
    r"|demonstrated|appreciated)"
)
_NO = (
    r"(?:no|none|nil|n|neg(?:ative)?|absent|absence|false|0(?:[.,]0+)? ?%|0[.,][0-4]\d*|0(?![.,]\d)"
    rf"|not (?:be )?{_SEEN}|no(?:ne| longer)? {_SEEN}|excluded|ruled[ -]out|resolved|disappeared"
    r"|unremarkable|normal|not (?:enlarged|dilated|thickened)|no evidence|nothing|-|[–—−✗✘❌✕☐]"
    r"|\( ?\)|\[ ?\])"
)
_YES = (
    rf"(?:yes|y|pos(?:itive)?|true|1[.,]0+|1(?![.,]\d)|0[.,][5-9]\d*|(?:is |are )?{_SEEN}"
    r"|\++|[✓✔✅☑☒]|\[[x✓]\])"
)
_UNKNOWN = (
    r"(?:n/?a|n\.a\.?|null|nan|unknown|not (?:applicable|assessed|assessable|evaluated|evaluable"
    r"|mentioned|reported|stated|specified|given|available|provided|discussed|commented))"
)
_VALUE = rf"(?:(?P<no>{_NO})|(?P<yes>{_YES})|(?P<unknown>{_UNKNOWN}))"
_ALONE = re.compile(_VALUE, re.IGNORECASE)

_LINE_END = r"(?:\n(?!(?-i:[a-z])[^:=\n]*(?:\n|$))|$)"
"""The end of a line that the next line does not continue in lower case without its own answer."""

# Each pattern begins with the few signs it can begin with, which is what makes a search quick.
_ANSWER = re.compile(
    r"[:=?→⇒…–—-](?:(?<=[:=→⇒…])>?|(?<=-)>|(?<= [–—-])-?(?= )|(?<=\?)[\"”]?)\s?\*{0,2} ?"
    rf"(?:\**a(?:nswer)?\** ?[:.]\** ?)?\"?{_VALUE}\"?\*{{0,2}}"
    rf" ?(?:[.,](?!\d)|[;|]|\)(?=\W|$)|(?={_LINE_END}))",
    re.IGNORECASE,
)
"""A sign that leads to an answer, the answer, and what shows that it ends there."""

_BRACKETED = re.compile(
    rf"[(\[✗✘❌✕✓✔✅☑](?:(?<=[(\[]) ?{_VALUE} ?[)\]]|(?<![(\[])) ?[.,;|]?", re.IGNORECASE
)
_ANSWERS = re.compile(rf"{_VALUE}(?= ?(?:[.,;|]|\n|$))", re.IGNORECASE)
_STATUS = re.compile(
    r"[,;\n] ?(?:presen(?:t|ce)|status|result|value|answer|detected) ?[:=] ?",
    re.IGNORECASE,
)
_LEADERS = re.compile(r"(?<!\.)\.{3,} ?(?=\w)")
_BARE = re.compile(
    rf" (?<=\w )(?:(?P<no>no)|yes)(?:[,;]|\.(?! ?\d)|(?={_LINE_END}))", re.IGNORECASE
)
_MARK = r"(?:(?P<off>\( ?[-–−]? ?\)|\[ ?[-–−]? ?\]|[☐✗✘❌✕])|\( ?[+x✓] ?\)|\[ ?[+x✓] ?\]|[☑☒✓✔✅])"
_MARKED_LINE = re.compile(rf"(?:^|(?<=\n))[ •*#-]{{0,6}}{_MARK} ?(?=\w)", re.IGNORECASE)
_MARKED = re.compile(rf"{_MARK} ?(?=\w)", re.IGNORECASE)

_SIGN_AT_END = re.compile(r" ?(?:(?P<on>\+{1,3})|[-–−])(?=\n|$)")
_SIGN_VE = re.compile(r"[+–−-] ?ve\b[.,;]?", re.IGNORECASE)
_PERCENT = re.compile(r"[:=] ?(?P<share>\d{1,3})(?:[.,]\d+)? ?%[.,;]?(?=\n|$)")
_BELOW = re.compile(rf"(?<=\w)\n(?={_VALUE}\.?(?:\n|$))", re.IGNORECASE)
"""An answer on the line below its name."""

_NAMED = r"(?: (?:findings?|abnormalit(?:y|ies)|labels?|items?|lesions?|diagnos[ei]s))?"
_ABSENT_HEAD = (
    rf"(?:pertinent )?(?:absent|negatives?(?: for)?|excluded|ruled[ -]out|resolved|denied"
    rf"|not {_SEEN}|no longer {_SEEN}|(?:there (?:is|are) )?no(?: evidence of| signs? of)?|without"
    rf"|(?:there (?:is|are) )?none of|free of|disappeared|cleared|removed|false){_NAMED}"
    r"(?: the following)?"
)
_PRESENT_HEAD = rf"(?:pertinent )?(?:present|positives?|yes|new|persist(?:ent|ing)|true){_NAMED}"
_HEAD = re.compile(
    r"(?:^|(?<=\n)|(?<=[.;,\n] ))[ •*#>-]{0,6}"
    rf"(?:(?P<absent>{_ABSENT_HEAD})|{_PRESENT_HEAD}) ?\*{{0,2}}$",
    re.IGNORECASE,
)
_COLON = re.compile(r":\*{0,2} ?(?P<alone>\n?)")
_LIST_END = re.compile(r"[.:\n]|$")
_SEMICOLON = re.compile(";")
_LONGEST_HEAD = 60
_ITEM = re.compile(r"\n{1,2}[ •*-]{0,4}(?P<text>[^\n:]{1,200})(?=\n|$)")
_UNDERSCORE = re.compile(r"(?<=[A-Za-z])_(?=[A-Za-z])")


def is_answer(text: str) -> bool:
    """Return whether a cell answers yes or no, or says that there is no answer."""
    return _ALONE.fullmatch(text.strip(" *`\"'")) is not None


def spelled(text: str) -> str:
    """``present``, ``absent``, or nothing where a cell holds no answer; other text as it is."""
    answer = _ALONE.fullmatch(text.strip(" *`\"'"))
    if answer is None:
        return text
    return "absent" if answer["no"] else "present" if answer["yes"] else ""


def spell_answers(edited: Edited) -> None:
    """Write every answer of yes or no in a text as a line of its own."""
    if "_" in edited.text:
        edited.sub(_UNDERSCORE, " ")
    if edited.text.count("\n") > 1:
        edited.apply(_below(edited.text))
    edited.sub(_SIGN_VE, lambda match: _line(match.group()[0] != "+"))
    if "%" in edited.text:
        edited.apply(_shares(edited.text))
    if "+" in edited.text:
        edited.sub(_SIGN_AT_END, lambda match: _line(not match["on"]))
    if any(sign in edited.text for sign in "[(☐☑☒✗✘❌✕✓✔✅") and _MARKED_LINE.search(edited.text):
        edited.sub(_MARKED, lambda match: "\nAbsent: " if match["off"] else "\n• ")
    if "..." in edited.text:
        edited.sub(_LEADERS, lambda match: ": " if _ANSWERS.match(*_rest(match)) else None)
    edited.sub(_STATUS, lambda match: ": " if _ANSWERS.match(*_rest(match)) else None)
    edited.apply(_answers(edited.text))
    edited.sub(_BRACKETED, _bracketed)
    edited.sub(_BARE, lambda match: _line(bool(match["no"])))
    edited.apply(_headed(edited.text))


def _below(text: str) -> list[Edit]:
    """Colons for the line ends between names and answers, where two names or more have theirs."""
    edits = [(match.start(), match.end(), ": ") for match in _BELOW.finditer(text)]
    return edits if len(edits) > 1 else []


def _shares(text: str) -> list[Edit]:
    """Answers for probabilities in per cent, which come for several findings at once."""
    edits = [(m.start(), m.end(), _line(int(m["share"]) < 50)) for m in _PERCENT.finditer(text)]
    return edits if len(edits) > 1 else []


def _rest(match: re.Match[str]) -> tuple[str, int]:
    return match.string, match.end()


def _answers(text: str) -> list[Edit]:
    edits: list[Edit] = []
    for match in _ANSWER.finditer(text):
        start, new = match.start(), _line(bool(match["no"]))
        if match["unknown"]:  # what is not answered is not stated
            floor = max(edits[-1][1] if edits else 0, start - 120)
            start = 1 + max(floor - 1, *(text.rfind(sign, floor, start) for sign in "\n.,;|"))
            new = "\n"
        edits.append((start, match.end(), new))
    return edits


def _line(off: bool) -> str:
    return ": absent.\n" if off else ": present.\n"


def _bracketed(match: re.Match[str]) -> str | None:
    if match["unknown"]:
        return None
    return _line(bool(match["no"]) or match.group()[0] in "✗✘❌✕")


def _headed(text: str) -> list[Edit]:
    """``Not seen: a, b`` and lists below such a heading, as lines that begin with ``Absent:``."""
    edits: list[Edit] = []
    for colon in _COLON.finditer(text):
        done = edits[-1][1] if edits else 0
        if (match := _head(text, colon.start())) is None or match.start() < done:
            continue
        new = "\nAbsent: " if match["absent"] else "\n• "
        if not colon["alone"]:
            edits.append((match.start(), colon.end(), new))
            if match["absent"]:
                end = _LIST_END.search(text, colon.end())
                semicolons = _SEMICOLON.finditer(text, colon.end(), end.start() if end else done)
                edits += [(each.start(), each.end(), ",") for each in semicolons]
            continue
        place = colon.end() - 1
        edits.append((match.start(), place, "\n"))
        while item := _ITEM.match(text, place):
            edits.append((item.start(), item.start("text"), new))
            place = item.end()
    return edits


def _head(text: str, colon: int) -> re.Match[str] | None:
    """The heading that ends where a colon stands."""
    return _HEAD.search(text, max(0, colon - _LONGEST_HEAD), colon)
