"""A text that is no report is told from one, and is marked wherever it is shown."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rad3d.data.samples import Prediction, PredictionSet, Sample, SampleSet
from rad3d.metrics.scorecard import score
from rad3d.model.report_facts import text_notes
from rad3d.reports.readable import no_report
from rad3d.synthetic.grammar.prose import prose_report

LOOP = "Findings: A nodule of 8 mm in the left lung. " + "The heart is of normal size. " * 9


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        (LOOP + "The heart is", "repeats itself to its end"),
        ("Mild mild mild mild mild mild mild mild mild mil", "repeats itself to its end"),
        ("Находки: лёгкие чистые, выпота нет.", "is not in Latin script"),
        ("胸腔积液，右侧少量。", "is not in Latin script"),
        ("The capital of France is Paris, and its largest city.", "states nothing about the chest"),
        ("Normal chest CT.", ""),
        ("No pleural effusion. No pneumothorax. No pericardial effusion. No nodule.", ""),
        ("Effusion.", ""),
        ("No acute abnormality.", ""),
    ],
)
def test_what_is_no_report_is_told_with_the_reason(text: str, why: str) -> None:
    assert no_report(text) == why


def test_no_report_of_the_grammar_is_called_none() -> None:
    assert not [seed for seed in range(50) if no_report(prose_report((), seed).text)]


def test_no_real_report_is_called_none(shared_dir: Path) -> None:
    table = shared_dir / "data" / "ct_rate_text" / "train.csv"
    if not table.is_file():
        pytest.skip(f"{table} is not there")
    with table.open(encoding="utf-8") as lines:
        assert not [row for row in csv.DictReader(lines) if no_report(row["report_text"])]


def test_the_report_says_so_itself_unless_it_was_cancelled() -> None:
    (note,) = text_notes(LOOP, "length")
    assert (note.level, note.code) == ("warning", "no_report")
    assert note.text == "This text is no report: it repeats itself to its end."
    assert text_notes(LOOP, "cancelled") == ()
    assert text_notes("The lungs are clear.", "end") == ()


def test_an_evaluation_counts_the_texts_that_are_no_reports() -> None:
    samples = SampleSet("s", "s", tuple(Sample(str(i), "Small effusion.") for i in range(3)))
    texts = (LOOP, "Small effusion.", "Paris.")
    predictions = tuple(Prediction(str(i), text) for i, text in enumerate(texts))
    card = score(samples, PredictionSet("p", "s", predictions), metrics=["f1_macro"], resamples=5)
    (note,) = card.settings["notes"]
    assert note.startswith("2 of 3 texts are no reports: 1 ")
