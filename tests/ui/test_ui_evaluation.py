"""The handlers of the evaluation tab, without a browser: runs, cases, and who sees what."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest
from browser.fake_evaluations import FakeEvaluations
from browser.fakes import FakeService
from streams import followed, steps_of
from tabs import eventually

from rad3d.core.types import GenerationOptions
from rad3d.evaluation.run_types import RunSummary
from rad3d.metrics.registry import DEFAULT_FAMILIES
from rad3d.server.owner import cookie_name
from rad3d.ui.evaluation import handlers as handlers_module
from rad3d.ui.evaluation.handlers import EvaluationHandlers
from rad3d.ui.evaluation.job import Job
from rad3d.ui.evaluation.run_progress import Meter, minutes
from rad3d.ui.evaluation.views import beside, first_choice
from rad3d.ui.page_state import PageState, Snapshot
from rad3d.ui.report.compare_card import NOTHING
from rad3d.ui.visitor import session_of

ATTACK = '<script>alert("x")</script><img src=x onerror=alert(1)>'
IN = "phantom-in"


def _request(tab: str = "a") -> Any:
    return SimpleNamespace(session_hash=tab)


def _event(**data: str) -> Any:
    return SimpleNamespace(**data)


def _handlers(evaluations: FakeEvaluations, service: FakeService) -> EvaluationHandlers:
    report = SimpleNamespace(end=lambda request: None)
    return EvaluationHandlers(evaluations, service, report)  # type: ignore[arg-type]


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


def _values(answers: Iterable[Snapshot]) -> list[dict[str, Any]]:
    return [dict(answer["values"]) for answer in answers]


def _job(handlers: EvaluationHandlers) -> Job:
    """The evaluation that the tab has asked for."""
    job = handlers.running._job(_request())
    assert job is not None
    return job


def _run(handlers: EvaluationHandlers, asked: dict[str, Any], tab: str = "a") -> dict[str, Any]:
    """Press Run and follow it to its end; what the tab shows then."""
    handlers.running.run(asked, _request(tab))
    return _values(followed(handlers.running.follow(_request(tab))))[-1]


@pytest.mark.slow
def test_the_tab_opens_on_the_last_run_with_its_worst_case(handlers: EvaluationHandlers) -> None:
    shown = handlers.open_tab(_request())["values"]
    assert shown["picker"]["value"] == "study"
    assert "highest macro F1" in shown["headline"]
    assert "r3-pair" in shown["cases"]["values"]["shown"]


def test_without_a_run_the_tab_says_so_and_how_to_make_one(service: FakeService) -> None:
    handlers = _handlers(FakeEvaluations(service, empty=True), service)
    text = handlers.open_tab(_request())["values"]["headline"]
    assert "No evaluation yet" in text
    assert "rad3d eval run" in text


@pytest.mark.slow
def test_a_run_is_followed_to_its_end_and_then_shown(handlers: EvaluationHandlers) -> None:
    handlers.running.run(_asked(["phantom-s/v1"]), _request())
    steps = _values(followed(handlers.running.follow(_request())))
    assert "r3-progress" in steps[0]["progress"]
    assert steps[-1]["progress"] == ""
    assert "Phantom S · V-1" in str(steps[-1])
    assert steps[-1]["evaluation"]["values"]["picker"]["value"] == "run-1"


@pytest.mark.slow
def test_fields_that_were_never_touched_arrive_as_nothing(handlers: EvaluationHandlers) -> None:
    asked = _asked(["phantom-s/v1"], path=None, layout=None, references=None)
    assert _run(handlers, asked)["evaluation"]["values"]["picker"]["value"] == "run-1"


@pytest.mark.slow
def test_a_cancelled_run_is_kept_and_can_be_resumed(service: FakeService) -> None:
    handlers = _handlers(FakeEvaluations(service, n=8, pause=0.05), service)
    handlers.running.run(_asked(["phantom-s/v1", "phantom-l/v3"]), _request())
    job = _job(handlers)
    assert eventually(lambda: job.run_id)
    handlers.running.cancel(_request())
    stopped = _values(followed(handlers.running.follow(_request())))[-1]
    assert "Cancelled. Finished reports are kept" in stopped["run_notice"]
    handlers.running.resume("run-1", _request())
    resumed = _values(followed(handlers.running.follow(_request())))[-1]
    assert "Phantom L · V-3" in str(resumed)


@pytest.mark.slow
def test_a_run_that_was_cancelled_while_it_waited_never_begins(service: FakeService) -> None:
    handlers = _handlers(FakeEvaluations(service, n=8, pause=0.05), service)
    handlers.running.run(_asked(LONG), _request("a"))
    first = _job(handlers)
    assert eventually(lambda: first.run_id)
    handlers.running.run(_asked(["phantom-s/v1"]), _request("b"))
    handlers.running.cancel(_request("b"))
    last = _values(followed(handlers.running.follow(_request("b"))))[-1]
    handlers.running.cancel(_request("a"))
    assert "Cancelled before it began" in last["run_notice"]


@pytest.mark.slow
def test_one_visitors_run_does_not_exist_for_another(handlers: EvaluationHandlers) -> None:
    _run(handlers, _asked(["phantom-s/v1"]))
    own = handlers.open_tab(_request("a"))["values"]["picker"]["choices"]
    other = handlers.open_tab(_request("b"))["values"]["picker"]["choices"]
    assert [run for _, run in own] == ["run-1", "study"]
    assert [run for _, run in other] == ["study"]
    refused = handlers.pick_run("run-1", _request("b"))["values"]
    assert "have been deleted" in refused["headline"]
    assert refused["body"]["visible"] == "hidden"
    shown = {"leaderboard", "claims", "study", "heatmap", "forest", "classifier", "calibration"}
    assert not any(refused[name] for name in shown), "no figures of another run below it"
    assert not refused["cases"]["values"]["shown"]
    event = _event(kind="csv")
    assert handlers.download("run-1", event, _request("b"))[0]["data"] == ""
    assert handlers.download("run-1", event, _request("a"))[0]["data"]


@pytest.mark.slow
def test_two_runs_stand_side_by_side(handlers: EvaluationHandlers) -> None:
    _run(handlers, _asked(["phantom-s/v1"]))
    handlers.pick_run("study", _request())
    look = handlers.look()(_request(), "study", "run-1", IN, "f1_macro", "core", "parameters", "")
    assert "Phantom S · V-1 @ Own run" in look["values"]["leaderboard"]
    assert look["values"]["other"]["value"] == "run-1"


@pytest.mark.slow
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
    last = _run(handlers, _asked(["phantom-s/v1"], **changes))
    assert told in last["run_notice"]


@pytest.mark.slow
def test_where_no_path_is_allowed_none_is_read(service: FakeService) -> None:
    handlers = _handlers(FakeEvaluations(service, n=8, trusted=False), service)
    last = _run(handlers, _asked(["phantom-s/v1"], path="/etc"))
    assert "no layout called" in last["run_notice"]


def test_next_and_previous_go_around_and_keep_the_order(handlers: EvaluationHandlers) -> None:
    choice = ("study", "", "phantom-l/v3", IN, "worst", "")

    def chosen(answer: Any) -> str:
        return str(answer["values"]["chosen"])

    step, cases = handlers.cases.step, handlers.cases
    first = chosen(cases.list_cases(_request(), *choice))
    second = chosen(step(1)(_request(), *choice))
    assert second != first
    assert chosen(step(-1)(_request(), *choice)) == first
    assert chosen(step(-1)(_request(), *choice)) not in (first, second)
    assert chosen(step(1)(_request(), *choice)) == first
    assert chosen(cases.list_cases(_request(), *choice)) == first, "it stays where it is listed"


def test_a_point_a_cell_and_a_name_lead_to_cases(handlers: EvaluationHandlers) -> None:
    cell = _event(system="phantom-s/v1", set="phantom-out", label="Cardiomegaly")
    shown = handlers.cases.press_point(cell, _request(), "study", "", "worst")["values"]
    assert (shown["system"]["value"], shown["sample_set"]["value"], shown["label"]["value"]) == (
        "phantom-s/v1", "phantom-out", "Cardiomegaly",
    )  # fmt: skip
    assert shown["chosen"] in shown["listed"]
    assert "Phantom S · V-1" in shown["shown"]
    name = _event(system="lookup")
    shown = handlers.cases.press_name(name, _request(), "study", "", IN, "worst")["values"]
    assert shown["system"]["value"] == "lookup"
    unknown = _event(system="nobody", set=IN, label="")
    refused = handlers.cases.press_point(unknown, _request(), "study", "", "worst")["values"]
    assert "was not evaluated" in refused["notice"]
    assert refused["shown"] == shown["shown"]


def test_the_case_that_was_pressed_last_stays_whichever_is_ready_first(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluations = FakeEvaluations(service, n=8)
    handlers = _handlers(evaluations, service)
    choice = ("study", "", "phantom-l/v3", IN, "set", "")
    ids = [s.id for s in evaluations.kept.known["study"].sample_sets[IN].samples]
    slow, go = threading.Event(), threading.Event()
    real = evaluations.case

    def case(*asked: Any) -> Any:
        if asked[-1] == ids[2]:
            slow.set()
            go.wait(60)
        return real(*asked)

    monkeypatch.setattr(evaluations, "case", case)

    def press(at: int) -> Any:
        return handlers.cases.press_case(_event(case=ids[at]), _request(), *choice)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(press, 2)
        slow.wait(60)
        second = press(3)
        go.set()
    for answer in (second, first.result()):
        assert answer["values"]["chosen"] == ids[3]
        assert ids[3] in answer["values"]["shown"]


@pytest.mark.slow
def test_what_was_asked_of_another_run_is_never_shown(handlers: EvaluationHandlers) -> None:
    _run(handlers, _asked(["phantom-s/v1"]))
    before = handlers.cases.again(_request())
    assert before["values"]["run"] == "run-1"
    case = _event(case="x")
    late = handlers.cases.press_case(case, _request(), "study", "", "phantom-l/v3", IN, "worst", "")
    assert late["values"] == before["values"]
    page = handlers.again(_request())
    looked = handlers.look()(_request(), "study", "", IN, "f1_macro", "core", "parameters", "")
    assert looked["values"] == page["values"]


@pytest.mark.slow
def test_a_closed_tab_takes_its_runs_along(service: FakeService) -> None:
    evaluations = FakeEvaluations(service, n=8, pause=0.0)
    handlers = _handlers(evaluations, service)
    _run(handlers, _asked(["phantom-s/v1"]))
    owner = session_of(service, _request()).owner
    assert [run.id for run in evaluations.kept.runs(owner)] == ["run-1", "study"]
    handlers._service.sessions.end_tab(_request().session_hash)
    assert [run.id for run in evaluations.kept.runs(owner)] == ["study"]


# -- a tab that is closed meanwhile --------------------------------------------------------------

LONG = ["phantom-s/v1", "phantom-s/v3", "phantom-l/v3"]


def _owner(service: FakeService, tab: str) -> Any:
    """A request of who started the app."""
    service.owner_secret = "secret"
    return SimpleNamespace(session_hash=tab, cookies={cookie_name("secret"): "secret"})


async def _begun(handlers: EvaluationHandlers, request: Any) -> Any:
    """Ask for a run that takes a while, and follow it until it writes."""
    handlers.running.run(_asked(LONG), request)
    steps = handlers.running.follow(request)
    async for step in steps:
        if "Writing reports" in step["values"]["progress"]:
            return steps
    raise AssertionError("the run ended before it wrote")


@pytest.mark.slow
def test_what_the_owner_runs_goes_on_without_a_tab_and_the_next_tab_shows_it(
    service: FakeService,
) -> None:
    handlers = _handlers(FakeEvaluations(service, n=8, pause=0.1), service)
    first, second = _owner(service, "a"), _owner(service, "b")

    async def closed_and_opened() -> list[dict[str, Any]]:
        handlers.open_tab(second)  # before: it may take longer than the run
        await (await _begun(handlers, first)).aclose()
        handlers._service.sessions.end_tab(first.session_hash)
        return _values(await steps_of(handlers.running.follow(second)))

    steps = asyncio.run(closed_and_opened())
    assert "Writing reports" in steps[1]["progress"]
    assert steps[1]["start"]["interactive"] is False, "Run waits"
    assert steps[-1]["evaluation"]["values"]["picker"]["value"] == "run-1"
    assert "Phantom L · V-3" in str(steps[-1])


@pytest.mark.slow
def test_the_next_tab_of_the_owner_can_cancel_it(service: FakeService) -> None:
    handlers = _handlers(FakeEvaluations(service, n=8, pause=0.05), service)
    first, second = _owner(service, "a"), _owner(service, "b")

    async def cancelled() -> list[dict[str, Any]]:
        await (await _begun(handlers, first)).aclose()
        handlers._service.sessions.end_tab(first.session_hash)
        return _values(
            await steps_of(handlers.running.follow(second), lambda: handlers.running.cancel(second))
        )

    assert "Cancelled" in asyncio.run(cancelled())[-1]["run_notice"]


def test_a_visitors_run_ends_with_the_tab_and_no_other_tab_sees_it(service: FakeService) -> None:
    evaluations = FakeEvaluations(service, n=8, pause=0.05)
    handlers = _handlers(evaluations, service)

    async def closed() -> None:
        steps = await _begun(handlers, _request("a"))
        job = _job(handlers)
        assert len(await steps_of(handlers.running.follow(_request("b")))) == 1
        await steps.aclose()
        assert job.stop.is_set()
        handlers._service.sessions.end_tab(_request("a").session_hash)

    asyncio.run(closed())
    assert eventually(lambda: not handlers.running._turns.running)
    assert [run for run in evaluations.kept.known if run != "study"] == []


@pytest.mark.slow
def test_a_second_run_of_a_session_stops_the_first_and_only_it_is_shown(
    service: FakeService,
) -> None:
    handlers = _handlers(FakeEvaluations(service, n=8, pause=0.05), service)

    async def twice() -> list[dict[str, Any]]:
        steps = await _begun(handlers, _request())
        job = _job(handlers)
        handlers.running.run(_asked(["phantom-s/v1"]), _request())
        assert job.stop.is_set()
        return _values(await steps_of(steps))

    assert not any("Cancelled" in step["run_notice"] for step in asyncio.run(twice()))
    assert handlers.running.again(_request())["values"]["start"]["interactive"] is False


@pytest.mark.slow
def test_what_a_deleted_session_ran_is_not_shown_in_the_next(service: FakeService) -> None:
    handlers = _handlers(FakeEvaluations(service, n=8, pause=0.05), service)

    async def deleted() -> None:
        steps = await _begun(handlers, _request())
        handlers._service.sessions.end_tab(_request().session_hash)
        await steps_of(steps)

    asyncio.run(deleted())
    assert handlers.page(_request()).is_new


# -- which run the tab opens on ------------------------------------------------------------------


def _summary(run_id: str, status: str, systems: int) -> RunSummary:
    created = f"2026-11-2{run_id}T09:30:00"
    return RunSummary(run_id, f"Run {run_id}", created, "r", status, (IN,), systems)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", ["running", "interrupted", "cancelled", "failures"])
def test_the_tab_opens_on_the_newest_run_with_results_and_names_the_others(status: str) -> None:
    runs = [_summary("3", status, 0), _summary("2", "finished", 4), _summary("1", status, 0)]
    assert first_choice(runs) == "2"
    text = beside(runs, "2", 0)
    assert "“Run 3” of 2026-11-23 09:30" in text
    assert "Run 1" not in text, "older ones are no news"
    assert ("is running" in text) == (status == "running")


def test_a_run_that_is_still_written_waits_beside_one_with_results() -> None:
    runs = [_summary("3", "running", 2), _summary("2", "interrupted", 1)]
    assert first_choice(runs) == "2"
    assert first_choice(runs[:1]) == "3"
    assert first_choice([]) == ""
    assert beside(runs[1:], "2", 0) == ""
    assert "1 run cannot be read" in beside([], "", 1)


@pytest.mark.slow
@pytest.mark.parametrize("status", ["running", "interrupted", "cancelled", "failures"])
def test_a_run_without_results_hides_nothing_and_says_what_it_is(
    status: Any, service: FakeService
) -> None:
    evaluations = FakeEvaluations(service, n=8)
    study = evaluations.kept.known["study"]
    evaluations.kept.known["run-1"] = replace(
        study, id="run-1", title="Mine", status=status, sample_sets={}, cards={}, predictions={}
    )
    handlers = _handlers(evaluations, service)
    shown = handlers.open_tab(_request())["values"]
    assert shown["picker"]["value"] == "study"
    assert "“Mine” of 2026-11-24 18:00" in shown["notice"]
    text = handlers.pick_run("run-1", _request())["values"]["headline"]
    assert "Nothing of this run has been scored" in text
    assert "No evaluation yet" not in text
    assert "No evaluation yet" not in text


def test_the_owner_is_neither_the_key_nor_shared(service: FakeService) -> None:
    one, two = service.sessions.new(), service.sessions.new()
    assert one.owner != two.owner
    assert one.token not in one.owner
    assert one.owner not in one.token


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


@pytest.mark.slow
def test_what_the_tab_opens_on_is_computed_while_the_report_tab_is_looked_at(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = _handlers(FakeEvaluations(service, n=8), service)
    handlers.prepare(_request())
    monkeypatch.setattr(handlers_module, "content_of", None)
    shown = handlers.open_tab(_request("b"))["values"]
    assert shown["picker"]["value"] == "study"
    assert shown["study"]["plot"]


@pytest.mark.slow
def test_a_finished_run_is_handed_to_the_page_and_not_read_again(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluations = FakeEvaluations(service, n=8, pause=0.0)
    load, loaded = evaluations.kept.load, []

    def counted(run_id: str, owner: str = "") -> Any:
        loaded.append(run_id)
        return load(run_id, owner)

    monkeypatch.setattr(evaluations.kept, "load", counted)
    shown = _run(_handlers(evaluations, service), _asked(["phantom-s/v1"]))
    assert shown["evaluation"]["values"]["picker"]["value"] == "run-1"
    assert loaded == []


def test_a_system_that_was_trained_for_the_run_alone_is_said_to_be_missing(
    service: FakeService,
) -> None:
    def opened(request: Any, read: Any, truth: str) -> dict[str, Any]:
        page = session_of(service, request).part("report", PageState)  # type: ignore[arg-type]
        page.write({"compare": NOTHING})
        return page.snapshot()

    report: Any = SimpleNamespace(open=opened)
    evaluations: Any = FakeEvaluations(service, n=8, pause=0.0)
    handlers = EvaluationHandlers(evaluations, service, report)  # type: ignore[arg-type]
    handlers.open_tab(_request())
    asked = ("study", IN, "phantom-s/words.p1600.s0", "lookup", _request())
    *_, shown = handlers.cases.compare_case(*asked)
    told = str(shown["values"]["compare"])
    assert "Phantom S · Words, 1,600 pairs, seed 0 is not among the models here." in told
