"""Tables of text as people have them: CSV and TSV, read row by row, whoever wrote them.

Commas, semicolons (spreadsheets of many countries write them, because their decimals have commas),
tabs and bars are told apart by the columns that are wanted and by the first rows, or by the line
``sep=;`` of Excel. A byte order mark, UTF-16, blank lines, capitals and blanks in the names of
columns, columns without a name, and empty last cells that were left out do not count. Text that is
not UTF-8 is read as Windows-1252, which is noted. Whatever leaves a cell's meaning open is refused,
with the number of its line: other encodings, quotes that are not closed, two columns of one name.
A row with too few or too many cells is marked; who reads it refuses it, or counts it.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from rad3d.core.errors import BadRequest, UnknownName, some
from rad3d.core.files import existing_file
from rad3d.core.ids import scan_id
from rad3d.core.labels import LabelSet
from rad3d.core.text_lines import text_lines
from rad3d.core.words import bare

SCAN_COLUMNS = ("VolumeName", "id")
"""Columns that name the scan of a row, the first one of CT-RATE."""

DELIMITERS = (",", ";", "\t", "|")


MAX_COLUMNS = 10_000

MAX_LISTED = 200_000
"""Characters of a cell that is read as a list of texts."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is run as a formula by spreadsheets (OWASP, CSV injection)."""

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
_SEPARATOR = re.compile(r'\s*"?sep=(\t|[^\s\w"])"?[;,\s]*', re.IGNORECASE)
"""The line that Excel puts before the header, or reads there."""


