"""Predictions files, read with care: CSV, JSON lines, and the VLM3D challenge's schema.

A row holds an id, a reference and a prediction, and may hold the 18 labels under their names and
``failure``, ``seconds``, ``finish``. VLM3D files hold no references:
``[{"outputs": [{"value": {"generated_reports": [{"input_image_name": ..., "report": ...}]}}]}]``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rad3d.errors import BadRequest, UnknownName
from rad3d.eval.language import looks_english
from rad3d.eval.samples import Dropped, Prediction, PredictionSet, Sample, SampleSet
from rad3d.labels import LABELS
from rad3d.tables import open_table, scan_id

MAX_FILE_MB = 200
MAX_REPORT_CHARACTERS = 20_000
"""A longer text is no report of one scan; it is cut, and the cut is told."""

MAX_NAME_CHARACTERS = 120

_RUN = ("=", "@", "+")


@dataclass(frozen=True)
class Columns:
    """Which columns of a file hold what."""

    id: str = "id"
    reference: str = "reference"
    prediction: str = "prediction"


@dataclass(frozen=True)
class _Row:
    """A row of any of the formats: where it stands and its cells."""

    where: str
    cells: Mapping[str, Any]


def read_predictions(
    path: Path,
    *,
    columns: Columns | None = None,
    samples: SampleSet | None = None,
    name: str = "",
) -> tuple[SampleSet, PredictionSet]:
    """Read a predictions file.

    Args:
        path: CSV with a header row, JSON lines, or JSON in the VLM3D schema; UTF-8.
        columns: their names where they are not ``id``, ``reference``, ``prediction``.
        samples: the cases with their references; where given, the file's own are not read. A
            VLM3D file needs them.
        name: of the system, and of the cases where the file has its own; the file's name by
            default.

    Returns:
        the cases and the predictions. Rows that cannot be used are listed in
        :attr:`SampleSet.dropped`, notes on the rest in ``facts["notes"]``. Raises BadRequest for a
        file that is none of the three, and UnknownName for a missing column.
    """
    names = columns or Columns()
    wanted = (names.id, names.prediction, *(() if samples else (names.reference,)))
    found, dropped = _usable(read_rows(path, names, wanted), names, wanted, samples is None)
    predictions = tuple(_prediction(id_, row, names) for id_, row in found.items())
    if samples is None:
        samples = _cases(path, names, found, dropped, name)
    else:
        samples = replace(samples, dropped=(*samples.dropped, *dropped))
    notes = _notes([row[names.prediction] for row in found.values()])
    facts = {"file": one_line(path.name), "notes": notes}
    system = one_line(name or path.stem) or "file"
    return samples, PredictionSet(system, samples.id, predictions, facts)


def _notes(cells: Sequence[Any]) -> list[str]:
    """What a person should know of predictions that are scored all the same."""
    texts = ["" if _is_missing(cell) else str(cell) for cell in cells]
    counts = (
        (
            sum(len(text) > MAX_REPORT_CHARACTERS for text in texts),
            f"{{}} longer than {MAX_REPORT_CHARACTERS:,} characters; the rest is left out.",
        ),
        (
            sum(not looks_english(text) for text in texts),
            "{} not in English, it seems, which is all that the labeller reads.",
        ),
        (
            sum(text.startswith(_RUN) for text in texts),
            "{} like a spreadsheet formula; it is read as text, and nothing is run.",
        ),
    )
    return [
        text.format("1 prediction is" if count == 1 else f"{count} predictions are")
        for count, text in counts
        if count
    ]


def read_references(path: Path, *, columns: Columns | None = None) -> SampleSet:
    """The cases of a file that holds references, as :func:`read_predictions` reads them."""
    names = columns or Columns()
    wanted = (names.id, names.reference)
    found, dropped = _usable(read_rows(path, names, wanted), names, wanted, own_references=True)
    return _cases(path, names, found, dropped)


def _cases(
    path: Path,
    names: Columns,
    found: Mapping[str, Mapping[str, Any]],
    dropped: tuple[Dropped, ...],
    name: str = "",
) -> SampleSet:
    """The references of a file as a sample set of its name, or of another one."""
    samples = (
        Sample(id_, _report(row[names.reference]), labels=_labels(row))
        for id_, row in found.items()
    )
    id_, shown = one_line(name or path.stem) or "file", one_line(name or path.name)
    return SampleSet(id_, shown or id_, tuple(samples), split="", dropped=dropped)


def read_rows(path: Path, columns: Columns, wanted: tuple[str, ...]) -> Iterator[_Row]:
    """The rows of a file in any of the three formats; a CSV must have the wanted columns."""
    if path.stat().st_size > MAX_FILE_MB * 1_000_000:
        raise BadRequest(
            f"{path.name} is larger than {MAX_FILE_MB} MB.", "Split it.", code="file_too_large"
        )
    start = "" if path.suffix.lower() in (".csv", ".tsv") else _start(path)
    if start == "[":
        return _json_rows(_decoded(path), columns)
    if start == "{":
        return _json_line_rows(_decoded(path))
    return _table_rows(path, wanted)


def _start(path: Path) -> str:
    """The first character of a text; empty where there is none."""
    with path.open("rb") as stream:
        return stream.read(4096).decode("utf-8-sig", "replace").lstrip()[:1]


def _decoded(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadRequest(
            f"Line {line} of {path.name} is not UTF-8 text.",
            "Save it with UTF-8 encoding.",
            code="not_utf8",
        ) from error


def _table_rows(path: Path, wanted: tuple[str, ...]) -> Iterator[_Row]:
    with open_table(path, wanted) as table:
        for row in table:
            broken = dict.fromkeys(table.columns) | {"": row.problem}
            yield _Row(f"line {row.line}", broken if row.problem else row.cells)


def _json_line_rows(text: str) -> Iterator[_Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        problem = {} if isinstance(value, dict) else {"": "that are no JSON object"}
        yield _Row(f"line {number}", problem or value)


def _json_rows(text: str, columns: Columns) -> Iterator[_Row]:
    """VLM3D's schema, or a plain list of objects."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(
            f"The file is not JSON: {error}.", "Write it again.", code="bad_json"
        ) from error
    try:
        reports = [
            report
            for value in values
            if "outputs" in value
            for output in value["outputs"]
            for report in output["value"]["generated_reports"]
        ]
        if reports:
            values = [
                {columns.id: scan_id(each["input_image_name"]), columns.prediction: each["report"]}
                for each in reports
            ]
        if not all(isinstance(value, dict) for value in values):
            raise TypeError
    except (TypeError, KeyError, AttributeError) as error:
        raise BadRequest(
            "The JSON is neither a list of rows nor in the VLM3D schema.",
            'That is [{"outputs": [{"value": {"generated_reports": '
            '[{"input_image_name": "...", "report": "..."}]}}]}].',
            code="bad_json",
        ) from error
    yield from (_Row(f"entry {i}", value) for i, value in enumerate(values, 1))


