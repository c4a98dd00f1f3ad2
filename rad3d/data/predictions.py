"""Predictions files, read with care: CSV, JSON lines, and the JSON that others write.

A row holds an id, a reference and a prediction, and may hold labels under their names and
``failure``, ``seconds``, ``finish``. The forms of JSON are those of :mod:`rad3d.data.json_rows`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.file_kind import wide_encoding
from rad3d.core.ids import REPEATED, repeated, scan_id
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.tables import cell_text, labels_of_row, open_table, recognised
from rad3d.core.text_lines import text_lines
from rad3d.data.english import looks_english
from rad3d.data.json_rows import json_rows
from rad3d.data.samples import Dropped, Prediction, PredictionSet, Sample, SampleSet
from rad3d.reports.cleaning import clean_report, is_no_report

MAX_FILE_MB = 200
MAX_REPORT_CHARACTERS = 20_000
"""A longer text is no report of one scan; it is cut, and the cut is told."""

MAX_CELL_CHARACTERS = 10 * MAX_REPORT_CHARACTERS
"""A text longer than this, thoughts and markup included, is refused."""

MAX_NAME_CHARACTERS = 120

OPTIONAL = ("failure", "seconds", "finish", "scan")

_RUN = ("=", "@", "+")


@dataclass(frozen=True)
class Columns:
    """Which columns of a file hold what.

    Attributes:
        id: the scan's id or file name.
        reference: the reference report; of several columns they are its parts, in order, where
            ``HEADING=COLUMN`` puts ``HEADING: `` before the text.
        prediction: the report that a system wrote.
        patient: whose scan it is; empty where no column says so.
        label_set: the labels, whose columns are called as they are.
        wordings: True where rows of one id are wordings of one report, and not a mistake.
    """

    id: str = "id"
    reference: str | tuple[str, ...] = "reference"
    prediction: str = "prediction"
    patient: str = ""
    label_set: LabelSet = CT_RATE
    wordings: bool = False

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """Heading, which may be empty, and column of each part of a reference."""
        if isinstance(self.reference, str):
            return (("", self.reference),)
        split = (each.rpartition("=") for each in self.reference)
        return tuple((heading.strip(), column) for heading, _, column in split)

    @property
    def of_references(self) -> tuple[str, ...]:
        """The columns that must be there for references."""
        return (*(column for _, column in self.parts), *filter(None, [self.patient]))

    def report(self, cells: Mapping[str, Any]) -> str:
        """The reference of a row; empty where its cells hold none."""
        parts = ((heading, report_of(cells[column])) for heading, column in self.parts)
        whole = "\n".join(f"{head}: {text}" if head else text for head, text in parts if text)
        return whole[:MAX_REPORT_CHARACTERS]


@dataclass(frozen=True)
class Row:
    """A row of any of the formats: where it stands, its cells, and what is wrong with it."""

    where: str
    cells: Mapping[str, Any]
    problem: str = ""


@dataclass(frozen=True)
class Entries:
    """Usable rows of a file by id, and why others were dropped.

    Attributes:
        cells: id -> cells of the row, of rows that can be used.
        references: id -> its reference report; empty where none was wanted.
        wordings: id -> further reports of it.
        dropped: the other rows.
        notes: on how the file was read.
    """

    cells: Mapping[str, Mapping[str, Any]]
    references: Mapping[str, str]
    wordings: Mapping[str, Sequence[str]]
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]

    def samples(self, columns: Columns) -> tuple[Sample, ...]:
        """The references as cases, with the labels and patients of their rows."""
        return tuple(
            Sample(
                id_,
                text,
                labels_of_row(row, columns.label_set),
                patient=cell_text(row.get(columns.patient)) or "",
                wordings=tuple(self.wordings.get(id_, ())),
            )
            for id_, text in self.references.items()
            for row in (self.cells[id_],)
        )


def read_predictions(
    path: Path,
    *,
    columns: Columns | None = None,
    samples: SampleSet | None = None,
    name: str = "",
) -> tuple[SampleSet, PredictionSet]:
    """Read a predictions file.

    Args:
        path: CSV with a header row, JSON lines, or JSON in one of the known forms.
        columns: their names where they are not ``id``, ``reference``, ``prediction``.
        samples: the cases with their references; where given, the file's own are not read. Files
            without references, such as those of VLM3D, need them.
        name: of the system, and of the cases where the file has its own; the file's name by
            default.

    Returns:
        the cases and the predictions. Rows that cannot be used are listed in
        :attr:`SampleSet.dropped`, notes on the rest in ``facts["notes"]``. Raises BadRequest for a
        file that is none of these, and UnknownName for a missing column.
    """
    names = columns or Columns()
    entries = read_entries(path, names, (names.prediction,), references=samples is None)
    texts = {id_: report_of(row[names.prediction]) for id_, row in entries.cells.items()}
    predictions = tuple(_prediction(id_, texts[id_], row) for id_, row in entries.cells.items())
    if samples is None:
        samples = _case_set(path, names, entries, name=name)
    else:
        samples = replace(samples, dropped=(*samples.dropped, *entries.dropped))
    cells = [cell_text(row[names.prediction]) or "" for row in entries.cells.values()]
    notes = [*entries.notes, *_notes(cells, list(texts.values()))]
    facts = {"file": one_line(path.name), "notes": notes}
    system = one_line(name or path.stem) or "file"
    return samples, PredictionSet(system, samples.id, predictions, facts)


def _notes(cells: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Notes on odd predictions that are scored all the same."""
    counts = (
        (
            sum(len(text) > MAX_REPORT_CHARACTERS for text in texts),
            f"longer than {MAX_REPORT_CHARACTERS:,} characters; the rest is left out.",
        ),
        (
            sum(bool(t) and t.split() != c.split() for t, c in zip(texts, cells, strict=True)),
            "read without the reasoning (<think>), markup or escapes in the cell.",
        ),
        (
            sum(not looks_english(text) for text in texts),
            "not in English, it seems, which is all that the labeller reads.",
        ),
        (
            sum(text.startswith(_RUN) for text in texts),
            "like a spreadsheet formula; it is read as text, and nothing is run.",
        ),
    )
    return [f"{_counted(count, 'prediction')} {text}" for count, text in counts if count]


