"""The lines of a text file in whatever encoding it is, told apart where that can be done safely."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rad3d.core.errors import BadRequest
from rad3d.core.file_kind import HEAD, kind_of, wide_encoding
from rad3d.core.files import existing_file

MAX_LINE = 2**20
"""Characters; the tables that are published have lines of about 1,000."""

_NOT_UTF8 = re.compile("[\udc80-\udcff]")
"""The code points that stand for bytes that are not UTF-8 (PEP 383)."""

_OTHER_SCRIPT = re.compile(r"[^\x00-\x7f]{3}")
"""Three letters in a row that are not ASCII: Windows-1252 has languages that hardly write so."""


def read_lines(path: Path) -> list[str]:
    """The lines of a list, without blanks around them, and without those that are blank."""
    with existing_file(path).open("rb") as stream:
        lines = (line.strip() for line in text_lines(stream, path.name))
        return [line for line in lines if line]


def text_lines(
    stream: BinaryIO, name: str, notes: list[str] | None = None, most: int = MAX_LINE
) -> Iterator[str]:
    """The lines of a text with their ends, in UTF-8, UTF-16 or Windows-1252.

    Args:
        stream: its bytes.
        name: in messages.
        notes: receives a sentence where the encoding was guessed.
        most: characters of a line.

    Raises:
        BadRequest: it is no text, or a line, whose number is told, is in another encoding.
    """
    buffered = io.BufferedReader(stream)  # type: ignore[type-var]
    head = buffered.peek(HEAD)[:HEAD]
    kind = kind_of(head)
    if head.strip() and not kind.id.startswith("text"):
        raise BadRequest(f"{name} is not a table: it is {kind.what}.", kind.remedy, code="no_text")
    text = io.TextIOWrapper(
        buffered, wide_encoding(head) or "utf-8-sig", "surrogateescape", newline=""
    )
    number = 0
    while line := _readline(text, most, number, name):
        number += 1
        if _NOT_UTF8.search(line):
            line = _as_windows_1252(line, number, name)
            if notes is not None and not notes:
                notes.append(f"{name} is not in UTF-8; it was read as Windows-1252.")
        if len(line) == most:
            raise BadRequest(
                f"Line {number} of {name} has more than {most:,} characters.",
                "Give a table of text with one row a line.",
                code="bad_csv",
            )
        yield line


def _readline(text: io.TextIOWrapper, most: int, number: int, name: str) -> str:
    try:
        return text.readline(most)
    except UnicodeError as error:
        raise _other_encoding(number + 1, name) from error


def _as_windows_1252(line: str, number: int, name: str) -> str:
    """A line that is not UTF-8, in what Excel writes in Western Europe and America."""
    try:
        read = line.encode("utf-8", "surrogateescape").decode("cp1252")
    except UnicodeError as error:
        raise _other_encoding(number, name) from error
    if _OTHER_SCRIPT.search(read):
        raise _other_encoding(number, name)
    return read


def _other_encoding(number: int, name: str) -> BadRequest:
    return BadRequest(
        f"Line {number} of {name} is neither UTF-8 nor Windows-1252 text.",
        "Save it with UTF-8 encoding.",
        code="not_utf8",
    )