_LISTED = re.compile(r"\[\s*['\"].*['\"]\s*\]|\[\s*\]", re.DOTALL)


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
        known: columns that it may have. Both are found in any case and spacing, and the rows have
            them under these names.

    Attributes:
        columns: that have a name, in order.
        notes: what a person should know of how it was read.

    Raises:
        BadRequest: it is empty, no text, no CSV, or has two columns of one name; raised here for
            its first line, and for the others when they are read.
        UnknownName: a column is missing.
    """

    def __init__(
        self, stream: BinaryIO, name: str, wanted: Sequence[str] = (), known: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.notes: list[str] = []
        self._first_cells: set[str] = set()
        lines = text_lines(stream, name, self.notes)
        begun, self._before, delimiter = self._begin(lines)
        if not delimiter:
            begun += islice(lines, 5)
            delimiter = _delimiter(begun, wanted, known, name)
        self._reader = csv.reader(chain(begun, lines), delimiter=delimiter, strict=True)
        self._header = [cell.strip() for cell in self._next() or ()]
        if len(self._header) > MAX_COLUMNS:
            raise BadRequest(
                f"{name} has more than {MAX_COLUMNS:,} columns.",
                "Give a table with one row for each scan.",
                code="bad_csv",
            )
        if repeated := sorted(c for c, n in Counter(self.columns).items() if n > 1):
            raise BadRequest(
                f"Two columns of {name} are called {repeated[0]!r}.", "Rename one.", code="bad_csv"
            )
        self._recognise((*wanted, *known))
        for column in wanted:
            self.first_of(column)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that have one."""
        return tuple(filter(None, self._header))

    def first_of(self, *names: str) -> str:
        """The first of these columns that is there; raises UnknownName where none is."""
        self._recognise(names)
        for name in names:
            if name in self._header:
                return name
        raise UnknownName(f"column in {self.name}", " or ".join(names), self.columns)

    def __iter__(self) -> Iterator[TableRow]:
        first = self._line + 1
        while (cells := self._next()) is not None:
            if any(cell.strip() for cell in cells):
                yield self._row(first, cells)
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

    def by_scan(self, code: str) -> Iterator[tuple[str, TableRow]]:
        """The id of a scan, from ``VolumeName`` or ``id``, and its row; every scan has one row.

        Args:
            code: of the error where a scan has none or two.
        """
        column = self.first_of(*SCAN_COLUMNS)
        ids: set[str] = set()
        for row in self.complete():
            id_ = scan_id(row.cells[column])
            if not id_ or id_ in ids:
                problem = f"{id_} for the second time" if id_ else "no id"
                raise BadRequest(
                    f"Line {row.line} of {self.name} holds {problem}.",
                    "Give every scan one row.",
                    code=code,
                )
            ids.add(id_)
            yield id_, row

    def _row(self, line: int, cells: list[str]) -> TableRow:
        """Spreadsheets leave out the last cells of a row where they are empty, or add some."""
        missing = len(self._header) - len(cells)
        surplus = any(cell.strip() for cell in cells[len(self._header) :])
        if surplus or (missing > 0 and self._is_the_rest_of_a_text(cells[0])):
            return TableRow(line, {}, "with too few or too many cells")
        self._first_cells |= set(_traits(cells[0]))
        cells += [""] * missing
        named = zip(self._header, map(_unguarded, cells), strict=False)
        return TableRow(line, {name: cell for name, cell in named if name})

    def _is_the_rest_of_a_text(self, cell: str) -> bool:
        """Whether a short row is none, but what follows a line break in a cell without quotes.

        Then its first cell has several words, or no digit, unlike those of the rows before.
        """
        words = cell.split()
        if len(words) > 3 or (len(words) > 1 and (cell[0].islower() or words[-1][-1] in ".,;:")):
            return True
        return bool(self._first_cells) and not set(_traits(cell)) <= self._first_cells

    @property
    def _line(self) -> int:
        return self._before + self._reader.line_num

    def _next(self) -> list[str] | None:
        try:
            return next(self._reader, None)
        except csv.Error as error:
            raise BadRequest(
                f"Near line {self._line} {self.name} is not CSV: {error}.",
                "Put cells that hold commas, quotes or line breaks in quotes, and close these.",
                code="bad_csv",
            ) from error

    def _begin(self, lines: Iterator[str]) -> tuple[list[str], int, str]:
        """The first line of the header, how many stand before it, and the delimiter if stated."""
        delimiter = ""
        for before, line in enumerate(lines):
            stated = _SEPARATOR.fullmatch(line)
            if stated and not before:
                delimiter = stated[1]
            elif line.lstrip().startswith(("{", "[{", '["')):
                raise BadRequest(
                    f"{self.name} is JSON, not a table.", "Write it as CSV.", code="bad_csv"
                )
            elif line.strip():
                return [line], before, delimiter
        raise BadRequest(f"{self.name} is empty.", "It needs a header row.", code="empty_file")

    def _recognise(self, names: Iterable[str]) -> None:
        names_here = recognised(self._header, names)
        self._header = [names_here.get(cell, cell) for cell in self._header]


def recognised(there: Sequence[str], names: Iterable[str]) -> dict[str, str]:
    """Names of columns that are these ones in another case or spacing -> as they are called here.

    ``"Volume Name"`` is ``"VolumeName"``, unless both or two such are there.
    """
    here = set(there)
    missing = {bare(name): name for name in names if name not in here}
    by_trait: dict[str, list[str]] = {}
    for each in there:
        if name := missing.get(bare(each)):
            by_trait.setdefault(name, []).append(each)
    return {same[0]: name for name, same in by_trait.items() if len(same) == 1}


@lru_cache(64)
def label_columns(
    there: tuple[str, ...], label_set: LabelSet, whole: str = ""
) -> Mapping[str, str]:
    """Map labels to their columns among these; labels without one are left out.

    Args:
        there: names of columns.
        label_set: the labels.
        whole: name of a table that must have them all; raises UnknownName where it has not.
    """
    found: dict[str, str] = {}
    for label in label_set.labels:
        names = (label.name, *label.columns)
        same = recognised(there, names)
        if own := [column for column in there if column in names or column in same]:
            found[label.name] = own[0]
        elif whole:
            raise UnknownName(f"column in {whole}", label.name, there)
    return found


