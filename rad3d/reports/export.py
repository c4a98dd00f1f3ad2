"""A report as text and as JSON with its provenance.

Neither holds the name of an uploaded file.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rad3d.core.details import findings_of
from rad3d.core.encoders import disclaimer
from rad3d.core.types import Diagnosis, Report
from rad3d.reports.crosscheck import CrossCheck, cross_check
from rad3d.reports.sections import split_report

SCHEMA = "rad3d-report/1"

_UNFINISHED = {
    "length": "The text stops at the length limit.",
    "cancelled": "The text is incomplete: its generation was cancelled.",
}


def report_text(report: Report) -> str:
    """Findings and impression with their headings, warnings, and where the text comes from."""
    parts = split_report(report.final_text)
    blocks = [
        f"{name}:\n{body}"
        for name, body in (("Findings", parts.findings), ("Impression", parts.impression))
        if body
    ]
    check = cross_check(report.final_text, report.diagnosis)
    remarks = [f"Warning: {text}" for text in _warnings(report)]
    if report.revision:
        remarks.append(f"Revised by a person in {round(report.revision.seconds)} s.")
    if edits := edits_text(report.diagnosis):
        remarks.append(f"Written from an edited diagnosis: {edits}.")
    remarks += [f"{title}: {'; '.join(said)}." for title, said in _differences(check) if said]
    if report.finish_reason in _UNFINISHED:
        remarks.append(_UNFINISHED[report.finish_reason])
    source = f"Variant {report.variant_id}, volume {_short(report)}. {_disclaimer(report)}"
    return "\n\n".join([*blocks, "\n".join([*remarks, source])]) + "\n"


def report_json(report: Report) -> str:
    """Everything about a report as indented JSON; see :func:`report_dict`."""
    return json.dumps(report_dict(report), indent=2, ensure_ascii=False) + "\n"


def report_dict(report: Report) -> dict[str, Any]:
    """Text and revision, diagnosis, what they say differently, options, timings, provenance."""
    check = cross_check(report.final_text, report.diagnosis)
    return {
        "schema": SCHEMA,
        "disclaimer": _disclaimer(report),
        "report": {
            **_sections(report.text),
            "finish_reason": report.finish_reason,
            "n_tokens": report.n_tokens,
        },
        "revision": report.revision
        and {**_sections(report.revision.text), "seconds": report.revision.seconds},
        "variant": report.variant_id,
        "options": asdict(report.options),
        "diagnosis": {
            "source": report.diagnosis.source,
            "calibrated": report.diagnosis.calibrated,
            "label_set": report.diagnosis.label_set.to_plain(),
            "edited": sorted(report.diagnosis.edited),
            "labels": report.diagnosis.to_rows(),
            "findings": [finding.to_dict() for finding in findings_of(report.diagnosis)],
        },
        "contradictions": [asdict(item) for item in check.contradictions],
        "not_mentioned": [asdict(item) for item in check.not_mentioned],
        "added": [asdict(item) for item in check.added],
        "novelty": _novelty(report),
        "notes": [asdict(note) for note in report.notes],
        "timings_s": {stage: round(s, 4) for stage, s in report.timings_s.items()},
        "provenance": dict(report.provenance),
    }


def _sections(text: str) -> dict[str, str]:
    parts = split_report(text)
    return {"text": text, "findings": parts.findings, "impression": parts.impression}


def edits_text(diagnosis: Diagnosis) -> str:
    """``"Pleural effusion 90% (classifier 12%)"`` for each edited label; empty for none."""
    return ", ".join(
        f"{row['label']} {row['probability']:.0%} (classifier {row['classifier']:.0%})"
        for row in diagnosis.to_rows()
        if row["edited"]
    )


def _disclaimer(report: Report) -> str:
    return disclaimer(bool(report.provenance.get("phantoms_only")))


def _differences(check: CrossCheck) -> list[tuple[str, list[str]]]:
    """Sentences on what contradicts the diagnosis, what is not mentioned and what is added."""
    contradicted = dict.fromkeys(
        f"{item.label} ({'denied' if item.likely else 'stated'}, {item.probability:.0%})"
        for item in check.contradictions
    )
    hedged = [f"{i.label} ({i.probability:.0%})" for i in check.added if not i.contradicts]
    silent = [f"{item.label} ({item.probability:.0%})" for item in check.not_mentioned]
    return [
        ("Contradicts the diagnosis", list(contradicted)),
        ("Above the threshold, not mentioned", silent),
        ("Below the threshold, considered", hedged),
    ]


def _novelty(report: Report) -> dict[str, Any] | None:
    if report.novelty is None:
        return None
    return {**asdict(report.novelty), "is_novel": report.novelty.is_novel}


def _warnings(report: Report) -> list[str]:
    return list(dict.fromkeys(note.text for note in report.notes if note.level == "warning"))


def _short(report: Report) -> str:
    return str(report.provenance.get("volume_sha256", ""))[:12] or "unknown"
