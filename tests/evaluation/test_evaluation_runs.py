"""Runs from request to export, through the real engine with tiny random models."""

from __future__ import annotations

import io
import math
import shutil
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from study_parts import (
    OPTIONS,
    REQUEST,
    SMALL,
    TEST_N,
    V2,
    V3,
    finished,
    predictions_file,
    small_evaluations,
    texts,
)

from rad3d.core.errors import BadRequest, MissingWeights, UnknownName
from rad3d.core.types import GenerationOptions
from rad3d.data.spec import SetSpec
from rad3d.evaluation.evaluations import Evaluations
from rad3d.evaluation.exports import EXPORTS
from rad3d.evaluation.generate import ReportWriter
from rad3d.evaluation.html_page import report_page
from rad3d.evaluation.run_types import EvaluationEvent, EvaluationRequest, EvaluationRun
from rad3d.evaluation.system_names import CONTROLS
from rad3d.evaluation.verdicts import compare_runs
from rad3d.metrics.scorecard import score
from rad3d.model.engine import BATCH_ROWS, Engine
from rad3d.reports.labeller import find_mentions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def evaluations(folder: Path) -> Evaluations:
    return small_evaluations(folder)


@pytest.fixture(scope="module")
def events(evaluations: Evaluations) -> list[EvaluationEvent]:
    return list(evaluations.start(REQUEST, threading.Event()))


@pytest.fixture(scope="module")
def run(events: list[EvaluationEvent]) -> EvaluationRun:
    assert events[-1].run is not None
    return events[-1].run


@pytest.fixture
def fresh(tmp_path: Path, folder: Path) -> Evaluations:
    """Evaluations without earlier runs."""
    shutil.copytree(folder / "models", tmp_path / "models")
    return small_evaluations(tmp_path)


def test_every_system_is_scored_on_every_set(run: EvaluationRun) -> None:
    assert run.status == "finished"
    assert run.failed == {}
    rows = CONTROLS.values()
    of_variants = {
        f"{v}+{c.id}"
        for v in (V3, V2)
        for c in rows
        if c.per_variant and (v == V3 or not c.of_prior)
    }
    alone = {c for c in CONTROLS if not CONTROLS[c].per_variant}
    expected = {V3, V2} | of_variants | alone
    assert set(run.cards) == {(s, n) for s in expected for n in run.sample_sets}
    assert all(card.n == TEST_N for card in run.cards.values())


def test_progress_grows_to_its_end_and_cards_come_as_they_are_ready(
    events: list[EvaluationEvent], run: EvaluationRun
) -> None:
    done = [event.done for event in events]
    assert done == sorted(done)
    assert done[-1] == events[-1].total
    assert [event.stage for event in events][-2:] == ["compare", "done"]
    assert len([event for event in events if event.card]) == len(run.cards)
    assert {event.run_id for event in events} == {run.id}


def test_the_controls_take_away_what_they_say(run: EvaluationRun) -> None:
    assert len(set(texts(run, f"{V3}+image-zero"))) == 1
    assert len(set(texts(run, f"{V3}+logits-only"))) > 1
    assert sorted(texts(run, f"{V3}+image-shuffled")) == sorted(texts(run, V3))
    assert texts(run, f"{V3}+image-shuffled") != texts(run, V3)
    assert len(set(texts(run, "majority"))) == 1


def test_the_lookup_scores_what_the_classifier_decides(run: EvaluationRun) -> None:
    """The made-up features let the classifier read every label, so its stored text is perfect."""
    assert run.cards["lookup", "phantom-in"].estimates["f1_macro"].value == 1.0
    assert run.classifier["phantom-in"].macro["f1"].value == 1.0
    assert run.classifier["phantom-in"].macro["auroc"].value == 1.0


def test_what_a_report_leaves_out_of_its_own_diagnosis_is_counted(run: EvaluationRun) -> None:
    written = run.predictions[V3, "phantom-in"].predictions
    silent = [len(set(p.seen or ()) - {m.label for m in find_mentions(p.text)}) for p in written]
    assert sum(silent) > 0, "random models leave out something"
    samples = run.sample_sets["phantom-in"]

    def counted(system: str) -> float:
        said = run.predictions[system, samples.id]
        card = score(samples, said, metrics=["not_mentioned"], resamples=20)
        return card.estimates["not_mentioned"].value

    assert counted(V3) == pytest.approx(np.mean(silent))
    assert math.isnan(counted("majority")), "it was not written from a diagnosis"


