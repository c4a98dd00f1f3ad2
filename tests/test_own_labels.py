"""A label set of one's own, from a table of labels to a score, by commands alone."""

from __future__ import annotations

import csv
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_scans import OWN_LABELS, separable
from safetensors.numpy import save_file
from tiny_models import GRID, CountingEncoder, save_language, save_shipped, tiny_language, volume

import rad3d
from rad3d import cli
from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import BadRequest, MissingWeights
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.language_models import language_model
from rad3d.core.settings import Settings
from rad3d.core.types import DoneEvent, GenerationOptions, Report
from rad3d.evaluation.figures.comparison import heatmap_figure
from rad3d.evaluation.leaderboard import view_of
from rad3d.evaluation.storage import read_run
from rad3d.features.shards import Case, FeatureStore, Shard
from rad3d.features.table import FeatureTable, Row, write_features
from rad3d.model import store as stores
from rad3d.model.encoders.head import Head
from rad3d.model.engine import Engine
from rad3d.model.identity import EncoderIdentity, weights_sha256
from rad3d.model.store import ModelStore
from rad3d.model.variants.variant import VariantConfig, variant_directory
from rad3d.reports.export import report_dict
from rad3d.ui.evaluation.case_view import label_state
from rad3d.ui.report.chart import diagnosis_chart

OWN = {**OWN_LABELS, "labels": [*OWN_LABELS["labels"], "Frailty"]}
"""With a label that no rule reads."""

