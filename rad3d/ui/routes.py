"""HTTP routes of the viewer: its scripts and stylesheet, a session's volume, and rendered slices.

A volume is handed out only to the browser that holds its session's key, which travels as a
request header, so that no URL (history, log, referrer) opens a scan.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import plotly
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from rad3d.core.errors import BadRequest, Rad3dError
from rad3d.core.types import Volume
from rad3d.evaluation import parts
from rad3d.server.uploads import upload_route
from rad3d.ui.report.page import report_page
from rad3d.ui.theme import STATIC
from rad3d.volume.packed import packed
from rad3d.volume.slices import encode_jpeg, render_slice

if TYPE_CHECKING:
    from rad3d.core.settings import Settings
    from rad3d.service.service import Service
    from rad3d.service.sessions import Session

Ask = Callable[[], Volume]
"""Returns the volume of a request; raises :class:`Rad3dError` where there is none."""

KEY_HEADER = "X-Rad3d-Key"
SCAN_HEADER = "X-Rad3d-Scan"
"""Header with the content hash of the scan that is meant; without it, whichever is open."""

_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}
_FILES = {
    path.name: path
    for folder in (STATIC, parts.STATIC)
    for path in folder.iterdir()
    if path.suffix in _MEDIA_TYPES
}
_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
_PRIVATE = {"Cache-Control": "no-store"}
_THUMBNAIL_WINDOW = (-300.0, 1600.0)


def viewer_routes(service: Service, settings: Settings) -> list[Route]:
    """Return the routes to be served in front of Gradio's own."""
    return [
        Route("/rad3d/static/plotly.js", _plotly),
        Route("/rad3d/static/{name}", _static),
        *scan_routes("", lambda request: _requested(service, request)),
        Route("/rad3d/where", _of_report(service, _where)),
        Route("/rad3d/page", _of_report(service, _page)),
        Route("/rad3d/thumbnail/{sample}", _thumbnail(service)),
        upload_route(settings.max_upload_mb * 2**20),
    ]


def _static(request: Request) -> Response:
    path = _FILES.get(request.path_params["name"])
    if path is None:
        return PlainTextResponse("There is no such file.", status_code=404)
    headers = {"Cache-Control": "no-cache"}  # revalidated, so that an update is never half loaded
    return FileResponse(path, media_type=_MEDIA_TYPES[path.suffix], headers=headers)


def _plotly(_request: Request) -> Response:
    """Answer with the plotly.js of the installed plotly, which changes with the package only."""
    path = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    return FileResponse(
        path, media_type="text/javascript", headers={"Cache-Control": "max-age=86400"}
    )


def scan_routes(prefix: str, find: Callable[[Request], Volume]) -> list[Route]:
    """Return the routes from which a viewer gets a volume, or slices of it.

    Args:
        prefix: path that they begin with.
        find: a request -> the volume it may have; raises :class:`Rad3dError` where there is none.
    """

    def guarded(answer: Callable[[Ask, Request], Response]) -> Callable[[Request], Response]:
        def respond(request: Request) -> Response:
            try:
                return answer(lambda: find(request), request)
            except Rad3dError as error:
                return PlainTextResponse(str(error), status_code=404, headers=_PRIVATE)

        return respond

    parts = {"volume": _volume, "geometry": _geometry, "slice": _slice}
    return [Route(f"{prefix}/rad3d/{name}", guarded(part)) for name, part in parts.items()]


def _requested(service: Service, request: Request) -> Volume:
    session, volume = _session(service, request)
    if request.query_params.get("view", "scan") == "model":
        return service.model_view(session, request.query_params.get("encoder", ""))
    return volume


def _session(service: Service, request: Request) -> tuple[Session, Volume]:
    """Return the session whose key a request has, and its open scan, which the request means."""
    session = service.sessions.find(request.headers.get(KEY_HEADER, ""))
    volume = session.volume if session else None
    if session is None or volume is None:
        raise BadRequest("There is no open scan.", "Open it again.", code="no_volume")
    if request.headers.get(SCAN_HEADER, volume.sha256) != volume.sha256:
        raise BadRequest("Another scan has been opened meanwhile.", code="other_scan")
    return session, volume


def _of_report(
    service: Service, answer: Callable[[Service, Session, Request], Response]
) -> Callable[[Request], Response]:
    """Return a handler that answers with something of the report on a session's scan."""

    def respond(request: Request) -> Response:
        try:
            session, _ = _session(service, request)
            return answer(service, session, request)
        except Rad3dError as error:
            return PlainTextResponse(str(error), status_code=404, headers=_PRIVATE)

    return respond


def _where(service: Service, session: Session, request: Request) -> Response:
    """Answer with the evidence for a label."""
    found = service.where(session, request.query_params.get("label", ""))
    return JSONResponse(found.to_dict(), headers=_PRIVATE)


def _page(service: Service, session: Session, _request: Request) -> Response:
    """Answer with the report as a page to print."""
    return Response(report_page(service, session), media_type="text/html", headers=_PRIVATE)


def _volume(ask: Ask, _request: Request) -> Response:
    headers = {**_PRIVATE, "Content-Encoding": "gzip"}
    return StreamingResponse(packed(ask), media_type="application/octet-stream", headers=headers)


def _geometry(ask: Ask, _request: Request) -> Response:
    volume = ask()
    return JSONResponse(
        {
            "dims": volume.shape,
            "spacing": volume.spacing_mm,
            "affine": volume.affine.tolist(),
        },
        headers=_PRIVATE,
    )


def _slice(ask: Ask, request: Request) -> Response:
    volume = ask()
    query = request.query_params
    try:
        index = int(query.get("index", "0"))
        level, width = float(query.get("level", "-600")), float(query.get("width", "1500"))
    except ValueError:
        raise BadRequest("A slice needs numbers for index, level and width.") from None
    plane = query.get("plane", "axial")
    axis = _AXES.get(plane)
    if axis is None or not 0 <= index < volume.shape[axis] or not width > 0:
        raise BadRequest(f"There is no {plane} slice {index} with a window of {width:g} HU.")
    pixels = render_slice(volume, plane, index, width, level)
    return Response(encode_jpeg(pixels), media_type="image/jpeg", headers=_PRIVATE)


def _thumbnail(service: Service) -> Callable[[Request], Response]:
    """Return the handler that answers with a small coronal picture of a sample, rendered once."""

    @cache
    def picture(sample: str) -> bytes:
        volume = service.gallery.volume(sample)
        level, width = _THUMBNAIL_WINDOW
        return encode_jpeg(render_slice(volume, "coronal", volume.shape[1] // 2, width, level))

    def respond(request: Request) -> Response:
        try:
            content = picture(request.path_params["sample"])
        except Rad3dError as error:
            return PlainTextResponse(str(error), status_code=404)
        headers = {"Cache-Control": "max-age=3600"}
        return Response(content, media_type="image/jpeg", headers=headers)

    return respond
