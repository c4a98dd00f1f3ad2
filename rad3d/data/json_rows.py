"""Rows in the forms of JSON in which people and programs keep reports.

Lines of objects; a list of objects; one object of texts or lists of texts by id, as R2GenGPT writes
``{"id": ["text"]}``; an object of rows by id, or of columns, as pandas writes it; rows below one
other key; and anywhere in it the lists ``generated_reports`` of the VLM3D challenge,
``[{"input_image_name": ..., "report": ...}]``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rad3d.core.errors import BadRequest
from rad3d.core.tables import recognised

GENERATED = "generated_reports"

Where = tuple[str, Mapping[str, Any]]
"""Place of a row, and its cells by column; empty where there is no object."""


def json_rows(text: str, id_column: str, text_column: str) -> Iterator[Where]:
    """The rows of a file of JSON.

    Args:
        text: of the file; it begins with ``{`` or ``[``.
        id_column: receives the ids of forms without names of columns.
        text_column: receives their texts.

    Raises:
        BadRequest: it is none of the known forms.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        first = text.lstrip().partition("\n")[0].rstrip()
        if first[:1] == "{" and first[-1:] == "}":
            return _lines(text)
        raise BadRequest(
            f"The file is not JSON: {error}.", "Write it again.", code="bad_json"
        ) from error
    try:
        rows = _rows(value, id_column, text_column)
    except (TypeError, KeyError, AttributeError, RecursionError):
        rows = []
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise BadRequest(
            "The JSON is neither a list of rows, an object or list of texts by their ids, nor in "
            "the VLM3D schema.",
            f'Write it as [{{"{id_column}": "...", "{text_column}": "..."}}].',
            code="bad_json",
        )
    return ((f"entry {i}", row) for i, row in enumerate(rows, 1))


def _lines(text: str) -> Iterator[Where]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        yield f"line {number}", value if isinstance(value, dict) else {}


def _rows(value: Any, id_column: str, text_column: str) -> list[Any]:
    if reports := list(_generated(value)):
        return [
            {id_column: each["input_image_name"], text_column: each["report"]} for each in reports
        ]
    if isinstance(value, list):
        return value
    names = recognised(list(value), (id_column, text_column))
    value = {names.get(key, key): cell for key, cell in value.items()}
    cells = list(value.values())
    if id_column in value:
        columns = value[id_column]
        if isinstance(columns, Mapping):
            return [{name: value[name].get(key) for name in value} for key in columns]
        if isinstance(columns, list) and all(isinstance(c, list) for c in cells):
            return [dict(zip(value, row, strict=True)) for row in zip(*cells, strict=True)]
        return [value]
    if all(isinstance(cell, Mapping) for cell in cells):
        return [{id_column: id_, **cell} for id_, cell in value.items()]
    below = [c for c in cells if isinstance(c, list) and all(isinstance(r, dict) for r in c) and c]
    if len(below) == 1:
        return below[0]
    if all(isinstance(cell, str | list | None) for cell in cells):
        return [{id_column: id_, text_column: cell} for id_, cell in value.items()]
    return []


def _generated(value: Any) -> Iterator[Mapping[str, Any]]:
    """The reports of every list of VLM3D, wherever it stands."""
    inside = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        return
    if isinstance(value, dict) and isinstance(value.get(GENERATED), list):
        yield from value[GENERATED]
    for each in inside:
        yield from _generated(each)
