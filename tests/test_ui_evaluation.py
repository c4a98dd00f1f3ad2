"""The evaluation tab without a browser: words, tables, cases, runs, and who sees what."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest
from browser.fake_evaluations import FakeEvaluations, study_run
from browser.fakes import FakeService

from rad3d.eval.registry import DEFAULT_FAMILIES, metric_row
from rad3d.eval.samples import Prediction
from rad3d.eval.scorecard import CaseScore, Match
from rad3d.service.evaluation_types import EvaluationRun
from rad3d.service.study_view import StudyView, view_of
from rad3d.service.study_words import PHANTOMS, finding_in_words, listed, lowered
from rad3d.service.systems import LOOKUP, expected_seconds, system_of
from rad3d.types import GenerationOptions
from rad3d.ui import evaluation_cases as cases
from rad3d.ui import evaluation_render as render
from rad3d.ui.evaluation_handlers import EvaluationHandlers
from rad3d.ui.evaluation_run import Meter, Stops, minutes, owner_of
from rad3d.ui.evaluation_views import EMPTY, Look, content_of, facts_of
from rad3d.ui.sessions import Sessions

ATTACK = '<script>alert("x")</script><img src=x onerror=alert(1)>'
IN = "phantom-in"


@pytest.fixture(scope="module")
def run() -> EvaluationRun:
    return study_run(16)


@pytest.fixture(scope="module")
def view(run: EvaluationRun) -> StudyView:
    return view_of(run)


# -- words -----------------------------------------------------------------------------------


def test_the_finding_names_the_best_with_its_figure_and_n(view: StudyView) -> None:
    words = finding_in_words(view)
    best = view.ranked(IN, "f1_macro")[0]
    assert f"In domain (n = 16), {view.names[best.name]} has the highest macro F1" in words[1]
    assert str(best.estimates["f1_macro"]) in words[1]
    assert words[2].startswith("Out of domain (n = 16)")


def test_the_first_sentence_is_about_fine_tuning_and_freezing(run: EvaluationRun) -> None:
    counts = {"better": 0, "worse": 0, "no significant difference": 0}
    view = view_of(run)
    for facts in view.sets:
        for llm in ("phantom-s", "phantom-m", "phantom-l"):
            if (f"{llm}/v1", facts.id) in view.cards and (f"{llm}/v3", facts.id) in view.cards:
                found = view.difference(facts.id, "f1_macro", f"{llm}/v1", f"{llm}/v3")
                assert found is not None
                tuned = {"": "no significant difference", f"{llm}/v1": "better"}
                counts[tuned.get(found.better, "worse")] += 1
    words = finding_in_words(view)[0]
    assert words.startswith("Fine-tuned (V-1) against frozen with logits (V-3): ")
    assert {kind for kind, n in counts.items() if n} == {k for k in counts if k in words}


def test_a_difference_is_called_significant_only_where_it_is(view: StudyView) -> None:
    best, *others = view.ranked(IN, "f1_macro")
    equal = []
    for card in others:
        found = view.difference(IN, "f1_macro", best.name, card.name)
        assert found is not None
        if not found.significant:
            equal.append(view.names[card.name])
    assert equal, "the small study cannot tell all its systems apart"
    assert listed(equal) in finding_in_words(view)[1]


def test_a_variant_that_does_not_beat_the_look_up_is_said_not_to(run: EvaluationRun) -> None:
    cards = dict(run.cards)
    for system in ("phantom-s/v1", "phantom-s/v3"):
        cards[system, IN] = replace(cards[LOOKUP, IN], name=system)
    words = finding_in_words(view_of(replace(run, cards=cards)))[1]
    assert re.search(r"significantly better than the look-up .*; the other \d+ are not|"
                     r"No variant is significantly better than the look-up", words)  # fmt: skip


def test_the_star_goes_to_nobody_where_the_runner_up_is_as_good(run: EvaluationRun) -> None:
    best = view_of(run).ranked(IN, "f1_macro")[0]
    cards = dict(run.cards)
    cards["phantom-s/v1", IN] = replace(best, name="phantom-s/v1")
    view = view_of(replace(run, cards=cards))
    assert view.leader(IN, "f1_macro") == ""
    assert "★</abbr>" not in render.leaderboard(view, IN, "core").split("Macro F1")[0]


def test_the_star_goes_to_a_system_that_is_clearly_better(run: EvaluationRun) -> None:
    kept = ("phantom-l/v3", "phantom-s/linear", "phantom-m/linear")
    cards = {key: card for key, card in run.cards.items() if key[0] in kept}
    view = view_of(replace(run, cards=cards))
    assert view.leader(IN, "f1_macro") == "phantom-l/v3"
    row = next(r for r in render.leaderboard(view, IN, "core").split("<tr>") if "Phantom L" in r)
    assert "★" in row


def test_controls_never_lead(view: StudyView) -> None:
    assert all(not view.systems[c.name].control for c in view.ranked(IN, "f1_macro"))


def test_sentences_keep_the_capitals_of_abbreviations() -> None:
    assert [lowered(n) for n in ("Macro F1", "CRG", "Side")] == ["macro F1", "CRG", "side"]
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcdef")) == "a, b, c and 3 others"


@pytest.mark.parametrize(
    ("name", "shown", "control"),
    [
        ("phantom-l/v3", "Phantom L · V-3", ""),
        ("phantom-s/linear+image-zero", "Phantom S · Linear, image zeroed", "image-zero"),
        ("lookup", "Look-up", "lookup"),
        ("my-reports", "my-reports", ""),
        ("phantom-l/v3 @ Own run", "Phantom L · V-3 @ Own run", ""),
        ("someone/else", "someone/else", ""),
    ],
)
def test_systems_are_named_for_people(name: str, shown: str, control: str) -> None:
    system = system_of(name, {})
    assert (system.shown, system.control) == (shown, control)


def test_the_time_of_a_run_grows_with_cases_variants_and_written_controls() -> None:
    costs = {"phantom-s/v1": {"seconds": 0.2}, "phantom-l/v3": {"seconds": 0.5}}
    assert expected_seconds(costs, ["phantom-s/v1"], [], 100) == pytest.approx(20)
    assert expected_seconds(costs, ["phantom-s/v1"], ["image-zero", "lookup"], 100) == 40
    assert expected_seconds(costs, ["phantom-m/v2"], [], 10) == pytest.approx(5)
    assert expected_seconds({}, ["phantom-m/v2"], [], 10) == 0


# -- tables ----------------------------------------------------------------------------------


def test_the_leaderboard_has_figures_with_intervals_and_controls_below_a_rule(
    view: StudyView,
) -> None:
    html = render.leaderboard(view, IN, "core")
    e = view.cards["phantom-m/v3", IN].estimates["f1_macro"]
    assert f"{e.value:.3f}</span><small>[{e.low:.3f}, {e.high:.3f}]" in html
    compared, alone, folded = html.split("</table>")[0].split("<tbody")[1:]
    assert "Look-up" not in compared
    assert "Look-up" in alone
    assert "Controls: what a figure means" in alone
    assert "images shuffled" in folded
    assert "n = 16" in html


def test_families_never_share_a_table(view: StudyView) -> None:
    for _, table in render.tables_of(view):
        families = {row.family for row in render.columns_of(view, IN, table)}
        assert len(families) == 1


def test_metrics_that_did_not_run_say_what_they_need(view: StudyView) -> None:
    html = render.leaderboard(view, IN, "core")
    assert "Metrics that are not in this run" in html
    assert "coco" in html
    assert not re.search(r"<td[^>]*>0\.000</td>", html), "no zero stands for what did not run"


def test_the_headline_states_what_who_when_and_that_scans_are_synthetic(
    run: EvaluationRun, view: StudyView
) -> None:
    facts = facts_of(run, view)
    assert facts["Compared"] == "7 variants, 4 controls"
    assert facts["Cases"] == "in domain 16, out of domain 16"
    assert facts["Reports that failed"] == "2"
    assert facts["Revision"] == run.revision[:12]
    html = render.headline(view, run.title, facts)
    assert PHANTOMS in html


def test_the_published_table_is_marked_as_not_comparable() -> None:
    html = render.published()
    assert "other data" in html
    assert "not comparable" in html
    assert html.startswith('<details class="r3-card r3-published">'), "apart from what was measured"


def test_a_look_that_does_not_fit_falls_back_to_one_that_does(
    run: EvaluationRun, view: StudyView
) -> None:
    look = Look("elsewhere", "no-metric", "weights", "seconds", "nobody").fitted(view)
    assert look.sample_set in run.sample_sets
    assert look.metric == "f1_macro"
    assert look.table == "core"
    assert look.baseline in view.systems
    assert len(content_of(run, view, look).outputs()) == len(EMPTY.outputs())


# -- cases -----------------------------------------------------------------------------------


def test_text_from_outside_cannot_become_markup(run: EvaluationRun, view: StudyView) -> None:
    sample = replace(run.sample_sets[IN].samples[0], id=ATTACK, reference=f"Findings: {ATTACK}.")
    match = Match("hallucinated", "Cardiomegaly", "", ATTACK, ATTACK)
    score = CaseScore(ATTACK, {}, (match,))
    for prediction in (Prediction(ATTACK, f"Findings: {ATTACK}"), Prediction(ATTACK, "", ATTACK)):
        html = cases.case_view(sample, prediction, score, (1, 1), ATTACK)
        assert "<script" not in html
        assert "<img" not in html
    card = replace(view.cards["lookup", IN], name=ATTACK)
    attacked = view_of(replace(run, title=ATTACK, cards={(ATTACK, IN): card}))
    for html in (
        render.leaderboard(attacked, IN, "core"),
        render.headline(attacked, ATTACK, {ATTACK: ATTACK}),
    ):
        assert "<script" not in html
        assert "<img" not in html


def test_every_finding_is_told_by_sign_and_word_not_by_colour_alone(run: EvaluationRun) -> None:
    sample = run.sample_sets[IN].samples[0]
    sentence = "The heart is enlarged."
    for kind, row in cases.KINDS.items():
        match = Match(kind, "Cardiomegaly", sentence, sentence, "")
        html = cases.case_view(
            sample, Prediction(sample.id, sentence), CaseScore(sample.id, {}, (match,)), (1, 1), "S"
        )
        assert f"{row.sign}&nbsp;Cardiomegaly" in html
        assert f"{row.sign} {row.name}</mark></td>" in html
    assert len({row.sign for row in cases.KINDS.values()}) == len(cases.KINDS)


def test_an_invented_finding_is_marked_in_the_report_only(run: EvaluationRun) -> None:
    sample = replace(run.sample_sets[IN].samples[0], reference="Findings: The lungs are clear.")
    match = Match("hallucinated", "Lung nodule", "", "There is a nodule of 9 mm.", "")
    text = "Findings: There is a nodule of 9 mm. No pleural effusion."
    score = CaseScore(sample.id, {}, (match,))
    html = cases.case_view(sample, Prediction(sample.id, text), score, (1, 1), "S")
    reference, report = html.split("<section")[1:3]
    assert "<mark" not in reference
    assert '<mark class="hallucinated">There is a nodule of 9 mm.</mark>' in report
    assert "No pleural effusion." in report


def test_cases_are_ordered_and_filtered_as_asked(view: StudyView) -> None:
    card = view.cards["phantom-s/linear", IN]
    values = {case.id: case.values for case in card.cases}
    worst = cases.ordered_ids(card, "worst")
    assert sorted(worst) == sorted(values)
    known = [values[i]["factuality"] for i in worst if "factuality" in values[i]]
    assert known == sorted(known)
    invented = [values[i].get("hallucinated", 0) for i in cases.ordered_ids(card, "invented")]
    assert invented == sorted(invented, reverse=True)
    label = "Cardiomegaly"
    states = [cases.label_state(card, i, label) for i in range(card.n)]
    counts = card.per_label[label]
    assert states.count("found") + states.count("missed") == counts["support"]
    assert states.count("found") + states.count("invented") == counts["predicted"]
    assert len(cases.ordered_ids(card, "set", label)) == sum(map(bool, states))


# -- handlers --------------------------------------------------------------------------------


def _request(tab: str = "a") -> Any:
    return SimpleNamespace(session_hash=tab)


def _handlers(evaluations: FakeEvaluations, service: FakeService) -> EvaluationHandlers:
    report = SimpleNamespace(end=lambda request: None)
    return EvaluationHandlers(evaluations, Sessions(service), report)  # type: ignore[arg-type]


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def handlers(service: FakeService) -> EvaluationHandlers:
    return _handlers(FakeEvaluations(service, n=8, pause=0.0), service)


def _asked(variants: list[str], path: str | None = "", **changes: Any) -> dict[str, Any]:
    return {
        "variants": variants, "sets": [IN], "controls": [], "limit": 8, "file": None,
        "references": "", "layout": "folder", "path": path, "metrics": list(DEFAULT_FAMILIES),
        "draws": 1000, "seed": 0, **asdict(GenerationOptions()), **changes,
    }  # fmt: skip


def _last(events: Iterator[tuple[Any, ...]]) -> tuple[Any, ...]:
    return list(events)[-1]


def test_the_tab_opens_on_the_last_run_with_its_worst_case(handlers: EvaluationHandlers) -> None:
    shown = handlers.open_tab(False, _request())
    assert shown[0] is True
    assert shown[1]["value"] == "study"
    assert "highest macro F1" in shown[5]
    assert "r3-pair" in shown[-2]


def test_without_a_run_the_tab_says_so_and_how_to_make_one(service: FakeService) -> None:
    shown = _handlers(FakeEvaluations(service, empty=True), service).open_tab(False, _request())
    text = " ".join(each for each in shown if isinstance(each, str))
    assert "No evaluation yet" in text
    assert "rad3d eval run" in text


def test_a_run_is_followed_to_its_end_and_then_shown(handlers: EvaluationHandlers) -> None:
    handlers.begin(_request())
    steps = list(handlers.run(_asked(["phantom-s/v1"]), _request()))
    assert any("progress" in str(step[0]) for step in steps[:-1])
    assert "Phantom S · V-1" in str(steps[-1])
    assert steps[-1][5]["value"] == "run-1"


def test_fields_that_were_never_touched_arrive_as_nothing(handlers: EvaluationHandlers) -> None:
    handlers.begin(_request())
    asked = _asked(["phantom-s/v1"], path=None, layout=None, references=None)
    assert _last(handlers.run(asked, _request()))[5]["value"] == "run-1"


def test_a_cancelled_run_is_kept_and_can_be_resumed(service: FakeService) -> None:
    handlers = _handlers(FakeEvaluations(service, n=8, pause=0.05), service)
    handlers.begin(_request())
    events = handlers.run(_asked(["phantom-s/v1", "phantom-l/v3"]), _request())
    next(events)
    handlers.cancel(_request())
    stopped = _last(events)
    assert "Cancelled" in stopped[1]
    handlers.begin(_request())
    resumed = _last(handlers.resume("run-1", _request()))
    assert "Phantom L · V-3" in str(resumed)


def test_a_run_that_was_cancelled_while_it_waited_never_begins(
    handlers: EvaluationHandlers,
) -> None:
    handlers.begin(_request())
    handlers.cancel(_request())
    (only,) = handlers.run(_asked(["phantom-s/v1"]), _request())
    assert "Cancelled before it began" in only[1]


def test_one_visitors_run_does_not_exist_for_another(handlers: EvaluationHandlers) -> None:
    handlers.begin(_request("a"))
    _last(handlers.run(_asked(["phantom-s/v1"]), _request("a")))
    own = handlers.open_tab(False, _request("a"))[1]["choices"]
    other = handlers.open_tab(False, _request("b"))[1]["choices"]
    assert [run for _, run in own] == ["run-1", "study"]
    assert [run for _, run in other] == ["study"]
    assert "no such run" in str(handlers.pick_run("run-1", _request("b")))
    event = SimpleNamespace(kind="csv")
    assert handlers.download("run-1", event, _request("b"))[0]["data"] == ""
    assert handlers.download("run-1", event, _request("a"))[0]["data"]


def test_two_runs_stand_side_by_side(handlers: EvaluationHandlers) -> None:
    handlers.begin(_request())
    _last(handlers.run(_asked(["phantom-s/v1"]), _request()))
    shown = handlers.look("study", "run-1", IN, "f1_macro", "core", "parameters", "", _request())
    assert "Phantom S · V-1 @ Own run" in shown[6]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sets": ["folder"]}, "no sample set called"),
        ({"sets": ["predictions"]}, "no sample set called"),
        ({"path": "/etc", "layout": "nowhere"}, "no layout called"),
        ({"file": {"path": "/etc/passwd"}}, "not an uploaded file"),
        ({"sets": []}, "No sample set was chosen"),
    ],
)
def test_what_a_browser_may_not_ask_for_is_refused_with_a_sentence(
    handlers: EvaluationHandlers, changes: dict[str, Any], told: str
) -> None:
    handlers.begin(_request())
    last = _last(handlers.run(_asked(["phantom-s/v1"], **changes), _request()))
    assert told in last[1]


def test_where_no_path_is_allowed_none_is_read(service: FakeService) -> None:
    handlers = _handlers(FakeEvaluations(service, n=8, trusted=False), service)
    handlers.begin(_request())
    last = _last(handlers.run(_asked(["phantom-s/v1"], path="/etc"), _request()))
    assert "no layout called" in last[1]


def test_next_and_previous_go_around_and_keep_the_order(handlers: EvaluationHandlers) -> None:
    choice = ("study", "", "phantom-l/v3", IN, "worst", "")
    first = handlers.cases.list_cases(*choice, "", _request())[-1]
    second = handlers.cases.step(1)(*choice, first, _request())[-1]
    assert second != first
    assert handlers.cases.step(-1)(*choice, second, _request())[-1] == first
    last = handlers.cases.step(-1)(*choice, first, _request())[-1]
    assert handlers.cases.step(1)(*choice, last, _request())[-1] == first


def test_a_point_a_cell_and_a_name_lead_to_cases(handlers: EvaluationHandlers) -> None:
    cell = SimpleNamespace(system="phantom-s/v1", set="phantom-out", label="Cardiomegaly")
    _notice, system, sample_set, label, listed_html, shown, chosen = handlers.cases.press_point(
        "study", "", "worst", cell, _request()
    )
    assert (system["value"], sample_set["value"], label) == (
        "phantom-s/v1", "phantom-out", "Cardiomegaly",
    )  # fmt: skip
    assert chosen in listed_html
    assert "Phantom S · V-1" in shown
    name = SimpleNamespace(system="lookup")
    assert (
        handlers.cases.press_name("study", "", IN, "worst", name, _request())[1]["value"]
        == "lookup"
    )
    unknown = SimpleNamespace(system="nobody", set=IN, label="")
    assert (
        "was not evaluated"
        in handlers.cases.press_point("study", "", "worst", unknown, _request())[0]
    )


def test_a_closed_tab_takes_its_runs_along(service: FakeService) -> None:
    evaluations = FakeEvaluations(service, n=8, pause=0.0)
    handlers = _handlers(evaluations, service)
    handlers.begin(_request())
    _last(handlers.run(_asked(["phantom-s/v1"]), _request()))
    owner = owner_of(service.open_sessions[0])
    assert [run.id for run in evaluations.runs(owner)] == ["run-1", "study"]
    handlers._sessions.close(_request())
    assert [run.id for run in evaluations.runs(owner)] == ["study"]


def test_a_closed_tab_stops_its_run() -> None:
    stops = Stops()
    stop = stops.arm("token")
    stops.close("token")
    assert stop.is_set()
    assert stops.of("token") is None


def test_a_second_run_of_a_session_stops_the_first() -> None:
    stops = Stops()
    first, second = stops.arm("token"), stops.arm("token")
    assert first.is_set()
    assert stops.of("token") is second
    assert isinstance(second, threading.Event)


def test_the_owner_is_neither_the_key_nor_shared() -> None:
    assert owner_of("a") != owner_of("b")
    assert "secret-token" not in owner_of("secret-token")


def test_the_time_left_follows_from_the_pace() -> None:
    now = [0.0]
    meter = Meter(lambda: now[0])

    def event(done: int) -> Any:
        return SimpleNamespace(done=done, total=100, stage="write", text="x", card=None)

    assert "left" not in meter.line(event(20))
    now[0] = 10.0
    assert meter.seconds_left(event(40)) == pytest.approx(30)
    assert "about 30 s left" in meter.line(event(40))
    assert [minutes(s) for s in (3, 130, 7200)] == ["about 5 s", "about 2 min", "about 2.0 h"]


def test_lower_is_better_is_said_where_it_holds(view: StudyView) -> None:
    assert not metric_row("hallucinated").higher_is_better
    assert "Hallucinated ↓" in render.leaderboard(view, IN, "core")
