"""The curator's page of the reader studies: make one, get its link, see its results.

It is for the owner alone, who has opened the link that the app printed at the start. Everything on
it can also be done with ``rad3d readers``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from rad3d.core.errors import BadRequest, Rad3dError
from rad3d.evaluation.access import OPERATOR
from rad3d.readers import report
from rad3d.readers.make import design_of_run
from rad3d.readers.statistics import Results, results_of
from rad3d.readers.store import RatingStore
from rad3d.readers.types import MAX_CASES, MAX_SYSTEMS, Rating
from rad3d.server.owner import is_owner
from rad3d.ui.html import page_templates

if TYPE_CHECKING:
    from rad3d.evaluation.evaluations import Evaluations
    from rad3d.evaluation.run_types import EvaluationRun
    from rad3d.service.service import Service

Form = Mapping[str, list[str]]

_HEADERS = {"Cache-Control": "no-store"}
_NOT_OWNER = BadRequest(
    "Only the owner can make reader studies here.",
    "Open the link that the app printed at the start, or use rad3d readers on the machine itself.",
    code="not_owner",
)


class Studies:
    """What the owner may ask of this server about reader studies.

    Args:
        service: knows who the owner is.
        evaluations: has the runs whose reports are read.
        store: studies and ratings.
    """

    def __init__(self, service: Service, evaluations: Evaluations, store: RatingStore) -> None:
        self._service, self._evaluations, self._store = service, evaluations, store

    def routes(self) -> list[Route]:
        """Return the routes, to be served in front of Gradio's own."""
        return [
            Route("/studies", self._owned(self._list)),
            Route("/studies", self._owned(self._make), methods=["POST"]),
            Route("/studies/{study}/link", self._owned(self._link), methods=["POST"]),
            Route("/studies/{study}/results", self._owned(self._results)),
            Route("/studies/{study}/ratings.csv", self._owned(self._csv)),
        ]

    def _owned(self, answer: Callable[[Request, Form], Response]) -> Callable[[Request], Any]:
        """Return a handler for the owner alone; what goes wrong is told on the page."""

        async def respond(request: Request) -> Response:
            if not is_owner(self._service.owner_secret, request.cookies):
                return _page(request, problem=str(_NOT_OWNER), status=403)
            try:
                body = await request.body()
                form = parse_qs(body.decode("utf-8", "replace"), max_num_fields=1000)
                return await run_sync(answer, request, form)
            except (Rad3dError, ValueError) as error:
                told = str(error) if isinstance(error, Rad3dError) else "The form cannot be read."
                return await run_sync(self._listed, request, {"problem": told})

        return respond

    def _list(self, request: Request, _form: Form) -> Response:
        return self._listed(request, {})

    def _listed(self, request: Request, told: Mapping[str, str]) -> Response:
        """Return the page with all studies, and the form for a new one on the chosen run."""
        runs = self._evaluations.kept.runs(OPERATOR)
        asked = request.query_params.get("run", "")
        chosen = next((run.id for run in runs if run.id == asked), runs[0].id if runs else "")
        run = self._evaluations.kept.load(chosen, OPERATOR) if chosen else None
        return _page(
            request,
            status=400 if told.get("problem") else 200,
            studies=self._store.studies(),
            runs=runs,
            run=run,
            systems=_systems(run) if run else [],
            most=(MAX_SYSTEMS, MAX_CASES),
            **told,
        )

    def _make(self, request: Request, form: Form) -> Response:
        def value(name: str, default: str = "") -> str:
            return form.get(name, [default])[0]

        def number(name: str, default: str) -> int:
            try:
                return int(value(name, default))
            except ValueError:
                raise BadRequest(f"{name} is no whole number.", code="bad_option") from None

        run = self._evaluations.kept.load(value("run"), OPERATOR)
        design = design_of_run(
            run, form.get("systems", []), value("set"), cases=number("cases", "20"),
            per_case=number("per_case", "2"), seed=number("seed", "0"), title=value("title"),
        )  # fmt: skip
        study, secret = self._store.create(design)
        return self._listed(request, {"link": _link(request, secret), "made": study.title})

    def _link(self, request: Request, _form: Form) -> Response:
        study = self._store.study(request.path_params["study"])
        secret = self._store.new_link(study.id)
        return self._listed(request, {"link": _link(request, secret), "made": study.title})

    def _found(self, request: Request) -> tuple[Results, tuple[Rating, ...]]:
        study = self._store.study(request.path_params["study"])
        ratings = self._store.ratings(study)
        return results_of(study, ratings), ratings

    def _results(self, request: Request, _form: Form) -> Response:
        return HTMLResponse(report.page(self._found(request)[0]), headers=_HEADERS)

    def _csv(self, request: Request, _form: Form) -> Response:
        results, ratings = self._found(request)
        name = f"ratings-{results.study.id}.csv"
        headers = {**_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
        return Response(
            report.ratings_csv(results, ratings), media_type="text/csv", headers=headers
        )


def _systems(run: EvaluationRun) -> list[str]:
    """Return the names of a run's systems, ablations after all others."""
    names = dict.fromkeys(system for system, _ in run.predictions)
    return sorted(names, key=lambda name: "+" in name)


def _link(request: Request, secret: str) -> str:
    """Return the link for readers, at the address at which this browser reaches the app."""
    return f"{str(request.base_url).rstrip('/')}/read#{secret}"


def _page(request: Request, *, status: int = 200, **values: object) -> Response:
    root = "../../" if "study" in request.path_params else "./"
    blank = {"root": root, "problem": "", "link": "", "made": "", "studies": (), "run": None}
    page = page_templates().get_template("studies.jinja").render(**{**blank, **values})
    return HTMLResponse(page, status, headers=_HEADERS)
