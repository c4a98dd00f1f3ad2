"""A report as a DiagnosticReport of FHIR R4, for a hospital's systems to read as a draft.

It names no patient and no study, which whoever files it adds. Its status is ``preliminary``: a
language model wrote it, and nobody has signed it. The classifier's probabilities are observations
inside it. Source: https://hl7.org/fhir/R4/diagnosticreport.html
"""

from __future__ import annotations

import base64
import html
import json
from typing import Any

from rad3d.core.types import Report
from rad3d.reports.export import report_text
from rad3d.reports.sections import split_report

STATUS = "preliminary"
CHEST_CT = {
    "coding": [{"system": "http://loinc.org", "code": "24627-2", "display": "CT Chest"}],
    "text": "CT of the chest",
}
RADIOLOGY = {
    "coding": [
        {"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD",
         "display": "Radiology"}
    ]
}  # fmt: skip
INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
READINGS = {True: ("POS", "Positive"), False: ("NEG", "Negative")}
MODEL = "model"
"""Id of the device inside the report."""


def report_fhir(report: Report) -> str:
    """Return the resource as indented JSON; see :func:`diagnostic_report`."""
    return json.dumps(diagnostic_report(report), indent=2, ensure_ascii=False) + "\n"


def diagnostic_report(report: Report) -> dict[str, Any]:
    """Return the resource: text, impression, and each label's probability as an observation."""
    observations = [
        _observation(i, row, report) for i, row in enumerate(report.diagnosis.to_rows())
    ]
    parts = split_report(report.final_text)
    whole = report_text(report)
    return {
        "resourceType": "DiagnosticReport",
        "text": {"status": "generated", "div": _narrative(whole)},
        "contained": [_device(report), *observations],
        "status": STATUS,
        "category": [RADIOLOGY],
        "code": CHEST_CT,
        "result": [{"reference": f"#{each['id']}"} for each in observations],
        "conclusion": parts.impression or parts.findings,
        "presentedForm": [
            {
                "contentType": "text/plain; charset=utf-8",
                "language": "en",
                "data": base64.b64encode(whole.encode()).decode(),
                "title": "Report of the chest CT, a draft by a language model",
            }
        ],
    }


def _device(report: Report) -> dict[str, Any]:
    """Return the models that made the report."""
    version = report.provenance.get("rad3d")
    return {
        "resourceType": "Device",
        "id": MODEL,
        "deviceName": [{"name": f"rad3d {report.variant_id}", "type": "model-name"}],
        **({"version": [{"value": str(version)}]} if version else {}),
        "note": [
            {
                "text": f"Classifier: {report.diagnosis.source}. Language model and projector: "
                f"{report.variant_id}."
            }
        ],
    }


def _observation(number: int, row: dict[str, Any], report: Report) -> dict[str, Any]:
    """Return the probability of a label, with the threshold from which it counts as present."""
    code, display = READINGS[bool(row["present"])]
    given = "set by a person" if row["edited"] else "given by the classifier"
    doubt = "" if report.diagnosis.calibrated else ", not calibrated"
    return {
        "resourceType": "Observation",
        "id": f"finding-{number + 1}",
        "status": STATUS,
        "code": {"text": row["label"]},
        "valueQuantity": {
            "value": row["probability"],
            "unit": "probability",
            "system": "http://unitsofmeasure.org",
            "code": "1",
        },
        "interpretation": [
            {"coding": [{"system": INTERPRETATION, "code": code, "display": display}]}
        ],
        "referenceRange": [
            {"high": {"value": row["threshold"]}, "text": "Present from this probability on."}
        ],
        "note": [{"text": f"Probability {given}{doubt}."}],
        "device": {"reference": f"#{MODEL}"},
    }


def _narrative(text: str) -> str:
    lines = "<br/>".join(html.escape(line) for line in text.strip().splitlines())
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{lines}</div>'
