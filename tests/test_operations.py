"""The app on a server: health, metrics, log, login, sub-path, shutdown, lent GPUs, image."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from browser.fakes import FakeCard, FakeService
from browser.launch import running_app, small_chest
from gradio_client import Client, handle_file
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from tiny_models import CountingEncoder, FakeEncoderStore, save_shipped, volume

from rad3d.errors import BadRequest, BadVolume, Cancelled, Rad3dError, UnknownName
from rad3d.service.lending import LEAST_SECONDS, MOST_SECONDS, Lender, seconds_wanted
from rad3d.service.running import Running
from rad3d.service.service import Service
from rad3d.service.turns import Turns
from rad3d.settings import Settings
from rad3d.types import DiagnosisEvent, DoneEvent, GenerationOptions, TextEvent
from rad3d.ui import serving
from rad3d.ui.operations import Lines, Operations, accounts, public_path

ROOT = Path(__file__).resolve().parent.parent
SHORT = GenerationOptions(max_new_tokens=8)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_shipped(folder, modes=("v3", "v2"))
    return folder


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_chest(tmp_path_factory.mktemp("scans") / "Doe^Jane.nii.gz")


def watched(models: Path, lender: Lender | None = None, **given: Any) -> tuple[Service, Operations]:
    """A real service on tiny models, and who watches it."""
    settings = replace(Settings(), models_dir=models, metrics_token="secret", **given)
    operations = Operations(settings)
    store = FakeEncoderStore(settings, CountingEncoder())
    service = Service(settings, store, watch=operations, lender=lender)
    operations.attach(service, Turns(2, 32), models)
    return service, operations


def scraped(operations: Operations, token: str = "secret") -> dict[str, float]:
    """``name{label=value}`` -> value, as Prometheus reads them."""
    client = TestClient(Starlette(routes=list(operations.routes())))
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    return {
        sample.name + "".join(f"{{{k}={v}}}" for k, v in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


# --- metrics and health -------------------------------------------------------------------------


def test_metrics_tell_queue_latency_by_stage_memory_and_failures(
    models: Path, chest: Path, tmp_path: Path
) -> None:
    service, operations = watched(models)
    session = service.new_session()
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


def test_metrics_hold_no_name_and_no_content(models: Path, chest: Path) -> None:
    service, operations = watched(models)
    session = service.new_session()
    opened = service.open_path(session, chest, "Doe^Jane.nii.gz")
    events = list(service.generate(session, "phantom-s/v3", SHORT, threading.Event()))
    done = events[-1]
    assert isinstance(done, DoneEvent)
    text = str(scraped(operations))
    for private in ("Doe", session, opened.sha256, done.report.text):
        assert private not in text


def test_a_defect_is_counted_apart_and_goes_on_its_way(
    models: Path, chest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, operations = watched(models)
    session = service.new_session()
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
        headers = {"Authorization": wrong.encode("utf-8")}
        assert client.get("/metrics", headers=headers).status_code == 401
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


# --- log ----------------------------------------------------------------------------------------


@contextmanager
def captured(as_json: bool = True) -> Iterator[list[str]]:
    """Lines as they would go to stderr."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Keep()
    handler.setFormatter(Lines(as_json))
    root = logging.getLogger()
    level, own = root.level, logging.getLogger("rad3d").level
    root.addHandler(handler)
    logging.getLogger("rad3d").setLevel(logging.INFO)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        logging.getLogger("rad3d").setLevel(own)


def test_every_event_is_one_json_line_of_figures_without_names_or_content(
    models: Path, chest: Path, tmp_path: Path
) -> None:
    service, _ = watched(models)
    session = service.new_session()
    bad = tmp_path / "Doe^Jane.nii.gz"
    bad.write_text("no scan")
    with captured() as lines:
        opened = service.open_path(session, chest, "Doe^Jane.nii.gz")
        with pytest.raises(BadVolume):
            service.open_path(session, bad, "Doe^Jane.nii.gz")
        events = list(service.generate(session, "phantom-s/v3", SHORT, threading.Event()))
    done = events[-1]
    assert isinstance(done, DoneEvent)
    entries = [json.loads(line) for line in lines]
    assert [e["event"] for e in entries] == ["scan opened", "scan refused", "report written"]
    assert entries[0]["voxels"] == 96 * 96 * 60
    assert entries[1]["code"]
    assert entries[2]["tokens"] == done.report.n_tokens
    assert entries[2]["writing_s"] > 0
    assert all({"time", "level", "logger", "event"} <= set(entry) for entry in entries)
    for private in ("Doe", "chest", session, opened.sha256, str(tmp_path), done.report.text):
        assert private not in "\n".join(lines)


