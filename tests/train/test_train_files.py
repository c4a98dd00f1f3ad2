"""Training on one's own features and reports: what is paired, dropped, held out, and comes out."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file
from tiny_models import LATENT_DIM, LINES, save_language, save_shipped, tiny_language

from rad3d import cli
from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.language_models import language_model
from rad3d.data.predictions import Columns
from rad3d.features.shards import FeatureStore
from rad3d.features.table import FeatureTable, write_features
from rad3d.model.identity import EncoderIdentity, weights_sha256
from rad3d.model.variants.variant import VariantConfig, variant_directory
from rad3d.train.file_source import PLAIN, FileSource, pair, read_reports
from rad3d.train.pairs import TrainingData, hold_out

ENCODER = EncoderIdentity("phantom-cnn", "a" * 64, "grid-1")
IDS = [f"train_{i}_a_{k}" for i in range(1, 7) for k in (1, 2)]
COLUMNS = Columns("VolumeName", ("Findings=Findings_EN", "Impression=Impressions_EN"))


def features(
    path: Path, ids: Sequence[str] = IDS, encoder: EncoderIdentity = ENCODER, head: bool = True
) -> Path:
    """A file of random features."""
    rng = np.random.default_rng(len(ids))
    embedding = rng.normal(size=(len(ids), LATENT_DIM)).astype(np.float32)
    logits = rng.normal(size=(len(ids), 18)).astype(np.float32) if head else None
    failures = {"train_9_a_1": "It holds no scan."}
    write_features(path, FeatureTable(tuple(ids), embedding, logits, failures), encoder)
    return path


def loaded(path: Path) -> tuple[EncoderIdentity, FeatureTable]:
    store = FeatureStore.open(path)
    return store.identity, store.table()


def table(path: Path, ids: Sequence[str] = IDS) -> Path:
    """A table of reports like CT-RATE's."""
    rows = [
        f'{id_}.nii.gz,"{LINES[i % 2].splitlines()[0].partition(": ")[2]}","Number {i}."'
        for i, id_ in enumerate(ids)
    ]
    lines = ["VolumeName,Findings_EN,Impressions_EN", *rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_pairs_meet_by_id_and_every_loss_is_counted(tmp_path: Path) -> None:
    reports = table(tmp_path / "r.csv", [*IDS[1:], "train_8_a_1", "train_9_a_1", IDS[1]])
    with reports.open("a", encoding="utf-8") as file:
        file.write("train_7_a_1.nii.gz,,\nshort\nlong,a,b,c\n")
    data = pair(
        *loaded(features(tmp_path / "f.safetensors")),
        read_reports(str(reports), COLUMNS, "train"),
    )
    assert len(data) == len(IDS) - 1
    assert data.reports[0][0] == (
        "Findings: The lungs are clear. No pleural effusion.\nImpression: Number 0."
    )
    assert data.patients[0] == "train_1"
    assert len(data.reports[0]) == 2, "the second row is another wording"
    assert data.dropped == {
        "rows without a reference": 1,
        "rows with too few or too many cells": 2,
        "scans without a report": 1,
        "reports whose scan could not be encoded": 1,
        "reports without features": 1,
    }
    _, seen = loaded(tmp_path / "f.safetensors")
    np.testing.assert_array_equal(data.pooled[0, 0], seen.embedding[1])


def test_a_feature_that_is_no_number_is_no_pair(tmp_path: Path) -> None:
    identity, seen = loaded(features(tmp_path / "f.safetensors"))
    assert seen.logits is not None
    seen.embedding[0, 0], seen.logits[1, 3] = np.nan, np.inf
    data = pair(identity, seen, read_reports(str(table(tmp_path / "r.csv")), COLUMNS, "train"))
    assert data.dropped["scans with features that are no numbers"] == 2
    assert np.isfinite(data.pooled).all()


def test_no_pair_at_all_is_refused_with_the_reasons(tmp_path: Path) -> None:
    reports = read_reports(str(table(tmp_path / "r.csv", ["other"])), COLUMNS, "train")
    said = r"12 scans without a report, 1 reports without features.*'train_1_a_1'.*'other'"
    with pytest.raises(BadRequest, match=said):
        pair(*loaded(features(tmp_path / "f.safetensors")), reports)


def test_a_patients_scans_stay_on_one_side_and_the_seed_decides(tmp_path: Path) -> None:
    source = FileSource(
        features(tmp_path / "f.safetensors"), str(table(tmp_path / "r.csv")), COLUMNS, share=0.34
    )
    data = source.read()
    assert data.held_out is not None
    assert (len(data.train), len(data.held_out)) == (8, 4)
    assert not set(data.train.patients) & set(data.held_out.patients)
    again, other = source.read().held_out, replace(source, seed=2).read().held_out
    assert again is not None
    assert other is not None
    assert list(again.patients) == list(data.held_out.patients)
    assert list(other.patients) != list(data.held_out.patients)
    assert replace(source, share=0.0).read().held_out is None
    with pytest.raises(BadRequest, match="single patient"):
        hold_out(data.train.take([0]), 0.5, 0)


def test_held_out_files_may_share_neither_patients_nor_be_of_another_encoder(
    tmp_path: Path,
) -> None:
    known = features(tmp_path / "f.safetensors", [*IDS, "valid_1_a_1"])
    reports, held = table(tmp_path / "r.csv"), table(tmp_path / "v.csv", ["valid_1_a_1"])
    source = FileSource(known, str(reports), COLUMNS, held_out_reports=str(held))
    found = source.read().held_out
    assert found is not None
    assert list(found.patients) == ["valid_1"]
    with pytest.raises(BadRequest, match="6 patients are held out and learned from"):
        replace(source, held_out_reports=str(reports)).read()
    other = features(tmp_path / "o.safetensors", ["valid_1_a_1"], replace(ENCODER, sha256="b" * 64))
    with pytest.raises(BadRequest, match="of another encoder"):
        replace(source, held_out_features=other).read()


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"'text'.*Findings_EN"):
        read_reports(str(table(tmp_path / "r.csv")), Columns("VolumeName", ("text",)), "")


