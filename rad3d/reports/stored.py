"""A report that was stored as JSON, read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rad3d.core.errors import BadRequest
from rad3d.core.labels import LabelSet
from rad3d.core.types import Diagnosis, GenerationOptions, Note, Novelty, Report


def read_report(path: Path) -> Report:
    """Return the report that :func:`rad3d.reports.export.report_json` has written into a file.

    Its diagnosis has the probabilities of labels and none of attributes.

    Raises:
        BadRequest: the file cannot be read, or holds no report.
    """
    try:
        return _report(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRequest(
            f"{path.name} is no report.", "Write it with rad3d report --json.", code="bad_report"
        ) from error


def _report(values: Mapping[str, Any]) -> Report:
    said, novelty = values["report"], dict(values["novelty"] or {})
    novelty.pop("is_novel", None)
    return Report(
        text=said["text"],
        variant_id=values["variant"],
        diagnosis=_diagnosis(values["diagnosis"]),
        options=GenerationOptions(**values["options"]),
        finish_reason=said["finish_reason"],
        n_tokens=said["n_tokens"],
        timings_s=values["timings_s"],
        notes=tuple(Note(**note) for note in values["notes"]),
        novelty=Novelty(**novelty) if novelty else None,
        provenance=values["provenance"],
    )


def _diagnosis(values: Mapping[str, Any]) -> Diagnosis:
    logits, probabilities, thresholds = (
        np.array([row[name] for row in values["labels"]], dtype=np.float64)
        for name in ("logit", "probability", "threshold")
    )
    return Diagnosis(
        logits,
        probabilities,
        thresholds,
        edited={row["label"]: row["classifier"] for row in values["labels"] if row["edited"]},
        source=values["source"],
        calibrated=values["calibrated"],
        label_set=LabelSet.from_plain(values["label_set"]),
    )
