"""Event handlers of the evaluation tab: choose a run, look at it, download it."""

from __future__ import annotations

import base64
import contextlib
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from rad3d.core.errors import BadRequest, Rad3dError
from rad3d.ui.evaluation import html as evaluation_html
from rad3d.ui.evaluation.case_handlers import (
    NO_CASE,
    CaseHandlers,
    Choice,
    Handler,
    write_of_run,
)
from rad3d.ui.evaluation.run_cache import RunCache
from rad3d.ui.evaluation.run_handlers import RunHandlers
from rad3d.ui.evaluation.views import (
    EMPTY,
    Look,
    beside,
    content_of,
    first_choice,
    run_choices,
    standing,
    unscored,
)
from rad3d.ui.messages import failures_to
from rad3d.ui.page_state import PageHandlers, Snapshot, Values
from rad3d.ui.report import html
from rad3d.ui.report.handlers import Handlers

if TYPE_CHECKING:
    from rad3d.evaluation.evaluations import Evaluations
    from rad3d.evaluation.leaderboard import StudyView
    from rad3d.evaluation.run_types import EvaluationRun
    from rad3d.service.service import Service

_UNFINISHED = ("cancelled", "interrupted", "failures")
_GONE = {
    "unknown_name": "It has been deleted. Choose another one above.",
    "no_run": "Its files are damaged or have been deleted. Choose another one above.",
    "bad_run": "Its files are damaged. Delete its folder and run it again, or choose another one.",
}
"""Why a run cannot be shown, by the code of the error."""


