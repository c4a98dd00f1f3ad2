"""Evaluations of visitors end with their session and with the server; the operator's own stay."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streams import followed, steps_of
from tabs import eventually

from rad3d.core.settings import Settings
from rad3d.data.spec import SetSpec
from rad3d.evaluation.access import OPERATOR
from rad3d.evaluation.evaluations import Evaluations
from rad3d.evaluation.run_types import EvaluationEvent, EvaluationRequest
from rad3d.server.workdir import WorkDir
from rad3d.service.service import Service
from rad3d.ui.evaluation import job as evaluation_job
from rad3d.ui.evaluation.handlers import EvaluationHandlers
from rad3d.ui.visitor import session_of

pytestmark = pytest.mark.process

TESTS = Path(__file__).resolve().parent.parent
TAB: Any = SimpleNamespace(session_hash="tab")
OTHER: Any = SimpleNamespace(session_hash="other")
THIRD: Any = SimpleNamespace(session_hash="third")


def evaluations_of(folder: Path, visitors: Path, host: str) -> tuple[Service, Evaluations]:
    """Evaluations without any model."""
    settings = Settings(models_dir=folder / "none", runs_dir=folder / "runs", host=host)
    service = Service(settings, samples_dir=folder / "none")
    return service, Evaluations(service, settings, study_dir=folder / "none", visitors_dir=visitors)


def score_file(evaluations: Evaluations, folder: Path, owner: str) -> Path:
    """Score a small predictions file; the folder of the run."""
    path = folder / "mine.jsonl"
    rows = [{"id": str(i), "reference": "Normal.", "prediction": "Normal."} for i in range(2)]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    request = EvaluationRequest(
        (SetSpec("predictions", str(path)),), metrics=("f1_macro",), draws=10, owner=owner
    )
    *_, last = evaluations.start(request, threading.Event(), uploads=(str(path),))
    assert last.run is not None
    assert last.run.directory is not None
    return last.run.directory


CRASH = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [sys.argv[2], f"{sys.argv[2]}/privacy"]
from test_visitor_runs import evaluations_of, score_file
from rad3d.server.workdir import WorkDir
folder = Path(sys.argv[1])
work = WorkDir(folder / "work")
_, evaluations = evaluations_of(folder, work.runs, "127.0.0.1")
for owner in ("operator", "me"):
    print(score_file(evaluations, folder, owner), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_crash_leaves_the_runs_of_visitors_until_the_next_start_and_no_longer(
    tmp_path: Path,
) -> None:
    crashed = subprocess.run(
        [sys.executable, "-c", CRASH, tmp_path, TESTS], capture_output=True, text=True
    )
    assert crashed.returncode == -signal.SIGKILL, crashed.stderr
    own, visitors = map(Path, crashed.stdout.split())
    assert (visitors / "run.json").is_file(), "a crash leaves files"
    work = WorkDir(tmp_path / "work")
    assert not visitors.exists()
    assert (own / "run.json").is_file(), "what a person ran at the own machine stays"
    _, evaluations = evaluations_of(tmp_path, work.runs, "127.0.0.1")
    assert [run.id for run in evaluations.kept.runs(OPERATOR)] == [own.name]
    work.close()


@pytest.fixture
def public(tmp_path: Path) -> tuple[Service, Evaluations]:
    return evaluations_of(tmp_path, tmp_path / "visitors", "0.0.0.0")


def test_the_runs_of_a_session_that_expires_go_at_the_next_sweep_without_another_tab(
    public: tuple[Service, Evaluations], tmp_path: Path
) -> None:
    service, evaluations = public
    EvaluationHandlers(evaluations, service, None).open_tab(TAB)  # type: ignore[arg-type]
    session = session_of(service, TAB)
    directory = score_file(evaluations, tmp_path, session.owner)
    assert directory.parent == tmp_path / "visitors"
    stop = session.arm()
    clock = service.sessions._clock
    service.sessions._clock = lambda: clock() + 29 * 60
    service.sweep()
    assert directory.is_dir()
    service.sessions._clock = lambda: clock() + 31 * 60
    service.sweep()
    assert not directory.exists()
    assert stop.is_set(), "and what it was doing is stopped"
    assert session_of(service, TAB) is not session


def test_who_waits_for_an_evaluation_is_not_idle(
    public: tuple[Service, Evaluations], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, evaluations = public
    handlers = EvaluationHandlers(evaluations, service, None)  # type: ignore[arg-type]
    session = session_of(service, TAB)
    clock, passed = service.sessions._clock, [0.0]
    service.sessions._clock = lambda: clock() + passed[0]

    def slow(*_: object, **__: object) -> Iterator[EvaluationEvent]:
        for done in range(4):
            yield EvaluationEvent("write", done, 4, "one more", "20260101-000000-000000")
            passed[0] += 20 * 60
            service.sweep()
            assert not session.ended

    monkeypatch.setattr(evaluations, "resume", slow)
    handlers.running.resume("20260101-000000-000000", TAB)
    followed(handlers.running.follow(TAB))
    assert passed[0] == 80 * 60


def test_who_waits_for_the_evaluation_of_another_is_not_idle_and_gets_a_turn(
    public: tuple[Service, Evaluations], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, evaluations = public
    handlers = EvaluationHandlers(evaluations, service, None).running  # type: ignore[arg-type]
    clock, passed = service.sessions._clock, [0.0]
    service.sessions._clock = lambda: clock() + passed[0]
    monkeypatch.setattr(evaluation_job, "POLL_SECONDS", 0.01)
    began: list[str] = []

    def slow(run_id: str, *_: object) -> Iterator[EvaluationEvent]:
        began.append(run_id)
        for done in range(4):
            yield EvaluationEvent("write", done, 4, "one more", run_id)
            if len(began) == 1:
                time.sleep(0.2)
                passed[0] += 20 * 60
                service.sweep()

    monkeypatch.setattr(evaluations, "resume", slow)

    async def both() -> list[Any]:
        first = asyncio.create_task(steps_of(handlers.follow(TAB)))
        waits = asyncio.create_task(steps_of(handlers.follow(OTHER)))
        refused = await steps_of(handlers.follow(THIRD))
        assert "before it began" in refused[-1]["values"]["run_notice"], "it was cancelled"
        await first
        return await waits

    handlers.resume("first", TAB)
    assert eventually(lambda: began)
    for tab, name in ((OTHER, "second"), (THIRD, "third")):
        handlers.resume(name, tab)
    handlers.cancel(THIRD)
    steps = [step["values"] for step in asyncio.run(both())]
    assert passed[0] == 80 * 60
    assert any("another evaluation is running, yours is next" in s["progress"] for s in steps)
    assert began == ["first", "second"]
    assert not any("before it began" in step["run_notice"] for step in steps)
