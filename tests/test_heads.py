"""Heads and calibrations that are fitted here: what they recover, refuse, and change."""

from __future__ import annotations

import csv
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny_models import GRID, LATENT_DIM, CountingEncoder, save_shipped, volume

from rad3d import cli
from rad3d.errors import BadRequest, CorruptWeights, Rad3dError
from rad3d.eval.layouts import LabelTable, patient_of, read_label_table
from rad3d.eval.samples import Sample
from rad3d.labels import LABELS, N_LABELS
from rad3d.model import store as stores
from rad3d.model.engine import Engine
from rad3d.model.feature_table import FeatureTable, write_features
from rad3d.model.features import load_features
from rad3d.model.head import Head, HeadedEncoder, head_state
from rad3d.model.identity import IMPORTED, EncoderIdentity, weights_sha256
from rad3d.model.store import ModelStore
from rad3d.registry import ENCODERS
from rad3d.service.evaluation_features import FeatureSource
from rad3d.settings import ROOT, Settings
from rad3d.train.calibration import _shrunk_covariance, calibrate
from rad3d.train.heads import HeadOptions, Labelled, calibrate_head, divide, fit_head, join
from rad3d.train.logistic import STRENGTHS, fit_regressions
from rad3d.train.sources import FileSource
from rad3d.types import DoneEvent, GenerationOptions

QUICK = HeadOptions(folds=2, draws=20)
IDENTITY = EncoderIdentity("phantom-cnn", "0" * 64, GRID.id)


def separable(n: int = 400, scans: int = 1, dim: int = LATENT_DIM, noise: float = 0.3) -> Labelled:
    """Scans whose label j is present where direction j of the embedding is large."""
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(n, dim))
    directions = np.linalg.qr(rng.normal(size=(dim, N_LABELS)))[0]
    signal = embedding @ directions
    labels = (signal + noise * rng.normal(size=signal.shape) > 0.5).astype(np.int64)
    patients = tuple(f"p{i // scans}" for i in range(n))
    return Labelled("labels.csv", patients, embedding, None, labels)


def test_slopes_and_offsets_of_simulated_logits_are_recovered() -> None:
    rng = np.random.default_rng(0)
    slope, offset = np.linspace(0.2, 3, N_LABELS), np.linspace(-1.5, 1, N_LABELS)
    logits = rng.normal(size=(8000, N_LABELS)) * 2
    chance = 1 / (1 + np.exp(-(slope * logits + offset)))
    found = calibrate(logits, (rng.random(logits.shape) < chance).astype(int), "s")
    np.testing.assert_allclose(found.slope, slope, rtol=0.1)
    np.testing.assert_allclose(found.offset, offset, atol=0.12)


def test_a_rare_label_gets_its_prevalence_and_is_never_present() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, N_LABELS))
    labels = (rng.random(logits.shape) < 0.3).astype(int)
    labels[:, 3] = 0
    labels[:4, 3] = 1
    found = calibrate(logits, labels, "s")
    shown = found.probabilities(logits)
    np.testing.assert_allclose(shown[:, 3], 5 / 202)
    assert (shown[:, 3] < found.threshold[3]).all()
    assert np.ptp(shown[:, 2]) > 0.01


def test_regressions_are_those_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    data = separable(300, dim=24)
    x = data.embedding * np.linspace(0.1, 5, 24) + 3
    rows = np.arange(300)
    labels = data.labels[:, :3].astype(float)
    found = fit_regressions(x, labels, [(rows[:200], rows[200:]), (rows[100:], rows[:100])])
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    assert set(found.strength) <= set(STRENGTHS)
    for j in range(3):
        other = linear_model.LogisticRegression(C=1 / (300 * found.strength[j]), tol=1e-9)
        expected = other.fit(scaled, labels[:, j]).decision_function(scaled)
        np.testing.assert_allclose(found.logits(x)[:, j], expected, atol=0.02, rtol=0.01)


def test_balancing_raises_the_logits_of_a_rare_label() -> None:
    data = separable(300)
    labels = (data.labels[:, :1] & data.labels[:, 1:2]).astype(float)
    folds = [(np.arange(150), np.arange(150, 300)), (np.arange(150, 300), np.arange(150))]
    plain, balanced = (
        fit_regressions(data.embedding, labels, folds, flag).logits(data.embedding).mean()
        for flag in (False, True)
    )
    assert balanced > plain + 0.5


