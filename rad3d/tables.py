"""Tables of text as people have them: CSV and TSV in UTF-8, read row by row, whoever wrote them.

Commas, semicolons (spreadsheets of many countries write them, because their decimals have commas)
and tabs are told apart by the header. A byte order mark, blank lines, blanks around the names of
columns, and columns without a name do not count. Whatever leaves a cell's meaning open is refused,
with the number of its line: other encodings, quotes that are not closed, two columns of one name.
A row with too few or too many cells is marked; who reads it refuses it, or counts it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from rad3d.errors import BadRequest, UnknownName

DELIMITERS = (",", ";", "\t")

SCAN_SUFFIXES = (".nii.gz", ".nii", ".zip")
"""Of files that are read as scans."""

IMAGE_SUFFIXES = (*SCAN_SUFFIXES, ".mha", ".mhd", ".dcm")
"""Of files that tables may name."""

MOST_LINE = 2**20
"""Characters; the tables that are published have lines of about 1,000."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is run as a formula by spreadsheets (OWASP, CSV injection)."""

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
"""What stands for bytes that are not UTF-8, see PEP 383."""


@dataclass(frozen=True)
class TableRow:
    """A row: the line it begins on, its cells by column, and what is wrong with it."""

    line: int
    cells: Mapping[str, str]
    problem: str = ""


class Table:
    """A table that is being read; iterating gives its rows, once.

    Args:
        stream: its bytes.
        name: in messages.
        wanted: columns that it must have.

    Attributes:
        columns: that have a name, in order.

    Raises:
        BadRequest: it is empty, not UTF-8, no CSV, or has two columns of one name; raised here for
            its first line, and for the others when they are read.
        UnknownName: a column is missing.
    """

    def __init__(self, stream: BinaryIO, name: str, wanted: Sequence[str] = ()) -> None:
        self.name, self._line = name, 0
        lines = self._counted(text_lines(stream, name))
        first = next((line for line in lines if line.strip()), None)
        if first is None:
            raise BadRequest(f"{name} is empty.", "It needs a header row.", code="empty_file")
        delimiter = "\t" if name.lower().endswith(".tsv") else max(DELIMITERS, key=first.count)
        self._reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
        self._header = [cell.strip() for cell in self._next() or ()]
        self.columns = tuple(filter(None, self._header))
        if repeated := sorted({c for c in self.columns if self.columns.count(c) > 1}):
            raise BadRequest(
                f"Two columns of {name} are called {repeated[0]!r}.", "Rename one.", code="bad_csv"
            )
        for column in wanted:
            self.first_of(column)

    def first_of(self, *names: str) -> str:
        """The first of these columns that is there; raises UnknownName where none is."""
        for name in names:
            if name in self.columns:
                return name
        raise UnknownName(f"column in {self.name}", " or ".join(names), self.columns)

    def __iter__(self) -> Iterator[TableRow]:
        first = self._line + 1
        while (cells := self._next()) is not None:
            if len(cells) == len(self._header):
                named = zip(self._header, map(_unguarded, cells), strict=True)
                yield TableRow(first, {name: cell for name, cell in named if name})
            elif cells:
                yield TableRow(first, {}, "with too few or too many cells")
            first = self._line + 1

    def complete(self) -> Iterator[TableRow]:
        """The rows; one that has not one cell for each column is refused."""
        for row in self:
            if row.problem:
                raise BadRequest(
                    f"Line {row.line} of {self.name} has too few or too many cells.",
                    "Put cells that hold commas, quotes or line breaks in quotes.",
                    code="bad_csv",
                )
            yield row

    def _next(self) -> list[str] | None:
        try:
            return next(self._reader, None)
        except csv.Error as error:
            raise BadRequest(
                f"Near line {self._line} {self.name} is not CSV: {error}.",
                "Put cells that hold commas, quotes or line breaks in quotes, and close these.",
                code="bad_csv",
            ) from error

    def _counted(self, lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            self._line += 1
            yield line


@contextmanager
def open_table(path: Path, wanted: Sequence[str] = (), name: str = "") -> Iterator[Table]:
    """A table in a file, as :class:`Table`; raises BadRequest where there is none."""
    with _opened(path) as stream:
        yield Table(stream, name or path.name, wanted)


def read_lines(path: Path) -> list[str]:
    """The lines of a list, without blanks around them, and without those that are blank."""
    with _opened(path) as stream:
        lines = (line.strip() for line in text_lines(stream, path.name))
        return [line for line in lines if line]


def text_lines(stream: BinaryIO, name: str) -> Iterator[str]:
    """The lines of UTF-8 text, with their ends; raises BadRequest with the number of a bad one."""
    text = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
    number = 0
    while line := text.readline(MOST_LINE):
        number += 1
        if _NOT_UTF8.search(line):
            raise BadRequest(
                f"Line {number} of {name} is not UTF-8 text.",
                "Save it with UTF-8 encoding.",
                code="not_utf8",
            )
        if len(line) == MOST_LINE:
            raise BadRequest(
                f"Line {number} of {name} has more than {MOST_LINE:,} characters.",
                "Give a table of text with one row a line.",
                code="bad_csv",
            )
        yield line


def scan_id(name: object) -> str:
    """What a scan is called: its file's name without suffix, as in ``train_1_a_1.nii.gz``."""
    text = str(name)
    suffix = next((s for s in IMAGE_SUFFIXES if text.lower().endswith(s)), "")
    return text[: len(text) - len(suffix)]


def guarded(cell: str) -> str:
    """A cell that no spreadsheet runs as a formula; :class:`Table` undoes it."""
    harmless = not cell.startswith((*FORMULA, "'")) or _NUMBER.fullmatch(cell)
    return cell if harmless else f"'{cell}"


def _unguarded(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:2] in (*FORMULA, "'") else cell


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if not path.is_file():
        raise BadRequest(f"There is no file {path}.", "Check the path.", code="no_file")
    with path.open("rb") as stream:
        yield stream
