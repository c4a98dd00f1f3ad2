"""Predictions as JSON lines, CSV that spreadsheets do not run, or the VLM3D schema."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from rad3d.core.errors import UnknownName
from rad3d.core.tables import write_table
from rad3d.data.samples import PredictionSet, SampleSet
from rad3d.metrics.cases import align


def predictions_text(samples: SampleSet, predictions: PredictionSet, kind: str = "jsonl") -> str:
    """The predictions beside their references as the text of a file.

    Args:
        samples: the cases; their labels are written where all are known.
        predictions: what the system wrote.
        kind: ``"jsonl"``, ``"csv"`` or ``"vlm3d"``.
    """
    if kind not in KINDS:
        raise UnknownName("kind of predictions file", kind, list(KINDS))
    return KINDS[kind](_rows(samples, predictions))


def _rows(samples: SampleSet, predictions: PredictionSet) -> list[dict[str, Any]]:
    cases, _ = align(samples, predictions)
    labelled = all(sample.labels is not None for sample in cases.samples)
    rows = []
    for sample, said in zip(cases.samples, cases.predictions, strict=True):
        row: dict[str, Any] = {
            "id": sample.id,
            "reference": sample.reference,
            "prediction": said.text,
            "failure": said.failure,
            "seconds": said.seconds,
            "finish": said.finish,
        }
        if labelled:
            row |= dict(zip(samples.label_set.names, sample.labels or (), strict=True))
        rows.append(row)
    return rows


def _jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _csv(rows: list[dict[str, Any]]) -> str:
    target = io.StringIO(newline="")
    write_table(target, [rows[0], *(row.values() for row in rows)])
    return target.getvalue()


def _vlm3d(rows: list[dict[str, Any]]) -> str:
    reports = [{"input_image_name": row["id"], "report": row["prediction"]} for row in rows]
    value = [{"outputs": [{"value": {"generated_reports": reports}}]}]
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


KINDS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "vlm3d": _vlm3d,
}
"""Kind of file -> its writer."""