class EvaluationHandlers(PageHandlers):
    """The handlers, bound to the evaluations of one service.

    Besides the components, the page's state holds the ``run`` that it shows. The cases and the run
    panel have states of their own. Where two change, the one is a value of the other.
    """

    def __init__(self, evaluations: Evaluations, service: Service, report: Handlers) -> None:
        super().__init__(service, "evaluation")
        self._evaluations = evaluations
        self._serial = itertools.count(1)
        self._cache = RunCache(evaluations, service)
        self.cases = CaseHandlers(evaluations, self._cache, report, service)
        self.running = RunHandlers(evaluations, service, self._cache, self.show, self.again)

    def prepare(self, request: gr.Request) -> None:
        """Compute what the tab opens on, while the person still looks at the report tab."""
        with contextlib.suppress(Rad3dError):
            owner = self._cache.owner(request)
            self._content(first_choice(self._evaluations.kept.runs(owner)), owner)

    def open_tab(self, request: gr.Request) -> Snapshot:
        """Show the newest run that has results, when the tab is chosen for the first time."""
        page = self.page(request)
        if page.is_new:
            with failures_to(lambda text: page.write({**EMPTY, "notice": html.notice(text)})):
                self._open_first(request)
        return page.snapshot()

    def _open_first(self, request: gr.Request) -> None:
        """Show the run that the tab opens on, and a sentence on newer ones without results."""
        owner, page, notice = self._cache.owner(request), self.page(request), ""
        runs = self._evaluations.kept.runs(owner)
        chosen = first_choice(runs)
        try:
            self.show(chosen, request)
        except BadRequest as error:  # its files are damaged: the others are still there
            self.show(first_choice([run for run in runs if run.id != chosen]), request)
            notice = html.notice(str(error))
        text = beside(runs, chosen, self._evaluations.kept.unreadable(owner))
        notice += html.notice(text, "info")
        page.write(lambda now: {"notice": now.get("notice", "") + notice})

    def pick_run(self, run_id: str, request: gr.Request) -> Snapshot:
        """Show another run."""
        page = self.page(request)
        with self._told(request):
            self.show(run_id, request)
        return page.snapshot()

    @contextlib.contextmanager
    def _told(self, request: gr.Request, asked: float | None = None) -> Iterator[None]:
        """Tell of a failure; of a run that is gone or damaged nothing stays in view."""
        page, cases = self.page(request), self.cases.page(request)

        def tell(text: str) -> None:
            page.write({"notice": html.notice(text)}, asked=asked)

        with failures_to(tell):
            try:
                yield
            except Rad3dError as error:
                if error.code not in _GONE:
                    raise
                why = evaluation_html.unscored("This run cannot be shown", _GONE[error.code])
                cases.write(NO_CASE, asked=asked)
                gone = {**EMPTY, "headline": why, "notice": "", "cases": cases.snapshot()}
                page.write(gone, asked=asked)

    def show(self, run_id: str, request: gr.Request) -> None:
        """Show a run: both pickers, the notice, the content and the first case.

        Unless another one is asked for before they are ready.
        """
        page, cases = self.page(request), self.cases.page(request)
        asked = page.now()
        for each in (page, cases):
            each.write({"run": run_id}, asked=asked)
        values, case = self._content(run_id, self._cache.owner(request))
        write_of_run(cases, run_id, asked, lambda _: case)
        write_of_run(page, run_id, asked, lambda _: {**values, "cases": cases.snapshot()})

    def _content(self, run_id: str, owner: str) -> tuple[Values, Values]:
        """Return the values of a run, and those of its first case."""
        runs = self._evaluations.kept.runs(owner)
        choices = run_choices(runs)
        others = [("No other run", ""), *(each for each in choices if each[1] != run_id)]
        resumable = any(r.id == run_id and r.status in _UNFINISHED for r in runs)
        values: dict[str, Any] = {
            "picker": gr.update(choices=choices, value=run_id or None, visible=bool(choices)),
            "other": gr.update(choices=others, value="", visible=len(others) > 1),
            "notice": "",
            "resume_area": gr.update(visible=resumable),
        }
        if not run_id:
            return {**values, **EMPTY}, NO_CASE

        def first(run: EvaluationRun, view: StudyView) -> tuple[Values, Values]:
            if not view.sets:
                text = evaluation_html.unscored(run.title, unscored(run.status))
                return {**EMPTY, "headline": text}, NO_CASE
            look = Look().fitted(view)
            case = Choice(run_id, "", look.baseline, look.sample_set, "worst")
            notice = html.notice(standing(run.status), "info")
            shown = {**content_of(run, view, look), "notice": notice}
            return shown, self.cases.shown(case, owner)

        shown, case = self._cache.made(run_id, owner, first)
        return {**values, **shown}, case

    def look(self, *parts: str) -> Handler:
        """Return the handler of a control that changes these parts of the page, by default all."""

        def handle(request: gr.Request, run_id: str, other_id: str, *sent: Any) -> Snapshot:
            """Show the run anew; ``sent`` are the fields of a :class:`Look`."""
            page = self.page(request)
            asked = page.now()
            with self._told(request, asked):
                run, view = self._cache.view(run_id, other_id, self._cache.owner(request))
                made = content_of(run, view, Look(*sent).fitted(view), parts)

                def looked(now: Values) -> Values:
                    other = {**now.get("other", gr.update()), "value": other_id}
                    return {**made, "other": other, "notice": ""}

                write_of_run(page, run_id, asked, looked)
            return page.snapshot()

        return handle

    def download(
        self, run_id: str, event: gr.EventData, request: gr.Request
    ) -> tuple[dict[str, Any], Snapshot]:
        """Return a file of the run as a value; nothing is written to the disk."""
        page = self.page(request)
        file: dict[str, Any] = {"serial": next(self._serial), "data": ""}
        with failures_to(lambda text: page.write({"notice": html.notice(text)})):
            run = self._cache.run(run_id, self._cache.owner(request))
            made = self._evaluations.export(run, str(event.kind))
            data = base64.b64encode(made.data).decode("ascii")
            file |= {"name": made.name, "type": made.media_type, "data": data}
            page.write({"notice": ""})
        return file, page.snapshot()
