"""Where a report and the diagnosis of the same scan contradict each other."""

from __future__ import annotations

import numpy as np
import pytest

from rad3d.core.labels import LABEL_INDEX, LABELS, N_LABELS
from rad3d.core.types import Diagnosis
from rad3d.reports.crosscheck import cross_check

EFFUSION, NODULE = "Pleural effusion", "Lung nodule"


def diagnosis(**present: float) -> Diagnosis:
    probabilities = np.full(N_LABELS, 0.02)
    for label, value in present.items():
        probabilities[LABEL_INDEX[label.replace("_", " ")]] = value
    logits = np.log(probabilities / (1 - probabilities))
    return Diagnosis(logits, probabilities, np.full(N_LABELS, 0.4))


def test_agreement_is_silent() -> None:
    text = "Findings: Small left pleural effusion. No pulmonary nodule."
    assert cross_check(text, diagnosis(Pleural_effusion=0.9)).contradictions == ()


def test_asserted_finding_that_the_classifier_does_not_see() -> None:
    text = "Findings: The heart is normal. Small left pleural effusion."
    (found,) = cross_check(text, diagnosis()).contradictions
    assert (found.label, found.kind) == (EFFUSION, "asserted_but_unlikely")
    assert text[found.start : found.end] == "pleural effusion"
    assert found.probability == pytest.approx(0.02)


def test_denied_finding_that_the_classifier_sees() -> None:
    text = "Findings: No pulmonary nodule is seen."
    (found,) = cross_check(text, diagnosis(Lung_nodule=0.8)).contradictions
    assert (found.label, found.kind) == (NODULE, "denied_but_likely")
    assert "nodule" in text[found.start : found.end]


def test_threshold_decides_not_one_half() -> None:
    text = "Findings: Left pleural effusion."
    assert cross_check(text, diagnosis(Pleural_effusion=0.41)).contradictions == ()
    assert len(cross_check(text, diagnosis(Pleural_effusion=0.39)).contradictions) == 1


def test_hedged_finding_contradicts_nothing() -> None:
    assert (
        cross_check("Findings: Possible small left pleural effusion.", diagnosis()).contradictions
        == ()
    )


def test_denial_on_one_side_does_not_contradict_an_assertion_on_the_other() -> None:
    text = "Findings: Right pleural effusion. No left pleural effusion."
    assert cross_check(text, diagnosis(Pleural_effusion=0.9)).contradictions == ()


def test_findings_that_are_not_mentioned_contradict_nothing_and_are_listed() -> None:
    everything = {label.replace(" ", "_"): 0.99 for label in LABELS}
    check = cross_check("", diagnosis(**everything))
    assert check.contradictions == ()
    assert {item.label for item in check.not_mentioned} == set(LABELS)


def test_what_the_report_states_considers_or_denies_is_mentioned() -> None:
    text = (
        "Findings: Small left pleural effusion. Possible lung nodule. No cardiomegaly. "
        "The lungs are clear."
    )
    seen = diagnosis(Pleural_effusion=0.9, Lung_nodule=0.8, Cardiomegaly=0.7, Emphysema=0.5)
    check = cross_check(text, seen)
    assert [item.label for item in check.seen] == [EFFUSION, NODULE, "Cardiomegaly", "Emphysema"]
    assert [item.label for item in check.not_mentioned] == ["Emphysema"]
    (silent,) = check.not_mentioned
    assert (silent.probability, silent.threshold) == (0.5, 0.4)


def test_what_is_stated_or_considered_below_its_threshold_is_named_once() -> None:
    text = (
        "Findings: Left pleural effusion. Possible lung nodule. No cardiomegaly.\n"
        "Impression: Pleural effusion."
    )
    check = cross_check(text, diagnosis())
    assert [item.label for item in check.added] == [EFFUSION, NODULE]
    assert check.not_mentioned == ()


def test_results_follow_the_text() -> None:
    text = (
        "Findings: 6 mm nodule in the right upper lobe. Left pleural effusion.\n"
        "Impression: Pleural effusion."
    )
    found = cross_check(text, diagnosis()).contradictions
    assert [c.start for c in found] == sorted(c.start for c in found)
    assert [c.label for c in found] == [NODULE, EFFUSION, EFFUSION]
