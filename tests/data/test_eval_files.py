"""Predictions files: what is in them is read, what is wrong with them is said and counted."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from rad3d.cli import main
from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.labels import LABELS, N_LABELS
from rad3d.data.english import looks_english
from rad3d.data.predictions import (
    MAX_REPORT_CHARACTERS,
    Columns,
    read_predictions,
    read_references,
)
from rad3d.data.samples import (
    Prediction,
    PredictionSet,
    Sample,
    SampleSet,
    dropped_sentence,
)
from rad3d.metrics.cases import align
from rad3d.metrics.scorecard import score
from rad3d.metrics.writers import KINDS, predictions_text
from rad3d.synthetic.grammar import write_report
from rad3d.synthetic.truth import draw_truth

EFFUSION = "Small left pleural effusion."
GERMAN = (
    "Kein Nachweis eines Pleuraergusses. Das Herz ist normal groß. Keine Rundherde in beiden "
    "Lungen. Unauffällige Darstellung der Aorta und der Lymphknoten."
)
SPANISH = (
    "No se observa derrame pleural. El corazón es de tamaño normal. No hay nódulos pulmonares en "
    "ambos pulmones ni adenopatías de tamaño patológico."
)


def write_csv(path: Path, rows: list[list[str]], header: str = "id,reference,prediction") -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(header.split(","))
        writer.writerows(rows)
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    rows = [
        [f"case-{seed}", write_report(draw_truth(seed)).text,
         write_report(draw_truth(seed), seed=seed + 5).text]
        for seed in range(8)
    ]  # fmt: skip
    return write_csv(tmp_path / "good.csv", rows)


def test_a_csv_is_read_as_it_stands(good: Path) -> None:
    samples, predictions = read_predictions(good)
    assert [s.id for s in samples.samples] == [f"case-{seed}" for seed in range(8)]
    assert samples.samples[3].reference == write_report(draw_truth(3)).text
    assert predictions.predictions[3].text == write_report(draw_truth(3), seed=8).text
    assert samples.dropped == ()
    assert predictions.facts["notes"] == []


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_what_is_written_is_read_back(kind: str, tmp_path: Path) -> None:
    samples = SampleSet(
        "set", "Set",
        tuple(Sample(str(seed), write_report(draw_truth(seed)).text, draw_truth(seed).labels())
              for seed in range(3)),
    )  # fmt: skip
    texts = ['=HYPERLINK(1)\nline, "two"', "- No effusion.", "'quoted'"]
    said = tuple(
        Prediction(str(i), text, "", 1.5 * i if i else None, "end") for i, text in enumerate(texts)
    )
    path = tmp_path / f"file.{kind}"
    text = predictions_text(samples, PredictionSet("it", "set", said), kind)
    path.write_text(text, encoding="utf-8", newline="")
    again, predictions = read_predictions(path)
    assert predictions.predictions == said
    assert again.samples == samples.samples


def test_no_cell_of_a_csv_is_a_formula_for_a_spreadsheet() -> None:
    samples = SampleSet("s", "s", (Sample("=1+1", "@SUM(A1)"),))
    said = PredictionSet("p", "s", (Prediction("=1+1", "+cmd|' /C calc'!A0", "-failed"),))
    text = predictions_text(samples, said, "csv")
    for row in csv.reader(text.splitlines()[1:]):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)


def test_the_vlm3d_schema_is_written_and_read(tmp_path: Path) -> None:
    samples = SampleSet("s", "s", (Sample("scan-1", EFFUSION), Sample("scan-2", "Normal chest.")))
    said = PredictionSet("p", "s", (Prediction("scan-1", EFFUSION), Prediction("scan-2", "No.")))
    path = tmp_path / "vlm3d.json"
    path.write_text(predictions_text(samples, said, "vlm3d"), encoding="utf-8")
    stored = json.loads(path.read_text())
    report = stored[0]["outputs"][0]["value"]["generated_reports"][0]
    assert report == {"input_image_name": "scan-1", "report": EFFUSION}
    stored[0]["outputs"][0]["value"]["generated_reports"][0]["input_image_name"] = "scan-1.nii.gz"
    path.write_text(json.dumps(stored))
    again, predictions = read_predictions(path, samples=samples)
    assert [p.id for p in predictions.predictions] == ["scan-1", "scan-2"]
    assert again.samples == samples.samples
    with pytest.raises(UnknownName, match="reference"):
        read_predictions(path)


FORMS: dict[str, object] = {
    "lists of texts by id, as R2GenGPT": {"a": ["No effusion."], "b.nii.gz": ["Emphysema."]},
    "texts by id": {"a": "No effusion.", "b": "Emphysema."},
    "rows by id": {"a": {"text": "No effusion."}, "b": {"text": "Emphysema."}},
    "a list of rows": [{"ID": "a", "Text": "No effusion."}, {"ID": "x/b", "Text": "Emphysema."}],
    "rows below a key": {"model": "m", "results": [{"id": "a", "text": "No effusion."},
                                                   {"id": "b", "text": ["Emphysema."]}]},
    "columns of lists": {"id": ["a", "b"], "text": ["No effusion.", "Emphysema."]},
    "columns of pandas": {"id": {"0": "a", "1": "b"}, "text": {"0": "No effusion.",
                                                               "1": "Emphysema."}},
    "VLM3D": [{"outputs": [{"value": {"generated_reports": [
        {"input_image_name": "a.mha", "report": "No effusion."},
        {"input_image_name": "b.mha", "report": "Emphysema."}]}}]}],
    "VLM3D alone": {"name": "Generated reports", "generated_reports": [
        {"input_image_name": "a", "report": "No effusion."},
        {"input_image_name": "b", "report": "Emphysema."}]},
}  # fmt: skip


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_json_gives_the_same_predictions(
    form: str, indent: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(FORMS[form], indent=indent), encoding="utf-8")
    samples = SampleSet("s", "s", (Sample("a", "x"), Sample("b", "x")))
    found = read_predictions(path, columns=Columns(prediction="text"), samples=samples)
    cases, unknown = align(*found)
    assert cases.texts == ("No effusion.", "Emphysema.")
    assert unknown == ()


def test_a_long_file_is_not_repeated_in_a_message(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({f"case_{i}": ["A report. " * 9] for i in range(3000)}))
    with pytest.raises(UnknownName, match="called 'reference'") as caught:
        read_predictions(path)
    assert len(str(caught.value)) < 300
    path.write_text(json.dumps([{f"case_{i}": "A report. " * 99 for i in range(3000)}]))
    with pytest.raises(UnknownName) as caught:
        read_predictions(path)
    assert "and 2,936 more" in str(caught.value)
    assert len(str(caught.value)) < 3000


def test_rows_whose_ids_differ_by_a_suffix_alone_are_told_from_repeated_ones(
    tmp_path: Path,
) -> None:
    rows = [[name, "Normal.", "Normal."] for name in ("a", "a", "a.nii.gz", "b.nii.gz")]
    samples, _ = read_predictions(write_csv(tmp_path / "x.csv", rows))
    assert [sample.id for sample in samples.samples] == ["a", "b"]
    assert [row.reason for row in samples.dropped] == [
        "with an id that was there before",
        "with an id that was there before, but for a suffix such as .nii.gz",
    ]


@pytest.mark.parametrize("nothing", ["", "nan", "None", "N/A", "Not given.", "null", "[]"])
def test_what_says_that_there_is_no_report_is_neither_reference_nor_prediction(
    nothing: str, tmp_path: Path
) -> None:
    rows = [["a", EFFUSION, nothing], ["b", nothing, EFFUSION]]
    samples, predictions = read_predictions(write_csv(tmp_path / "x.csv", rows))
    assert [sample.id for sample in samples.samples] == ["a"]
    assert samples.dropped[0].reason == "without a reference"
    assert predictions.predictions[0] == Prediction("a", "", "empty report")


def test_thoughts_before_a_report_are_left_out_and_told(tmp_path: Path) -> None:
    rows = [["a", EFFUSION, f"<think>Emphysema?</think>\n{EFFUSION}"], ["b", EFFUSION, EFFUSION]]
    _, predictions = read_predictions(write_csv(tmp_path / "x.csv", rows))
    assert [p.text for p in predictions.predictions] == [EFFUSION, EFFUSION]
    assert predictions.facts["notes"][0].startswith("1 prediction is read without the reasoning")


def test_every_row_that_cannot_be_used_is_counted_with_its_reason(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "messy.csv",
        [
            ["1", EFFUSION, EFFUSION],
            ["1", EFFUSION, "Normal."],
            ["", EFFUSION, EFFUSION],
            ["2", " ", EFFUSION],
            ["3", GERMAN, EFFUSION],
            ["4", EFFUSION, "", "Normal."],
            ["5", EFFUSION, ""],
            ["6", EFFUSION, SPANISH],
            ["7", EFFUSION, "x" * (MAX_REPORT_CHARACTERS + 1)],
            ["8", EFFUSION, "=cmd|' /C calc'!A0"],
        ],
    )
    samples, predictions = read_predictions(path)
    assert [s.id for s in samples.samples] == ["1", "3", "5", "6", "7", "8"]
    assert samples.notes[0].startswith("1 reference is not in English, it seems")
    assert Counter(row.reason for row in samples.dropped) == {
        "with an id that was there before": 1,
        "without an id": 1,
        "without a reference": 1,
        "with too few or too many cells": 1,
    }
    assert dropped_sentence(samples.dropped).startswith("4 rows were dropped: 1 ")
    by_id = {p.id: p for p in predictions.predictions}
    assert by_id["1"].text == EFFUSION, "the first of two rows counts"
    assert by_id["5"].failure == "empty report"
    assert len(by_id["7"].text) == MAX_REPORT_CHARACTERS
    notes = " ".join(predictions.facts["notes"])
    assert "1 prediction is longer than 20,000 characters" in notes
    assert "1 prediction is not in English" in notes
    assert "1 prediction is like a spreadsheet formula" in notes
    assert score(samples, predictions, resamples=10).failures == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"  \n ", "empty"),
        (b"id,reference,prediction\n1,\x81,x", "neither UTF-8 nor"),
        (b'id,reference,prediction\n1,"open,b', "not CSV"),
        (b"id,id,prediction\n1,2,3", "Two columns"),
        (b"id,reference,prediction\n", "no case"),
        (b"[1, 2]", "VLM3D"),
        (b"[" * 100_000, "not JSON"),
        (b'[{"outputs": [{"value": 3}]}]', "no column called 'id'. Known: outputs"),
        (b'{"case_1": 3, "case_2": 4}', "VLM3D"),
        (b"{nonsense\n{more", "not JSON"),
        (b"{}\n{more", "no case"),
        (b"\x00\x01\x02", "not a table"),
    ],
)
def test_a_file_that_is_none_gets_a_clear_sentence(
    content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    with pytest.raises((BadRequest, UnknownName), match=words):
        read_predictions(path)


def test_semicolons_tabs_a_byte_order_mark_and_half_characters_are_read(tmp_path: Path) -> None:
    for name, content in {
        "a.csv": f"id;reference;prediction\n0;{EFFUSION};{EFFUSION}\n",
        "b.tsv": f"id\treference\tprediction\n0\t{EFFUSION}\t{EFFUSION}\n",
        "c.csv": f"\ufeffid,reference,prediction\n\n0,{EFFUSION},{EFFUSION}\n",
    }.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        samples, predictions = read_predictions(tmp_path / name)
        assert samples.samples == (Sample("0", EFFUSION),), name
        assert predictions.predictions[0].text == EFFUSION
    half = tmp_path / "half.jsonl"
    half.write_text('{"id": 0, "reference": "Normal.", "prediction": "\\ud800 effusion"}')
    samples, predictions = read_predictions(half)
    text = predictions_text(samples, predictions, "csv")
    (tmp_path / "again.csv").write_text(text, encoding="utf-8", newline="")
    assert predictions.predictions[0].text == "? effusion"


def test_a_missing_column_is_named_with_the_ones_there_are(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", [["1", "a", "b"]], "study,truth,prediction")
    with pytest.raises(UnknownName, match="study, truth, prediction"):
        read_predictions(path)
    samples, _ = read_predictions(path, columns=Columns("study", "truth"))
    assert samples.samples[0] == Sample("1", "a")


def test_label_columns_are_the_truth_and_bad_ones_are_refused(tmp_path: Path) -> None:
    header = ",".join(("id", "reference", "prediction", *LABELS))
    labels = ["1"] + ["0"] * (N_LABELS - 1)
    rows = [["1", EFFUSION, "x", *labels], ["2", EFFUSION, "x", "2", *labels[1:]]]
    samples, _ = read_predictions(write_csv(tmp_path / "x.csv", rows, header))
    assert samples.samples[0].labels == tuple(map(int, labels))
    assert samples.dropped[0].reason == "with a label that is neither 0 nor 1"
    fewer = write_csv(tmp_path / "y.csv", [r[:-1] for r in rows], header.rpartition(",")[0])
    with pytest.raises(UnknownName, match=LABELS[-1]):
        read_predictions(fewer)


def test_references_of_another_file_are_matched_by_id(tmp_path: Path, good: Path) -> None:
    references = read_references(good)
    path = write_csv(tmp_path / "p.csv", [["case-2", "A left effusion."], ["who", "x"]],
                     "id,prediction")  # fmt: skip
    samples, predictions = read_predictions(path, samples=references)
    card = score(samples, predictions, resamples=10)
    assert (card.n, card.failures, len(card.dropped)) == (8, 7, 1)


def test_english_is_told_from_other_languages_and_short_texts_pass() -> None:
    assert not looks_english(GERMAN)
    assert not looks_english(SPANISH)
    assert not looks_english("双肺未见明显异常")
    assert not looks_english("Лёгкие без очаговых изменений")
    assert looks_english(
        "Bibasal subsegmental atelectasis. Cardiomegaly. Aortic atherosclerosis. Degenerative "
        "changes, thoracic spine. Renal cysts."
    )
    assert looks_english("")
    assert looks_english("Normal.")
    assert all(looks_english(write_report(draw_truth(seed)).text) for seed in range(30))


def test_an_unknown_kind_of_file_is_refused() -> None:
    samples = SampleSet("s", "s", (Sample("1", "a"),))
    with pytest.raises(UnknownName, match="jsonl"):
        predictions_text(samples, PredictionSet("p", "s", (Prediction("1", "a"),)), "xlsx")
    assert set(KINDS) == {"jsonl", "csv", "vlm3d"}


# rad3d eval score


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    status = main(["eval", "score", *map(str, args), "--resamples", "20"])
    out, err = capsys.readouterr()
    return status, out, err


def test_eval_score_prints_json_on_stdout_and_counts_on_stderr(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, good, "--json", "--metric", "f1_macro", "--metric", "hf_rouge_l")
    scores = json.loads(out)["scores"]
    assert status == 0
    assert set(scores[0]["estimates"]) == {"f1_macro", "hf_rouge_l"}
    assert scores[0]["estimates"]["f1_macro"]["value"] == 1
    assert scores[0]["signature"]["hf_rouge_l"].startswith("rougeL|")
    assert "n 8, failures 0, dropped 0" in err


def test_eval_score_compares_files_and_shows_labels(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[f"case-{seed}", write_report(draw_truth(seed)).text, "Normal."] for seed in range(8)]
    other = write_csv(tmp_path / "other.csv", rows)
    status, out, _ = run(capsys, good, other, "--metric", "f1_macro")
    assert status == 0
    assert "other - good" in out
    assert "Cardiomegaly" in out
    different = write_csv(tmp_path / "different.csv", [["z", EFFUSION, EFFUSION]])
    status, _, err = run(capsys, good, different, "--metric", "f1_macro")
    assert status == 1
    assert "same cases" in err


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (("--require", "f1_macro=0.9"), 0),
        (("--require", "f1_macro=1.1"), 3),
        (("--require", "hallucinated=0.1"), 0),
        (("--require", "hallucinated=-1"), 3),
        (("--require", "f1_macro=high"), 1),
        (("--require", "nothing=1"), 1),
        (("--strict",), 0),
        (("--metric", "nothing"), 1),
        (("--prediction-column", "text"), 1),
        (("--resamples", "0"), 1),
    ],
)
def test_exit_codes_serve_ci(
    options: tuple[str, ...], status: int, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = () if "--metric" in options else ("--metric", "f1_macro", "--metric", "hallucinated")
    found = main(["eval", "score", str(good), "--resamples", "20", *metrics, *options])
    out, err = capsys.readouterr()
    assert found == status
    assert "Traceback" not in err
    assert (out == "") == (status == 1)


def test_strict_notices_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_csv(tmp_path / "x.csv", [["1", EFFUSION, EFFUSION], ["2", EFFUSION, ""]])
    assert run(capsys, path, "--metric", "f1_micro")[0] == 0
    assert run(capsys, path, "--metric", "f1_micro", "--strict")[0] == 4


def test_a_metric_that_cannot_run_is_refused_with_what_it_needs(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, good, "--metric", "bertscore")
    assert status == 1
    assert "needs weights" in err


def test_eval_metrics_lists_every_metric_with_its_state(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from rad3d.metrics.registry import METRICS

    assert main(["eval", "metrics", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in rows] == list(METRICS)
    assert {row["status"]["state"] for row in rows} >= {"ready", "needs weights"}
    assert main(["eval", "metrics"]) == 0
    assert "f1_macro" in capsys.readouterr().out


def test_cells_that_json_has_and_tables_have_not_are_told_apart(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": "good", "reference": EFFUSION, "prediction": EFFUSION},
        {"id": "missing", "reference": EFFUSION, "prediction": float("nan")},
        {"id": "null", "reference": EFFUSION, "prediction": None},
        {"id": "nested", "reference": EFFUSION, "prediction": {"text": EFFUSION}},
        {"id": "listed", "reference": [{"text": EFFUSION}], "prediction": EFFUSION},
        {"id": float("nan"), "reference": EFFUSION, "prediction": EFFUSION},
        {"id": "blank", "reference": float("nan"), "prediction": EFFUSION},
    ]
    path = tmp_path / "pandas.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    samples, found = read_predictions(path)
    assert {p.id: (p.text, p.failure) for p in found.predictions} == {
        "good": (EFFUSION, ""),
        "missing": ("", "empty report"),
        "null": ("", "empty report"),
    }
    assert [row.reason for row in samples.dropped] == [
        "with a prediction that is no text",
        "with a reference that is no text",
        "without an id",
        "without a reference",
    ]
    assert found.facts["notes"] == [], "what is not there is not in another language"
