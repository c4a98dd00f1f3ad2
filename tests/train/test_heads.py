"""Heads and calibrations that are fitted here: what they recover and refuse, and their files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_scans import IDENTITY, QUICK, separable, table
from tiny_models import LATENT_DIM, CountingEncoder

from rad3d.core.details import finding_bits, findings_of
from rad3d.core.errors import BadRequest, CorruptWeights, Rad3dError
from rad3d.core.labels import LABELS, N_LABELS
from rad3d.core.settings import ROOT
from rad3d.data.layouts import LabelTable, patient_of, read_label_table
from rad3d.features.shards import FeatureStore
from rad3d.features.table import FeatureTable
from rad3d.model.encoders.head import Head, HeadedEncoder
from rad3d.model.identity import EncoderIdentity
from rad3d.synthetic.truth import draw_truth
from rad3d.train.fit_calibration import _shrunk_covariance, calibrate
from rad3d.train.fit_prior import fit_prior
from rad3d.train.heads import HeadOptions, calibrate_head, fit_head
from rad3d.train.labelled import Labelled, divide, join
from rad3d.train.logistic import STRENGTHS, fit_regressions

pytestmark = pytest.mark.numeric


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


@pytest.mark.slow
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


def test_the_strength_is_the_one_that_does_best_on_held_out_cases() -> None:
    rng = np.random.default_rng(0)
    x, rows = rng.normal(size=(300, 24)), np.arange(300)
    labels = np.stack([rng.random(300) < 0.5, x[:, 0] > 0], axis=1).astype(float)
    found = fit_regressions(x, labels, [(rows[:200], rows[200:]), (rows[100:], rows[:100])])
    chance, clear = found.strength
    assert chance == max(STRENGTHS), "nothing is to be learned"
    assert clear <= 0.01, "nothing is to be held back"


def test_balancing_raises_the_logits_of_a_rare_label() -> None:
    data = separable(300)
    labels = (data.labels[:, :1] & data.labels[:, 1:2]).astype(float)
    folds = [(np.arange(150), np.arange(150, 300)), (np.arange(150, 300), np.arange(150))]
    plain, balanced = (
        fit_regressions(data.embedding, labels, folds, flag).logits(data.embedding).mean()
        for flag in (False, True)
    )
    assert balanced > plain + 0.5


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_seed_decides_everything() -> None:
    data = separable(200)
    first, again = (fit_head(IDENTITY, data, options=QUICK) for _ in range(2))
    other = fit_head(IDENTITY, data, options=replace(QUICK, seed=5))
    assert first.weight is not None
    np.testing.assert_array_equal(first.weight, again.weight)
    assert first.facts["measured"] == again.facts["measured"]
    assert other.facts["measured"] != first.facts["measured"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_intervals_are_over_patients() -> None:
    data = separable(240, noise=2.0)
    test = replace(data.part(np.arange(80)), patients=tuple(f"t{i}" for i in range(80)))
    twice = test.part(np.repeat(np.arange(80), 3))
    learned = data.part(np.arange(80, 240))
    options = replace(QUICK, resamples=200)
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
        ([["a", *[0] * 18], ["a.nii.gz", *[0] * 18]], ("id",), "holds a for the second time"),
        ([["", *[0] * 18]], ("id",), "holds no id"),
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
    assert head.bias is not None
    replace(head, bias=head.bias + 1).save(tmp_path)
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
    assert head.bias is not None
    seen = encoder.diagnose(pooled)
    np.testing.assert_allclose(seen.logits, head.weight @ pooled + head.bias, rtol=1e-6)
    assert seen.calibrated
    assert seen.source == "phantom-cnn"
    calibrated = HeadedEncoder(bare, replace(head, weight=None, bias=None)).diagnose(pooled)
    np.testing.assert_array_equal(calibrated.logits, bare.diagnose(pooled).logits)
    assert head.reference is not None
    assert not head.reference.measure(np.zeros(LATENT_DIM)).is_novel
    assert head.reference.measure(np.full(LATENT_DIM, 9.0)).is_novel


@pytest.mark.slow
def test_a_head_on_the_shipped_features_reaches_the_shipped_head() -> None:
    from rad3d.data.sample_sets import PHANTOM_SPLITS
    from rad3d.synthetic.truth import draw_truth

    def split(name: str) -> tuple[EncoderIdentity, Labelled]:
        row = PHANTOM_SPLITS[name]
        store = FeatureStore.open(ROOT / "assets/study/features" / f"{name}.safetensors")
        identity, seen = store.identity, store.table()
        seeds = range(row.first, row.first + row.n)
        labels = {
            sample.id: tuple(map(int, draw_truth(seed, row.domain).labels()))
            for sample, seed in zip(row.scans(), seeds, strict=True)
        }
        return identity, join(seen, LabelTable(labels, {k: k for k in labels}), name)

    identity, training = split("phantom-train")
    head = fit_head(identity, training, split("phantom-in")[1], HeadOptions(resamples=200))
    fitted, shipped = head.facts["measured"]["macro"]["auroc"], head.facts["own_head_auroc"]
    print(f"macro AUROC on phantom-in, n = {fitted['n']}: fitted {fitted}, shipped {shipped}")
    assert fitted["value"] > shipped["value"] - 0.01


@pytest.mark.slow
def test_a_prior_learns_places_and_leaves_the_logits_as_they_are(tmp_path: Path) -> None:
    truths = [draw_truth(seed) for seed in range(400)]
    bits = np.stack([finding_bits(truth.findings) for truth in truths])
    rng = np.random.default_rng(0)
    embedding = bits @ rng.normal(size=(bits.shape[1], 96)) + 0.5 * rng.normal(size=(400, 96))
    labels = np.array([truth.labels() for truth in truths])
    logits = (2.0 * labels - 1) + 1.5 * rng.normal(size=labels.shape)
    own = calibrate(logits, labels, "own")
    head = fit_prior(IDENTITY, own, embedding, logits, truths, 100, "phantoms")
    head.save(tmp_path)
    read = Head.read(tmp_path)
    assert read is not None
    seen = [read.diagnosis(x, z, "prior") for x, z in zip(logits, embedding, strict=True)][300:]
    assert all(s.logits.tolist() == x.tolist() for s, x in zip(seen, logits[300:], strict=True))
    assert read.sha256 == "", "variants that were trained with the logits stay valid"
    before = (own.probabilities(logits[300:]) - labels[300:]) ** 2
    after = (np.stack([s.probabilities for s in seen]) - labels[300:]) ** 2
    assert after.mean() < 0.8 * before.mean()
    pairs = [
        (finding.side, true.side)
        for s, truth in zip(seen, truths[300:], strict=True)
        for finding in findings_of(s)
        if (true := truth.get(finding.label)) and true.side in ("left", "right")
    ]
    assert np.mean([a == b for a, b in pairs]) > 0.7
