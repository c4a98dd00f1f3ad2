"""Writes the rows of tables in a report as lines: name, colon, answer, details."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rad3d.reports.answers import is_answer, spelled
from rad3d.reports.replacements import Edit, Edited

_RULER = frozenset("|+-=: ")
_FLAT = re.compile(r"\|(?: (?=\|)|(?=\|))")
_FLAT_RULER = re.compile(r"\| ?\| ?:?-{2}|-{2}:? ?\| ?\|")
"""A table whose line ends were lost: where two bars meet, a row begins."""

_NAMES = re.compile(
    r"(?:findings?|labels?|names?|abnormalit\w+|conditions?|observations?|patholog\w+|diseases?"
    r"|categor\w+|#|no\.?|nr\.?|id|items?|structures?|organs?|regions?|locations?|questions?)"
)
_QUOTES = "\"' "
_PAIR = re.compile(
    r"(?:^|(?<=\n))(?P<name>[^\n|,;\t:=]{2,60})[,;\t] ?(?P<answer>[^\n|,;\t]{1,16})"
    r"(?=\n|$)"
)


def write_rows(edited: Edited) -> None:
    """Write every row of every table as a line, in place."""
    if "|" in edited.text:
        if _FLAT_RULER.search(edited.text):
            edited.sub(_FLAT, "|\n")
        edited.apply(_rows(edited.text))
    if "\n" in edited.text:
        edited.sub(_PAIR, _pair)


def _pair(match: re.Match[str]) -> str | None:
    """A name and an answer with a comma, a semicolon or a tab between them."""
    answer = match["answer"]
    return f"{match['name'].strip(_QUOTES)}: {spelled(answer)}." if is_answer(answer) else None


def _rows(text: str) -> list[Edit]:
    edits: list[Edit] = []
    header: Sequence[str] = ()
    place = 0
    lines = text.split("\n")
    for i, line in enumerate(lines):
        start, place = place, place + len(line) + 1
        if "|" not in line:
            header = ()
            continue
        cells = [cell.strip(" *`") for cell in line.strip(" |").split("|")]
        following = lines[i + 1] if i + 1 < len(lines) else ""
        if _is_ruler(line):
            edits.append((start, start + len(line), ""))
        elif not header and (_is_ruler(following) or _NAMES.fullmatch(cells[0].lower())):
            header = cells
            edits.append((start, start + len(line), ""))
        else:
            edits.append((start, start + len(line), _row(cells, header) + "\n"))
    return edits


def _is_ruler(line: str) -> bool:
    """Return whether a line only separates the head of a table from its rows."""
    return "--" in line and _RULER.issuperset(line)


def _row(cells: Sequence[str], header: Sequence[str]) -> str:
    """One row as a line, or as one line for each of its columns."""
    if any(len(cell) > 60 or ". " in cell or ": " in cell for cell in cells):
        return "\n• ".join(cells)
    if len(cells) == len(header) > 0 and all(is_answer(cell) or not cell for cell in cells):
        pairs = zip(header, cells, strict=True)
        return "\n".join(f"{name}: {spelled(cell)}." for name, cell in pairs if spelled(cell))
    first = 1 if len(cells) > 2 and cells[0].isdigit() else 0
    name, rest = cells[first], list(cells[first + 1 :])
    for heading, cell in zip(header[first + 1 :], rest, strict=False):
        if is_answer(heading) and cell.lower() in ("x", "1", "yes", "✓", "✔", "✗", "✘", "✅", "*"):
            return f"{name}: {spelled(heading)}."
    answers = [spelled(cell) for cell in rest if is_answer(cell)]
    if answers and (not answers[0] or answers[0] == "absent"):
        return f"{name}: absent." if answers[0] else ""
    details = [cell for cell in rest if cell and not is_answer(cell)]
    if not answers and not details:
        return f"• {name}"
    if not answers and not header and any(" " in cell for cell in details):
        return "\n• ".join([name, *details])
    return f"{name}: " + ", ".join([*answers[:1], *details]) + "."
