"""Edits of a diagnosis: what a probability becomes as a logit, and what cannot be set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rad3d.core.details import attribute_names, findings_of
from rad3d.core.edits import checked_edits, with_edits
from rad3d.core.errors import BadRequest
from rad3d.core.labels import CT_RATE, LABEL_INDEX, N_LABELS
from rad3d.core.types import Diagnosis, GenerationOptions, Report
from rad3d.reports.export import report_json
from rad3d.reports.stored import read_report

EFFUSION = "Pleural effusion"


def diagnosis(logit: float, slope: float = 1.0, offset: float = 0.0, **more: object) -> Diagnosis:
    """The same logit for every label, calibrated."""
    logits = np.full(N_LABELS, logit)
    probabilities = 1 / (1 + np.exp(-(slope * logits + offset)))
    return Diagnosis(logits, probabilities, np.full(N_LABELS, 0.5), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("logit", [-14.0, 0.3, 20.0])
def test_the_logit_is_the_one_that_the_calibration_gives_the_probability(logit: float) -> None:
    slope, offset = 0.7, -1.5
    edited = with_edits(diagnosis(logit, slope, offset), {EFFUSION: 0.9}, np.full(N_LABELS, slope))
    expected = (np.log(0.9 / 0.1) - offset) / slope
    assert edited.logits[LABEL_INDEX[EFFUSION]] == pytest.approx(expected, rel=1e-6)


def test_zero_and_one_are_finite_logits() -> None:
    edited = with_edits(diagnosis(2.0), {EFFUSION: 0.0, "Cardiomegaly": 1.0})
    low, high = (edited.logits[LABEL_INDEX[label]] for label in (EFFUSION, "Cardiomegaly"))
    assert -20 < low < -5
    assert 5 < high < 20
    assert edited.probabilities[LABEL_INDEX[EFFUSION]] == 0.0


def test_a_finding_raised_by_hand_has_the_classifiers_side_or_none() -> None:
    plain = with_edits(diagnosis(-5.0), {EFFUSION: 0.9})
    assert [(f.label, f.side) for f in findings_of(plain)] == [(EFFUSION, None)]
    right = np.array([0.95 if name == "right" else 0.05 for _, name in attribute_names()])
    sided = with_edits(diagnosis(-5.0, details=right), {EFFUSION: 0.9})
    assert [(f.label, f.side) for f in findings_of(sided)] == [(EFFUSION, "right")]


def test_a_second_edit_keeps_what_the_classifier_said() -> None:
    once = with_edits(diagnosis(0.0), {EFFUSION: 0.9})
    assert with_edits(once, {EFFUSION: 0.2}).edited == {EFFUSION: 0.5}


def test_a_label_may_be_written_in_any_case_but_not_twice() -> None:
    assert checked_edits({"pleural-EFFUSION": 1}, CT_RATE) == {EFFUSION: 1.0}
    with pytest.raises(BadRequest, match="set twice"):
        checked_edits({EFFUSION: 0.1, EFFUSION.upper(): 0.2}, CT_RATE)
    with pytest.raises(BadRequest, match="between 0 and 1"):
        checked_edits({EFFUSION: 10**400}, CT_RATE)
    with pytest.raises(BadRequest, match="must be a number"):
        checked_edits({EFFUSION: True}, CT_RATE)


def test_a_stored_report_still_says_what_was_edited(tmp_path: Path) -> None:
    edited = with_edits(diagnosis(0.0), {EFFUSION: 0.9})
    report = Report("Findings: Clear.", "phantom-s/v3", edited, GenerationOptions(), "end", 3, {})
    path = tmp_path / "report.json"
    path.write_text(report_json(report), encoding="utf-8")
    assert read_report(path).diagnosis.edited == {EFFUSION: 0.5}
