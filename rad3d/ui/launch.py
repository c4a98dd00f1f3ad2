"""Starts the app: private by default, nothing fetched from elsewhere, uploads bounded."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import gradio as gr
from starlette.middleware import Middleware

from rad3d.core.errors import BadRequest
from rad3d.core.lookup import resolve
from rad3d.core.settings import Settings
from rad3d.readers.store import RatingStore
from rad3d.server.access_control import Guard
from rad3d.server.log import configure_logging, tell, visitors_present
from rad3d.server.login import accounts, public_path
from rad3d.server.metrics_routes import Operations
from rad3d.server.owner import link
from rad3d.server.queue import ReportQueue
from rad3d.server.workdir import WorkDir
from rad3d.ui.page import MODEL_PLACES, build_ui
from rad3d.ui.reading import Reading
from rad3d.ui.routes import viewer_routes
from rad3d.ui.studies import Studies
from rad3d.ui.theme import favicon, page_head, theme

if TYPE_CHECKING:
    from rad3d.evaluation.evaluations import Evaluations
    from rad3d.service.service import Service
    from rad3d.service.zerogpu import GpuLease

SECONDS_TO_DELIVER = 1.0
"""Time for the last events of the reports to reach the pages before the server closes."""

MAX_TABS = 2000
"""Number of tabs whose state Gradio keeps; beyond it the oldest lose theirs."""


def launch_options(
    service: Service,
    settings: Settings,
    operations: Operations | None = None,
    ratings_trouble: str = "",
    evaluations: Evaluations | None = None,
) -> dict[str, Any]:
    """Return the keyword arguments for ``build_ui(service, settings).launch``.

    Args:
        service: scans and reports.
        settings: limits and places.
        operations: health and metrics, where they are served.
        ratings_trouble: why a reader study cannot keep ratings here; empty where it can.
        evaluations: have the reports from which the owner makes reader studies.
    """
    ratings = RatingStore(settings.ratings_path)
    login = accounts(settings.login)
    idle = 60.0 * settings.session_minutes
    guard = Middleware(Guard, service=service, idle_seconds=idle, has_login=bool(login))
    return {
        "auth": login,
        "root_path": public_path(settings.root_path),
        "server_name": settings.host,
        "server_port": settings.port,
        "max_file_size": settings.max_upload_mb * 2**20,
        "max_threads": 40 + settings.queue_size,  # Gradio runs no more events than that at once
        "state_session_capacity": MAX_TABS,
        "app_kwargs": {
            "routes": [
                *viewer_routes(service, settings),
                *Reading(service, ratings, ratings_trouble).routes(),
                *(Studies(service, evaluations, ratings).routes() if evaluations else []),
                *(operations.routes() if operations else []),
            ],
            "middleware": [guard],
        },
        "theme": theme(),
        "head": page_head(),
        "favicon_path": favicon(),
        "footer_links": [],
        "share": False,
        "ssr_mode": False,
        "run_history": False,  # would keep reports and file names in the browser's storage
        "enable_monitoring": False,
        "mcp_server": False,
        "pwa": False,
        "quiet": True,
        # Gradio would ask its own address, and refuse to start where that takes more than 3 s.
        "_frontend": False,
    }


def serve(settings: Settings) -> None:
    """Serve the app until SIGINT or SIGTERM, then let the running reports finish.

    Uploads and temporary files lie in a private folder below ``settings.work_dir``; those of
    servers that crashed are deleted first.
    """
    configure_logging(settings.log)
    _check_port(settings)
    work = WorkDir(settings.work_dir)
    os.environ["GRADIO_TEMP_DIR"] = str(work.uploads)  # Gradio takes the folder from there only
    tempfile.tempdir = str(work.temporary)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    lender = zero_gpu() if settings.zero_gpu else None  # before torch, as its package asks
    from rad3d.evaluation.evaluations import Evaluations
    from rad3d.readers.keeping import kept_ratings
    from rad3d.service.service import Service

    operations = Operations(settings)
    service = Service(settings, on_event=operations.on_event, lender=lender)
    turns = ReportQueue(MODEL_PLACES, settings.queue_size, operations.on_event)
    operations.attach(service, turns, work.uploads)
    service.probe()
    evaluations = Evaluations(service, settings, visitors_dir=work.runs)
    demo = build_ui(service, settings, evaluations, turns)
    if lender:
        service.warm_up()  # ZeroGPU takes over what stands on the GPU when the app is launched
    with stop_signal() as stop:
        try:
            with kept_ratings(settings, _ratings_not_copied) as trouble:
                options = launch_options(service, settings, operations, trouble, evaluations)
                _, url, _ = demo.launch(prevent_thread_lock=True, **options)
                print(f"RAD3D is ready at {link(url, service.owner_secret)}", flush=True)  # noqa: T201
                with visitors_present():
                    tell("started")
                    threading.Thread(target=service.warm_up, name="warm-up", daemon=True).start()
                    stop.wait()
                    shut_down(demo, service, settings.grace_seconds)
        finally:
            work.close()


def _ratings_not_copied() -> None:
    tell("ratings not copied to their dataset")


def _check_port(settings: Settings) -> None:
    """Raise BadRequest where the app could not listen; Gradio names variables of its own."""
    host = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, settings.port), family=family).close()
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else "that is no port"
        raise BadRequest(
            f"The app cannot listen on {settings.host}, port {settings.port}: {reason}.",
            "Set RAD3D_PORT to another port, such as 7861, or RAD3D_HOST to another address.",
            code="port_in_use",
        ) from None


def leave() -> NoReturn:
    """End the process of a server that was stopped.

    Everything is closed and deleted by then. Python would take torch's modules and all that the
    models hold down piece by piece, for seconds on a busy machine.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def zero_gpu() -> GpuLease:
    """Return ZeroGPU of Hugging Face Spaces, whose package exists there and nowhere else."""
    gpu = resolve("spaces:GPU")
    from rad3d.service.zerogpu import GpuLease

    return GpuLease(gpu, gr.Error)


@contextlib.contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set; a second signal ends the process at once."""
    stop = threading.Event()
    earlier: dict[int, Any] = {}

    def on_signal(_number: int, _frame: object) -> None:
        stop.set()
        for caught in earlier:
            signal.signal(caught, signal.SIG_DFL)

    if threading.current_thread() is threading.main_thread():  # Python sets them nowhere else
        for number in (signal.SIGINT, signal.SIGTERM):
            earlier[number] = signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for caught, handler in earlier.items():
            signal.signal(caught, handler)


def _hang_up(demo: gr.Blocks) -> None:
    """End the streams of open tabs, for which the server would wait."""
    for connection in list(demo.server.server_state.connections):
        connection.loop.call_soon_threadsafe(connection.transport.close)


def shut_down(demo: gr.Blocks, service: Service, grace_seconds: float) -> None:
    """Take no new reports, end the running ones within the grace, and close the server."""
    tell("stopping", running=len(service.running), grace_seconds=grace_seconds)
    cancelled = service.running.stop(grace_seconds)
    time.sleep(SECONDS_TO_DELIVER)
    _hang_up(demo)
    demo.close(verbose=False)
    tell("stopped", cancelled=cancelled)