def labels_of_row(
    cells: Mapping[str, Any], label_set: LabelSet, id_: str = ""
) -> tuple[int, ...] | None:
    """The labels of a row as 0 or 1; None where it has no column of them.

    Raises:
        UnknownName: it has columns of some labels only.
        BadRequest: one is neither 0 nor 1.
    """
    columns = label_columns(tuple(cells), label_set)
    if not columns:
        return None
    values = []
    for name in label_set.names:
        if name not in columns:
            raise UnknownName("column", name, list(cells))
        cell = cells[columns[name]]
        try:
            value = float(cell)
        except (TypeError, ValueError):
            value = -1.0
        if value not in (0.0, 1.0):
            raise BadRequest(
                f"{name} of {id_ or 'a row'} is {some([str(cell)])!r}, neither 0 nor 1.",
                "Correct the table of labels.",
                code="bad_labels",
            )
        values.append(int(value))
    return tuple(values)


def _delimiter(begun: Sequence[str], wanted: Sequence[str], known: Sequence[str], name: str) -> str:
    """The delimiter that yields most of the expected columns and rows of equal length."""

    def fit(delimiter: str) -> tuple[int, int, bool, int, bool]:
        try:
            header, *rows = csv.reader(begun, delimiter=delimiter)
        except (csv.Error, ValueError):
            return 0, 0, False, 0, False
        names = {bare(cell) for cell in header[:MAX_COLUMNS]}
        matches = [sum(bare(column) in names for column in columns) for columns in (wanted, known)]
        whole = (row for row in rows[:-1] or rows if row)  # the last may go on
        even = len(header) > 1 and all(len(row) == len(header) for row in whole)
        tabs = delimiter == "\t" and name.lower().endswith(".tsv")
        return matches[0], matches[1], even, len(header), tabs

    return max(DELIMITERS, key=fit)


def _traits(cell: str) -> str:
    """Traits of a first cell: ``" "`` for several words, ``"a"`` where it has no digit."""
    several, digits = len(cell.split()) > 1, any(map(str.isdigit, cell))
    return " " * several + "a" * (not digits) + "_"


@contextmanager
def open_table(
    path: Path, wanted: Sequence[str] = (), name: str = "", known: Sequence[str] = ()
) -> Iterator[Table]:
    """A table in a file, as :class:`Table`; raises BadRequest where there is none."""
    with existing_file(path).open("rb") as stream:
        yield Table(stream, name or path.name, wanted, known)


def cell_text(cell: object) -> str | None:
    """The text of a cell of a table or of JSON; None where it holds something else than text.

    NaN is how pandas writes a cell that is not there. A list of texts, also one that was written
    into a cell as text, is these texts one below the other. What no text holds is taken out: NUL
    and halves of surrogate pairs.
    """
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, str):
        cell = _unlisted(cell)
    if isinstance(cell, list | tuple):
        parts = [cell_text(part) for part in cell if not isinstance(part, list | tuple)]
        if len(parts) != len(cell) or None in parts:
            return None
        cell = "\n".join(part for part in parts if part)
    if isinstance(cell, Mapping):
        return None
    return str(cell).replace("\0", " ").encode("utf-8", "replace").decode("utf-8").strip()


def _unlisted(cell: str) -> Any:
    """``"['a', 'b']"``, as pandas writes a list, as the list."""
    if len(cell) > MAX_LISTED or not _LISTED.fullmatch(cell.strip()):
        return cell
    for parse in (json.loads, ast.literal_eval):
        try:
            texts = parse(cell.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(texts, list) and all(isinstance(part, str) for part in texts):
            return texts
    return cell


def guarded(cell: str) -> str:
    """A cell that no spreadsheet runs as a formula; :class:`Table` undoes it."""
    harmless = not cell.startswith((*FORMULA, "'")) or _NUMBER.fullmatch(cell)
    return cell if harmless else f"'{cell}"


def write_table(target: TextIO, rows: Iterable[Iterable[object]]) -> None:
    """Write rows as CSV in which no text runs as a formula; None is an empty cell."""
    writer = csv.writer(target, lineterminator="\n")
    for row in rows:
        writer.writerow(guarded(cell) if isinstance(cell, str) else cell for cell in row)


def _unguarded(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:2] in (*FORMULA, "'") else cell
