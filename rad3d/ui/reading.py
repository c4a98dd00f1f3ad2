"""The page of a reader study, and the routes behind it.

The page is the same for everybody. What opens a study is the secret in the link's fragment
(``/read#<secret>``), which browsers send to no server and write into no referrer. The page's script
sends it as a header with every request, after the reader has begun together with the reader's code
(``<secret>.<code>``). No cookie is set and nothing is kept in the browser.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from rad3d.core.encoders import disclaimer
from rad3d.core.errors import BadRequest, Rad3dError
from rad3d.core.types import Volume
from rad3d.data.samples import Sample
from rad3d.readers.store import RatingStore
from rad3d.readers.types import (
    MAX_COMMENT,
    PREFERENCES,
    QUESTIONS,
    Answer,
    Case,
    Screen,
    Study,
)
from rad3d.reports.sections import split_report
from rad3d.server.rate import RateLimit
from rad3d.service.gallery import case_volume
from rad3d.ui.html import page_templates
from rad3d.ui.report.windows import WINDOWS
from rad3d.ui.routes import KEY_HEADER, scan_routes

if TYPE_CHECKING:
    from rad3d.service.service import Service

WRONG_KEYS = 30
"""Attempts with a wrong link or code that a client has in a minute."""

SAVES = 60
"""Answers that a reader can give in a minute."""

AT_ONCE = 2
"""Scans that are read or rendered at the same time."""

_STATUS = {"no_study": 404, "no_reader": 404, "conflict": 409, "too_many": 429, "cannot_keep": 503}
_HEADERS = {"Cache-Control": "no-store"}


class Reading:
    """What readers may ask of this server.

    Args:
        service: reads the scans.
        store: studies and ratings.
        trouble: why ratings would be lost, so that none are taken; empty where they are kept.
    """

    def __init__(self, service: Service, store: RatingStore, trouble: str = "") -> None:
        self._service, self._store, self._trouble = service, store, trouble
        self._wrong, self._saves = RateLimit(WRONG_KEYS), RateLimit(SAVES)
        self._places = threading.BoundedSemaphore(AT_ONCE)

    def routes(self) -> list[Route]:
        """Return the routes, to be served in front of Gradio's own."""
        return [
            Route("/read", _page),
            Route("/read/study", self._answering(self._study)),
            Route("/read/join", self._answering(self._join), methods=["POST"]),
            Route("/read/screen/{position:int}", self._answering(self._save), methods=["POST"]),
            Route("/read/screen/{position}", self._answering(self._screen)),
            *scan_routes("/read/{position:int}", self._scan),
        ]

    def _answering(self, answer: Callable[[Request, Any], Any]) -> Callable[[Request], Any]:
        """Return a handler that answers in JSON, also where something is wrong."""

        async def respond(request: Request) -> Response:
            try:
                sent = json.loads(await request.body()) if request.method == "POST" else None
                return JSONResponse(await run_sync(answer, request, sent), headers=_HEADERS)
            except (ValueError, RecursionError):
                return _problem(BadRequest("The answers cannot be read.", code="bad_answer"))
            except Rad3dError as error:
                return _problem(error)

        return respond

    # Who asks

    def _opened(self, request: Request) -> tuple[Study, str]:
        """Return the study that a request's key opens, and the code that goes with it."""
        if self._trouble:
            raise BadRequest(self._trouble, code="cannot_keep")
        client = request.client.host if request.client else ""
        secret, _, code = request.headers.get(KEY_HEADER, "").partition(".")
        try:
            study = self._store.by_link(secret)
            if code:
                self._store.reader(study, code)
        except BadRequest as error:
            if error.code in ("no_study", "no_reader") and not self._wrong.spend(client):
                raise _too_many() from error
            raise
        return study, code

    def _reader(self, request: Request) -> tuple[Study, int]:
        study, code = self._opened(request)
        return study, self._store.reader(study, code)

    # What they get

    def _study(self, request: Request, _sent: None) -> dict[str, Any]:
        study, _ = self._opened(request)
        return {
            "title": study.title,
            "simulated": study.simulated,
            "cases": study.cases,
            "per_case": study.per_case,
            "total": study.total,
        }

    def _join(self, request: Request, _sent: Any) -> dict[str, Any]:
        study, _ = self._opened(request)
        return {"code": self._store.join(study)}

    def _screen(self, request: Request, _sent: None) -> dict[str, Any]:
        study, reader = self._reader(request)
        screens = self._store.screens(study, reader)
        asked = request.path_params["position"]
        first = next((s.position for s in screens if s.answer is None), None)
        position = first if asked == "next" else int(asked) if asked.isdecimal() else -1
        if position is None:
            return {"finished": True, "total": len(screens)}
        return self._described(study, screens, _at(screens, position))

    def _described(
        self, study: Study, screens: tuple[Screen, ...], screen: Screen
    ) -> dict[str, Any]:
        """Return what a reader sees of a report: neither the system nor the case's id."""
        case = self._store.case(study, screen.case)
        before = screens[screen.position - 1] if screen.slot else None
        return {
            "position": screen.position,
            "total": len(screens),
            "done": sum(each.answer is not None for each in screens),
            "case": 1 + screen.position // study.per_case,
            "cases": study.cases,
            "report": _text(study, case, screen),
            "before": _text(study, case, before) if before else None,
            "reference": "" if case.scan else case.reference,
            "answer": asdict(screen.answer) if screen.answer else None,
            "changes": screen.changes,
        }

    def _save(self, request: Request, sent: Any) -> dict[str, Any]:
        study, reader = self._reader(request)
        if not self._saves.spend((study.id, reader)):
            raise _too_many()
        changes = sent.get("changes") if isinstance(sent, dict) else None
        if type(changes) is not int:
            raise BadRequest("The answers cannot be read.", "Reload the page.", code="bad_answer")
        answer, position = Answer.from_plain(sent), request.path_params["position"]
        screen = self._store.save(study, reader, position, answer, changes)
        return {"changes": screen.changes}

    def _scan(self, request: Request) -> Volume:
        study, reader = self._reader(request)
        screens = self._store.screens(study, reader)
        case = self._store.case(study, _at(screens, request.path_params["position"]).case)
        sample = Sample(case.id, case.reference, scan=case.scan)

        def read() -> Volume:
            with self._places:
                return case_volume(sample, self._service.read)

        key = ("case", case.scan)
        return self._service.engine.cache.get(key, read, lambda volume: volume.hu.nbytes)


