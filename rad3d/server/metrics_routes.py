"""The operator's routes: ``/healthz`` and Prometheus metrics. Figures, never content.

Nothing here can hold a file name, a header or a report: it is told numbers, codes and the ids of
models.
"""

from __future__ import annotations

import hmac
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from rad3d import __version__
from rad3d.core.settings import Settings
from rad3d.server.log import tell
from rad3d.service.memory import in_use

if TYPE_CHECKING:
    from rad3d.server.queue import ReportQueue
    from rad3d.service.service import Service

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
"""Upper bounds of the histograms' buckets."""

MIN_FREE_BYTES = 200 * 2**20
"""With less room for uploads than this, the server is not fit to take visitors."""

_OWN = "rad3d"
_UNSTORED = {"Cache-Control": "no-store"}


class Operations:
    """Counts the events of a service and serves them as ``/healthz`` and ``/metrics``.

    Args:
        settings: the token of the metrics.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._service: Service | None = None
        self._uploads = settings.work_dir
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._scans = self._counter("scans_opened", "Scans read")
        self._refusals = self._counter("scan_refusals", "Files refused", "code")
        self._reading = self._histogram("scan_read_seconds", "Reading one scan")
        self._reports = self._counter("reports", "Reports that ended", "variant", "finish")
        self._failures = self._counter("report_failures", "Reports not written", "code")
        self._waits = self._histogram("wait_seconds", "Waiting for a turn at the models")
        self._stages = self._histogram("report_stage_seconds", "Stages of a report", "stage")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{_OWN}_{name}", f"{text}.", labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(
            f"{_OWN}_{name}", f"{text}, in seconds.", labels, buckets=SECONDS,
            registry=self.registry,
        )  # fmt: skip

    def attach(self, service: Service, turns: ReportQueue, uploads: Path) -> None:
        """Report on a service, its queue and its folder of uploads from now on."""
        self._service, self._uploads = service, uploads
        self.registry.register(Live(service, turns))

    def on_event(self, name: str, **fields: Any) -> None:
        """Count an event, and log it unless it is routine; see :class:`OnEvent`."""
        match name:
            case "scan_opened":
                self._scans.inc()
                self._reading.observe(fields["seconds"])
            case "scan_refused":
                self._refusals.labels(fields["code"] or "other").inc()
            case "report_written":
                self._reports.labels(fields["variant"], fields["finish"]).inc()
                for stage, seconds in fields.items():
                    if stage.endswith("_s"):
                        self._stages.labels(stage.removesuffix("_s")).observe(seconds)
            case "report_failed":
                self._failures.labels(fields["code"] or "other").inc()
            case "turn_came":
                self._waits.observe(fields["seconds"])
                return
        tell(name.replace("_", " "), **fields)

    # -- routes ----------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        """Return ``/healthz`` for the platform and ``/metrics`` for clients with the token."""
        return [Route("/healthz", self._health), Route("/metrics", self._metrics)]

    def problems(self) -> list[str]:
        """Return the codes of what keeps the server from taking visitors."""
        problems = []
        if self._service is None or self._service.running.stopping:
            problems.append("stopping")
        else:
            problems += sorted({error.code for error in self._service.troubles})
            if not any(status.ready for status in self._service.variants()):
                problems.append("no_model")
        if not os.access(self._uploads, os.W_OK):
            problems.append("uploads_unwritable")
        elif shutil.disk_usage(self._uploads).free < MIN_FREE_BYTES:
            problems.append("disk_full")
        return problems

    def _health(self, _request: Request) -> Response:
        problems = self.problems()
        body = {"status": "unfit" if problems else "ok", "problems": problems}
        return JSONResponse(body, 503 if problems else 200, _UNSTORED)

    def _metrics(self, request: Request) -> Response:
        token = self._settings.metrics_token
        header = request.headers.get("Authorization", "")
        if not token:
            return PlainTextResponse("Set RAD3D_METRICS_TOKEN to have metrics.", 404)
        if not hmac.compare_digest(header.encode(), f"Bearer {token}".encode()):
            return PlainTextResponse(
                "This needs the token.", 401, {"WWW-Authenticate": "Bearer", **_UNSTORED}
            )
        body = generate_latest(self.registry)
        return Response(body, media_type=CONTENT_TYPE_LATEST, headers=_UNSTORED)


class Live(Collector):
    """Gauges that are read at each request.

    Args:
        service: tells what is held and running.
        turns: tells how many wait.
    """

    def __init__(self, service: Service, turns: ReportQueue) -> None:
        self._service, self._turns = service, turns

    def describe(self) -> Iterator[Metric]:
        """Yield the names, without asking the service."""
        yield from (GaugeMetricFamily(f"{_OWN}_{name}", "") for name in ("queue_waiting",))

    def collect(self) -> Iterator[Metric]:
        """Yield the values."""
        usage = self._service.usage
        values = {
            "queue_waiting": ("Reports that wait for their turn", self._turns.waiting),
            "queue_limit": ("Reports that may wait", self._turns.most_waiting),
            "reports_running": ("Reports being written", usage.running),
            "sessions": ("Open sessions", usage.sessions),
            "scan_bytes": ("Memory of open scans", usage.scan_bytes),
            "sample_bytes": ("Memory of the samples that were opened", usage.sample_bytes),
            "computed_bytes": ("Memory of what was computed from scans", usage.computed_bytes),
            "models_loaded": ("Encoders, language models and variants held", usage.models),
            "model_bytes": ("Memory of loaded models", usage.model_bytes),
            "malloc_bytes": ("Memory that the C library has handed out", in_use() or 0),
            "python_blocks": ("Blocks of Python's allocator in use", sys.getallocatedblocks()),
            "stopping": ("1 while the server takes no new reports", self._service.running.stopping),
        }
        for name, (text, value) in values.items():
            yield GaugeMetricFamily(f"{_OWN}_{name}", f"{text}.", float(value))
        info = GaugeMetricFamily(f"{_OWN}_build_info", "Version of the code.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
