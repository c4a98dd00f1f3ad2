"""A reverse proxy as an operator puts one in front: the app below a path, nothing buffered."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator

import anyio
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

_OF_ONE_HOP = {"connection", "keep-alive", "transfer-encoding", "host"}
_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]


@contextlib.contextmanager
def proxied(target: str, path: str) -> Iterator[str]:
    """The address below which ``target`` is reached, with the headers that SECURITY.md names.

    The path is cut off on the way, as nginx does it. What lies outside it is somebody else's and
    answered with 404.
    """
    with socket.create_server(("127.0.0.1", 0)) as line:
        host = f"127.0.0.1:{line.getsockname()[1]}"
        server = uvicorn.Server(
            uvicorn.Config(_app(target, path, host), log_level="error", lifespan="off")
        )
        thread = threading.Thread(target=server.run, args=([line],), daemon=True)
        thread.start()
        try:
            yield f"http://{host}{path}/"
        finally:
            server.should_exit = server.force_exit = True
            thread.join(120)


def _app(target: str, path: str, host: str) -> Starlette:
    client = httpx.AsyncClient(timeout=None, follow_redirects=False)

    async def pass_on(request: Request) -> Response:
        asked = request.url.path
        if not asked.startswith(f"{path}/"):
            return PlainTextResponse("another application", status_code=404)
        headers = {k: v for k, v in request.headers.items() if k not in _OF_ONE_HOP}
        headers |= {"host": host, "x-forwarded-host": host, "x-forwarded-proto": "http"}
        url = f"{target}{asked.removeprefix(path)}?{request.url.query}".rstrip("?")
        body = None if request.method in ("GET", "HEAD") else request.stream()
        outgoing = client.build_request(request.method, url, headers=headers, content=body)
        answer = await client.send(outgoing, stream=True)
        kept = {k: v for k, v in answer.headers.items() if k not in _OF_ONE_HOP}
        return StreamingResponse(_pieces(answer), answer.status_code, kept)

    return Starlette(routes=[Route("/{rest:path}", pass_on, methods=_METHODS)])


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it comes; a visitor who leaves is seen to leave by the app."""
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        with anyio.CancelScope(shield=True):
            await answer.aclose()
