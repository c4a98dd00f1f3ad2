"""What is cut off in the middle: a killed evaluation, a clock that jumps, a folder that is removed.

Each goes on, and loses nothing that was finished.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from browser.fakes import FakeService, sample_card
from browser.launch import running_app
from streams import followed
from study_parts import TEST_N, small_evaluations
from tabs import Tab, eventually
from tiny_models import CountingEncoder, FakeEncoderStore

import rad3d.server.access_control as guard
import rad3d.ui.page as page
from rad3d.cli import main
from rad3d.commands import eval_study
from rad3d.core.errors import BadRequest
from rad3d.core.settings import Settings
from rad3d.core.types import GenerationOptions
from rad3d.data.samples import Prediction
from rad3d.data.spec import SetSpec
from rad3d.evaluation.evaluations import Evaluations
from rad3d.evaluation.generate import ReportWriter
from rad3d.evaluation.run_types import EvaluationRequest, EvaluationRun
from rad3d.server.metrics_routes import Operations
from rad3d.server.queue import ReportQueue
from rad3d.server.workdir import WorkDir
from rad3d.service.service import Service
from rad3d.ui.evaluation.handlers import EvaluationHandlers

pytestmark = pytest.mark.process

TESTS = Path(__file__).resolve().parent.parent
TAB: Any = SimpleNamespace(session_hash="tab")
NO_REPORTS: Any = SimpleNamespace(end=lambda request: None)
V3, V2 = "phantom-s/v3", "phantom-s/v2"
REQUEST = EvaluationRequest(
    sets=(SetSpec("phantom-in"), SetSpec("phantom-out")),
    variants=(V3, V2),
    metrics=("f1_macro",),
    options=GenerationOptions(max_new_tokens=20),
    limit=TEST_N,
    draws=20,
)

# -- a killed evaluation -------------------------------------------------------------------------

EVALUATE = """
import sys, threading
from pathlib import Path
sys.path[:0] = [sys.argv[2], f"{sys.argv[2]}/privacy"]
from study_parts import small_evaluations
from test_interruptions import REQUEST
for event in small_evaluations(Path(sys.argv[1])).start(REQUEST, threading.Event()):
    print(event.run_id, event.text, flush=True)
    sys.stdin.readline()
"""
"""Goes on by one step for each line that it reads."""


def killed_while_writing(folder: Path) -> str:
    """Start an evaluation in a process of its own, kill it after a report of V-2; the run's id."""
    command = [sys.executable, "-c", EVALUATE, str(folder), str(TESTS)]
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "encoding": "utf-8",
    }
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            run_id, text = line.split(maxsplit=1)
            if text.startswith(V2) and "reports" in text:
                process.kill()
                break
            process.stdin.write("\n")
            process.stdin.flush()
        process.wait(60)
    assert process.returncode == -signal.SIGKILL
    return run_id


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory, models: Path) -> tuple[Path, str]:
    """A folder in which an evaluation was killed, and the run's id."""
    folder = tmp_path_factory.mktemp("killed")
    shutil.copytree(models, folder / "models")
    return folder, killed_while_writing(folder)


@pytest.fixture
def restarted(interrupted: tuple[Path, str], tmp_path: Path) -> tuple[Evaluations, str]:
    """What the next start finds, and the run's id."""
    folder, run_id = interrupted
    shutil.copytree(folder, tmp_path / "after")
    return small_evaluations(tmp_path / "after"), run_id


def tab_of(evaluations: Evaluations) -> EvaluationHandlers:
    """The evaluation tab, without a page."""
    return EvaluationHandlers(evaluations, FakeService(), NO_REPORTS)


