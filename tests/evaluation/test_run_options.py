"""The options of the run panel: each changes what a run is or finds, and a visitor is bounded."""

from __future__ import annotations

import threading
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from browser.fake_evaluations import FakeEvaluations
from browser.fakes import FakeService
from study_parts import TEST_N, small_evaluations

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.types import GenerationOptions
from rad3d.data.spec import SetSpec
from rad3d.evaluation.evaluations import Evaluations
from rad3d.evaluation.metric_choice import MetricGroup, metrics_of_groups
from rad3d.evaluation.run_types import MAX_RESAMPLES, Bounds, EvaluationRequest, EvaluationRun
from rad3d.evaluation.titles import title_of
from rad3d.metrics.registry import DEFAULT_FAMILIES, METRICS
from rad3d.ui.evaluation.form import request_of
from rad3d.ui.evaluation.run_panel import run_panel

V3 = "phantom-s/v3"
ASKED: dict[str, Any] = {
    "variants": [V3], "sets": ["phantom-in"], "controls": [], "limit": TEST_N, "file": None,
    "references": "", "layout": None, "path": None, "metrics": list(DEFAULT_FAMILIES),
    "draws": 50, "seed": 0, **asdict(GenerationOptions(max_new_tokens=24)),
}  # fmt: skip
SAMPLED = {"strategy": "sample", "temperature": 1.0}
CHANGES: dict[str, dict[str, Any]] = {
    "variants": {"variants": ["phantom-s/v2"]},
    "sets": {"sets": ["phantom-out"]},
    "controls": {"controls": ["majority"]},
    "limit": {"limit": TEST_N - 2},
    "metrics": {"metrics": ["overlap-hf"]},
    "draws": {"draws": 60},
    "seed": {"seed": 1},
    "strategy": {"strategy": "beam", "beams": 3},
    "max_new_tokens": {"max_new_tokens": 8},
    "repetition_penalty": {"repetition_penalty": 2.0},
    "no_repeat_ngram": {"no_repeat_ngram": 1},
    "temperature": {**SAMPLED, "temperature": 0.1},
    "top_p": {**SAMPLED, "top_p": 0.05},
}
ONLY_SAMPLING = ("temperature", "top_p")
"""Compared with a sampled run, in which they are untouched."""


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> Evaluations:
    return small_evaluations(tmp_path_factory.mktemp("options"))


def evaluated(evaluations: Evaluations, **changes: Any) -> EvaluationRun:
    """The run of the panel with some fields changed, read back from its folder."""
    request = request_of({**ASKED, **changes}, evaluations, "")
    *_, last = evaluations.start(request, threading.Event())
    assert last.run is not None
    return evaluations.kept.load(last.run.id)


def outcome(run: EvaluationRun) -> str:
    """Everything that a run found, as a text: one NaN is as good as another."""
    figures = {
        key: {m: (e.value, e.low, e.high, e.n) for m, e in card.estimates.items()}
        for key, card in run.cards.items()
    }
    texts = {key: [p.text for p in each.predictions] for key, each in run.predictions.items()}
    return repr((figures, texts))


@pytest.fixture(scope="module")
def base(evaluations: Evaluations) -> dict[str, EvaluationRun]:
    return {"": evaluated(evaluations), "sampled": evaluated(evaluations, **SAMPLED)}


@pytest.mark.slow
@pytest.mark.parametrize("option", CHANGES)
def test_every_option_is_recorded_and_changes_what_comes_out(
    option: str, evaluations: Evaluations, base: dict[str, EvaluationRun]
) -> None:
    before = base["sampled" if option in ONLY_SAMPLING else ""]
    after = evaluated(evaluations, **CHANGES[option])
    assert after.request != before.request
    assert outcome(after) != outcome(before)


@pytest.mark.slow
def test_the_same_options_give_the_same_run(
    evaluations: Evaluations, base: dict[str, EvaluationRun]
) -> None:
    assert outcome(evaluated(evaluations)) == outcome(base[""])


