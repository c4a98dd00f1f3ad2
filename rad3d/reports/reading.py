"""A report as the labeller reads it: plain sentences, with the way back to the text as given."""

from __future__ import annotations

import re
from itertools import pairwise

from rad3d.reports.answer_tables import write_rows
from rad3d.reports.answers import spell_answers
from rad3d.reports.cleaning import undisguised
from rad3d.reports.json_reports import write_json
from rad3d.reports.replacements import Edit, Edited

_BLANKS = re.compile(r"(?:[^\S\n]|[\x00-\x08\x0e-\x1f]){2,}|[^\S\n ]|[\x00-\x08\x0e-\x1f]")
_LINE_BLANKS = re.compile(r" ?\n[ \n]*\n ?|(?: \n ?| ?\n )")
_BULLET = re.compile("[▪▫■□●○◦‣⁃►▶▸➢➤➔◆◇★·¶]|(?:(?<= )(?:--|—)(?= [A-Z][a-z]))")
_ITEM = re.compile(
    r"(?<![\w,/<>-])(?<!\d\.)(?:\((?P<round>\d{1,2}|[a-h])\)|(?P<half>\d{1,2}|[a-h])\)|(?P<dot>\d{1,2})\."
    r"|(?P<dash>\d{1,2}) ?[-–:]|(?P<ring>[①-⑳])) ?(?=[A-Za-z])(?!(?:or|and|of|to|mm|cm|x)\b)"
)
_TAB = re.compile(r"(?<=\w)\t+(?=\w)")
_STOP = re.compile(r"\.(?= ?[a-z])")
_SHORTENED = re.compile(
    r"\b(?:peric(?:ard)?|periph|pl|bilat|bil|bibas|peribronch|bronch|interlob|sept|centrilob"
    r"|mediast|subpl|subseg|sm|mod|lg|calc|cor|parasept|tract|incr|susp|resid|compr|pulm|parench"
    r"|cardiomeg|ao|fibr|rt|lt)$",
    re.IGNORECASE,
)
_LONGEST_SHORTENED = 12
_FIRST_ITEMS = ("1)", "1.", "1-", "1 -", "1:", "a)", "①")
_DIVIDED = re.compile(r"(?<=\w)(?P<sign> ?(?:/|-{1,3}|–|—|→|~) ?|\.{3} ?|', ?')(?=No [a-z])")
"""A sign that parts statements, as one that denies something shows."""
_BEFORE_NO = tuple(
    f"{sign}{gap}No " for sign in ("/", "-", "–", "—", "→", "~", "...", "'") for gap in ("", " ")
)
_RUNS_ON = re.compile(r"(?:[,:(-]|\b(?:of|the|and|or|in|on|at|no|with|without|an?|is|are|to|for))$")
_INNER_STOP = re.compile(r"[.?!] [A-Z]")
_SHORT_LINE = 45
_FEWEST_WRAPPED = 3


def plain_sentences(text: str) -> Edited:
    """A report without markup, thoughts, tables and lists, its white space single."""
    edited = undisguised(text)
    if _has_columns(edited.text):
        edited.sub(_TAB, " | ")
    if "  " in edited.text or not edited.text.replace("\n", "").isprintable():
        edited.sub(_BLANKS, " ")
    if "\n" in edited.text:
        edited.sub(_LINE_BLANKS, lambda match: "\n\n" if match.group().count("\n") > 1 else "\n")
    if "\n" in edited.text:
        edited.apply(_unwrapped(edited.text))
    if "{" in edited.text or "[" in edited.text:
        write_json(edited)
    write_rows(edited)
    if not edited.text.isascii() or "--" in edited.text:
        edited.sub(_BULLET, "•")
    if any(mark in edited.text for mark in _FIRST_ITEMS):
        edited.apply(_items(edited.text))
    if any(sign in edited.text for sign in _BEFORE_NO):
        edited.apply(_divided(edited.text))
    edited.sub(_STOP, _without_stop)
    spell_answers(edited)
    if "\n" in edited.text:
        edited.apply(_line_starts(edited.text))
    return edited


def _has_columns(text: str) -> bool:
    """Return whether tabs separate columns, instead of standing for spaces."""
    return 0 < text.count("\t") <= text.count(" ") + 2 * (text.count("\n") + 1)


def _without_stop(match: re.Match[str]) -> str | None:
    """Drop the full stop of an abbreviated word; return None for any other full stop."""
    begin = max(0, match.start() - _LONGEST_SHORTENED)
    return "" if _SHORTENED.search(match.string, begin, match.start()) else None


def _divided(text: str) -> list[Edit]:
    """Bullets for the signs that part statements on one line."""
    signs = {found["sign"].strip() for found in _DIVIDED.finditer(text)}
    if not signs:
        return []
    parting = "|".join(re.escape(sign) for sign in sorted(signs, key=len, reverse=True))
    found = re.finditer(rf"(?<=\w) ?(?:{parting}) ?(?=[A-Z])", text)
    return [(each.start(), each.end(), " • ") for each in found]


def _items(text: str) -> list[Edit]:
    """Numbers and letters that count upwards from the first, as bullets."""
    edits: list[Edit] = []
    held: dict[str, tuple[int, list[Edit]]] = {}
    for match in _ITEM.finditer(text):
        style = str(match.lastgroup)
        mark = match[style]
        number = (
            int(mark) if mark.isdecimal() else ord(mark) - ord("①" if style == "ring" else "a") + 1
        )
        edit = (match.start(), match.end(), "• ")
        reached, waiting = held.get(style, (0, []))
        if number == 1:
            held[style] = (1, [edit])
        elif number == reached + 1:
            edits += [*waiting, edit]
            held[style] = (number, [])
    return sorted(edits)


def _unwrapped(text: str) -> list[Edit]:
    """Spaces for the line ends of paragraphs that were wrapped."""
    edits: list[Edit] = []
    place = 0
    for block in text.split("\n\n"):
        lines = block.split("\n")
        if _is_wrapped(lines):
            end = place - 1
            for line in lines[:-1]:
                end += len(line) + 1
                edits.append((end, end + 1, "" if line.endswith("-") else " "))
        place += len(block) + 2
    return edits


def _line_starts(text: str) -> list[Edit]:
    """Bullets before lines in lower case, where the lines are short statements of their own."""
    edits: list[Edit] = []
    place = 0
    for block in text.split("\n\n"):
        lines = block.split("\n")
        runs_on = any(len(line) > _SHORT_LINE or _INNER_STOP.search(line) for line in lines)
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            place += len(line) + 1
            if following[:1].islower() and not runs_on and not _RUNS_ON.search(line):
                edits.append((place, place, "• "))
        place += 1
    return edits


def _is_wrapped(lines: list[str]) -> bool:
    """Return whether each line ends where the next word did not fit."""
    width = max(map(len, lines))
    return (
        len(lines) >= _FEWEST_WRAPPED
        and width > _SHORT_LINE
        and all(
            len(line) + len(following.split(" ", 1)[0]) >= width
            for line, following in pairwise(lines)
        )
    )
