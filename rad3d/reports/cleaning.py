"""Removes from a text what is not the report: markup, escapes, a chat model's thoughts.

A report that went through a spreadsheet, a web page or a JSON file, or that a chat model wrote,
reads like the same report in plain text. Ordinary text stays as it is, to the letter.
"""

from __future__ import annotations

import html
import re

from rad3d.reports.replacements import Edited

_ENTITY = re.compile(r"&(?:amp;){0,3}(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_ESCAPE = re.compile(
    r"(?:\\{1,4}r)?\\{1,4}n|\\{1,4}r(?![a-z])|\\{1,4}t(?!imes|ext)|\\times|\\u[0-9a-fA-F]{4}"
    r"|_x000[dDaA]_"
)
_THOUGHT_NAME = (
    r"(?:(?:\w{1,9}:)?(?:think|thinking|thoughts?|reasoning|reflection|scratchpad|analysis"
    r"|inner[_ ]monologue|chain[_ ]of[_ ]thought|cot|deliberation))"
)
_THOUGHT = re.compile(
    rf"(?P<open><{_THOUGHT_NAME}(?:\s[^<>]{{0,80}})?>|\[THINK\]|◁think▷|<unused94>"
    r"|<\|begin_of_thought\|>|<\|channel\|>\s?(?:analysis|commentary)\b)"
    rf"|(?P<close></{_THOUGHT_NAME}\s?>|\[/THINK\]|◁/think▷|<unused95>|<\|end_of_thought\|>"
    r"|<\|channel\|>\s?final\s?<\|message\|>)",
    re.IGNORECASE,
)
_TAG = re.compile(
    r"<(?P<value>(?!(?:answer|code|div|font|li|mark|output|pre|report|response|result|section"
    r"|small|span|strike|strong|sub|sup|text|h\d)>)\w{3,40})>\s{0,3}(?P<answer>[^<>\s]{1,12})"
    r"\s{0,3}</(?P=value)>"
    r"|<\|[\w ]{1,40}\|>|\[(?:SEP|CLS|PAD|EOS|BOS)\]|<!--[^<>]{0,200}-->"
    r"|<(?P<slash>/?)(?P<name>[A-Za-z][\w:-]{0,40})(?:\s[^<>]{0,200})?/?>(?P<end>[ \t]?\n)?"
)
_INLINE = re.compile("abbr|big|code|em|font|mark|small|span|strike|strong|sub|sup|tt|[abisu]")
_SECTION = re.compile("history|indication|technique|comparison|findings|impression")
_WIDE = re.compile("[\uff01-\uff5e…«»„。、｡､،۔।]")
_STOPS = {
    "…": "...",
    "«": '"',
    "»": '"',
    "„": '"',
    "。": ".",
    "｡": ".",
    "۔": ".",
    "।": ".",
    "、": ",",
    "､": ",",
    "،": ",",
}
_UNSEEN = re.compile("[\u200b-\u200f\u2060\ufeff\u00ad]+")
_QUOTED = re.compile(r"(?:^|(?<=\n))(?:> ?)+(?=[A-Za-z*•-])")
"""The sign before each line of a quotation."""
_LINE_END = re.compile("\r\n?|[\v\f\u0085\u2028\u2029]")

_HEADINGS = re.compile(
    r"\b(?:findings?|impressions?|conclusions?|results?|report)[\w ]{0,12}:", re.IGNORECASE
)
_LONGEST_NOTHING = 200
_NOTHING = re.compile(
    "|nan|none|null|nil|na|nat|value|ref|undefined|missing|empty|unknown|tbd|unavailable"
    "|(?:no|none|not)(?:reports?|text)?(?:available|applicable|given|provided|reported|dictated"
    "|recorded|specified|stated|data)|no(?:reports?|text|data)"
    "|report(?:isnot|not|un)?(?:available|given|missing|provided)"
)


def undisguised(text: str) -> Edited:
    """A text without thoughts, tags, entities, escapes and full-width signs, and the way back."""
    edited = Edited(text)
    if "&" in text:
        edited.sub(_ENTITY, _character)
    if "\\" in edited.text or "_x000" in edited.text:
        edited.sub(_ESCAPE, _unescaped)
    if any(mark in edited.text for mark in "<[◁"):
        edited.apply(_thoughts(edited.text))
        edited.sub(_TAG, _untagged)
    if not edited.text.isascii():
        edited.sub(_UNSEEN, "")
        edited.sub(_WIDE, _narrow)
    edited.sub(_LINE_END, "\n")
    if ">" in edited.text:
        edited.sub(_QUOTED, "")
    return edited


def clean_report(text: str) -> str:
    """A report in plain text, as it should be read and scored.

    Drops what a chat model thought (``<think>...</think>``, also where one of the tags is
    missing), and turns tags, entities, literal ``\\n`` and full-width signs into what they stand
    for. Text without any of these comes back unchanged.
    """
    edited = undisguised(text)
    return text if edited.text == text else edited.text.strip()


def is_no_report(text: str) -> bool:
    """Return whether a cell stands for no report: empty, ``nan``, ``None``, ``Not given.``"""
    bare = clean_report(text).strip()
    if len(bare) > _LONGEST_NOTHING:
        return False
    parts = re.split(r"[\n;|,]|\.(?=\s|$)", _HEADINGS.sub("\n", bare).lower())
    return all(_NOTHING.fullmatch(re.sub(r"[\W_]+", "", part)) for part in parts)


def _character(match: re.Match[str]) -> str | None:
    entity = f"&{match.group(1)};"
    value = html.unescape(entity)
    return None if value == entity else value


def _unescaped(match: re.Match[str]) -> str:
    value = match.group()
    if value.startswith("\\u"):
        character = chr(int(value[2:], 16))
        return character if character.isprintable() or character.isspace() else " "
    if value.endswith("times"):
        return "x"
    return "\t" if value.endswith("t") else "\n"


def _thoughts(text: str) -> list[tuple[int, int, str]]:
    """Spans of thoughts; a closing tag without an opening one ends thoughts from the start on."""
    spans: list[tuple[int, int, str]] = []
    opened: int | None = None
    for tag in _THOUGHT.finditer(text):
        if tag.lastgroup == "open":
            opened = tag.start() if opened is None else opened
        else:
            if opened is None:
                spans, opened = [], 0
            spans.append((opened, tag.end(), "\n"))
            opened = None
    return spans if opened is None else [*spans, (opened, len(text), "\n")]


def _untagged(match: re.Match[str]) -> str:
    if match["value"]:
        return f"\n{match['value']}: {match['answer']}\n"
    name, end = (match["name"] or "").lower(), match["end"] or ""
    if _INLINE.fullmatch(name):
        return end
    if name in ("td", "th"):
        return f" | {end}" if match["slash"] else end
    if name == "li":
        return end if match["slash"] else "\n- "
    if _SECTION.fullmatch(name) and not match["slash"]:
        return f"\n{name.capitalize()}: "
    return "\n"


def _narrow(match: re.Match[str]) -> str:
    """The narrow sign; a stop or comma has a space behind it, if no digit or space follows."""
    wide = match.group()
    after = match.string[match.end() : match.end() + 1]
    mark = _STOPS.get(wide) or chr(ord(wide) - 0xFEE0)
    apart = mark in ".,;:!?" and after.strip() and not (mark in ".,:" and after.isdigit())
    return f"{mark} " if apart else mark