@pytest.mark.slow
def test_every_field_of_the_panel_is_one_of_the_request(evaluations: Evaluations) -> None:
    with gr.Blocks():
        panel = run_panel(FakeEvaluations(FakeService()))  # type: ignore[arg-type]
    assert set(panel.asked) == set(ASKED)
    named = {f.name for f in fields(GenerationOptions)} | {
        f.name for f in fields(EvaluationRequest)
    }
    assert set(panel.asked) - named == {"file", "references", "layout", "path"}
    untouched = {name: c.value for name, c in panel.asked.items()}
    request = request_of(untouched, evaluations, "me")
    assert request.options == GenerationOptions()
    assert (request.metrics, request.draws, request.seed) == (None, 1000, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"draws": 0}, {"draws": MAX_RESAMPLES + 1}, {"draws": "many"}, {"draws": float("inf")},
        {"seed": -1}, {"seed": 2**32}, {"limit": -1}, {"strategy": "loud"}, {"strategy": None},
        {"temperature": float("nan")}, {"beams": "x"}, {"metrics": []}, {"sets": []},
    ],
)  # fmt: skip
def test_values_that_are_none_are_refused_with_a_sentence(
    changes: dict[str, Any], evaluations: Evaluations
) -> None:
    with pytest.raises(BadRequest) as caught:
        request_of({**ASKED, **changes}, evaluations, "")
    assert str(caught.value).endswith(".")


def test_a_file_alone_is_evaluated_though_the_ablations_are_still_checked(
    evaluations: Evaluations,
) -> None:
    asked = {**ASKED, "variants": [], "controls": ["logits-only", "image-zero", "majority"]}
    assert request_of(asked, evaluations, "").controls == ("majority",)


def test_groups_give_the_metrics_that_are_ready_in_the_tables_order() -> None:
    groups = (
        MetricGroup("clinical", "clinical", "", ("crg", "f1_macro"), {}),
        MetricGroup("overlap-hf", "overlap", "", ("hf_bleu",), {}),
        MetricGroup("prior", "against the prior", "", ("prior_f1",), {}),
        MetricGroup("weights", "with a model", "", (), {"GREEN": "a GPU"}),
    )
    default = ["clinical", "overlap-hf", "prior"]
    assert metrics_of_groups(groups, default) is None, "what is the default"
    chosen = metrics_of_groups(groups, ["clinical", "weights"])
    assert chosen == tuple(m for m in METRICS if m in ("crg", "f1_macro"))
    for none in ([], ["weights"]):
        with pytest.raises(BadRequest, match="No metrics"):
            metrics_of_groups(groups, none)
    with pytest.raises(UnknownName):
        metrics_of_groups(groups, ["everything"])


@pytest.mark.slow
def test_a_visitor_is_bounded_by_the_settings_and_the_person_at_the_machine_is_not(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    assert evaluations.rights.bounds("") == Bounds()
    public = small_evaluations(tmp_path, host="0.0.0.0")
    rights = public.rights
    rights._settings = replace(rights._settings, visitor_cases=4, visitor_resamples=100)
    assert public.rights.bounds("me") == Bounds(4, 100)
    for changes in ({"limit": 5}, {"draws": 101}):
        request = request_of({**ASKED, "limit": 0, **changes}, public, "me")
        with pytest.raises(BadRequest, match="allowed here"):
            public.start(request, threading.Event())
    *_, last = public.start(request_of({**ASKED, "limit": 0}, public, "me"), threading.Event())
    assert last.run is not None
    assert last.run.request.limit == 4
    assert last.run.cards[V3, "phantom-in"].n == 4


@pytest.mark.parametrize(
    ("sets", "variants", "title"),
    [
        (["phantom-in", "phantom-out"], 12, "12 variants, phantoms in and out of domain"),
        (["phantom-out", "phantom-in"], 2, "2 variants, phantoms in and out of domain"),
        (["phantom-in"], 1, "Phantom S · V-3, phantoms in domain"),
        (["phantom-out"], 0, "Baselines, phantoms out of domain"),
        (["ct-rate:/x/CT", "phantom-in"], 1, "Phantom S · V-3, phantoms in domain and CT"),
        (["predictions:/x/theirs.csv"], 0, "theirs"),
        (["predictions:/x/a.csv", "phantom-in"], 1, "Phantom S · V-3 and a, phantoms in domain"),
    ],
)
def test_a_run_is_titled_as_a_person_would(sets: list[str], variants: int, title: str) -> None:
    request = EvaluationRequest(
        tuple(SetSpec.parse(each) for each in sets),
        tuple([V3, *(f"m{i}/v1" for i in range(1, variants))][:variants]),
    )
    assert title_of(request) == title