def test_a_known_direction_is_found_and_measured_on_other_patients() -> None:
    head = fit_head(IDENTITY, separable(), options=QUICK)
    measured = head.facts["measured"]["macro"]["auroc"]
    assert measured["value"] > 0.9
    assert measured["low"] < measured["value"] < measured["high"]
    assert head.facts["parts"]["test"]["scans"] == measured["n"] == 80
    assert head.facts["rare"] == []
    shuffled = separable()
    order = np.random.default_rng(1).permutation(len(shuffled))
    shuffled = replace(shuffled, labels=shuffled.labels[order])
    nothing = fit_head(IDENTITY, shuffled, options=QUICK).facts["measured"]["macro"]["auroc"]
    assert 0.4 < nothing["value"] < 0.6, "labels that the embedding does not know cannot be told"


def test_the_seed_decides_everything() -> None:
    data = separable(200)
    first, again = (fit_head(IDENTITY, data, options=QUICK) for _ in range(2))
    other = fit_head(IDENTITY, data, options=replace(QUICK, seed=5))
    assert first.weight is not None
    np.testing.assert_array_equal(first.weight, again.weight)
    assert first.facts["measured"] == again.facts["measured"]
    assert other.facts["measured"] != first.facts["measured"]


def test_a_label_that_is_too_rare_is_named_and_not_fitted() -> None:
    data = separable()
    labels = data.labels.copy()
    labels[:, 7] = 0
    labels[::60, 7] = 1
    head = fit_head(IDENTITY, replace(data, labels=labels), options=QUICK)
    assert head.facts["rare"] == [LABELS[7]]
    assert head.weight is not None
    assert not head.weight[7].any()
    assert LABELS[7] not in head.facts["strength"]
    with pytest.raises(BadRequest, match="No label has 10 cases"):
        fit_head(IDENTITY, replace(data, labels=labels * 0), options=QUICK)


@pytest.mark.parametrize("seed", range(3))
def test_patients_are_never_on_both_sides(seed: int) -> None:
    patients = [f"p{i // 3}" for i in range(60)]
    parts = divide(patients, (3, 1, 1), seed)
    assert sorted(np.concatenate(parts)) == list(range(60))
    seen = [{patients[i] for i in part} for part in parts]
    assert [len(s) for s in seen] == [12, 4, 4]
    assert len(set.union(*seen)) == 20


def test_a_test_set_with_a_patient_of_the_training_set_is_refused() -> None:
    data = separable(200, scans=2)
    with pytest.raises(BadRequest, match="1 patients are in") as caught:
        fit_head(IDENTITY, data, data.part(np.arange(2)), QUICK)
    assert caught.value.code == "same_patients"
    with pytest.raises(BadRequest, match="cannot be divided"):
        fit_head(IDENTITY, data.part(np.arange(4)), options=QUICK)


def test_intervals_are_over_patients() -> None:
    data = separable(240, noise=2.0)
    test = replace(data.part(np.arange(80)), patients=tuple(f"t{i}" for i in range(80)))
    twice = test.part(np.repeat(np.arange(80), 3))
    learned = data.part(np.arange(80, 240))
    options = replace(QUICK, draws=200)
    once, thrice = (
        fit_head(IDENTITY, learned, held, options).facts["measured"]["macro"]["auroc"]
        for held in (test, twice)
    )
    assert thrice["value"] == pytest.approx(once["value"], abs=1e-6)
    width = once["high"] - once["low"]
    assert thrice["high"] - thrice["low"] == pytest.approx(width, rel=0.25), "copies add nothing"


def test_a_calibration_makes_overconfident_logits_honest() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(600, N_LABELS))
    labels = (rng.random(truth.shape) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    data = replace(separable(600), logits=6 * truth + 3, labels=labels)
    head = calibrate_head(IDENTITY, data, options=QUICK)
    assert head.weight is None
    after = head.facts["measured"]["macro"]["calibration_error"]["value"]
    assert after < 0.05 < 0.2 < head.facts["before"]["calibration_error"]
    with pytest.raises(BadRequest, match="no logits to calibrate"):
        calibrate_head(IDENTITY, separable(), options=QUICK)


def test_few_scans_shrink_the_covariance_as_ledoit_and_wolf_do() -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    x = np.random.default_rng(0).normal(size=(90, 40)) * np.linspace(0.2, 3, 40)
    x -= x.mean(axis=0)
    expected, share = covariance.ledoit_wolf(x, assume_centered=True)
    assert 0.05 < share < 0.95
    np.testing.assert_allclose(_shrunk_covariance(x), expected, atol=1e-12)


# Tables


def table(path: Path, rows: list[list[Any]], header: tuple[str, ...] = ("id",)) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([[*header, *LABELS], *rows])
    return path


def test_the_layout_of_ct_rate_is_read_with_its_patients(tmp_path: Path) -> None:
    rows = [["train_1_a_1.nii.gz", *[0, 1] * 9], ["train_1_a_2.nii.gz", *[1.0] * 18]]
    found = read_label_table(table(tmp_path / "t.csv", rows, ("VolumeName",)))
    assert found.labels["train_1_a_1"] == (0, 1) * 9
    assert set(found.patients.values()) == {"train_1"}
    assert patient_of("valid_1_a_1") != patient_of("train_1_a_1")
    own = table(tmp_path / "o.csv", [["x", "Doe", *[0] * 18]], ("id", "who"))
    assert read_label_table(own).patients == {"x": "x"}
    assert read_label_table(own, "who").patients == {"x": "Doe"}


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        ([["a", *[0] * 17, 2]], ("id",), "Interlobular septal thickening of a is '2'"),
        ([["a", *[""] * 18]], ("id",), "of a is ''"),
        ([["a", *[0.5] * 18]], ("id",), "of a is '0.5'"),
        ([["a", *[0] * 18], ["a.nii.gz", *[0] * 18]], ("id",), "has a twice"),
        ([["", *[0] * 18]], ("id",), "without an id"),
        ([["a", *[0] * 18]], ("name",), "VolumeName or id"),
        ([], ("id",), "no rows"),
    ],
)
def test_a_wrong_table_of_labels_is_refused_by_name(
    tmp_path: Path, rows: list[list[Any]], header: tuple[str, ...], said: str
) -> None:
    with pytest.raises(Rad3dError, match=said):
        read_label_table(table(tmp_path / "t.csv", rows, header))