def test_ct_rates_folder_is_read_as_downloaded_and_needs_no_labels(tmp_path: Path) -> None:
    for name, split in (("train_reports", "train"), ("validation_reports", "valid")):
        folder = tmp_path / "CT-RATE" / "radiology_text_reports"
        folder.mkdir(parents=True, exist_ok=True)
        ids = IDS if split == "train" else ["valid_1_a_1"]
        table(folder / f"{name}.csv", ids)
    spec = f"ct-rate:{tmp_path / 'CT-RATE'}"
    known = features(tmp_path / "f.safetensors", [*IDS, "valid_1_a_1"])
    data = FileSource(known, spec, held_out_reports=spec).read()
    assert data.held_out is not None
    assert (len(data.train), len(data.held_out)) == (len(IDS), 1)
    assert data.facts()["source"]["reports"] == "ct-rate:CT-RATE", "no folders above it"


def test_rows_of_one_scan_are_wordings_of_its_report(tmp_path: Path) -> None:
    known = features(tmp_path / "f.safetensors", ["a", "b"])
    lines = "id,report\na,Effusion.\nb,Emphysema.\na,There is an effusion.\na,\na.nii.gz,Other.\n"
    (tmp_path / "r.csv").write_text(lines, encoding="utf-8")
    data = FileSource(known, str(tmp_path / "r.csv"), share=0).read().train
    assert data.reports == [["Effusion.", "There is an effusion."], ["Emphysema."]]
    assert data.sentence() == "2 pairs of 2 patients, 3 wordings"
    assert sum(data.dropped.values()) == 2, "an empty one, and one under another spelling"