@pytest.mark.parametrize("as_json", [True, False])
def test_what_other_packages_and_exceptions_say_is_withheld(as_json: bool) -> None:
    with captured(as_json) as lines:
        logging.getLogger("nibabel").warning("header of %s is odd", "Doe^Jane.nii.gz")
        logging.captureWarnings(True)
        try:
            warnings.warn("patient Doe^Jane", stacklevel=1)
            try:
                raise ValueError("could not read Doe^Jane.nii.gz")
            except ValueError as error:
                try:
                    raise RuntimeError("after\nDoe^Jane") from error
                except RuntimeError:
                    logging.getLogger("rad3d.model").exception("Could not encode the scan")
        finally:
            logging.captureWarnings(False)
    assert len(lines) >= 2
    assert "Doe" not in "\n".join(lines)
    assert all("\n" not in line for line in lines)
    assert "RuntimeError from test_operations.py" in lines[-1]
    assert "ValueError from test_operations.py" in lines[-1]
    assert "Could not encode the scan" in lines[-1]


def test_an_unknown_kind_of_log_is_refused() -> None:
    from rad3d.ui.operations import configure_logging

    with pytest.raises(UnknownName, match="text, json"):
        configure_logging("xml")


# --- login and sub-path -------------------------------------------------------------------------


def test_a_login_is_read_and_a_malformed_one_refused_without_quoting_it() -> None:
    assert accounts("") is None
    assert accounts("ann:pw,bob:p:w") == [("ann", "pw"), ("bob", "p:w")]
    for wrong in ("hunter2", "ann:", ":hunter2", "ann:hunter2,", "ann:hunter2,x"):
        with pytest.raises(BadRequest) as refused:
            accounts(wrong)
        assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(Settings(login="ann:hunter2", metrics_token="hunter2"))


def test_a_sub_path_is_read_and_a_malformed_one_refused() -> None:
    assert public_path("") == ""
    assert public_path("/rad3d/") == "/rad3d"
    assert public_path("https://example.org/rad3d") == "https://example.org/rad3d"
    with pytest.raises(BadRequest, match="must begin with /"):
        public_path("rad3d")


def fake(chest: Path) -> FakeService:
    return FakeService((FakeCard("one", "Sample one", "A chest", chest),), seconds_per_word=0.01)


def test_with_a_login_nothing_of_the_app_is_open_to_a_stranger(chest: Path, tmp_path: Path) -> None:
    with running_app(fake(chest), tmp_path, login="ann:pw") as url:
        asked = {
            "/config": 401,
            "/rad3d/volume": 401,
            "/rad3d/slice": 401,
            "/rad3d/thumbnail/one": 401,
        }
        for path, status in asked.items():
            assert httpx.get(url + path).status_code == status, path
        files = {"files": ("scan.nii", b"x")}
        assert httpx.post(f"{url}/gradio_api/upload", files=files).status_code == 401
        joined = httpx.post(f"{url}/gradio_api/queue/join", json={"fn_index": 0, "data": []})
        assert joined.status_code == 401
        assert httpx.get(f"{url}/rad3d/static/style.css").status_code == 200
        wrong = httpx.post(f"{url}/login", data={"username": "ann", "password": "no"})
        assert wrong.status_code == 400
        client = Client(url, auth=("ann", "pw"), verbose=False)
        assert client.predict(handle_file(chest), api_name="/open_scan")["shape"] == [96, 96, 60]
        job = client.submit("phantom-l/v3", {}, api_name="/write_report")
        assert job.result(timeout=60)["event"] == "done"