def test_features_and_labels_meet_by_id_and_the_rest_is_counted() -> None:
    seen = FeatureTable(("a.nii.gz", "b", "c"), np.eye(3, dtype=np.float32), None)
    labels = {"b": (1,) * 18, "a": (0,) * 18, "d": (0,) * 18}
    data = join(seen, LabelTable(labels, {k: k for k in labels}), "t.csv")
    assert (data.unlabelled, data.unseen) == (1, 1)
    np.testing.assert_array_equal(data.embedding, np.eye(3)[[1, 0]])
    assert data.labels[0].all()
    with pytest.raises(BadRequest, match="Not one scan"):
        join(seen, LabelTable({"z": (0,) * 18}, {"z": "z"}), "t.csv")
    broken = replace(seen, embedding=np.full((3, 3), np.nan, np.float32))
    with pytest.raises(BadRequest, match="features of b are not numbers"):
        join(broken, LabelTable(labels, {k: k for k in labels}), "t.csv")


# On disk, and behind the interface of every encoder


@pytest.fixture(scope="module")
def head() -> Head:
    return fit_head(IDENTITY, separable(600), options=QUICK)


def test_a_head_comes_back_as_it_was_saved(tmp_path: Path, head: Head) -> None:
    head.save(tmp_path)
    found = Head.read(tmp_path)
    assert found is not None
    assert found.encoder == head.encoder
    assert found.facts == head.facts
    assert found.arrays().keys() == head.arrays().keys()
    for name, values in head.arrays().items():
        np.testing.assert_array_equal(found.arrays()[name], values)
    assert Head.read(tmp_path / "elsewhere") is None


def test_saving_another_head_leaves_one_file_of_arrays(tmp_path: Path, head: Head) -> None:
    head.save(tmp_path)
    first = sorted((tmp_path / "head").glob("*.safetensors"))
    replace(head, bias=head.bias + 1).save(tmp_path)  # type: ignore[operator]
    second = sorted((tmp_path / "head").glob("*.safetensors"))
    assert len(second) == 1
    assert second != first
    assert not list((tmp_path / "head").glob(".*"))


def test_a_damaged_head_is_an_error_and_not_ignored(tmp_path: Path, head: Head) -> None:
    head.save(tmp_path)
    arrays = next((tmp_path / "head").glob("*.safetensors"))
    arrays.write_bytes(arrays.read_bytes()[:-8] + b"12345678")
    with pytest.raises(CorruptWeights, match="cannot be read"):
        Head.read(tmp_path)
    head.save(tmp_path)
    (tmp_path / "head" / "head.json").write_text("{")
    with pytest.raises(CorruptWeights, match="cannot be read"):
        Head.read(tmp_path)


def test_a_headed_encoder_diagnoses_by_its_head_and_measures_novelty(head: Head) -> None:
    bare = CountingEncoder()
    encoder = HeadedEncoder(bare, head)
    pooled = np.random.default_rng(3).normal(size=LATENT_DIM).astype(np.float32)
    assert head.weight is not None
    seen = encoder.diagnose(pooled)
    np.testing.assert_allclose(seen.logits, head.weight @ pooled + head.bias, rtol=1e-6)
    assert seen.calibrated
    assert seen.source == "phantom-cnn"
    calibrated = HeadedEncoder(bare, replace(head, weight=None, bias=None)).diagnose(pooled)
    np.testing.assert_array_equal(calibrated.logits, bare.diagnose(pooled).logits)
    assert head.reference is not None
    assert not head.reference.measure(np.zeros(LATENT_DIM)).is_novel
    assert head.reference.measure(np.full(LATENT_DIM, 9.0)).is_novel


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
    monkeypatch.setattr("rad3d.train.heads.load_encoder", lambda *_: bare)
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(folder))
    return folder


