"""What a person changed in a report is told word by word; other systems can read a report."""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from hypothesis import given
from hypothesis import strategies as st

from rad3d.core.labels import N_LABELS
from rad3d.core.types import Diagnosis, GenerationOptions, Note, Report, Revision
from rad3d.reports.changes import changes_of, differences, merged
from rad3d.reports.export import report_dict, report_text
from rad3d.reports.fhir import diagnostic_report, report_fhir

WORDS = st.lists(
    st.sampled_from(("No", "nodule.", "Small", "effusion,", "9", "mm", "<b>", "&", "é"))
)
TEXTS = WORDS.map(" ".join)


def made(text: str = "Findings: No nodule.\nImpression: Normal.", **values: Any) -> Report:
    logits = np.linspace(-3, 3, N_LABELS)
    probabilities = 1 / (1 + np.exp(-logits))
    diagnosis = Diagnosis(logits, probabilities, np.full(N_LABELS, 0.5))
    report = Report(text, "phantom-s/v3", diagnosis, GenerationOptions(), "end", 9, {"total": 1.0})
    return replace(report, **values)


@given(TEXTS, TEXTS)
def test_each_text_can_be_read_back_from_what_differs(before: str, after: str) -> None:
    both = merged(before, after)
    for whole, other in ((before, "ins"), (after, "del")):
        assert " ".join(words for words, tag in both if tag != other) == whole
    old, new = differences(before, after)
    assert (" ".join(w for w, _ in old), " ".join(w for w, _ in new)) == (before, after)
    kept = Counter(words for words, tag in old if not tag)
    assert kept == Counter(words for words, tag in new if not tag)


def test_the_numbers_of_changed_words_are_told() -> None:
    report = made(revision=Revision("Findings: One nodule of 9 mm.\nImpression: Normal.", 42.0))
    changes = changes_of(report)
    assert changes is not None
    assert (changes.removed, changes.added, changes.seconds) == (2, 5, 42.0)
    assert changes_of(made()) is None


def test_a_revised_report_keeps_the_original_beside_it() -> None:
    revision = Revision("Findings: A nodule.\nImpression: Nodule.", 42.4)
    report = made(revision=revision)
    text, data = report_text(report), report_dict(report)
    assert "A nodule." in text
    assert "No nodule." not in text
    assert "Revised by a person in 42 s." in text
    assert data["report"]["text"] == report.text
    assert data["revision"] == {
        "text": revision.text, "findings": "A nodule.", "impression": "Nodule.", "seconds": 42.4
    }  # fmt: skip
    assert report_dict(made())["revision"] is None


@given(TEXTS.filter(bool), st.sets(st.integers(0, N_LABELS - 1)), st.booleans())
def test_every_report_is_a_valid_resource_that_nobody_has_signed(
    text: str, chosen: set[int], calibrated: bool
) -> None:
    diagnosis = made().diagnosis
    edited = {diagnosis.label_set.names[i]: 0.25 for i in chosen}
    report = made(text, diagnosis=replace(diagnosis, edited=edited, calibrated=calibrated))
    resource: Any = DiagnosticReport.model_validate_json(report_fhir(report))
    assert resource.status == "preliminary"
    assert {each.reference for each in resource.result} == {
        f"#{each.id}" for each in resource.contained if each.get_resource_type() == "Observation"
    }
    assert len(resource.result) == N_LABELS
    assert resource.subject is None
    attached = diagnostic_report(report)["presentedForm"][0]["data"]
    assert base64.b64decode(attached).decode() == report_text(report)


def test_the_resource_has_the_revised_text_and_the_probabilities() -> None:
    report = made(
        revision=Revision("Findings: A nodule.\nImpression: Nodule.", 5),
        notes=(Note("info", "name", "read from patient-name.nii.gz"),),
    )
    resource = diagnostic_report(report)
    assert resource["conclusion"] == "Nodule."
    row = report.diagnosis.to_rows()[-1]
    last = resource["contained"][-1]
    assert last["code"]["text"] == row["label"]
    assert last["valueQuantity"]["value"] == pytest.approx(row["probability"])
    assert last["interpretation"][0]["coding"][0]["code"] == "POS"
    assert "patient-name" not in json.dumps(resource)