@contextmanager
def reverse_proxy(upstream: str, prefix: str) -> Iterator[str]:
    """As nginx with ``location /prefix/ { proxy_pass http://upstream/; }`` and nothing else."""

    async def forward(request: Request) -> StreamingResponse:
        client = httpx.AsyncClient(timeout=60)
        headers = {k: v for k, v in request.headers.items() if k != "host"}
        headers |= {"x-forwarded-host": request.headers["host"], "x-forwarded-proto": "http"}
        sent = client.build_request(
            request.method,
            f"{upstream}/{request.path_params['path']}?{request.url.query}",
            headers=headers,
            content=await request.body(),
        )
        answer = await client.send(sent, stream=True)

        async def body() -> AsyncIterator[bytes]:
            async for chunk in answer.aiter_raw():
                yield chunk
            await client.aclose()

        return StreamingResponse(body(), answer.status_code, dict(answer.headers))

    app = Starlette(routes=[Route(prefix + "/{path:path}", forward, methods=["GET", "POST"])])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}{prefix}"
    finally:
        server.should_exit = True
        thread.join(10)


def test_the_app_works_below_a_path_of_a_reverse_proxy(chest: Path, tmp_path: Path) -> None:
    with (
        running_app(fake(chest), tmp_path, root_path="/ct/app") as url,
        reverse_proxy(url, "/ct/app") as public,
    ):
        page = httpx.get(f"{public}/")
        assert page.status_code == 200
        assert httpx.get(f"{public}/config").json()["root"] == public
        linked = re.findall(r'(?:src|href)="(/[^"/][^"]*)"', page.text)
        outside = {link for link in linked if not link.startswith("/ct/app/")}
        assert outside <= {"/manifest.json"}, "Gradio's, of no use without its PWA"
        assert "rad3d/static/style.css" in page.text
        assert "/rad3d/static/style.css" not in page.text, "relative, so below the path"
        assert httpx.get(f"{public}/rad3d/static/style.css").status_code == 200
        client = Client(f"{public}/", verbose=False)
        assert client.predict(handle_file(chest), api_name="/open_scan")["shape"] == [96, 96, 60]
        job = client.submit("phantom-l/v3", {}, api_name="/write_report")
        assert job.result(timeout=60)["event"] == "done"


# --- offered models -----------------------------------------------------------------------------


def test_only_offered_variants_are_listed_and_written(models: Path, chest: Path) -> None:
    service, _ = watched(models, variants="phantom-s/v3,phantom-m/*")
    ids = {status.id for status in service.variants()}
    assert "phantom-s/v3" in ids
    assert all(i == "phantom-s/v3" or i.startswith("phantom-m/") for i in ids)
    session = service.new_session()
    service.open_path(session, chest, "scan")
    with pytest.raises(BadRequest, match="phantom-s/v2 is not offered here"):
        list(service.generate(session, "phantom-s/v2", SHORT, threading.Event()))
    assert isinstance(
        list(service.generate(session, "phantom-s/v3", SHORT, threading.Event()))[-1], DoneEvent
    )


# --- shutdown -----------------------------------------------------------------------------------


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_stopping_lets_running_reports_finish_and_takes_no_new_ones(
    models: Path, chest: Path
) -> None:
    service, _ = watched(models)
    session = service.new_session()
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
    session = service.new_session()
    service.open_path(session, chest, "scan")
    events = service.generate(session, "phantom-s/v3", SHORT, threading.Event())
    for event in events:
        if isinstance(event, TextEvent):
            break
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


def _cancelled(running: Running) -> bool:
    return all(signal.is_set() for signal in running._signals.values())


SERVER = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from functools import partial
from pathlib import Path
from browser.fake_evaluations import FakeEvaluations
from browser.fakes import FakeCard, FakeService
from rad3d.service.running import Running
import rad3d.service.evaluation as evaluation_module
import rad3d.service.service as service_module
from rad3d.settings import Settings
from rad3d.ui import serving

class Watched(FakeService):
    def __init__(self, settings, watch, lender):
        super().__init__((FakeCard("one", "Sample one", "A chest", Path({chest!r})),), {pause})
        self.running = Running()
    def warm_up(self):
        pass
    probe = warm_up
    def generate(self, session, variant_id, options, cancel):
        with self.running.report(cancel):
            yield from super().generate(session, variant_id, options, cancel)

