"""What stands beside a variant was measured with exactly its weights, by a run that all may see."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from study_parts import small_evaluations

from rad3d.core.encoders import ENCODERS
from rad3d.core.types import GenerationOptions
from rad3d.data.sample_sets import SAMPLE_SETS
from rad3d.data.samples import PredictionSet
from rad3d.data.spec import SetSpec
from rad3d.evaluation.evaluations import Evaluations
from rad3d.evaluation.run_types import EvaluationRequest, EvaluationRun
from rad3d.evaluation.runs import STUDY
from rad3d.evaluation.storage import copy_run
from rad3d.metrics.writers import predictions_text
from rad3d.model.variants.variant import CONFIG_FILE, variant_directory

pytestmark = pytest.mark.slow

V3 = "phantom-s/v3"
N = 3
REQUEST = EvaluationRequest(
    sets=(SetSpec("phantom-in"), SetSpec("phantom-out")),
    variants=(V3,),
    metrics=("f1_macro",),
    limit=N,
    draws=20,
)


def finished(evaluations: Evaluations, request: EvaluationRequest = REQUEST) -> EvaluationRun:
    run = list(evaluations.start(request, threading.Event()))[-1].run
    assert run is not None
    return run


def runs_of(evaluations: Evaluations) -> set[str]:
    return {each.run for each in evaluations.measured(V3)}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny models whose reports have been written once."""
    folder = tmp_path_factory.mktemp("written")
    finished(small_evaluations(folder))
    return folder


@pytest.fixture
def evaluations(written: Path, tmp_path: Path) -> Evaluations:
    """Evaluations without a run, whose runs find their reports written."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    for run in (tmp_path / "runs" / "evaluations").glob("2*"):
        shutil.rmtree(run)
    return small_evaluations(tmp_path)


def test_the_figures_are_those_of_the_run(evaluations: Evaluations) -> None:
    assert evaluations.measured(V3) == ()
    run = finished(evaluations)
    found = evaluations.measured(V3)
    assert [(each.sample_set, each.domain) for each in found] == [
        ("phantom-in", "in"),
        ("phantom-out", "out"),
    ]
    for each in found:
        estimate = each.figure("f1_macro")
        assert estimate is not None
        assert estimate.n == N
        assert str(estimate) == str(run.cards[V3, each.sample_set].estimates["f1_macro"])
        assert each.figure("crg") is None, "it was not scored"
        assert (each.date, each.run) == (run.created[:10], run.id)
    assert evaluations.measured("phantom-s/v2") == (), "another variant"
    assert evaluations.measured("gpt2/v3") == (), "not trained"


def test_the_study_comes_first_and_then_the_newest_run(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    first = finished(evaluations)
    newest = finished(evaluations, replace(REQUEST, limit=2))
    assert runs_of(evaluations) == {newest.id}
    copy_run(first, tmp_path / "study")
    assert runs_of(evaluations) == {STUDY}


def test_other_weights_were_not_measured(evaluations: Evaluations, tmp_path: Path) -> None:
    copy_run(finished(evaluations), tmp_path / "study")
    path = variant_directory(tmp_path / "models", V3) / CONFIG_FILE
    kept = path.read_text(encoding="utf-8")
    values = json.loads(kept)
    for changed in (
        {"files": dict.fromkeys(values["files"], "0" * 64)},
        {"llm_sha256": "0" * 64},
    ):
        path.write_text(json.dumps(values | changed), encoding="utf-8")
        assert evaluations.measured(V3) == ()
    path.write_text(kept, encoding="utf-8")
    assert runs_of(evaluations) == {STUDY}
    encoder = tmp_path / "models" / ENCODERS["phantom-cnn"].source
    (encoder / "model.safetensors").write_bytes(b"other weights")
    assert small_evaluations(tmp_path).measured(V3) == ()


def test_reports_of_other_options_are_another_measurement(evaluations: Evaluations) -> None:
    finished(evaluations, replace(REQUEST, options=GenerationOptions(max_new_tokens=40)))
    assert evaluations.measured(V3) == ()


def test_a_file_of_predictions_under_a_variants_name_is_not_its_measurement(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    samples = SAMPLE_SETS["phantom-in"].sample_set(2)
    written = finished(evaluations).predictions[V3, "phantom-in"].predictions[:2]
    file = tmp_path / "theirs.jsonl"
    text = predictions_text(samples, PredictionSet(V3, "phantom-in", written), "jsonl")
    file.write_text(text, encoding="utf-8")
    spec = SetSpec("predictions", str(file), references="phantom-in", name=V3)
    run = finished(evaluations, replace(REQUEST, sets=(spec,), variants=()))
    assert (V3, "phantom-in") in run.cards
    assert run.id not in runs_of(evaluations)


def test_a_visitors_run_counts_for_nobody_else(evaluations: Evaluations, tmp_path: Path) -> None:
    assert runs_of(evaluations) == set()
    public = small_evaluations(tmp_path, host="0.0.0.0")
    finished(public, replace(REQUEST, owner="one visitor"))
    assert public.measured(V3) == ()
    operators = finished(public)
    assert runs_of(public) == {operators.id}


def test_a_damaged_run_is_passed_over(evaluations: Evaluations) -> None:
    good, bad = finished(evaluations), finished(evaluations)
    assert bad.directory is not None
    next((bad.directory / "systems").glob("*.gz")).write_bytes(b"\x1f\x8bdamaged")
    assert runs_of(evaluations) == {good.id}