def _counted(count: int, noun: str) -> str:
    return f"1 {noun} is" if count == 1 else f"{count:,} {noun}s are"


def read_references(path: Path, *, columns: Columns | None = None) -> SampleSet:
    """The cases of a file that holds references, as :func:`read_predictions` reads them."""
    names = columns or Columns()
    entries = read_entries(path, names)
    return _case_set(path, names, entries, entries.notes)


def _case_set(
    path: Path, columns: Columns, entries: Entries, notes: Sequence[str] = (), name: str = ""
) -> SampleSet:
    """A sample set of the file's name, or of another one."""
    samples = entries.samples(columns)
    id_, shown = one_line(name or path.stem) or "file", one_line(name or path.name)
    notes = (*notes, *language_notes(samples))
    return SampleSet(
        id_, shown or id_, samples, split="", dropped=entries.dropped, notes=notes,
        label_set=columns.label_set,
    )  # fmt: skip


def language_notes(samples: Iterable[Sample]) -> tuple[str, ...]:
    """Notes on references that the labeller may not be able to read."""
    doubted = sum(s.labels is None and not looks_english(s.reference) for s in samples)
    text = (
        f"{_counted(doubted, 'reference')} not in English, it seems, which is all that the "
        "labeller reads: check what it found, or give the labels."
    )
    return (text,) if doubted else ()


