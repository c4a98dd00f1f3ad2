"""Metrics and health: figures for the operator, no name and no content."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import ROOT, SHORT, scraped, watched
from starlette.applications import Starlette
from starlette.testclient import TestClient

from rad3d.core.errors import BadRequest, BadVolume, Rad3dError
from rad3d.core.settings import Settings
from rad3d.core.types import DoneEvent
from rad3d.server.metrics_routes import Operations
from rad3d.server.queue import ReportQueue


@pytest.mark.slow
def test_metrics_tell_queue_latency_by_stage_memory_and_failures(
    models: Path, chest: Path, tmp_path: Path
) -> None:
    service, operations = watched(models)
    session = service.sessions.new()
    service.open_path(session, chest, "Doe^Jane.nii.gz")
    bad = tmp_path / "bad.nii.gz"
    bad.write_text("no scan")
    with pytest.raises(BadVolume) as refused:
        service.open_path(session, bad, "bad.nii.gz")
    list(service.generate(session, "phantom-s/v3", SHORT, threading.Event()))
    with pytest.raises(Rad3dError) as missing:
        list(service.generate(session, "phantom-m/v1", SHORT, threading.Event()))
    seen = scraped(operations)
    assert seen["rad3d_scans_opened_total"] == 1
    assert seen[f"rad3d_scan_refusals_total{{code={refused.value.code}}}"] == 1
    assert seen[f"rad3d_report_failures_total{{code={missing.value.code}}}"] == 1
    written = [k for k in seen if k.startswith("rad3d_reports_total") and seen[k] == 1]
    assert len(written) == 1
    assert "{variant=phantom-s/v3}" in written[0]
    for stage in ("load", "grid", "encoder", "diagnosis", "first_token", "writing", "total"):
        assert seen[f"rad3d_report_stage_seconds_count{{stage={stage}}}"] == 1
    assert seen["rad3d_queue_limit"] == 32
    assert seen["rad3d_queue_waiting"] == 0
    assert seen["rad3d_sessions"] == 1
    assert seen["rad3d_scan_bytes"] > 1000
    assert seen["rad3d_model_bytes"] > 1000
    assert seen["process_resident_memory_bytes"] > 10_000_000
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(rad3d_\w+)`", page))
    served = {re.sub(r"(_bucket|_count|_sum)?({.*)?$", "", key) for key in seen}
    served = {name for name in served if name.startswith("rad3d_") and "_created" not in name}
    assert served <= named, "SECURITY.md lists what is served"
    assert named - served == set(), "and nothing else"


def test_metrics_hold_no_name_and_no_content(models: Path, chest: Path) -> None:
    service, operations = watched(models)
    session = service.sessions.new()
    opened = service.open_path(session, chest, "Doe^Jane.nii.gz")
    events = list(service.generate(session, "phantom-s/v3", SHORT, threading.Event()))
    done = events[-1]
    assert isinstance(done, DoneEvent)
    text = str(scraped(operations))
    for private in ("Doe", session.token, opened.sha256, done.report.text):
        assert private not in text


def test_a_defect_is_counted_apart_and_goes_on_its_way(
    models: Path, chest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, operations = watched(models)
    session = service.sessions.new()
    service.open_path(session, chest, "scan")

    def broken(*_: object) -> Iterator[object]:
        raise KeyError("a patient's name")
        yield

    monkeypatch.setattr(service, "_stream", broken)
    with pytest.raises(KeyError):
        list(service.generate(session, "phantom-s/v3", SHORT, threading.Event()))
    assert scraped(operations)["rad3d_report_failures_total{code=defect}"] == 1


def test_metrics_are_for_who_has_the_token_and_off_without_one(models: Path) -> None:
    _, operations = watched(models)
    client = TestClient(Starlette(routes=list(operations.routes())))
    assert client.get("/metrics").status_code == 401
    for wrong in ("Bearer guess", "secret", "Bearer secret2", "Bearer sécret"):
        sent = [(b"authorization", wrong.encode("utf-8"))]
        assert client.get("/metrics", headers=sent).status_code == 401
    closed = Operations(Settings())
    client = TestClient(Starlette(routes=list(closed.routes())))
    headers = {"Authorization": "Bearer "}
    assert client.get("/metrics", headers=headers).status_code == 404


def test_health_is_ok_until_something_keeps_visitors_away(models: Path, tmp_path: Path) -> None:
    service, operations = watched(models)
    client = TestClient(Starlette(routes=list(operations.routes())))
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "problems": []})
    service.running.stop(0)
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()["problems"]) == (503, ["stopping"])
    _, bare = watched(tmp_path / "no models")
    client = TestClient(Starlette(routes=list(bare.routes())))
    assert "no_model" in client.get("/healthz").json()["problems"]
    service, operations = watched(models)
    operations._uploads = tmp_path / "gone"
    assert operations.problems() == ["uploads_unwritable"]


def test_health_sees_a_disk_that_is_nearly_full(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, operations = watched(models)
    usage = shutil.disk_usage(models)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    assert operations.problems() == ["disk_full"]


def test_waiting_for_a_turn_is_measured_and_a_full_queue_is_counted(models: Path) -> None:
    _, operations = watched(models)
    now = [0.0]
    turns = ReportQueue(
        places=1, most_waiting=1, on_event=operations.on_event, clock=lambda: now[0]
    )
    first = turns.join()
    turns.join()
    with pytest.raises(BadRequest):
        turns.join()
    now[0] = 7.0
    first.leave()
    seen = scraped(operations)
    assert seen["rad3d_wait_seconds_count"] == 2
    assert seen["rad3d_wait_seconds_sum"] == 7.0
    assert seen["rad3d_wait_seconds_bucket{le=0.05}"] == 1
    assert seen["rad3d_report_failures_total{code=queue_full}"] == 1


def test_every_metric_is_explained_to_the_operator(models: Path) -> None:
    _, operations = watched(models)
    told = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    names = {name.partition("{")[0] for name in scraped(operations)}
    for name in names:
        base = re.sub(r"_(bucket|sum|count|created)$", "", name)
        assert base.startswith("process_") or f"`{base}" in told, base