def in_the_shell(evaluations: Evaluations, run_id: str) -> None:
    """Go on with the latest run, as the command does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eval_study, "open_evaluations", lambda: evaluations)
        assert main(["eval", "run", "--resume", "latest"]) == 0


def in_the_tab(evaluations: Evaluations, run_id: str) -> None:
    """Press Resume and follow the run to its end."""
    tab = tab_of(evaluations)
    tab.running.resume(run_id, TAB)
    assert followed(tab.running.follow(TAB))


def written(run: EvaluationRun, system: str) -> tuple[Prediction, ...]:
    """What a system wrote about the set in domain."""
    return run.predictions[system, "phantom-in"].predictions


def test_a_killed_evaluation_keeps_what_was_scored_and_says_that_it_was_interrupted(
    restarted: tuple[Evaluations, str],
) -> None:
    evaluations, run_id = restarted
    (row,) = evaluations.kept.runs()
    run = evaluations.kept.load(run_id)
    assert row.id == run_id
    assert row.status == run.status == "interrupted"
    assert set(run.cards) == {(V3, "phantom-in"), (V3, "phantom-out")}
    assert all(each.text for each in written(run, V3))
    assert run.costs[V3]["seconds"] > 0
    assert row.systems == 1
    shown = tab_of(evaluations).open_tab(TAB)["values"]
    assert "interrupted" in shown["picker"]["choices"][0][0]
    assert "Resume" in shown["notice"], "a notice says what to do"
    assert "interrupted" in shown["headline"], "the headline says so"
    assert shown["resume_area"]["visible"], "it can be resumed"


@pytest.mark.parametrize("go_on", [in_the_shell, in_the_tab])
def test_it_goes_on_without_writing_a_finished_report_again(
    go_on: Callable[[Evaluations, str], None],
    restarted: tuple[Evaluations, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluations, run_id = restarted
    before = evaluations.kept.load(run_id)
    wrote: list[str] = []
    keep = ReportWriter._append

    def counted(writer: ReportWriter, new: dict[str, Any]) -> None:
        wrote.extend([writer._variant] * len(new))
        keep(writer, new)

    monkeypatch.setattr(ReportWriter, "_append", counted)
    go_on(evaluations, run_id)
    after = evaluations.kept.load(run_id)
    assert after.status == "finished"
    assert set(after.cards) == {(v, s.source) for v in (V3, V2) for s in REQUEST.sets}
    assert set(wrote) == {V2}
    assert len(wrote) < 2 * TEST_N, "what V-2 had written before it was killed is kept"
    assert written(after, V3) == written(before, V3)
    assert after.cards[V3, "phantom-in"].estimates == before.cards[V3, "phantom-in"].estimates


def test_a_run_that_another_process_writes_is_running_and_left_alone(
    models: Path, tmp_path: Path
) -> None:
    shutil.copytree(models, tmp_path / "models")
    here, there = small_evaluations(tmp_path), small_evaluations(tmp_path)
    running = there.start(replace(REQUEST, variants=(V3,)), threading.Event())
    run_id = next(running).run_id
    assert here.kept.runs()[0].status == here.kept.load(run_id).status == "running"
    with pytest.raises(BadRequest, match="another process"):
        next(here.resume(run_id, threading.Event()))
    running.close()  # type: ignore[attr-defined]
    assert here.kept.runs()[0].status == "cancelled"
    *_, last = here.resume(run_id, threading.Event())
    assert last.run is not None
    assert last.run.status == "finished"


# -- clocks --------------------------------------------------------------------------------------


class Jumping(datetime.datetime):
    """The clock on the wall, which somebody sets while the app runs."""

    by = datetime.timedelta()

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
        """As set."""
        return datetime.datetime.now(tz) + cls.by


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``jump(days)`` sets the clock of this process."""
    real = time.time
    monkeypatch.setattr(
        guard, "datetime", SimpleNamespace(datetime=Jumping, timedelta=datetime.timedelta)
    )

    def by(days: float) -> None:
        Jumping.by = datetime.timedelta(days=days)
        monkeypatch.setattr(time, "time", lambda: real() + 86_400 * days)

    yield by
    Jumping.by = datetime.timedelta()


@pytest.mark.parametrize("days", [-4000, 4000])
def test_a_clock_that_jumps_ends_neither_a_running_report_nor_a_waiting_turn(
    days: float, jump: Any, chest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MODEL_PLACES", 1)
    monkeypatch.setattr(guard, "SWEEP_SECONDS", 0.05)
    cards = (sample_card("one", "One", "A chest", chest),)
    service = FakeService(cards, seconds_per_word=0.03)
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(running_app(service, tmp_path))
        first, second = (stack.enter_context(Tab(url)) for _ in range(2))
        for tab in (first, second):
            tab.call("open_sample", "one")
        running = first.events("write_report", "phantom-l/v3", {})
        assert "Reading the scan" in until(running, "process_generating")
        waiting = second.events("write_report", "phantom-l/v3", {})
        assert "you are next" in until(waiting, "process_generating")
        jump(days)
        for events in (running, waiting):
            *_, last = events
            assert last["success"], last
            assert "right upper lobe" in str(last["output"]["data"])
        assert first.call("write_report", "phantom-l/v3", {})["event"] == "done", "it goes on"


def until(events: Iterator[dict[str, Any]], kind: str) -> str:
    """The next message of a kind, as text."""
    return next(str(event["output"]["data"]) for event in events if event["msg"] == kind)


# -- folders -------------------------------------------------------------------------------------


def test_an_evaluation_whose_folder_is_removed_meanwhile_loses_nothing(
    models: Path, tmp_path: Path
) -> None:
    shutil.copytree(models, tmp_path / "models")
    evaluations = small_evaluations(tmp_path)
    scored = 0
    for event in evaluations.start(REQUEST, threading.Event()):
        scored += event.card is not None
        if scored == 2 and event.stage == "write":
            shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    assert event.run is not None
    back = evaluations.kept.load(event.run_id)
    assert back.status == "finished"
    assert set(back.cards) == {(v, s.source) for v in (V3, V2) for s in REQUEST.sets}
    assert back.predictions == event.run.predictions


def test_a_server_whose_work_folder_is_removed_goes_on_and_stays_healthy(
    models: Path, chest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "SWEEP_SECONDS", 0.05)
    work = WorkDir(tmp_path / "work")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(work.uploads))
    monkeypatch.setattr(tempfile, "tempdir", str(work.temporary))
    settings = Settings(models_dir=models, default_variant=V3, runs_dir=tmp_path / "runs")
    operations = Operations(settings)
    service = Service(
        settings, FakeEncoderStore(settings, CountingEncoder()), on_event=operations.on_event
    )
    operations.attach(service, ReportQueue(1, 1), work.uploads)
    zipped = tmp_path / "scan.zip"
    with zipfile.ZipFile(zipped, "w") as out:
        out.write(chest, "scan.nii.gz")
    with running_app(service, tmp_path, models_dir=models, default_variant=V3) as url:
        with Tab(url) as tab:
            tab.call("open_scan", tab.upload(chest))
            shutil.rmtree(work.path, ignore_errors=True)  # the sweep may be faster
            written = tab.call("write_report", V3, {"max_new_tokens": 5})
            assert written["event"] == "done", "what is open goes on"
            assert eventually(lambda: operations.problems() == []), operations.problems()
            assert tab.call("open_scan", tab.upload(zipped))["shape"] == [96, 96, 60]
        assert work.uploads.stat().st_mode & 0o077 == 0
    work.close()
    assert not work.path.exists()