service_module.Service = Watched
evaluation_module.Evaluations = lambda s, settings, visitors_dir: FakeEvaluations(s, empty=True)
serving.serve(Settings.from_env())
"""


@contextmanager
def server(chest: Path, work: Path, pause: float, **env: str) -> Iterator[tuple[Any, str]]:
    """A whole server process on a stand-in for the models."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    code = SERVER.format(tests=str(ROOT / "tests"), root=str(ROOT), chest=str(chest), pause=pause)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "RAD3D_PORT": str(port), "RAD3D_WORK_DIR": str(work), **env},
    )  # fmt: skip
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert "ready" in line, line + (process.stderr.read() if process.stderr else "")
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(("grace", "finish"), [("60", "end"), ("0", "cancelled")])
def test_a_terminated_server_ends_its_reports_cleans_up_and_exits_with_0(
    chest: Path, tmp_path: Path, grace: str, finish: str
) -> None:
    work = tmp_path / "work"
    with server(
        chest, work, 0.15, RAD3D_GRACE_SECONDS=grace, RAD3D_LOG="json", HF_HUB_OFFLINE="1"
    ) as (process, url):
        client = Client(url, verbose=False)
        client.predict(handle_file(chest), api_name="/open_scan")
        job = client.submit("phantom-l/v3", {}, api_name="/write_report")
        while not any(event["event"] == "text" for event in job.outputs()):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert job.result(timeout=60)["report"]["finish_reason"] == finish
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


# --- lent GPUs ----------------------------------------------------------------------------------


class NoGpu(Exception):
    """What the platform raises where it lends none."""