def test_random_models_are_shown_not_to_beat_the_lookup(run: EvaluationRun) -> None:
    verdicts = [v for v in run.verdicts if v.control == "lookup"]
    assert {(v.variant, v.sample_set) for v in verdicts} == {
        (v, s) for v in (V3, V2) for s in run.sample_sets
    }
    assert not any(v.beats for v in verdicts)
    assert all(v.difference.p_adjusted >= v.difference.p_randomisation for v in verdicts)
    assert "does worse than lookup" in verdicts[0].text or "does not beat" in verdicts[0].text


def test_costs_say_what_training_changes(run: EvaluationRun) -> None:
    cost = run.costs[V3]
    assert cost["trainable"] > 0
    assert cost["parameters"] > 0
    assert cost["seconds"] > 0
    assert run.costs[f"{V3}+image-zero"]["seconds"] is None


def test_a_run_comes_back_from_disk(evaluations: Evaluations, run: EvaluationRun) -> None:
    back = evaluations.kept.load(run.id)
    assert set(back.cards) == set(run.cards)
    assert back.request == run.request
    assert back.sample_sets == run.sample_sets
    assert back.predictions == run.predictions
    assert back.verdicts[0].text == run.verdicts[0].text
    for key, card in run.cards.items():
        assert back.cards[key].estimates.keys() == card.estimates.keys()
        for metric, estimate in card.estimates.items():
            assert back.cards[key].estimates[metric].value == pytest.approx(
                estimate.value, abs=1e-5, nan_ok=True
            )
    assert evaluations.kept.runs()[0].id == run.id


def test_the_same_request_gives_the_same_figures(
    evaluations: Evaluations, run: EvaluationRun
) -> None:
    request = replace(SMALL, controls=("image-shuffled",))
    again = finished(evaluations.start(request, threading.Event()))
    for key, card in again.cards.items():
        assert card.estimates == run.cards[key].estimates
    differences = compare_runs(run, again, resamples=50)
    assert len(differences) == 2 * 3
    assert all(d.value == 0 and not d.significant for _, d in differences)
    other = finished(evaluations.start(replace(request, seed=5), threading.Event()))
    key = (f"{V3}+image-shuffled", "phantom-in")
    assert other.predictions[key].predictions != run.predictions[key].predictions
    assert other.cards[V3, "phantom-in"].estimates != run.cards[V3, "phantom-in"].estimates


