"""Heads that are fitted here, in use: the command, the encoder, reports, variants and training."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_scans import IDENTITY, QUICK, separable, table
from safetensors.numpy import save_file
from tiny_models import GRID, CountingEncoder, save_shipped, volume

from rad3d import cli
from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import BadRequest, CorruptWeights
from rad3d.core.labels import N_LABELS
from rad3d.core.settings import Settings
from rad3d.core.types import DoneEvent, GenerationOptions
from rad3d.data.samples import Sample
from rad3d.evaluation.feature_source import FeatureSource
from rad3d.features.shards import FeatureStore
from rad3d.features.table import FeatureTable, write_features
from rad3d.model import store as stores
from rad3d.model.encoders.head import Head, HeadedEncoder, head_state
from rad3d.model.engine import Engine
from rad3d.model.identity import IMPORTED, EncoderIdentity, weights_sha256
from rad3d.model.store import ModelStore
from rad3d.train.file_source import FileSource
from rad3d.train.heads import fit_head

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def head() -> Head:
    return fit_head(IDENTITY, separable(600), options=QUICK)


class _Bare(CountingEncoder):
    """An encoder without a head, whose class is asked as a published one's is."""

    def encode(self, values: Any) -> Any:
        return replace(super().encode(values), novelty=None)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder with a tiny language model and an encoder's weights."""
    folder = tmp_path / "models"
    save_shipped(folder)
    save_file({"w": np.zeros(3)}, folder / ENCODERS["phantom-cnn"].source / "model.safetensors")
    bare = _Bare()
    monkeypatch.setattr(stores, "load_encoder", lambda *_: bare)
    monkeypatch.setattr("rad3d.train.labelled.load_encoder", lambda *_: bare)
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(folder))
    return folder


def files(folder: Path, models: Path, sha256: str = "", logits: bool = False) -> list[str]:
    """Features and labels of scans, as arguments of the command."""
    data = separable(600)
    ids = [f"train_{i}_a_1" for i in range(600)]
    sha256 = sha256 or weights_sha256(models / ENCODERS["phantom-cnn"].source)
    own = data.embedding[:, :N_LABELS] if logits else None
    found = FeatureTable(tuple(ids), data.embedding.astype(np.float32), own)
    write_features(folder / "f.safetensors", found, EncoderIdentity("phantom-cnn", sha256, GRID.id))
    rows = [[id_, *row] for id_, row in zip(ids, data.labels.tolist(), strict=True)]
    labels = table(folder / "labels.csv", rows, ("VolumeName",))
    return [
        "--encoder", "phantom-cnn", "--features", str(folder / "f.safetensors"),
        "--labels", str(labels), "--resamples", "20",
    ]  # fmt: skip


