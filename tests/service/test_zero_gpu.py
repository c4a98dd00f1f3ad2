"""The app on ZeroGPU, with the real package ``spaces``: a GPU is asked for, used and given back.

The device server of the platform is a stand-in on loopback, and the "GPU" is the CPU of the forked
process, see ``zero_gpu_app.py``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlparse

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from served import environment
from tabs import PATIENCE_S

from rad3d.core.settings import Settings
from rad3d.core.types import DoneEvent, GenerationOptions
from rad3d.deploy.manifest import read_manifest
from rad3d.model.engine import Engine
from rad3d.model.store import ModelStore
from rad3d.service.gallery import SAMPLES_DIR, read_samples
from rad3d.volume.load import read_volume

pytestmark = pytest.mark.slow
VARIANT = "phantom-s/v1"
SAMPLE = read_samples(SAMPLES_DIR)[0]


class Devices(ThreadingHTTPServer):
    """Lends a GPU to whoever asks, until :attr:`empty`; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.empty = False
        super().__init__(("127.0.0.1", 0), _Answers)

    def of(self, path: str) -> list[dict[str, str]]:
        return [given for asked, given in self.asked if asked == path]


class _Answers(BaseHTTPRequestHandler):
    server: Devices

    def do_POST(self) -> None:
        url = urlparse(self.path)
        self.server.asked.append((url.path, dict(parse_qsl(url.query))))
        status = 200
        answer: dict[str, object] = {}
        if url.path == "/schedule" and self.server.empty:
            status, answer = 429, {"left": 3, "wait": 600}
        elif url.path == "/schedule":
            answer = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0"}
            answer["allowToken"] = f"token-{len(self.server.asked)}"
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def devices() -> Iterator[Devices]:
    server = Devices()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def space(
    devices: Devices, tmp_path_factory: pytest.TempPathFactory, repo_root: Path
) -> Iterator[str]:
    """The address of the app on a Space that is lent GPUs."""
    home = tmp_path_factory.mktemp("home")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = environment(
        HOME=str(home),
        SPACE_ID="someone/rad3d",
        SPACES_ZERO_GPU="true",
        SPACES_ZERO_DEVICE_API_URL=f"http://127.0.0.1:{devices.server_port}",
        RAD3D_HOST="127.0.0.1",
        RAD3D_PORT=str(port),
        RAD3D_WORK_DIR=str(home / "work"),
    )
    with (home / "errors.txt").open("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, str(repo_root / "tests" / "zero_gpu_app.py")],
            stdout=subprocess.PIPE, stderr=errors, text=True, env=env,
        )  # fmt: skip
        assert process.stdout
        try:
            line = process.stdout.readline()
            assert "ready" in line, line + (home / "errors.txt").read_text(encoding="utf-8")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def visitor(space: str) -> Client:
    client = Client(space, verbose=False)
    client.predict(SAMPLE.id, api_name="/open_sample")
    return client


def write(visitor: Client, variant: str = VARIANT, **options: Any) -> dict[str, Any]:
    done = visitor.submit(variant, options, api_name="/write_report").result(timeout=PATIENCE_S)
    assert done["event"] == "done"
    return dict(done["report"])


def test_the_package_is_the_one_that_a_space_gets(repo_root: Path) -> None:
    manifest = read_manifest(repo_root / "spaces.yaml")
    assert manifest.targets["zero-gpu"].packages["spaces"] == version("spaces")


def test_a_report_is_written_in_the_lent_process_and_is_the_usual_one(
    visitor: Client, devices: Devices
) -> None:
    report = write(visitor)
    volume = read_volume(SAMPLE.path)
    last = list(Engine(ModelStore(Settings())).stream(volume, VARIANT, GenerationOptions()))[-1]
    assert isinstance(last, DoneEvent)
    assert report["text"] == last.report.text
    assert devices.of("/startup-report")
    assert devices.of("/allow")[-1]["pid"]
    assert devices.of("/release")[-1]["fail"] == "false"


def test_more_seconds_are_asked_for_where_the_report_may_be_longer(
    visitor: Client, devices: Devices
) -> None:
    for tokens in (8, 320):
        write(visitor, max_new_tokens=tokens)
    short, long = (int(asked["durationSeconds"]) for asked in devices.of("/schedule")[-2:])
    assert 0 < short < long


def test_who_stops_a_report_keeps_what_was_written_and_gives_the_gpu_back(
    visitor: Client, devices: Devices
) -> None:
    given_back = len(devices.of("/release"))
    job = visitor.submit("phantom-l/v3", {"strategy": "beam", "beams": 8}, api_name="/write_report")
    for seen, _ in enumerate(job):
        if seen == 3:
            visitor.predict(api_name="/stop_report")
    assert job.result()["report"]["finish_reason"] == "cancelled"
    write(visitor, max_new_tokens=8)
    assert len(devices.of("/release")) == given_back + 2


def test_without_a_gpu_the_person_reads_why(visitor: Client, devices: Devices) -> None:
    devices.empty = True
    try:
        with pytest.raises(AppError, match="No GPU could be had for this report"):
            write(visitor)
    finally:
        devices.empty = False


def test_a_process_that_dies_costs_one_report(visitor: Client, devices: Devices) -> None:
    write(visitor, max_new_tokens=8)
    job = visitor.submit(VARIANT, {"strategy": "beam", "beams": 8}, api_name="/write_report")
    next(iter(job))
    os.kill(int(devices.of("/allow")[-1]["pid"]), signal.SIGKILL)
    with pytest.raises(AppError, match="No GPU could be had for this report"):
        job.result(timeout=PATIENCE_S)
    assert write(visitor)["finish_reason"] == "end"
