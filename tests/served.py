"""Parts of tests on the server: a watched service on tiny models, and a whole server process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.testclient import TestClient
from tiny_models import CountingEncoder, FakeEncoderStore

from rad3d.core.settings import Settings
from rad3d.core.types import GenerationOptions
from rad3d.server.metrics_routes import Operations
from rad3d.server.queue import ReportQueue
from rad3d.service.service import Service
from rad3d.service.zerogpu import GpuLease

ROOT = Path(__file__).resolve().parent.parent
SHORT = GenerationOptions(max_new_tokens=8)


def watched(
    models: Path, lender: GpuLease | None = None, **given: Any
) -> tuple[Service, Operations]:
    """A real service on tiny models, and who watches it."""
    settings = replace(Settings(), models_dir=models, metrics_token="secret", **given)
    operations = Operations(settings)
    store = FakeEncoderStore(settings, CountingEncoder())
    service = Service(settings, store, on_event=operations.on_event, lender=lender)
    operations.attach(service, ReportQueue(2, 32), models)
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


SERVER = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from functools import partial
from pathlib import Path
from browser.fake_evaluations import FakeEvaluations
from browser.fakes import FakeService, sample_card
import rad3d.evaluation.evaluations as evaluation_module
import rad3d.service.service as service_module
from rad3d.core.settings import Settings
from rad3d.ui import launch as serving

class Watched(FakeService):
    def __init__(self, settings, on_event, lender):
        super().__init__((sample_card("one", "Sample one", "A chest", Path({chest!r})),), {pause})
    def warm_up(self):
        pass
    probe = warm_up

service_module.Service = Watched
evaluation_module.Evaluations = lambda s, settings, visitors_dir: FakeEvaluations(s, empty=True)
serving.serve(Settings.from_env())
"""


def environment(**given: str) -> dict[str, str]:
    """For an app in a process of its own, whose Gradio must not write into this one's uploads."""
    return {k: v for k, v in os.environ.items() if k != "GRADIO_TEMP_DIR"} | given


@contextmanager
def server(chest: Path, work: Path, pause: float, **env: str) -> Iterator[tuple[Any, str]]:
    """A whole server process on a stand-in for the models."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    code = SERVER.format(tests=str(ROOT / "tests"), root=str(ROOT), chest=str(chest), pause=pause)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(RAD3D_PORT=str(port), RAD3D_WORK_DIR=str(work), **env),
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
