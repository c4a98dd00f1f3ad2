"""What a stranger may ask of this server, and what Gradio forgets when a tab is closed.

Gradio brings routes that the page does not use: some hand out files by path, store a session's
state on disk, or fetch addresses that a client names. Only what the page and ``gradio_client`` need
is let through (:data:`ALLOWED`), nothing that a page of another site has a browser send, and no
request may name a file that is not a fresh upload.

Gradio also keeps the values of a tab's components, report texts among them, long after it was
closed. :class:`Guard` drops them with the tab's heartbeat, and sweeps away what has no heartbeat.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rad3d.server import connections, limits, login, owner, uploads
from rad3d.server.connections import Connections, most_connections
from rad3d.server.security_headers import is_cross_site, with_security_headers

if TYPE_CHECKING:
    from rad3d.service.service import Service

ALLOWED: dict[str, tuple[str, ...]] = {
    "GET": (
        r"/|/(config|favicon\.ico|robots\.txt|theme\.css|manifest\.json|logout)/?",
        r"/(static|assets|svelte)/.+",
        r"/(healthz|metrics)",
        r"/rad3d/.+",
        r"/read(/(study|screen/(next|\d{1,5})|\d{1,5}/rad3d/\w+))?",
        r"/studies(/\w+/(results|ratings\.csv))?",
        r"/gradio_api/(user|login_check|app_id|info|openapi\.json|startup-events|theme\.css)/?",
        r"/gradio_api/(queue/(data|status)|heartbeat/[^/]+|upload_progress)",
        r"/gradio_api/call/(v2/)?[^/]+/[^/]+",
    ),
    "POST": (
        r"/login/?",
        r"/read/(join|screen/\d{1,5})",
        r"/studies(/\w+/link)?",
        r"/gradio_api/(upload|queue/join|cancel|reset)/?",
        r"/gradio_api/(run|api|call|call/v2)/[^/]+/?",
    ),
}
"""Paths that are let through, by method; HEAD counts as GET."""

_ALLOWED = {method: re.compile("|".join(paths)) for method, paths in ALLOWED.items()}
_CALLS = re.compile(r"/gradio_api/(queue/join|(run|api|call|call/v2)/[^/]+)/?")
_UPLOAD = re.compile(r"/gradio_api/upload/?")
_HEARTBEAT = re.compile(r"/gradio_api/heartbeat/([^/]+)")

SWEEP_SECONDS = 15.0
SECONDS_TO_SETTLE = 30.0
"""A run that was stopped has ended after so long, and with it what Gradio still writes down."""


class Guard:
    """ASGI middleware that lets through only what :data:`ALLOWED` names.

    Args:
        app: the rest of it.
        service: has the sessions, of which idle ones are ended.
        idle_seconds: after which Gradio forgets a session that has no open tab.
        has_login: a stranger gets to the page that asks for the login and no further.
    """

    def __init__(
        self, app: ASGIApp, service: Service, idle_seconds: float, has_login: bool = False
    ) -> None:
        self._app = app
        self._service = service
        self._has_login = has_login
        self._idle = datetime.timedelta(seconds=idle_seconds)
        self._open_tabs: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, look into a call, or pass on."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks over websockets
            return
        path, method = path_below_root(scope), scope["method"].replace("HEAD", "GET")
        send = with_security_headers(scope, path, send)
        if not (method in _ALLOWED and _ALLOWED[method].fullmatch(path)):
            answer = PlainTextResponse("There is nothing here.", status_code=404)
            await answer(scope, receive, send)
        elif is_cross_site(scope):
            await _refuse("Another site's page may not do this.", 403, scope, receive, send)
        elif self._has_login and not (login.OPEN.fullmatch(path) or login.is_logged_in(scope)):
            await _refuse("Log in first.", 401, scope, receive, send)
        elif method == "GET" and path == "/" and owner.is_link(self._service.owner_secret, scope):
            await owner.welcome(self._service.owner_secret, scope, receive, send)
        elif method == "POST" and not _UPLOAD.fullmatch(path):
            await self._post(bool(_CALLS.fullmatch(path)), scope, receive, send)
        elif match := _HEARTBEAT.fullmatch(path):
            await self._heartbeat(match[1], scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _post(self, is_call: bool, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await asyncio.wait_for(_body(receive), limits.BODY_SECONDS)
        except TimeoutError:
            await _refuse("The request did not arrive in time.", 408, scope, receive, send)
            return
        if body is None:
            await _refuse("The request is too large.", 413, scope, receive, send)
            return
        problem = file_problem(body) if is_call else ""
        if problem:
            await _refuse(problem, 400, scope, receive, send)
            return
        sent = False

        async def again() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)

    async def _heartbeat(self, tab: str, scope: Scope, receive: Receive, send: Send) -> None:
        self._open_tabs[tab] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open_tabs[tab] -= 1
            if self._open_tabs[tab] <= 0:
                del self._open_tabs[tab]
                self._later(self._forget(scope["app"], tab))

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forget(self, app: Any, tab: str) -> None:
        """Forget a tab at once, and again when its last run has ended: it may write until then."""
        forget_tab(app, tab, running=True)
        queue = app.get_blocks()._queue
        for _ in range(int(SECONDS_TO_SETTLE / 0.2)):
            await asyncio.sleep(0.2)
            running = list(queue.event_ids_to_events.values())
            if tab in self._open_tabs or not any(e.session_hash == tab for e in running):
                break
        if tab not in self._open_tabs:
            forget_tab(app, tab)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._later(self._sweep(scope["app"]))
        self._later(self._watch_connections(scope["app"]))
        try:
            await self._app(scope, receive, send)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _sweep(self, app: Any) -> None:
        """Delete what was left behind, every few seconds, also while nobody asks for anything."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await asyncio.to_thread(uploads.sweep)
            await asyncio.to_thread(self._service.sweep)
            self.forget_idle(app)

    async def _watch_connections(self, app: Any) -> None:
        """Close idle connections, and refuse requests where there are too many connections."""
        most = most_connections()
        watched = Connections(most, time.monotonic)
        while True:
            await asyncio.sleep(connections.SWEEP_SECONDS)
            server = getattr(app.get_blocks(), "server", None)
            if server is not None:
                server.config.limit_concurrency = most
                watched.sweep(server.server_state.connections)

    def forget_idle(self, app: Any) -> None:
        """Drop what Gradio holds of idle sessions; an open tab loses its values only."""
        now = datetime.datetime.now()
        for tab, used in list(app.state_holder.time_last_used.items()):
            if abs(now - used) > self._idle:  # a clock that jumped back counts as well
                if tab in self._open_tabs:
                    _blank(app.state_holder.session_data.get(tab))
                else:
                    forget_tab(app, tab)


