"""The handlers of the evaluation tab, without a browser: runs, cases, and who sees what."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
from browser.fake_evaluations import FakeEvaluations
from browser.fakes import FakeService
from streams import followed

from rad3d.eval.registry import DEFAULT_FAMILIES
from rad3d.types import GenerationOptions
from rad3d.ui.evaluation_handlers import EvaluationHandlers
from rad3d.ui.evaluation_run import Meter, Stops, minutes, owner_of
from rad3d.ui.sessions import Sessions

ATTACK = '<script>alert("x")</script><img src=x onerror=alert(1)>'
IN = "phantom-in"


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


def _last(stream: AsyncIterator[tuple[Any, ...]]) -> tuple[Any, ...]:
    return followed(stream)[-1]


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
    handlers.running.begin(_request())
    steps = followed(handlers.running.run(_asked(["phantom-s/v1"]), _request()))
    assert any("progress" in str(step[0]) for step in steps[:-1])
    assert "Phantom S · V-1" in str(steps[-1])
    assert steps[-1][5]["value"] == "run-1"


def test_fields_that_were_never_touched_arrive_as_nothing(handlers: EvaluationHandlers) -> None:
    handlers.running.begin(_request())
    asked = _asked(["phantom-s/v1"], path=None, layout=None, references=None)
    assert _last(handlers.running.run(asked, _request()))[5]["value"] == "run-1"


def test_a_cancelled_run_is_kept_and_can_be_resumed(service: FakeService) -> None:
    handlers = _handlers(FakeEvaluations(service, n=8, pause=0.05), service)
    handlers.running.begin(_request())
    events = handlers.running.run(_asked(["phantom-s/v1", "phantom-l/v3"]), _request())
    stopped = followed(events, lambda: handlers.running.cancel(_request()))[-1]
    assert "Cancelled" in stopped[1]
    handlers.running.begin(_request())
    resumed = _last(handlers.running.resume("run-1", _request()))
    assert "Phantom L · V-3" in str(resumed)


def test_a_run_that_was_cancelled_while_it_waited_never_begins(
    handlers: EvaluationHandlers,
) -> None:
    handlers.running.begin(_request())
    handlers.running.cancel(_request())
    (only,) = followed(handlers.running.run(_asked(["phantom-s/v1"]), _request()))
    assert "Cancelled before it began" in only[1]


def test_one_visitors_run_does_not_exist_for_another(handlers: EvaluationHandlers) -> None:
    handlers.running.begin(_request("a"))
    _last(handlers.running.run(_asked(["phantom-s/v1"]), _request("a")))
    own = handlers.open_tab(False, _request("a"))[1]["choices"]
    other = handlers.open_tab(False, _request("b"))[1]["choices"]
    assert [run for _, run in own] == ["run-1", "study"]
    assert [run for _, run in other] == ["study"]
    assert "no such run" in str(handlers.pick_run("run-1", _request("b")))
    event = SimpleNamespace(kind="csv")
    assert handlers.download("run-1", event, _request("b"))[0]["data"] == ""
    assert handlers.download("run-1", event, _request("a"))[0]["data"]


def test_two_runs_stand_side_by_side(handlers: EvaluationHandlers) -> None:
    handlers.running.begin(_request())
    _last(handlers.running.run(_asked(["phantom-s/v1"]), _request()))
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
    handlers.running.begin(_request())
    last = _last(handlers.running.run(_asked(["phantom-s/v1"], **changes), _request()))
    assert told in last[1]


def test_where_no_path_is_allowed_none_is_read(service: FakeService) -> None:
    handlers = _handlers(FakeEvaluations(service, n=8, trusted=False), service)
    handlers.running.begin(_request())
    last = _last(handlers.running.run(_asked(["phantom-s/v1"], path="/etc"), _request()))
    assert "no layout called" in last[1]


def test_next_and_previous_go_around_and_keep_the_order(handlers: EvaluationHandlers) -> None:
    choice = ("study", "", "phantom-l/v3", IN, "worst", "")
    first = handlers.cases.list_cases(_request(), *choice, "")[-1]
    second = handlers.cases.step(1)(_request(), *choice, first)[-1]
    assert second != first
    assert handlers.cases.step(-1)(_request(), *choice, second)[-1] == first
    last = handlers.cases.step(-1)(_request(), *choice, first)[-1]
    assert handlers.cases.step(1)(_request(), *choice, last)[-1] == first


def test_a_point_a_cell_and_a_name_lead_to_cases(handlers: EvaluationHandlers) -> None:
    cell = SimpleNamespace(system="phantom-s/v1", set="phantom-out", label="Cardiomegaly")
    _notice, system, sample_set, label, listed_html, shown, chosen = handlers.cases.press_point(
        cell, _request(), "study", "", "worst"
    )
    assert (system["value"], sample_set["value"], label) == (
        "phantom-s/v1", "phantom-out", "Cardiomegaly",
    )  # fmt: skip
    assert chosen in listed_html
    assert "Phantom S · V-1" in shown
    name = SimpleNamespace(system="lookup")
    assert (
        handlers.cases.press_name(name, _request(), "study", "", IN, "worst")[1]["value"]
        == "lookup"
    )
    unknown = SimpleNamespace(system="nobody", set=IN, label="")
    assert (
        "was not evaluated"
        in handlers.cases.press_point(unknown, _request(), "study", "", "worst")[0]
    )


def test_a_closed_tab_takes_its_runs_along(service: FakeService) -> None:
    evaluations = FakeEvaluations(service, n=8, pause=0.0)
    handlers = _handlers(evaluations, service)
    handlers.running.begin(_request())
    _last(handlers.running.run(_asked(["phantom-s/v1"]), _request()))
    owner = owner_of(service.open_sessions[0])
    assert [run.id for run in evaluations.kept.runs(owner)] == ["run-1", "study"]
    handlers._sessions.close(_request())
    assert [run.id for run in evaluations.kept.runs(owner)] == ["study"]


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
