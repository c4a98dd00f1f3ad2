"""Findings are compared one by one, with the sentences that show it."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from rad3d.data.samples import Prediction, Sample
from rad3d.metrics.cases import Cases
from rad3d.metrics.factuality import KINDS, Match, match_findings, statement_of
from rad3d.metrics.registry import measure
from rad3d.reports.labeller import find_mentions
from rad3d.synthetic.grammar import write_report
from rad3d.synthetic.truth import draw_truth

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from metric_sensitivity import CHANGES, changed_reports, score_change

REAL_REPORTS = (
    Path(os.environ.get("RAD3D_SHARED", "../shared")) / "data" / "ct_rate_text" / "train.csv"
)


def matches(reference: str, prediction: str) -> tuple[Match, ...]:
    return match_findings(
        statement_of(find_mentions(reference)), statement_of(find_mentions(prediction))
    )


def value(metric: str, reference: str, prediction: str) -> float:
    each = measure(metric)
    cases = Cases((Sample("1", reference),), (Prediction("1", prediction),))
    return float(each.combine(each.collect(cases).sum(axis=0)))


@pytest.mark.parametrize(
    ("reference", "prediction", "kind"),
    [
        ("Small left effusion.", "There is a small effusion on the left.", "matched"),
        ("Small left effusion.", "The heart is normal in size.", "omitted"),
        ("The heart is normal in size.", "Small left effusion.", "hallucinated"),
        ("No pleural effusion.", "Small left pleural effusion.", "hallucinated"),
        ("Small left effusion.", "Small right effusion.", "wrong_place"),
        ("Bilateral effusions.", "Left effusion.", "wrong_place"),
        ("Consolidation in the right upper lobe.", "Right lower lobe consolidation.",
         "wrong_place"),
        ("An 8 mm nodule in the right upper lobe.", "A 20 mm nodule in the right upper lobe.",
         "wrong_size"),
        ("A 20 mm nodule in the right upper lobe.", "A 24 mm nodule in the right upper lobe.",
         "matched"),
        ("Mild emphysema.", "Severe emphysema.", "wrong_size"),
        ("Mild emphysema.", "Moderate emphysema.", "matched"),
        ("Small left effusion.", "No pleural effusion.", "contradictory"),
        ("Small left effusion.", "Small left effusion. No pleural effusion.", "contradictory"),
        ("Small left effusion.", "Small left effusion. No right pleural effusion.", "matched"),
        ("Lymph nodes up to 8 mm.", "No pathologic lymph nodes.", "omitted"),
        ("No pathologic lymph node. Lymph nodes of 8 mm.",
         "No pathologic lymph node. Lymph nodes of 8 mm.", "matched"),
    ],
)  # fmt: skip
def test_every_kind_of_difference_is_told(reference: str, prediction: str, kind: str) -> None:
    assert [m.kind for m in matches(reference, prediction)] == [kind]
    assert kind in KINDS


def test_the_evidence_is_the_sentences_as_written() -> None:
    (wrong,) = matches("Normal heart. A left  effusion.", "Clear lungs. An effusion, RIGHT side.")
    assert wrong.reference_sentence == "A left  effusion."
    assert wrong.prediction_sentence == "An effusion, RIGHT side."
    assert wrong.detail == "right instead of left"
    (invented,) = matches("No pleural effusion.", "Left pleural effusion.")
    assert invented.reference_sentence == "No pleural effusion."
    assert invented.detail == "the reference denies it"


def test_credit_is_half_for_presence_and_half_for_the_details_that_are_stated() -> None:
    reference = "A 10 mm nodule in the left upper lobe."  # side, lobe and size
    assert matches(reference, reference)[0].credit == 1
    assert matches(reference, "A nodule.")[0].credit == 0.5
    assert matches(reference, "A nodule on the left.")[0].credit == pytest.approx(0.5 + 0.5 / 3)
    assert matches("Cardiomegaly.", "Cardiomegaly.")[0].credit == 1


def test_the_score_is_the_f1_of_the_credits() -> None:
    reference = "Cardiomegaly. Left pleural effusion."
    assert value("factuality", reference, reference) == 1
    assert value("factuality", reference, "Cardiomegaly.") == pytest.approx(2 * 1 / (2 + 1))
    two = "Cardiomegaly. Hiatal hernia."
    assert value("factuality", reference, two) == pytest.approx(2 * 1 / (2 + 2))
    assert value("factuality_precision", reference, two) == 0.5
    assert value("factuality_recall", reference, "Cardiomegaly.") == 0.5
    assert np.isnan(value("factuality", "Normal.", "Normal."))


def test_to_deny_a_finding_costs_more_than_to_leave_it_out() -> None:
    reference = "Cardiomegaly. Left pleural effusion."
    silent = value("factuality", reference, "Cardiomegaly.")
    assert value("factuality", reference, "Cardiomegaly. No pleural effusion.") < silent


def test_side_counts_stated_findings_that_have_one() -> None:
    reference = "Left pleural effusion. Right consolidation. Cardiomegaly."
    assert value("side", reference, "Left pleural effusion. Left consolidation.") == 0.5
    assert value("side", reference, "Left pleural effusion. Cardiomegaly.") == 1
    assert np.isnan(value("side", reference, "Cardiomegaly."))


@pytest.mark.slow
@pytest.mark.parametrize("source", ["phantom", "real"])
def test_clinical_scores_see_what_is_said_and_not_where(source: str) -> None:
    if source == "real":
        if not REAL_REPORTS.exists():
            pytest.skip("the real reports are not here")
        with REAL_REPORTS.open(newline="", encoding="utf-8") as handle:
            texts = [row["report_text"] for row in csv.DictReader(handle)][:60]
    else:
        texts = [write_report(draw_truth(seed)).text for seed in range(40)]
    clinical = ("f1_macro", "f1_micro", "crg", "factuality")
    cards = {change: score_change(texts, change, clinical, 10) for change in CHANGES}
    for change, card in cards.items():
        values = {name: each.value for name, each in card.estimates.items()}
        print(change, card.n, {name: round(v, 4) for name, v in values.items()})
        assert card.n >= len(texts) // 3
        if change == "sentences shuffled":
            assert set(values.values()) == {1.0}
            continue
        seen = ("factuality",) if change == "left and right swapped" else clinical
        assert all(values[name] < 0.97 for name in seen), "labels alone have no side"
        lowered = [case.values["factuality"] < 1 for case in card.cases]
        # Two lesions of one label, one on each side, look the same when they are exchanged.
        assert np.mean(lowered) > (0.9 if change == "left and right swapped" else 0.97)


def test_word_overlap_sees_the_order_and_hardly_a_wrong_side() -> None:
    texts = [write_report(draw_truth(seed)).text for seed in range(15)]
    names = ("factuality", "hf_rouge_l")
    moved, mirrored = (
        score_change(texts, change, names, 10).estimates
        for change in ("sentences shuffled", "left and right swapped")
    )
    assert moved["hf_rouge_l"].value < 0.9 < mirrored["hf_rouge_l"].value
    assert moved["factuality"].value == 1 > mirrored["factuality"].value


def test_a_change_is_the_same_for_the_same_seed() -> None:
    texts = [write_report(draw_truth(seed)).text for seed in range(5)]
    for change in CHANGES:
        assert changed_reports(texts, change) == changed_reports(texts, change)
        before, after = changed_reports(texts, change)
        assert all(a != b for a, b in zip(before, after, strict=True))