def forget_tab(app: Any, tab: str, running: bool = False) -> None:
    """Drop everything that Gradio holds of a session: values, undelivered messages, runs.

    Args:
        app: Gradio's.
        tab: the session's hash.
        running: its events may not have ended: they need a queue for their messages, if only to
            find out that nobody listens.
    """
    app.state_holder.session_data.pop(tab, None)
    app.state_holder.time_last_used.pop(tab, None)
    queue = app.get_blocks()._queue
    messages = queue.pending_messages_per_session.get(tab)
    while messages is not None and not messages.empty():
        messages.get_nowait()
    if not running:
        queue.pending_messages_per_session.pop(tab, None)
        queue.pending_event_ids_session.pop(tab, None)


def _blank(state: Any) -> None:
    """Empty the values of a tab that stays open; its components keep their choices."""
    if state is None:
        return
    for config in state.config_values.values():
        if config and "value" in config.get("props", {}):
            config["props"]["value"] = None


def file_problem(body: bytes) -> str:
    """Return why a call may not read the files that it names; empty where it may.

    Gradio looks for files in every value of every call, and fetches those that are web addresses.
    """
    try:
        waiting: list[Any] = [json.loads(body)]
    except (ValueError, RecursionError):
        return "The request is not JSON."
    count = 0
    while waiting:
        value = waiting.pop()
        count += len(value) if isinstance(value, list | dict) else 0
        if count > limits.MAX_VALUES:
            return "The request has too many values."
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            if ("path" in value or "url" in value) and not _is_own_upload(value):
                return "A file must be uploaded here before it is named."
    return ""


def _is_own_upload(value: dict[str, Any]) -> bool:
    path, url = value.get("path"), value.get("url")
    shown = not url or (isinstance(url, str) and url.endswith(f"/gradio_api/file={path}"))
    return uploads.is_upload(path) and shown and isinstance(value.get("meta", {}), dict)


async def _refuse(problem: str, status: int, scope: Scope, receive: Receive, send: Send) -> None:
    answer = JSONResponse({"detail": problem, "error": problem}, status_code=status)
    await answer(scope, receive, send)


def path_below_root(scope: Scope) -> str:
    """Return the path below the prefix that a reverse proxy may have put in front."""
    path, root = str(scope["path"]), str(scope.get("root_path") or "").rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


async def _body(receive: Receive) -> bytes | None:
    """Return the whole body; None where it is too large."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        piece = message.get("body", b"")
        size += len(piece)
        if size > limits.MAX_BODY_BYTES:
            return None
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)
