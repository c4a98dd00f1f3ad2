"""Reports on one scan, finding by finding."""

from __future__ import annotations

import numpy as np
import pytest

from rad3d.core.findings import FINDING_NAMES, ORGANS
from rad3d.core.labels import LABEL_INDEX, N_LABELS
from rad3d.core.types import Diagnosis
from rad3d.metrics.side_by_side import SideBySide

A = (
    "Findings: There is a large left pleural effusion, measuring 60 mm. The heart is enlarged. "
    "No nodule.\nImpression: Large left pleural effusion."
)
B = "Findings: Small right pleural effusion. Possible atelectasis in the left lower lobe."
TRUTH = (
    "Findings: Large left pleural effusion, 64 mm. Solid nodule of 9 mm in the right upper lobe."
)


@pytest.fixture
def aligned() -> SideBySide:
    p = np.full(N_LABELS, 0.1)
    p[[LABEL_INDEX["Pleural effusion"], LABEL_INDEX["Lung nodule"]]] = 0.8
    diagnosis = Diagnosis(np.log(p / (1 - p)), p, np.full(N_LABELS, 0.5))
    return SideBySide((A, B), diagnosis, TRUTH)


def test_every_finding_belongs_to_one_organ() -> None:
    names = [name for names in ORGANS.values() for name in names]
    assert sorted(names) == sorted(FINDING_NAMES)


def test_each_finding_has_a_row_with_what_each_report_says_of_it(aligned: SideBySide) -> None:
    rows = {row.label: row for row in aligned.rows}
    assert set(rows) == {"Cardiomegaly", "Atelectasis", "Lung nodule", "Pleural effusion"}
    effusion, nodule = rows["Pleural effusion"], rows["Lung nodule"]
    assert [said.details for said in effusion.said] == ["severe, left, 60 mm", "mild, right"]
    assert [said.how for said in nodule.said] == ["denied", ""]
    assert rows["Atelectasis"].said[1].how == "considered"
    assert effusion.likely
    assert not rows["Cardiomegaly"].likely
    assert [row.organ for row in aligned.rows] == sorted(
        (row.organ for row in aligned.rows), key=list(ORGANS).index
    )


def test_what_only_one_report_states_is_told_with_its_sentences(aligned: SideBySide) -> None:
    only = {row.label: row.only for row in aligned.rows}
    assert only == {
        "Cardiomegaly": 0, "Atelectasis": 1, "Lung nodule": None, "Pleural effusion": None,
    }  # fmt: skip
    assert [A[start:end] for start, end in aligned.alone(0)] == ["The heart is enlarged."]
    (span,) = aligned.alone(1)
    assert B[slice(*span)] == "Possible atelectasis in the left lower lobe."


def test_agreement_with_the_diagnosis_and_with_the_truth_is_counted(aligned: SideBySide) -> None:
    assert aligned.stated(0) == (2, 1, 1)
    assert aligned.stated(1) == (2, 1, 1)
    assert aligned.outcomes(0) == {
        "matched": 1, "omitted": 0, "hallucinated": 1, "wrong_place": 0, "wrong_size": 0,
        "contradictory": 1,
    }  # fmt: skip
    second = aligned.outcomes(1)
    assert (second["wrong_place"], second["omitted"], second["hallucinated"]) == (1, 1, 1)
    unknown = SideBySide(aligned.texts, aligned.diagnosis)
    assert not any(unknown.outcomes(0).values())
    assert unknown.rows[0].reference is None
