"""Event handlers of the evaluation tab: which run is looked at, and how."""

from __future__ import annotations

import base64
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from rad3d.core.errors import BadRequest
from rad3d.evaluation.figures.scaling import Against
from rad3d.ui.evaluation import figures
from rad3d.ui.evaluation import render as evaluation_render
from rad3d.ui.evaluation.case_handlers import NO_CASE, CaseHandlers, Choice
from rad3d.ui.evaluation.run_cache import Shelf
from rad3d.ui.evaluation.run_handlers import RunHandlers
from rad3d.ui.evaluation.run_progress import owner_asking
from rad3d.ui.evaluation.views import (
    EMPTY,
    NO_FIGURE,
    Content,
    Look,
    beside,
    content_of,
    first_choice,
    run_choices,
    standing,
    unscored,
)
from rad3d.ui.report import render
from rad3d.ui.report.handlers import Handlers, sentence
from rad3d.ui.sessions import Sessions

if TYPE_CHECKING:
    from rad3d.evaluation.service import Evaluations

_UNFINISHED = ("cancelled", "interrupted", "failures")


class EvaluationHandlers:
    """The handlers, bound to the evaluations of one service."""

    def __init__(self, evaluations: Evaluations, sessions: Sessions, report: Handlers) -> None:
        self._evaluations = evaluations
        self._sessions = sessions
        self._serial = itertools.count(1)
        self._shelf = Shelf(evaluations)
        self.cases = CaseHandlers(evaluations, self._shelf, report, self._owner, sessions)
        self.running = RunHandlers(evaluations, sessions, self._shelf, self._picked, _N_PICKED)

    def open_tab(self, opened: bool, request: gr.Request) -> tuple[Any, ...]:
        """The tab was chosen: the first time, show the newest run that has results."""
        if opened:
            return tuple(gr.skip() for _ in range(1 + _N_PICKED))
        owner = self._owner(request)
        try:
            return (True, *self._first(owner, request))
        except Exception as error:
            empty = (gr.skip(), gr.skip(), render.notice(sentence(error)), gr.skip())
            return (True, *empty, *EMPTY.outputs(), self.cases.again(request))

    def _first(self, owner: str, request: gr.Request) -> tuple[Any, ...]:
        """The run that the tab opens on, and a sentence on those that it does not."""
        runs = self._evaluations.kept.runs(owner)
        chosen = first_choice(runs)
        try:
            shown = list(self._picked(chosen, owner, request))
        except BadRequest as error:  # its files are damaged: the others are still there
            rest = first_choice([run for run in runs if run.id != chosen])
            shown = list(self._picked(rest, owner, request))
            shown[2] += render.notice(str(error))
        text = beside(runs, chosen, self._evaluations.kept.unreadable(owner))
        shown[2] += render.notice(text, "info")
        return tuple(shown)

    def pick_run(self, run_id: str, request: gr.Request) -> tuple[Any, ...]:
        """Another run was chosen."""
        try:
            return self._picked(run_id, self._owner(request), request)
        except Exception as error:
            return self._refused(sentence(error))

    def look(
        self,
        run_id: str,
        other_id: str,
        sample_set: str,
        metric: str,
        table: str,
        against: Against,
        baseline: str,
        request: gr.Request,
    ) -> tuple[Any, ...]:
        """Show the run as the controls ask for, and the other run's systems beside it."""
        owner = self._owner(request)
        try:
            run, view = self._shelf.view(run_id, other_id, owner)
            look = Look(sample_set, metric, table, against, baseline).fitted(view)
            content = content_of(run, view, look)
            return ("", *(content if self._shows(run_id, request) else Content()).outputs())
        except Exception as error:
            return (render.notice(sentence(error)), *Content().outputs())

    def choose_table(
        self, run_id: str, other_id: str, sample_set: str, table: str, request: gr.Request
    ) -> str | dict[str, Any]:
        """Another family of metrics."""
        _, view = self._shelf.view(run_id, other_id, self._owner(request))
        made = evaluation_render.leaderboard(view, sample_set, table)
        return made if self._shows(run_id, request) else gr.skip()

    def choose_against(
        self, run_id: str, other_id: str, metric: str, against: Against, request: gr.Request
    ) -> dict[str, Any]:
        """Another cost on the x axis."""
        _, view = self._shelf.view(run_id, other_id, self._owner(request))
        made = figures.study(view, metric, against) or NO_FIGURE
        return made if self._shows(run_id, request) else gr.skip()

    def choose_baseline(
        self,
        run_id: str,
        other_id: str,
        sample_set: str,
        metric: str,
        baseline: str,
        request: gr.Request,
    ) -> dict[str, Any]:
        """Another system to compare with."""
        _, view = self._shelf.view(run_id, other_id, self._owner(request))
        made = figures.forest(view, sample_set, metric, baseline) or NO_FIGURE
        return made if self._shows(run_id, request) else gr.skip()

    def _shows(self, run_id: str, request: gr.Request) -> bool:
        """Whether a run is still the one that the tab shows."""
        now = self.cases.page(request).snapshot()["values"].get("run", run_id)
        return bool(now == run_id)

    def _picked(self, run_id: str, owner: str, request: gr.Request) -> tuple[Any, ...]:
        """Both pickers, the notice, the content and the first case of a run."""
        page = self.cases.page(request)
        asked = page.now()
        page.write({"run": run_id}, asked=asked)
        *shown, values = self._content(run_id, owner)
        self.cases.put(page, run_id, asked, values)
        if not self._shows(run_id, request):  # another one was chosen meanwhile
            shown = [gr.skip() for _ in shown]
        return (*shown, page.snapshot())

    def _content(self, run_id: str, owner: str) -> tuple[Any, ...]:
        """Both pickers, the notice, the content, and the values of the first case."""
        runs = self._evaluations.kept.runs(owner)
        choices = run_choices(runs)
        others = [("No other run", ""), *(each for each in choices if each[1] != run_id)]
        pickers = (
            gr.update(choices=choices, value=run_id or None),
            gr.update(choices=others, value=""),
        )
        resumable = any(r.id == run_id and r.status in _UNFINISHED for r in runs)
        if not run_id:
            return (*pickers, "", gr.update(visible=False), *EMPTY.outputs(), NO_CASE)
        run, view = self._shelf.view(run_id, "", owner)
        said = standing(run.status)
        if not view.sets:
            text = evaluation_render.unscored(run.title, unscored(run.status))
            empty = replace(EMPTY, headline=text)
            return (*pickers, "", gr.update(visible=resumable), *empty.outputs(), NO_CASE)
        look = Look().fitted(view)
        first = Choice(run_id, "", look.baseline, look.sample_set, "worst")
        return (
            *pickers,
            render.notice(said, "info") if said else "",
            gr.update(visible=resumable),
            *content_of(run, view, look).outputs(),
            self.cases.shown(first, owner),
        )

    def _refused(self, text: str) -> tuple[Any, ...]:
        skipped = tuple(gr.skip() for _ in range(_N_PICKED - 3))
        return (gr.skip(), gr.skip(), render.notice(text), *skipped)

    def download(self, run_id: str, event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        """The file itself as a value; nothing is written to the disk."""
        serial = next(self._serial)
        try:
            run = self._shelf.run(run_id, self._owner(request))
            made = self._evaluations.export(run, str(event.kind))
        except Exception as error:
            return {"serial": serial, "data": ""}, render.notice(sentence(error))
        data = base64.b64encode(made.data).decode("ascii")
        return {"serial": serial, "name": made.name, "type": made.media_type, "data": data}, ""

    def _owner(self, request: gr.Request) -> str:
        return owner_asking(self._sessions, request)


_N_PICKED = 2 + 1 + 1 + len(Content().outputs()) + 1
"""Components that show a run: both pickers, the notice, the resume button, content and cases."""