def _at(screens: tuple[Screen, ...], position: int) -> Screen:
    if not 0 <= position < len(screens):
        raise BadRequest("There is no such report in this study.", code="bad_answer")
    return screens[position]


def _text(study: Study, case: Case, screen: Screen) -> dict[str, Any]:
    """Return a report under the letter that it has for this reader."""
    text = split_report(case.texts[study.systems[screen.system]])
    parts = (("Findings", text.findings), ("Impression", text.impression))
    return {
        "name": f"Report {'ABCD'[screen.slot]}",
        "parts": [part for part in parts if part[1]],
    }


def _too_many() -> BadRequest:
    return BadRequest("Too many attempts.", "Wait a minute, then try again.", code="too_many")


def _problem(error: Rad3dError) -> JSONResponse:
    body = {"problem": str(error), "code": error.code}
    return JSONResponse(body, _STATUS.get(error.code, 400), headers=_HEADERS)


def _page(_request: Request) -> Response:
    page = (
        page_templates()
        .get_template("reading.jinja")
        .render(
            questions=QUESTIONS,
            preferences=PREFERENCES,
            max_comment=MAX_COMMENT,
            disclaimer=disclaimer(phantoms_only=True),
            windows=[asdict(window) for window in WINDOWS],
        )
    )
    return HTMLResponse(page, headers=_HEADERS)