def test_a_folder_of_ones_own_and_inspect_are_learned_from_as_they_are_evaluated(
    tmp_path: Path,
) -> None:
    own, inspect = tmp_path / "own", tmp_path / "inspect"
    for folder in (own, inspect):
        folder.mkdir()
    (own / "cases.csv").write_text("id,reference\na,Emphysema.\nb,\n", encoding="utf-8")
    tables = {
        "impressions_1.tsv": "impression_id\timpressions\n1\tNone.\n2\tPE.\n3\tPE.\n4\tPE.\n",
        "splits_1.tsv": "impression_id\tsplit\n2\ttrain\n3\ttrain\n4\tvalid\n",
        "study_mapping_1.tsv": "impression_id\timage_id\tperson_id\n2\tx\t7\n3\ty\t7\n4\tz\t8\n",
    }
    for name, text in tables.items():
        (inspect / name).write_text(text, encoding="utf-8")
    known = features(tmp_path / "f.safetensors", ["a", "2", "3", "4"])
    data = FileSource(known, f"folder:{own}", share=0).read().train
    assert (data.reports, data.dropped["rows without a reference"]) == ([["Emphysema."]], 1)
    spec = f"inspect:{inspect}"
    both = FileSource(known, spec, held_out_reports=spec).read()
    assert both.train.reports == [["Impression: PE."]] * 2
    assert both.held_out is not None
    assert (both.train.patients, both.held_out.patients) == (["7", "7"], ["8"])
    assert both.facts()["source"]["reports"] == "inspect:inspect"


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Features, reports, a foreign language model, and a models folder with an encoder."""
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("RAD3D_RUNS_DIR", str(tmp_path / "runs"))
    save_shipped(tmp_path / "models", modes=("v3",))
    save_language(tiny_language("gpt2"), tmp_path / "my-gpt2")
    features(tmp_path / "f.safetensors")
    table(tmp_path / "r.csv")
    return tmp_path


def command(place: Path, *more: str, mode: str = "v3") -> list[str]:
    """A short training."""
    return [
        "train", "--llm", str(place / "my-gpt2"), "--mode", mode, "--features",
        str(place / "f.safetensors"), "--reports", str(place / "r.csv"), "--id-column",
        "VolumeName", "--report-column", "Findings=Findings_EN", "--report-column",
        "Impression=Impressions_EN", "--steps", "4", "--batch-size", "2", "--layers", "1", *more,
    ]  # fmt: skip


def trained(place: Path, mode: str = "v3") -> VariantConfig:
    """The variant that a command has made."""
    llm = language_model(str(place / "my-gpt2")).id
    return VariantConfig.read(variant_directory(place / "models", f"{llm}/{mode}"))


@pytest.mark.slow
def test_a_foreign_model_learns_from_files_and_the_variant_says_from_what(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command(place, "--validate-every", "2")) == 0
    out, err = capsys.readouterr()
    assert Path(out.strip()) == variant_directory(place / "models", trained(place).id)
    assert "to learn from: 10 pairs of 5 patients; none was dropped" in err
    assert "held out: 2 pairs of 1 patient;" in err
    config = trained(place)
    assert (config.encoder, config.encoder_sha256, config.preprocessing) == (
        ENCODER.id, ENCODER.sha256, ENCODER.preprocessing,
    )  # fmt: skip
    assert not config.standardised, "the paper's plain concatenation"
    assert config.training["pairs"] == 10
    assert config.training["held_out"]["pairs"] == 2
    assert config.training["best_step"] in (2, 4)
    assert config.training["validation_loss"] > 0
    assert config.training["llm_precision"] == "float32"
    assert config.training["source"]["features"] == "f.safetensors"


def test_reports_that_are_all_too_long_are_refused_with_the_reason(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f'{id_}.nii.gz,"{"an effusion 7 " * 400}",' for id_ in IDS]
    text = "\n".join(["VolumeName,Findings_EN,Impressions_EN", *lines])
    (place / "r.csv").write_text(text, encoding="utf-8")
    assert cli.main(command(place, "--validation-share", "0")) == 1
    err = capsys.readouterr().err
    assert "No pair of features and report is left" in err
    assert "tokens, too long for the model" in err


@pytest.mark.slow
def test_features_of_other_weights_than_those_here_are_noted_before_the_training(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "with which this variant will not work"
    assert cli.main(command(place)) == 0
    assert said not in capsys.readouterr().err, "no weights are here"
    folder = place / "models" / ENCODERS["phantom-cnn"].source
    save_file({"w": np.zeros(3)}, folder / "model.safetensors")
    assert cli.main(command(place)) == 0
    assert said in capsys.readouterr().err
    features(place / "f.safetensors", encoder=replace(ENCODER, sha256=weights_sha256(folder)))
    assert cli.main(command(place, "--run-dir", str(place / "new"), "--replace")) == 0
    assert said not in capsys.readouterr().err


def test_a_table_given_as_features_is_refused_and_nobody_is_told_to_remove_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command(place, "--features", str(place / "r.csv"))) == 1
    err = capsys.readouterr().err
    assert "r.csv is text, and no file of features. Give another" in err


def test_features_of_an_encoder_that_nobody_knows_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features(place / "f.safetensors", encoder=replace(ENCODER, id="theirs"))
    assert cli.main(command(place)) == 1
    assert "no encoder called 'theirs'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_ends_training_with_a_sentence_and_the_run_goes_on_later(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: No space left on device (os error 28)")

    monkeypatch.setattr("rad3d.model.variants.variant.save_file", full)
    assert cli.main(command(place)) == 1
    assert "disk of the machine that runs this is full" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(place / "models"))
    monkeypatch.setenv("RAD3D_RUNS_DIR", str(place / "runs"))
    assert cli.main(command(place)) == 0
    assert trained(place).training["steps"] == 4


@pytest.mark.slow
def test_what_an_option_says_is_what_the_variant_has(place: Path) -> None:
    options = ["--scaling", "standardised", "--latent-weight", "2", "--logits-weight", "0.5"]
    assert cli.main(command(place, *options, "--validation-share", "0")) == 0
    config = trained(place)
    assert config.standardised
    assert (config.latent_weight, config.logits_weight) == (2.0, 0.5)
    assert "held_out" not in config.training


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--mode", "v1", "--llm-precision", "8bit"], "8bit weights cannot be trained"),
        (["--steps", "0"], "--steps must be above 0"),
        (["--epochs", "2"], "--steps and --epochs say the same"),
        (["--validation-share", "1"], "--validation-share is from 0 to below 1"),
        (["--validation-features", "x"], "Add --validation-reports"),
        (["--reports", "nowhere.csv"], "There is no file nowhere.csv"),
        (["--latent-weight", "nan"], "--latent-weight must be a number"),
        (["--patience", "-1"], "--patience must be 0 or more"),
        (["--device", "tpu9"], "no device called 'tpu9'"),
    ],
)
def test_train_refuses_with_one_sentence(
    place: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command(place, *more)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_an_encoder_without_a_head_trains_image_modes_only(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features(place / "f.safetensors", head=False)
    assert cli.main(command(place)) == 1
    err = capsys.readouterr().err
    assert "reads the diagnostic logits, which these features of phantom-cnn lack" in err
    assert cli.main(command(place, mode="v2")) == 0


@pytest.mark.slow
def test_a_variant_of_another_run_is_not_overwritten_unasked(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command(place)) == 0
    assert cli.main(command(place)) == 0, "the same run is finished already"
    other = ["--run-dir", str(place / "other"), "--seed", "3"]
    assert cli.main(command(place, *other)) == 1
    assert "Add --replace" in capsys.readouterr().err
    before = trained(place).files
    assert cli.main(command(place, *other, "--replace")) == 0
    assert trained(place).files != before
    assert cli.main(command(place)) == 1, "the first run is not the one that made it now"


@pytest.mark.slow
def test_reports_that_the_model_cannot_read_are_dropped_and_counted(place: Path) -> None:
    path = place / "r.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[1] = f'{IDS[0]}.nii.gz,"{"an effusion 7 " * 400}",'
    path.write_text("\n".join(lines), encoding="utf-8")
    assert cli.main(command(place, "--validation-share", "0")) == 0
    assert trained(place).training["pairs"] == len(IDS) - 1
    assert json.dumps(trained(place).training["dropped"]).count("too long") == 1


def test_the_same_patient_on_both_sides_is_no_training_data(tmp_path: Path) -> None:
    data = FileSource(
        features(tmp_path / "f.safetensors"), str(table(tmp_path / "r.csv")), COLUMNS, share=0
    ).read()
    with pytest.raises(BadRequest, match="held out and learned from"):
        TrainingData(data.train, data.train.take([0]))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.json", json.dumps({f"{id_}.nii.gz": ["Emphysema."] for id_ in IDS})),
        ("r.jsonl", "\n".join(json.dumps({"ID": id_, "Report": ["Emphysema."]}) for id_ in IDS)),
        ("r.csv", "sep=;\nREPORT;id;x, y, z\n" + "".join(f"Emphysema.;a/{i}.nii;\n" for i in IDS)),
    ],
)
def test_reports_meet_their_scans_whatever_wrote_the_table(
    name: str, content: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    reports = read_reports(str(tmp_path / name), PLAIN, "")
    data = pair(*loaded(features(tmp_path / "f.safetensors")), reports)
    assert [each[0] for each in data.reports] == ["Emphysema."] * len(IDS)
    assert data.dropped == {}


@pytest.mark.parametrize("nothing", ["", "nan", "None", "N/A", "Not given.", "[]"])
def test_what_says_that_there_is_no_report_is_never_learned(nothing: str, tmp_path: Path) -> None:
    rows = f"id,report,more\na,{nothing},{nothing}\nb,{nothing},Emphysema.\nc,Emphysema.,\n"
    (tmp_path / "r.csv").write_text(rows, encoding="utf-8")
    found = read_reports(str(tmp_path / "r.csv"), Columns(reference=("report", "More=more")), "")
    assert {s.id: s.reference for s in found.samples} == {
        "b": "More: Emphysema.",
        "c": "Emphysema.",
    }
    assert [row.reason for row in found.dropped] == ["without a reference"]


def test_letters_in_two_parts_are_those_in_one(tmp_path: Path) -> None:
    parts, one = (unicodedata.normalize(form, "Überblick_1") for form in ("NFD", "NFC"))
    (tmp_path / "r.csv").write_text(f"id,report\n{one},Emphysema.\n", encoding="utf-8")
    known = loaded(features(tmp_path / "f.safetensors", [parts]))
    assert len(pair(*known, read_reports(str(tmp_path / "r.csv"), PLAIN, ""))) == 1