def read_entries(
    path: Path, columns: Columns, others: tuple[str, ...] = (), references: bool = True
) -> Entries:
    """The rows of a file in any of the formats, by id.

    Args:
        path: of the file.
        columns: of the id and, where there are to be ``references``, of these.
        others: further columns of text that must be there.

    Columns are found in any case and spacing. Raises BadRequest for a file that is none of the
    formats, and UnknownName for a missing column.
    """
    required = (columns.id, *others, *(columns.of_references if references else ()))
    notes: list[str] = []
    cells: dict[str, Mapping[str, Any]] = {}
    reports: dict[str, str] = {}
    called: dict[str, str] = {}
    wordings: dict[str, list[str]] = {}
    dropped: list[Dropped] = []
    column_names: dict[str, None] = {}
    for row in _rows(path, columns.id, required, notes):
        if not row.problem:
            column_names |= dict.fromkeys(row.cells)
            if missing := [c for c in required if c not in row.cells]:
                if set(missing) - set(column_names):
                    raise UnknownName("column", missing[0], list(column_names))
                dropped.append(Dropped(row.where, f"without {missing[0]}"))
                continue
        name = (cell_text(row.cells.get(columns.id)) or "")[:MAX_REPORT_CHARACTERS]
        id_ = scan_id(name)
        reason = row.problem or _reason(row.cells, id_, required)
        report = columns.report(row.cells) if references and not reason else ""
        if references and not reason:
            reason = _reason_of_reference(row.cells, report, columns.label_set)
        if not reason and id_ in cells:
            reason = repeated(name, called[id_])
            if columns.wordings and reason == REPEATED:
                wordings.setdefault(id_, []).append(report)
                continue
        if reason:
            dropped.append(Dropped(id_ or row.where, reason))
        else:
            cells[id_], reports[id_], called[id_] = row.cells, report, name
    return Entries(cells, reports, wordings, tuple(dropped), tuple(notes))


def _rows(path: Path, id_column: str, required: tuple[str, ...], notes: list[str]) -> Iterator[Row]:
    """The rows of a file; the notes are complete after the last one."""
    if path.stat().st_size > MAX_FILE_MB * 1_000_000:
        raise BadRequest(
            f"{path.name} is larger than {MAX_FILE_MB} MB.", "Split it.", code="file_too_large"
        )
    if path.suffix.lower() in (".csv", ".tsv") or not _is_json(path):
        with open_table(path, required, known=OPTIONAL) as table:
            for line in table:
                yield Row(f"line {line.line}", line.cells, line.problem)
            notes += table.notes
        return
    with path.open("rb") as stream:
        text = "".join(text_lines(stream, path.name, notes, most=MAX_FILE_MB * 2**20))
    text_column = next((name for name in required if name != id_column), "")
    for where, cells in json_rows(text, id_column, text_column):
        yield Row(where, _renamed(cells, required), "" if cells else "that are no JSON object")


def _is_json(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(4096)
    return head.decode(wide_encoding(head) or "utf-8-sig", "replace").lstrip()[:1] in ("{", "[")


def _renamed(value: Mapping[str, Any], required: tuple[str, ...]) -> Mapping[str, Any]:
    """A row of JSON with the names of its columns as they are called here."""
    names = recognised(list(value), (*required, *OPTIONAL))
    return {names.get(key, key): cell for key, cell in value.items()} if names else value


def _reason(cells: Mapping[str, Any], id_: str, required: tuple[str, ...]) -> str:
    """Why a row cannot be used; empty where it can."""
    for name in required:
        if (text := cell_text(cells[name])) is None:
            return f"with a {name} that is no text"
        if len(text) > MAX_CELL_CHARACTERS:
            return f"with a {name} longer than {MAX_CELL_CHARACTERS:,} characters"
    return "" if id_ else "without an id"


def _reason_of_reference(cells: Mapping[str, Any], report: str, labels: LabelSet) -> str:
    """Why a row cannot be a case; empty where it can."""
    if not report:
        return "without a reference"
    try:
        labels_of_row(cells, labels)
    except BadRequest:
        return "with a label that is neither 0 nor 1"
    return ""


def _prediction(id_: str, text: str, row: Mapping[str, Any]) -> Prediction:
    failure = one_line(row.get("failure")) or ("" if text else "empty report")
    try:
        seconds = float(row.get("seconds") or "nan")
    except (TypeError, ValueError):
        seconds = math.nan
    stated = seconds if math.isfinite(seconds) else None
    finish = one_line(row.get("finish"))
    return Prediction(id_, text[:MAX_REPORT_CHARACTERS], failure, stated, finish)


def report_of(cell: object) -> str:
    """The report in a cell, in plain text; empty where it holds none, or says that there is none.

    Texts such as ``nan``, ``None`` and ``Not given.`` are no report.
    """
    text = clean_report((cell_text(cell) or "")[:MAX_CELL_CHARACTERS])
    return "" if is_no_report(text) else text


def one_line(cell: object) -> str:
    """A short text, such as a name, which as a file's may hold line breaks, in one line."""
    return " ".join((cell_text(cell) or "").split())[:MAX_NAME_CHARACTERS]