def plain_gpu(asked: list[int]) -> Callable[..., Any]:
    """A decorator like ``spaces.GPU``: all goes through pickle; keeps the seconds asked for."""

    def gpu(duration: Callable[..., int]) -> Callable[..., Any]:
        def decorate(work: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
            def lent(*args: Any) -> Iterator[Any]:
                asked.append(duration(*args))
                for event in work(*pickle.loads(pickle.dumps(args))):
                    yield pickle.loads(pickle.dumps(event))

            return lent

        return decorate

    return gpu


def test_a_lent_gpu_writes_the_same_report_and_keeps_nothing_of_the_scan(
    models: Path, chest: Path
) -> None:
    asked: list[int] = []
    texts = []
    for lender in (None, Lender(plain_gpu(asked), NoGpu)):
        service, _ = watched(models, lender)
        session = service.new_session()
        opened = service.open_path(session, chest, "scan")
        events = list(service.generate(session, "phantom-s/v3", SHORT, threading.Event()))
        done = events[-1]
        assert isinstance(done, DoneEvent)
        assert any(isinstance(event, DiagnosisEvent) for event in events)
        texts.append(done.report.text)
        kept = [key for key in service.engine.cache._values if opened.sha256 in str(key)]
        assert bool(kept) is (lender is None)
    assert texts[0] == texts[1]
    assert asked == [LEAST_SECONDS]


def test_the_seconds_asked_for_grow_with_model_and_report_within_15_to_40() -> None:
    scan = volume()
    some = [
        seconds_wanted(scan, variant, GenerationOptions(max_new_tokens=tokens))
        for variant in ("phantom-s/v3", "llama-3.2-1b/v3", "llama-2-7b-chat/v3")
        for tokens in (16, 320, 1024)
    ]
    assert min(some) == LEAST_SECONDS == 15
    assert max(some) == MOST_SECONDS == 40
    assert some[1] < some[4] < some[7], "a larger model needs longer"
    assert some[0] < some[1] <= some[2]
    beam = GenerationOptions(strategy="beam", max_new_tokens=320)
    assert seconds_wanted(scan, "phantom-s/v3", beam) > some[1]


def test_refusals_and_cancellation_come_through_a_lender(models: Path, chest: Path) -> None:
    def none(duration: object) -> Callable[..., Any]:
        def decorate(_work: object) -> Callable[..., Iterator[Any]]:
            def lent(*_: object) -> Iterator[Any]:
                raise NoGpu("You have exceeded your quota.")
                yield

            return lent

        return decorate

    service, operations = watched(models, Lender(none, NoGpu))
    session = service.new_session()
    service.open_path(session, chest, "scan")
    with pytest.raises(Rad3dError, match=r"No GPU .* You have exceeded your quota\.") as refused:
        list(service.generate(session, "phantom-s/v3", SHORT, threading.Event()))
    assert refused.value.code == "no_gpu"
    assert scraped(operations)["rad3d_report_failures_total{code=no_gpu}"] == 1

    asked: list[int] = []
    service, _ = watched(models, Lender(plain_gpu(asked), NoGpu))
    session = service.new_session()
    service.open_path(session, chest, "scan")
    with pytest.raises(UnknownName):
        list(service.generate(session, "phantom-x/v3", SHORT, threading.Event()))
    assert asked == [], "no GPU is asked for something that cannot run"
    with pytest.raises(Rad3dError, match="demo build"):
        list(service.generate(session, "phantom-m/v1", SHORT, threading.Event()))
    early = threading.Event()
    early.set()
    with pytest.raises(Cancelled):
        list(service.generate(session, "phantom-s/v3", SHORT, early))
    cancel = threading.Event()
    last = None
    for event in service.generate(session, "phantom-s/v3", SHORT, cancel):
        if isinstance(event, TextEvent):
            cancel.set()
        last = event
    assert isinstance(last, DoneEvent)
    assert last.report.finish_reason == "cancelled"
    assert last.report.n_tokens == 1


def test_the_package_of_zero_gpu_is_asked_for_only_where_the_platform_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Settings.from_env({}).zero_gpu is False
    assert Settings.from_env({"SPACES_ZERO_GPU": "true"}).zero_gpu is True
    fake_spaces = type(sys)("spaces")
    fake_spaces.GPU = plain_gpu([])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spaces", fake_spaces)
    lender = serving.zero_gpu()
    assert lender.gpu is fake_spaces.GPU
    assert issubclass(lender.refusal, Exception)


# --- image --------------------------------------------------------------------------------------


def dockerfile() -> list[str]:
    """Instructions of the last stage, joined lines, without comments."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.M)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    start = max(i for i, line in enumerate(lines) if line.startswith("FROM"))
    return lines[start:]


def test_the_image_runs_without_rights_and_answers_for_its_health() -> None:
    lines = dockerfile()
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users == ["10001"], "a number, so that a cluster can see that it is not root"
    assert lines.index("USER 10001") < lines.index('CMD ["/venv/bin/python", "app.py"]')
    health = next(line for line in lines if line.startswith("HEALTHCHECK"))
    assert "/healthz" in health
    code = json.loads(health.partition("CMD ")[2])[2]
    compile(code, "HEALTHCHECK", "exec")
    assert not any("ADD " in line or "curl" in line or "sudo" in line for line in lines)


def test_everything_that_the_image_copies_is_there_and_in_the_build_context() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*", "nothing but what is listed reaches the build"
    for line in re.findall(r"^COPY (?!--from)(?:--chmod=755 )?(.+)$", text, re.M):
        for source in line.split()[:-1]:
            name = source.removeprefix("./")
            assert (ROOT / name).exists(), name
            assert f"!{name}" in ignored, name
    assert "--require-hashes -r requirements.lock" in text


def test_the_images_environment_is_made_of_settings_and_leaves_time_to_stop() -> None:
    block = next(line for line in dockerfile() if line.startswith("ENV"))
    given = dict(re.findall(r"(\w+)=(\S+)", block))
    settings = Settings.from_env(given)
    assert settings.host == "0.0.0.0"
    assert settings.grace_seconds + serving.SECONDS_TO_DELIVER < 10, "Docker kills after 10 s"
    assert not str(settings.work_dir).startswith(str(ROOT))
    assert str(settings.runs_dir).startswith("/tmp"), "the root file system is read-only"


def test_a_linter_finds_nothing_in_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint") or shutil.which(
        "hadolint", path=str(Path(sys.executable).parent)
    )
    if hadolint is None:
        pytest.skip("hadolint is not here (pip install -r requirements-dev.txt)")
    done = subprocess.run(
        [hadolint, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")