NAMES = ("Pleural effusion", "PE", "Pneumothorax", "Mass", "Frailty")
TEXTS = ("Left pneumothorax. No effusion.", "Large pleural effusion and a mass.")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Features of 200 scans, their labels and reports, an encoder, and a small language model."""
    models = tmp_path / "models"
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(models))
    monkeypatch.setenv("RAD3D_RUNS_DIR", str(tmp_path / "runs"))
    save_shipped(models)
    save_language(tiny_language("gpt2"), tmp_path / "my-gpt2")
    folder = models / ENCODERS["phantom-cnn"].source
    save_file({"w": np.zeros(3)}, folder / "model.safetensors")
    bare = CountingEncoder()
    monkeypatch.setattr(stores, "load_encoder", lambda *_: bare)
    monkeypatch.setattr("rad3d.train.labelled.load_encoder", lambda *_: bare)
    data = separable(200)
    ids = tuple(f"case-{i}" for i in range(200))
    whose = EncoderIdentity("phantom-cnn", weights_sha256(folder), GRID.id)
    own = data.embedding[:, :18].astype(np.float32)
    found = FeatureTable(ids, data.embedding.astype(np.float32), own)
    write_features(tmp_path / "f.safetensors", found, whose)
    rows = [[id_, *row] for id_, row in zip(ids, data.labels[:, :5].tolist(), strict=True)]
    _write(tmp_path / "labels.csv", ["id", "pleural_effusion", "pe_positive", *NAMES[2:]], rows)
    _write(tmp_path / "r.csv", ["id", "report"], [[id_, TEXTS[0]] for id_ in ids[:8]])
    (tmp_path / "own.json").write_text(json.dumps(OWN), encoding="utf-8")
    (tmp_path / "readable.json").write_text(json.dumps(OWN_LABELS), encoding="utf-8")
    return tmp_path


def _write(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def _fit(place: Path, labels: str, label_set: str) -> int:
    return cli.main([
        "head", "fit", "--encoder", "phantom-cnn", "--features", str(place / "f.safetensors"),
        "--labels", str(place / labels), "--label-set", label_set, "--folds", "2",
        "--resamples", "20", "--replace",
    ])  # fmt: skip


def _report(place: Path, variant: str) -> Report:
    engine = Engine(ModelStore(replace(Settings(), models_dir=place / "models")))
    options = GenerationOptions(max_new_tokens=4)
    events = engine.stream(volume(), variant, options, threading.Event())
    return next(e.report for e in events if isinstance(e, DoneEvent))


@pytest.mark.slow
def test_own_labels_go_from_a_table_to_a_head_a_variant_a_report_and_its_chart(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = LabelSet.find(str(place / "own.json"))
    assert _fit(place, "labels.csv", str(place / "own.json")) == 0
    assert "labels: Ward 7 (5 labels)" in capsys.readouterr().out
    folder = place / "models" / ENCODERS["phantom-cnn"].source
    head = Head.read(folder)
    assert head is not None
    assert head.label_set == own
    assert tuple(head.facts["measured"]["labels"]) == NAMES
    line = [
        "train", "--llm", str(place / "my-gpt2"), "--mode", "v3", "--features",
        str(place / "f.safetensors"), "--reports", str(place / "r.csv"), "--epochs", "1",
        "--batch-size", "2", "--layers", "1", "--validation-share", "0.25",
    ]  # fmt: skip
    assert cli.main(line) == 0
    variant = f"{language_model(str(place / 'my-gpt2')).id}/v3"
    config = VariantConfig.read(variant_directory(place / "models", variant))
    assert (config.label_set, config.logits_dim) == (own, 5)
    report = _report(place, variant)
    assert [row["label"] for row in report.diagnosis.to_rows()] == list(NAMES)
    assert any("No rule finds Frailty" in note.text for note in report.notes)
    assert LabelSet.from_plain(report_dict(report)["diagnosis"]["label_set"]) == own
    bars = json.loads(diagnosis_chart(report.diagnosis).plot)["data"][1]
    assert len(bars["x"]) == 5
    with pytest.raises(MissingWeights, match="trained with the logits of another head"):
        _report(place, "phantom-s/v3")


def test_a_variant_is_refused_with_the_logits_of_other_labels(place: Path) -> None:
    path = place / "models" / "variants" / "phantom-s" / "v3" / "variant.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    assert VariantConfig.from_json(path.read_text(encoding="utf-8")).label_set == CT_RATE
    same_length = {"id": "x", "labels": [f"label {i}" for i in range(18)]}
    path.write_text(json.dumps({**values, "label_set": same_length}), encoding="utf-8")
    with pytest.raises(BadRequest, match=r"labels of x \(18 labels\), and the head of phantom-cnn"):
        _report(place, "phantom-s/v3")


def test_the_columns_of_a_table_can_be_the_set(place: Path) -> None:
    assert _fit(place, "labels.csv", "columns") == 0
    head = Head.read(place / "models" / ENCODERS["phantom-cnn"].source)
    assert head is not None
    assert head.label_set.names == ("pleural_effusion", "pe_positive", *NAMES[2:])


def test_a_table_without_a_label_of_the_set_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _fit(place, "labels.csv", "ct-rate") == 1
    assert "no column in labels.csv called 'Medical material'" in capsys.readouterr().err


def test_reports_are_labelled_and_scored_by_own_labels(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(place / "t.csv", ["id", "report"], [["a", TEXTS[0]], ["b", TEXTS[1]]])
    assert cli.main(["label", str(place / "t.csv"), "--label-set", str(place / "own.json")]) == 1
    assert "says of Frailty neither" in capsys.readouterr().err
    readable = str(place / "readable.json")
    assert cli.main(["label", str(place / "t.csv"), "--label-set", readable]) == 0
    expected = "id,Pleural effusion,PE,Pneumothorax,Mass\na,0,0,1,0\nb,1,0,0,1\n"
    assert capsys.readouterr().out == expected
    assert rad3d.label(TEXTS[0], label_set=readable)["Pneumothorax"] == 1
    rows = [["a", TEXTS[0], TEXTS[0]], ["b", TEXTS[1], "Large pleural effusion."]]
    _write(place / "p.csv", ["id", "reference", "prediction"], rows)
    line = ["eval", "score", str(place / "p.csv"), "--label-set", readable, "--json"]
    assert cli.main([*line, "--metric", "f1_micro", "--resamples", "5"]) == 0
    (card,) = json.loads(capsys.readouterr().out)["scores"]
    assert card["estimates"]["f1_micro"]["value"] == pytest.approx(0.8)
    assert list(card["per_label"]) == list(NAMES[:4])
    assert card["per_label"]["Mass"]["f1"] == 0
    assert card["settings"]["label_set"] == "ward-7"
    assert "labels:4:ward-7:" in card["signature"]["f1_micro"]
    score = rad3d.score([TEXTS[0]], [TEXTS[0]], label_set=readable, metrics=["f1_macro"])
    assert score["f1_macro"] == 1


def test_a_run_names_its_labels_and_its_figures_follow_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [["a", TEXTS[0], TEXTS[0]], ["b", TEXTS[1], "Large pleural effusion."]]
    _write(place / "p.csv", ["id", "reference", "prediction"], rows)
    line = ["eval", "run", "--sets", f"predictions:{place / 'p.csv'}", "--label-set"]
    options = ["--metric", "f1_macro", "--resamples", "5", "--out", str(place / "run"), "--json"]
    assert cli.main([*line, str(place / "readable.json"), *options]) == 0
    capsys.readouterr()
    run = read_run(place / "run")
    assert run.sample_sets["p"].label_set == LabelSet.find(str(place / "readable.json"))
    view = view_of(run)
    (figure,) = heatmap_figure(view.label_f1("p"), view.names, view.positives("p"), "p").data
    assert [row.partition(" (")[0] for row in sorted(figure.y)] == sorted(NAMES[:4])
    assert label_state(run.cards["p", "p"], 1, "Mass") == "omitted"


def test_a_store_names_the_labels_of_its_logits(place: Path) -> None:
    own = LabelSet.find(str(place / "own.json"))
    store = FeatureStore.create(place / "store", EncoderIdentity("phantom-cnn", "0" * 64, GRID.id))
    row = Row(np.zeros(32, np.float32), np.ones(5, np.float32))
    store.append(Shard({"c": row}, {"a": Case("c")}, label_set=own))
    table = FeatureStore.open(place / "store").table()
    assert table.label_set == own
    other = Row(np.zeros(32, np.float32), np.ones(18, np.float32))
    store.append(Shard({"d": other}, {"b": Case("d")}))
    assert FeatureStore.open(place / "store").table().logits is None, "of two sets"
    assert FeatureStore.open(place / "store").table(["b"]).label_set == CT_RATE
