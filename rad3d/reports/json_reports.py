"""Writes JSON in a report as lines: the way to a value, a colon, the value."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rad3d.reports.answers import is_answer, spelled
from rad3d.reports.replacements import Edited

_BEGIN = re.compile(r"[{\[]\s?(?:[{\[]\s?)?(?=[\"'][^\"'\n]{1,80}[\"']\s?[:,\]])")
_TOKEN = re.compile(
    r"\"(?P<double>(?:[^\"\\]|\\.)*)\"?|'(?P<single>(?:[^'\\]|\\.)*)'?|(?P<sign>[{}\[\]:,])"
    r"|(?P<bare>[^\s{}\[\]:,\"']+)",
    re.DOTALL,
)
_WORDS = re.compile(r"_+|(?<=[a-z])(?=[A-Z])")
_PLAIN = re.compile(
    r"(?:findings?|labels?|abnormalit\w+|results?|reports?|data|outputs?|answers?|diagnos[ei]s"
    r"|predictions?|impressions?|conclusions?|texts?|generated\w*|content|chest ct|ct|items?)"
)
_NAME = re.compile(
    r"(?:findings?|names?|labels?|abnormality|condition|disease|pathology|observation|entity|class"
    r"|title|question)"
)
_STATUS = re.compile(
    r"(?:is )?(?:presen(?:t|ce)|status|value|answer|result|detected|exists|positive|state"
    r"|prediction|score|probability|assessment|found|seen)"
)
_UNSTATED = re.compile(
    r".*\b(?:history|indication|technique|comparison|clinical|question|prior)\b.*"
)


@dataclass
class _Level:
    """An object or a list that is open: the key it belongs to and the values it holds itself."""

    key: str
    is_list: bool = False
    values: list[tuple[str, str]] = field(default_factory=list)


def write_json(edited: Edited) -> None:
    """Write the JSON in a text, which may be cut off or in Python's spelling, as lines."""
    begin = _BEGIN.search(edited.text)
    if begin is None:
        return
    end = max(edited.text.rfind("}"), edited.text.rfind("]")) + 1
    end = end if end > begin.end() else len(edited.text)
    lines = _lines(edited.text, begin.start(), end)
    edited.apply([(begin.start(), end, "\n" + "\n".join(lines) + "\n")])


def _lines(text: str, start: int, end: int) -> list[str]:
    lines: list[str] = []
    levels = [_Level("")]
    key = last = ""
    for token in _TOKEN.finditer(text, start, end):
        sign = token["sign"]
        if sign is None:
            last = next(part for part in token.groups() if part is not None)
        elif sign == ":":
            key, last = _WORDS.sub(" ", last), ""
        elif sign in "{[":
            levels.append(_Level(key, sign == "["))
            key = last = ""
        else:
            if last:
                levels[-1].values.append((key, last))
            key = last = ""
            if sign in "}]" and len(levels) > 1:
                lines += _written(levels)
                levels.pop()
    if last and key:
        levels[-1].values.append((key, last))
    while levels:
        lines += _written(levels)
        levels.pop()
    return lines


def _written(levels: list[_Level]) -> list[str]:
    """The text at the innermost level."""
    keys = [level.key for level in levels[-4:]]
    if any(_UNSTATED.fullmatch(key.lower()) for key in keys):
        return []
    way = " ".join(key for key in keys if key and not _PLAIN.fullmatch(key.lower()))
    level = levels[-1]
    if level.is_list:
        return [_line(way, value) for _, value in level.values if spelled(value)]
    values = [pair for pair in level.values if not _UNSTATED.fullmatch(pair[0].lower())]
    status = [value for key, value in values if _STATUS.fullmatch(key.lower()) and is_answer(value)]
    name = [v for k, v in values if _NAME.fullmatch(k.lower()) and not is_answer(v)]
    if status or (name and len(values) > 1):
        if status and spelled(status[0]) != "present":
            rest = [spelled(status[0])]
        else:
            rest = ["present", *(v for _, v in values if v not in name and not is_answer(v))]
        return [_line(" ".join(filter(None, [way, *name])), ", ".join(rest))] if rest[0] else []
    return [
        _line(f"{way} {'' if _PLAIN.fullmatch(key.lower()) else key}".strip(), value)
        for key, value in values
        if spelled(value)
    ]


def _line(name: str, value: str) -> str:
    text = spelled(value)
    return f"{name}: {text}." if name else f"{text}."