@pytest.mark.slow
def test_reports_use_the_head_that_the_command_fits(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = GenerationOptions(max_new_tokens=4)
    arguments = files(tmp_path, models)

    def report() -> Any:
        engine = Engine(ModelStore(replace(Settings(), models_dir=models)))
        events = engine.stream(volume(), "phantom-s/v2", options, threading.Event())
        return next(e.report for e in events if isinstance(e, DoneEvent))

    before = report()
    assert cli.main(["head", "fit", *arguments]) == 1
    assert "Add --replace" in capsys.readouterr().err
    assert cli.main(["head", "fit", *arguments, "--folds", "2", "--replace"]) == 0
    told = capsys.readouterr()
    assert "macro AUROC: 0.9" in told.out
    assert "600 scans of 600 patients" in told.err
    after = report()
    assert not np.allclose(before.diagnosis.logits, after.diagnosis.logits)
    assert before.novelty is None
    assert after.novelty is not None
    head = Head.read(models / ENCODERS["phantom-cnn"].source)
    assert head is not None
    pooled = _Bare().encode(Engine(_store(models)).grid(volume()).values).pooled
    np.testing.assert_allclose(after.diagnosis.logits, head.weight @ pooled + head.bias, rtol=1e-5)
    assert cli.main(["head", "show", "phantom-cnn", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measured"] == head.facts["measured"]


def test_a_variant_that_learned_from_other_logits_is_not_ready(models: Path, head: Head) -> None:
    assert _store(models).catalogue.status("phantom-s/v3").ready
    folder = models / ENCODERS["phantom-cnn"].source
    replace(head, weight=None, bias=None).save(folder)
    status = _store(models).catalogue.status("phantom-s/v3")
    assert status.ready, "a calibration leaves the logits alone"
    head.save(folder)
    status = _store(models).catalogue.status("phantom-s/v3")
    assert "trained with the logits of another head" in status.reason
    assert _store(models).catalogue.status("phantom-s/v2").ready, "it does not use the logits"
    path = models / "variants" / "phantom-s" / "v3" / "variant.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"head_sha256": head.sha256}))
    assert _store(models).catalogue.status("phantom-s/v3").ready


def test_training_learns_from_the_logits_of_the_fitted_head(
    tmp_path: Path, models: Path, head: Head
) -> None:
    files(tmp_path, models)
    reports = tmp_path / "reports.csv"
    reports.write_text("id,report\ntrain_0_a_1,Normal.\ntrain_1_a_1,Nodule.\n", encoding="utf-8")
    source = FileSource(tmp_path / "f.safetensors", str(reports), share=0, models_dir=models)
    bare = source.read().train
    assert bare.logits is None
    folder = models / ENCODERS["phantom-cnn"].source
    head.save(folder)
    with pytest.raises(BadRequest, match="of other weights of phantom-cnn"):
        source.read()
    replace(head, weight=None, bias=None).save(folder)
    assert source.read().train.logits is None, "a calibration gives no logits"
    replace(head, encoder=FeatureStore.open(tmp_path / "f.safetensors").identity).save(folder)
    pairs = source.read().train
    assert pairs.logits is not None
    assert pairs.head_sha256 == head.sha256 != ""
    expected = head.logits(pairs.pooled[:, 0])
    assert expected is not None
    np.testing.assert_allclose(pairs.logits[:, 0], expected, rtol=1e-5)


def test_features_of_an_earlier_run_get_the_logits_of_the_head_that_is_here_now(
    tmp_path: Path, models: Path, head: Head
) -> None:
    files(tmp_path, models)
    samples = [Sample("train_0_a_1", ""), Sample("train_1_a_1", "")]
    (tmp_path / "f.safetensors").rename(tmp_path / "earlier.safetensors")

    def seen() -> FeatureTable:
        source = FeatureSource(_store(models), tmp_path, tmp_path / "kept", lambda _: volume())
        return source.features("earlier", samples, "phantom-cnn")

    folder = models / ENCODERS["phantom-cnn"].source
    here = EncoderIdentity("phantom-cnn", weights_sha256(folder), GRID.id)
    replace(head, encoder=here).save(folder)
    found = seen()
    assert found.logits is not None
    expected = head.logits(found.embedding)
    assert expected is not None
    np.testing.assert_allclose(found.logits, expected, rtol=1e-5)


def _store(models: Path) -> ModelStore:
    return ModelStore(replace(Settings(), models_dir=models))


@pytest.mark.slow
def test_features_of_other_weights_are_refused_and_imported_ones_noted(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = files(tmp_path, models, "1" * 64)
    assert cli.main(["head", "fit", *other, "--replace"]) == 1
    assert "other weights of phantom-cnn" in capsys.readouterr().err
    imported = files(tmp_path, models, IMPORTED)
    assert cli.main(["head", "fit", *imported, "--folds", "2", "--replace"]) == 0
    told = capsys.readouterr()
    assert "warning: The features were imported" in told.err
    assert "note: The features were imported" in told.out
    imported[1] = "ct-clip"
    assert cli.main(["head", "fit", *imported]) == 1
    assert "features are of phantom-cnn, not of ct-clip" in capsys.readouterr().err


def test_a_head_of_other_weights_is_refused_when_it_is_loaded(
    tmp_path: Path, models: Path, head: Head
) -> None:
    folder = models / ENCODERS["phantom-cnn"].source
    here = EncoderIdentity("phantom-cnn", weights_sha256(folder), GRID.id)
    replace(head, encoder=here).save(folder)
    assert weights_sha256(folder) == here.sha256, "a head does not change whose features fit"
    assert isinstance(_store(models).encoder("phantom-cnn"), HeadedEncoder)
    save_file({"w": np.ones(3)}, folder / "model.safetensors")
    found = _store(models)
    with pytest.raises(CorruptWeights, match=r"other weights.*rad3d head calibrate .* --replace"):
        found.encoder("phantom-cnn")


@pytest.mark.parametrize("damaged", [True, False])
def test_a_variant_whose_encoder_has_a_useless_head_names_the_command_that_mends_it(
    tmp_path: Path, models: Path, head: Head, damaged: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = models / ENCODERS["phantom-cnn"].source
    head.save(folder)  # of other weights
    if damaged:
        (folder / "head" / "head.json").write_text("{", encoding="utf-8")
    found = _store(models)
    with pytest.raises(CorruptWeights):
        found.encoder("phantom-cnn")
    status = found.catalogue.status("phantom-s/v2")
    assert not status.ready
    command = status.command.split()
    assert command[:3] == ["rad3d", "head", "calibrate"]
    arguments = files(tmp_path, models, logits=True)
    given = [*command[1:3], *arguments, *(word for word in command if word == "--replace")]
    assert cli.main(given) == 0, "the command that was named works as it stands"
    assert isinstance(found.encoder("phantom-cnn"), HeadedEncoder)


def test_a_variant_whose_encoder_lacks_a_head_names_the_command(
    models: Path, head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = replace(ENCODERS["phantom-cnn"], target="rad3d.model.encoders.colipri:ColipriEncoder")
    monkeypatch.setitem(ENCODERS, "phantom-cnn", row)
    assert head_state(row, models) == "none"
    status = _store(models).catalogue.status("phantom-s/v2")
    assert not status.ready
    assert status.command.startswith("rad3d head fit --encoder phantom-cnn")
    head.save(models / row.source)
    assert head_state(row, models) == "calibrated"
    assert _store(models).catalogue.status("phantom-s/v2").ready


def test_the_shipped_head_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["head", "show", "phantom-cnn"]) == 0
    out = capsys.readouterr().out
    assert "attributes of findings" in out
    assert "macro AUROC" in out
    assert "Interlobular septal thickening" in out


def test_an_encoder_that_is_not_here_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(tmp_path))
    assert cli.main(["head", "show", "colipri"]) == 1
    assert "hf download microsoft/colipri" in capsys.readouterr().err
