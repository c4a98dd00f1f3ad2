"""Work on what strangers send can be ended, whatever it does, and the server goes on meanwhile."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from apart_work import added, breaks, ends, refuses, stuck, too_much

from rad3d.core.errors import BadRequest, Cancelled
from rad3d.core.settings import Settings
from rad3d.data.spec import SetSpec
from rad3d.evaluation.access import OPERATOR
from rad3d.evaluation.evaluations import Evaluations
from rad3d.evaluation.run_types import EvaluationRequest, EvaluationRun
from rad3d.evaluation.text_process import apart
from rad3d.service.service import Service

pytestmark = pytest.mark.process


def answer(steps: Generator[str, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def test_the_answer_comes_from_another_process_which_tells_its_progress() -> None:
    steps = apart(added, 1, two=2, cancel=threading.Event(), tells=True)
    assert next(steps) == "adding"
    total, process = answer(steps)
    assert total == 3
    assert process != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_work_that_holds_the_interpreter_is_ended_and_holds_up_nobody() -> None:
    cancel = threading.Event()
    raised: list[BaseException] = []

    def follow() -> None:
        try:
            answer(apart(stuck, cancel=cancel))
        except Cancelled as error:
            raised.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    for _ in range(20):  # this process is as free as before
        time.sleep(0.05)
    assert thread.is_alive()
    cancel.set()
    thread.join(30)
    assert len(raised) == 1


def test_work_that_takes_too_long_is_stopped_with_a_sentence() -> None:
    with pytest.raises(BadRequest) as stopped:
        answer(apart(stuck, cancel=threading.Event(), seconds=1.0))
    assert stopped.value.code == "too_slow"


@pytest.mark.parametrize(
    ("work", "code"), [(refuses, "unknown_name"), (too_much, "too_large"), (ends, "too_large")]
)
def test_what_the_work_refuses_and_cannot_do_is_a_sentence(work: Any, code: str) -> None:
    with pytest.raises(BadRequest) as refused:
        answer(apart(work, cancel=threading.Event()))
    assert refused.value.code == code


def test_a_defect_says_its_kind_and_place_and_quotes_nothing() -> None:
    with pytest.raises(RuntimeError, match=r"^ValueError at apart_work.py:\d+$"):
        answer(apart(breaks, cancel=threading.Event()))


def scored(folder: Path, trusted: bool) -> EvaluationRun:
    settings = Settings(models_dir=folder / "none", runs_dir=folder / "runs")
    service = Service(settings, samples_dir=folder / "none")
    evaluations = Evaluations(service, settings, study_dir=folder / "none", trusted=trusted)
    path = folder / "mine.jsonl"
    reports = ("No nodule.", "Nodule in the right lower lobe.", "Pleural effusion.")
    rows = [
        {"id": str(i), "reference": one, "prediction": reports[-i]} for i, one in enumerate(reports)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    request = EvaluationRequest((SetSpec("predictions", str(path)),), draws=20, owner=OPERATOR)
    *_, last = evaluations.start(request, threading.Event())
    assert last.run is not None
    return last.run


def test_a_file_scored_apart_has_the_figures_that_it_has_at_the_terminal(tmp_path: Path) -> None:
    apart_, here = (scored(tmp_path, trusted) for trusted in (False, True))
    assert apart_.status == here.status == "finished"
    one, other = apart_.cards["mine", "mine"], here.cards["mine", "mine"]
    assert json.dumps(one.to_dict()) == json.dumps(other.to_dict())