def files(folder: Path, models: Path, sha256: str = "", logits: bool = False) -> list[str]:
    """Features and labels of scans, as arguments of the command."""
    data = separable(600)
    ids = [f"train_{i}_a_1" for i in range(600)]
    sha256 = sha256 or weights_sha256(models / ENCODERS["phantom-cnn"].source)
    write_features(
        folder / "f.safetensors", ids=ids, embedding=data.embedding.astype(np.float32),
        logits=data.embedding[:, :N_LABELS] if logits else None,
        encoder=EncoderIdentity("phantom-cnn", sha256, GRID.id),
    )  # fmt: skip
    rows = [[id_, *row] for id_, row in zip(ids, data.labels.tolist(), strict=True)]
    labels = table(folder / "labels.csv", rows, ("VolumeName",))
    return [
        "--encoder", "phantom-cnn", "--features", str(folder / "f.safetensors"),
        "--labels", str(labels), "--draws", "20",
    ]  # fmt: skip


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
    assert _store(models).status("phantom-s/v3").ready
    folder = models / ENCODERS["phantom-cnn"].source
    replace(head, weight=None, bias=None).save(folder)
    assert _store(models).status("phantom-s/v3").ready, "a calibration leaves the logits alone"
    head.save(folder)
    status = _store(models).status("phantom-s/v3")
    assert "trained with the logits of another head" in status.reason
    assert _store(models).status("phantom-s/v2").ready, "it does not use the logits"
    path = models / "variants" / "phantom-s" / "v3" / "variant.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"head_sha256": head.sha256}))
    assert _store(models).status("phantom-s/v3").ready


def test_training_learns_from_the_logits_of_the_fitted_head(
    tmp_path: Path, models: Path, head: Head
) -> None:
    files(tmp_path, models)
    reports = tmp_path / "reports.csv"
    reports.write_text("id,report\ntrain_0_a_1,Normal.\ntrain_1_a_1,Nodule.\n", encoding="utf-8")
    source = FileSource(tmp_path / "f.safetensors", str(reports), share=0, models_dir=models)
    bare = source.read().train
    assert bare.logits is None
    head.save(models / ENCODERS["phantom-cnn"].source)
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
    status = found.status("phantom-s/v2")
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
    row = replace(ENCODERS["phantom-cnn"], target="rad3d.model.colipri:ColipriEncoder")
    monkeypatch.setitem(ENCODERS, "phantom-cnn", row)
    assert head_state(row, models) == "none"
    status = _store(models).status("phantom-s/v2")
    assert not status.ready
    assert status.command.startswith("rad3d head fit --encoder phantom-cnn")
    head.save(models / row.source)
    assert head_state(row, models) == "calibrated"
    assert _store(models).status("phantom-s/v2").ready


def test_the_shipped_head_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["head", "show", "phantom-cnn"]) == 0
    out = capsys.readouterr().out
    assert "calibrated on: calibration" in out
    assert "Interlobular septal thickening" in out


def test_an_encoder_that_is_not_here_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(tmp_path))
    assert cli.main(["head", "show", "colipri"]) == 1
    assert "hf download microsoft/colipri" in capsys.readouterr().err


@pytest.mark.slow
def test_a_head_on_the_shipped_features_reaches_the_shipped_head() -> None:
    from rad3d.service.evaluation_sets import PHANTOM_SPLITS
    from rad3d.truth import draw_truth

    def split(name: str) -> tuple[EncoderIdentity, Labelled]:
        row = PHANTOM_SPLITS[name]
        identity, seen = load_features(ROOT / "assets/study/features" / f"{name}.safetensors")
        seeds = range(row.first, row.first + row.n)
        labels = {
            sample.id: tuple(map(int, draw_truth(seed, row.domain).labels()))
            for sample, seed in zip(row.scans(), seeds, strict=True)
        }
        return identity, join(seen, LabelTable(labels, {k: k for k in labels}), name)

    identity, training = split("phantom-train")
    head = fit_head(identity, training, split("phantom-in")[1], HeadOptions(draws=200))
    fitted, shipped = head.facts["measured"]["macro"]["auroc"], head.facts["own_head_auroc"]
    print(f"macro AUROC on phantom-in, n = {fitted['n']}: fitted {fitted}, shipped {shipped}")
    assert fitted["value"] > shipped["value"] - 0.01