def test_what_was_written_is_not_written_again(
    evaluations: Evaluations, run: EvaluationRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a report was written twice")

    monkeypatch.setattr(ReportWriter, "_append", refuse)  # where every new report goes
    again = finished(evaluations.start(REQUEST, threading.Event()))
    assert texts(again, V3) == texts(run, V3)


def test_other_options_write_anew(evaluations: Evaluations, run: EvaluationRun) -> None:
    shorter = replace(SMALL, options=GenerationOptions(max_new_tokens=5))
    again = finished(evaluations.start(shorter, threading.Event()))
    assert texts(again, V3) != texts(run, V3)


def test_cancelling_keeps_what_is_done_and_resuming_finishes_it(fresh: Evaluations) -> None:
    cancel = threading.Event()
    seen: list[EvaluationEvent] = []
    request = replace(SMALL, variants=(V3, V2))
    for event in fresh.start(request, cancel):
        seen.append(event)
        if event.card is not None:
            cancel.set()
    stopped = seen[-1].run
    assert stopped is not None
    assert stopped.status == "cancelled"
    assert len([event for event in seen if event.card]) == 1
    assert fresh.kept.load(stopped.id).status == "cancelled"
    whole = finished(fresh.resume(stopped.id, threading.Event()))
    assert whole.id == stopped.id
    assert whole.status == "finished"
    assert whole.cards[V3, "phantom-in"].estimates == stopped.cards[V3, "phantom-in"].estimates
    assert [row.id for row in fresh.kept.runs()] == [whole.id]


def test_closing_the_iterator_saves_the_run_as_cancelled(fresh: Evaluations) -> None:
    running = fresh.start(SMALL, threading.Event())
    first = next(running)
    running.close()  # type: ignore[attr-defined]
    assert fresh.kept.load(first.run_id).status == "cancelled"
    next(fresh.start(SMALL, threading.Event()))  # nothing is left locked


def test_two_evaluations_at_a_time_are_refused(fresh: Evaluations) -> None:
    running = fresh.start(SMALL, threading.Event())
    next(running)
    with pytest.raises(BadRequest, match="Another evaluation is running"):
        next(fresh.start(SMALL, threading.Event()))
    running.close()  # type: ignore[attr-defined]


def test_a_cut_off_line_of_kept_reports_costs_one_report(
    fresh: Evaluations, folder: Path, tmp_path: Path
) -> None:
    before = finished(fresh.start(SMALL, threading.Event()))
    (kept,) = (tmp_path / "runs" / "evaluations" / "reports").glob("*.jsonl")
    kept.write_text(kept.read_text()[:-20])
    after = finished(fresh.start(SMALL, threading.Event()))
    assert texts(after, V3) == texts(before, V3)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"variants": ("phantom-s/v9",)}, UnknownName, "adaptation mode"),
        ({"sets": (SetSpec("folder"),)}, BadRequest, "needs a path"),
        ({"variants": ("phantom-m/v3",)}, MissingWeights, "not been trained"),
        ({"controls": ("lookups",)}, UnknownName, "lookup, grammar, majority"),
        ({"sets": (SetSpec("ct-rate", "/nowhere"),)}, BadRequest, "There is no folder"),
        ({"variants": ()}, BadRequest, "without a variant"),
        ({"variants": (), "controls": ()}, BadRequest, "Nothing was chosen"),
        ({"metrics": ("f2",)}, UnknownName, "f1_macro"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_at_once(
    evaluations: Evaluations, change: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        evaluations.start(replace(REQUEST, **change), threading.Event())  # type: ignore[arg-type]


def test_a_variant_that_breaks_is_a_failure_and_the_rest_goes_on(
    fresh: Evaluations, tmp_path: Path
) -> None:
    (tmp_path / "models" / "variants" / V2 / "projector.safetensors").write_bytes(b"damaged")
    request = replace(SMALL, variants=(V3, V2))
    run = finished(fresh.start(request, threading.Event()))
    assert run.status == "failures"
    assert set(run.failed) == {V2}
    assert (V3, "phantom-in") in run.cards


def test_a_predictions_file_alone_is_scored(evaluations: Evaluations, tmp_path: Path) -> None:
    text = "Findings: There is a small left pleural effusion. The heart is normal in size."
    rows = [{"id": f"c{i}", "reference": text, "prediction": text} for i in range(4)]
    rows += [{"id": "c0", "reference": text, "prediction": text}]
    rows += [
        {"id": "c4", "reference": "双肺未见明显异常", "prediction": f"<think>No?</think>{text}"}
    ]
    path = predictions_file(tmp_path, "theirs.jsonl", rows)
    request = EvaluationRequest(
        sets=(SetSpec("predictions", str(path)),), metrics=("f1_macro",), draws=20
    )
    run = finished(evaluations.start(request, threading.Event()))
    card = run.cards["theirs", "theirs"]
    assert card.n == 5
    assert [d.reason for d in card.dropped] == ["with an id that was there before"]
    kept = evaluations.kept.load(run.id)
    assert kept.sample_sets == run.sample_sets
    assert [note.partition(",")[0] for note in kept.notes] == [
        "1 reference is not in English",
        "1 prediction is read without the reasoning (<think>)",
    ]
    assert b"(&lt;think&gt;)" in report_page(kept)
    assert run.classifier == {}


def test_a_run_of_a_file_is_resumed_without_the_file(fresh: Evaluations, tmp_path: Path) -> None:
    text = "Findings: There is a small left pleural effusion. The heart is normal in size."
    path = predictions_file(
        tmp_path, "theirs.jsonl", [{"id": "a", "reference": text, "prediction": text}]
    )
    request = replace(SMALL, sets=(*SMALL.sets, SetSpec("predictions", str(path))))
    cancel = threading.Event()
    events = fresh.start(request, cancel)
    path.unlink()
    for event in events:
        if event.card is not None:
            cancel.set()
    whole = finished(fresh.resume(event.run_id, threading.Event()))
    assert whole.status == "finished"
    assert {("theirs", "theirs"), (V3, "phantom-in")} <= set(whole.cards)


def test_a_predictions_file_competes_with_variants_on_a_shipped_set(
    evaluations: Evaluations, run: EvaluationRun, tmp_path: Path
) -> None:
    rows = [
        {"id": sample.id, "prediction": sample.reference}
        for sample in run.sample_sets["phantom-in"].samples
    ]
    path = predictions_file(tmp_path, "perfect.jsonl", rows)
    request = replace(
        SMALL,
        sets=(SetSpec("phantom-in"), SetSpec("predictions", str(path), references="phantom-in")),
        controls=("lookup",),
    )
    found = finished(evaluations.start(request, threading.Event()))
    assert list(found.sample_sets) == ["phantom-in"]
    assert found.cards["perfect", "phantom-in"].estimates["f1_macro"].value == 1.0
    assert "perfect" in {v.variant for v in found.verdicts}


EFFUSION = "Findings: There is a small left pleural effusion. The heart is normal in size."
CLEAR = "Findings: The lungs are clear. No pleural effusion."


def test_files_whose_names_differ_little_are_kept_apart(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    names = ("a b", "a-b", "a_b", "отчёты", "报告", "phantom-s-v3", "controls", "x" * 200)
    specs = []
    for i, name in enumerate(names):
        rows = [
            {"id": "p", "reference": EFFUSION, "prediction": EFFUSION if i % 2 else CLEAR},
            {"id": "q", "reference": CLEAR, "prediction": CLEAR},
        ]
        specs.append(SetSpec("predictions", str(predictions_file(tmp_path, f"{name}.jsonl", rows))))
    request = replace(SMALL, sets=(*SMALL.sets, *specs), controls=("lookup",))
    run = finished(evaluations.start(request, threading.Event()))
    back = evaluations.kept.load(run.id)
    assert len(back.cards) == len(names) + 2
    assert {k: str(c.estimates["factuality"]) for k, c in back.cards.items()} == {
        k: str(c.estimates["factuality"]) for k, c in run.cards.items()
    }
    archive = zipfile.ZipFile(io.BytesIO(evaluations.export(back, "jsonl").data))
    assert len({name.lower() for name in archive.namelist()}) == len(names) + 2


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("lookup", "cannot be called lookup"),
        ("majority", "cannot be called majority"),
        ("phantom-out", "cannot be called phantom-out"),
    ],
)
def test_a_file_cannot_pass_for_a_control_or_for_a_set_that_ships(
    evaluations: Evaluations, tmp_path: Path, name: str, told: str
) -> None:
    rows = [{"id": "p", "reference": EFFUSION, "prediction": EFFUSION}]
    path = predictions_file(tmp_path, f"{name}.jsonl", rows)
    request = replace(SMALL, sets=(SetSpec("predictions", str(path)),), variants=())
    with pytest.raises(BadRequest, match=told):
        evaluations.start(request, threading.Event())


def test_a_name_that_is_no_line_of_text_becomes_one(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    rows = [{"id": "p", "reference": EFFUSION, "prediction": EFFUSION}]
    path = predictions_file(tmp_path, "upload.jsonl", rows)
    name = "a\n\\input{x}\u2028\ud800" + "b" * 300
    request = EvaluationRequest(
        (SetSpec("predictions", str(path), name=name),), metrics=("f1_macro",), draws=10
    )
    run = finished(evaluations.start(request, threading.Event()))
    ((system, sample_set),) = evaluations.kept.load(run.id).cards
    assert system == sample_set
    assert system.splitlines() == [system]
    assert system.startswith("a \\input{x}")
    assert len(system) <= 120
    for kind in EXPORTS:
        assert evaluations.export(run, kind).data
    lines = evaluations.export(run, "latex").data.decode().splitlines()
    assert not any(line.startswith("\\input") for line in lines)


def test_variants_need_scans(evaluations: Evaluations, tmp_path: Path) -> None:
    path = predictions_file(tmp_path, "x.jsonl", [{"id": "a", "reference": "b", "prediction": "c"}])
    with pytest.raises(BadRequest, match="no scans"):
        evaluations.start(
            replace(REQUEST, sets=(SetSpec("predictions", str(path)),)), threading.Event()
        )


def test_one_case_shows_both_reports_and_their_findings(
    evaluations: Evaluations, run: EvaluationRun
) -> None:
    view = evaluations.case(run, "lookup", "phantom-in", "in-030000")
    assert view.sample.id == view.prediction.id == "in-030000"
    assert view.score.values["factuality"] > 0
    assert {m.kind for m in view.score.findings} & {"matched", "wrong_place", "wrong_size"}
    with pytest.raises(UnknownName):
        evaluations.case(run, "lookup", "phantom-in", "in-999999")
    with pytest.raises(UnknownName):
        evaluations.case(run, "nobody", "phantom-in", "in-030000")


def test_batches_write_the_texts_of_one_at_a_time(evaluations: Evaluations) -> None:
    rng = np.random.default_rng(0)
    engine = Engine(evaluations.store)
    from rad3d.model.prefix_input import PrefixInput

    given = [
        PrefixInput(rng.normal(size=32).astype(np.float32), rng.normal(size=18) * 3)
        for _ in range(BATCH_ROWS + 5)
    ]
    writer = ReportWriter(engine, V3, OPTIONS, None)
    assert list(writer.write(given, threading.Event())) == [BATCH_ROWS, BATCH_ROWS + 5]
    ids = [str(i) for i in range(len(given))]
    alone = [next(engine.generate_batches([c], V3, OPTIONS))[0].text for c in given]
    assert [p.text for p in writer.predictions(ids, given)] == alone
    assert writer.missing(given) == 0
