"""A server that is stopped lets its reports finish, or ends them with what they have."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from served import SHORT, server, watched
from tabs import PATIENCE_S

from rad3d.core.errors import BadRequest
from rad3d.core.types import DoneEvent, TextEvent
from rad3d.service.shutdown import RunningReports


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_stopping_lets_running_reports_finish_and_takes_no_new_ones(
    models: Path, chest: Path
) -> None:
    service, _ = watched(models)
    session = service.sessions.new()
    service.open_path(session, chest, "scan")
    events = service.generate(session, "phantom-s/v3", SHORT, threading.Event())
    next(events)
    outcome: list[int] = []
    stopper = in_thread(lambda: outcome.append(service.running.stop(60)))
    while not service.running.stopping:
        time.sleep(0.01)
    with pytest.raises(BadRequest) as refused:
        next(service.generate(session, "phantom-s/v3", SHORT, threading.Event()))
    assert refused.value.code == "stopping"
    done = list(events)[-1]
    assert isinstance(done, DoneEvent)
    assert done.report.finish_reason != "cancelled"
    stopper.join(30)
    assert outcome == [0]


def test_a_report_over_the_grace_is_ended_with_what_it_has(models: Path, chest: Path) -> None:
    service, _ = watched(models)
    session = service.sessions.new()
    service.open_path(session, chest, "scan")
    events = service.generate(session, "phantom-s/v3", SHORT, threading.Event())
    event = next(event for event in events if isinstance(event, TextEvent))
    outcome: list[int] = []
    stopper = in_thread(lambda: outcome.append(service.running.stop(0, 30)))
    while not (service.running.stopping and service.usage.running and _cancelled(service.running)):
        time.sleep(0.01)
    done = list(events)[-1]
    assert isinstance(done, DoneEvent)
    assert done.report.finish_reason == "cancelled"
    assert done.report.n_tokens <= event.n_tokens + 1
    stopper.join(30)
    assert outcome == [1]


def _cancelled(running: RunningReports) -> bool:
    return all(signal.is_set() for signal in running._reports)


@pytest.mark.slow
@pytest.mark.parametrize(("grace", "finish"), [("60", "end"), ("0", "cancelled")])
def test_a_terminated_server_ends_its_reports_cleans_up_and_exits_with_0(
    chest: Path, tmp_path: Path, grace: str, finish: str
) -> None:
    work, scan = tmp_path / "work", tmp_path / "Doe^Jane.nii.gz"
    shutil.copy(chest, scan)
    with server(
        scan, work, 0.15, RAD3D_GRACE_SECONDS=grace, RAD3D_LOG="json", HF_HUB_OFFLINE="1"
    ) as (process, url):
        client = Client(url, verbose=False)
        client.predict(handle_file(scan), api_name="/open_scan")
        job = client.submit("phantom-l/v3", {}, api_name="/write_report")
        while not any(event["event"] == "text" for event in job.outputs()):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert job.result(timeout=PATIENCE_S)["report"]["finish_reason"] == finish
        assert process.wait(60) == 0
        log = process.stderr.read()
    entries = [json.loads(line) for line in log.splitlines()]
    told = [entry["event"] for entry in entries]
    assert told[0] == "started"
    assert told[-2:] == ["stopping", "stopped"]
    assert entries[-2]["running"] == 1
    assert entries[-1]["cancelled"] == int(finish == "cancelled")
    assert "Doe" not in log
    assert list(work.glob("server-*")) == [], "uploads are gone"