def _usable(
    rows: Iterator[_Row], names: Columns, wanted: tuple[str, ...], own_references: bool
) -> tuple[dict[str, Mapping[str, Any]], tuple[Dropped, ...]]:
    """Rows by id, and those that cannot be used."""
    found: dict[str, Mapping[str, Any]] = {}
    dropped: list[Dropped] = []
    seen: dict[str, None] = {}
    for row in rows:
        seen |= dict.fromkeys(key for key in row.cells if key)
        if not row.cells.get("") and (missing := [c for c in wanted if c not in row.cells]):
            if set(missing) - set(seen):
                raise UnknownName("column", missing[0], list(seen))
            dropped.append(Dropped(row.where, f"without {missing[0]}"))
            continue
        cell = row.cells.get(names.id)
        id_ = "" if cell is None else _report(cell).strip()
        if reason := _reason(row, id_, names, found, own_references):
            dropped.append(Dropped(id_ or row.where, reason))
        else:
            found[id_] = row.cells
    return found, tuple(dropped)


def _reason(
    row: _Row, id_: str, names: Columns, found: Mapping[str, Any], own_references: bool
) -> str:
    """Why a row cannot be used; empty where it can."""
    if problem := row.cells.get(""):
        return str(problem)
    for name in (names.id, names.reference, names.prediction):
        if isinstance(row.cells.get(name), list | dict):
            return f"with a {name} that is no text"
    if not id_:
        return "without an id"
    if id_ in found:
        return "with an id that was there before"
    if own_references:
        reference = _report(row.cells[names.reference])
        if not reference.strip():
            return "without a reference"
        try:
            labels = _labels(row.cells)
        except (TypeError, ValueError):
            return "with a label that is neither 0 nor 1"
        if labels is None and not looks_english(reference):
            return "with a reference that does not look like English"
    return ""


def _labels(cells: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The 18 labels of a row; None where it has none. Raises ValueError for other values."""
    there = [label for label in LABELS if label in cells]
    if not there:
        return None
    if len(there) < len(LABELS):
        missing = next(label for label in LABELS if label not in cells)
        raise UnknownName("column", missing, list(cells))
    values = tuple(float(cells[label]) for label in LABELS)
    if not set(values) <= {0.0, 1.0}:
        raise ValueError
    return tuple(int(value) for value in values)


def _prediction(id_: str, row: Mapping[str, Any], names: Columns) -> Prediction:
    text = _report(row[names.prediction])
    failure = _report(row.get("failure")) or ("" if text.strip() else "empty report")
    try:
        seconds = float(row.get("seconds") or "nan")
    except (TypeError, ValueError):
        seconds = math.nan
    return Prediction(
        id_, text, failure, seconds if math.isfinite(seconds) else None, _report(row.get("finish"))
    )


def one_line(name: str) -> str:
    """A name, which as a file's may hold line breaks and what is no text, as it is shown."""
    return " ".join(_report(name).split())[:MAX_NAME_CHARACTERS]


def _is_missing(cell: Any) -> bool:
    """NaN is how pandas writes a cell that is not there."""
    return cell is None or cell != cell


def _report(cell: Any) -> str:
    """A cell as text of bounded length, without the characters no report holds."""
    text = "" if _is_missing(cell) else str(cell)
    text = text[:MAX_REPORT_CHARACTERS].replace("\0", " ")
    # JSON can hold halves of surrogate pairs, which no file in UTF-8 can.
    return text.encode("utf-8", "replace").decode("utf-8")
