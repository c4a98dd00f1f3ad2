"""Event handlers of the evaluation tab: thin, one service call each, errors as one sentence."""

from __future__ import annotations

import base64
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from rad3d.service.evaluation_sets import SAMPLE_SETS
from rad3d.service.evaluation_types import EvaluationEvent, SetSpec
from rad3d.service.figure_study import Against
from rad3d.service.systems import expected_seconds
from rad3d.ui import evaluation_figures as figures
from rad3d.ui import evaluation_render, render, uploads
from rad3d.ui.evaluation_asked import Asked, request_of
from rad3d.ui.evaluation_case_handlers import N_CASES, CaseHandlers
from rad3d.ui.evaluation_run import Meter, Stops, minutes, owner_of, throttled
from rad3d.ui.evaluation_shelf import Shelf
from rad3d.ui.evaluation_views import (
    EMPTY,
    NO_FIGURE,
    Content,
    Look,
    content_of,
    counted,
    run_choices,
    standing,
)
from rad3d.ui.handlers import Handlers, sentence
from rad3d.ui.sessions import Sessions

if TYPE_CHECKING:
    from rad3d.service.evaluation import Evaluations

Start = Callable[[threading.Event, str], Iterator[EvaluationEvent]]
Handler = Callable[..., tuple[Any, ...]]

_SECONDS_BETWEEN_UPDATES = 0.4
_UNFINISHED = ("cancelled", "interrupted", "failures")


class EvaluationHandlers:
    """The handlers, bound to the evaluations of one service."""

    def __init__(self, evaluations: Evaluations, sessions: Sessions, report: Handlers) -> None:
        self._evaluations = evaluations
        self._sessions = sessions
        self._report = report
        self._stops = Stops()
        self._serial = itertools.count(1)
        self._shelf = Shelf(evaluations)
        self.cases = CaseHandlers(evaluations, self._shelf, report, self._owner)
        sessions.at_end(self._ended)

    # -- looking at a run --------------------------------------------------------------------

    def open_tab(self, opened: bool, request: gr.Request) -> tuple[Any, ...]:
        """The tab was chosen: the first time, show the last run."""
        if opened:
            return tuple(gr.skip() for _ in range(_N_OPENED))
        owner = self._owner(request)
        try:
            runs = self._evaluations.kept.runs(owner)
            chosen = runs[0].id if runs else ""
            return (True, *self._picked(chosen, owner))
        except Exception as error:
            empty = (gr.skip(), gr.skip(), render.notice(sentence(error)), gr.skip())
            return (True, *empty, *EMPTY.outputs(), *self.cases.none())

    def pick_run(self, run_id: str, request: gr.Request) -> tuple[Any, ...]:
        """Another run was chosen."""
        try:
            return self._picked(run_id, self._owner(request))
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
            return ("", *content_of(run, view, look).outputs())
        except Exception as error:
            return (render.notice(sentence(error)), *Content().outputs())

    def choose_table(
        self, run_id: str, other_id: str, sample_set: str, table: str, request: gr.Request
    ) -> str:
        """Another family of metrics."""
        _, view = self._shelf.view(run_id, other_id, self._owner(request))
        return evaluation_render.leaderboard(view, sample_set, table)

    def choose_against(
        self, run_id: str, other_id: str, metric: str, against: Against, request: gr.Request
    ) -> dict[str, Any]:
        """Another cost on the x axis."""
        _, view = self._shelf.view(run_id, other_id, self._owner(request))
        return figures.study(view, metric, against) or NO_FIGURE

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
        return figures.forest(view, sample_set, metric, baseline) or NO_FIGURE

    def _picked(self, run_id: str, owner: str) -> tuple[Any, ...]:
        """Both pickers, the notice, the content and the first case of a run."""
        runs = self._evaluations.kept.runs(owner)
        shown = run_choices(runs)
        others = [("No other run", ""), *(each for each in shown if each[1] != run_id)]
        pickers = (
            gr.update(choices=shown, value=run_id or None),
            gr.update(choices=others, value=""),
        )
        resumable = any(r.id == run_id and r.status in _UNFINISHED for r in runs)
        if not run_id:
            return (*pickers, "", gr.update(visible=False), *EMPTY.outputs(), *self.cases.none())
        run, view = self._shelf.view(run_id, "", owner)
        said = standing(run.status)
        if not view.sets:
            later = "Resume it below." if resumable else "It is being written."
            text = f"Nothing of this run has been scored yet. {said or later}"
            content = (render.notice(text, "info"), gr.update(visible=resumable))
            return (*pickers, *content, *EMPTY.outputs(), *self.cases.none())
        look = Look().fitted(view)
        return (
            *pickers,
            render.notice(said, "info") if said else "",
            gr.update(visible=resumable),
            *content_of(run, view, look).outputs(),
            *self.cases.shown(run_id, "", owner, look.baseline, look.sample_set, "worst", "", ""),
        )

    def _refused(self, text: str) -> tuple[Any, ...]:
        skipped = tuple(gr.skip() for _ in range(_N_OPENED - 4))
        return (gr.skip(), gr.skip(), render.notice(text), *skipped)

    # -- running -----------------------------------------------------------------------------

    def begin(self, request: gr.Request) -> tuple[Any, ...]:
        """Run or resume was pressed: arm the stop signal and say that it waits for its turn."""
        self._stops.arm(self._sessions.token(request))
        return (render.progress("Waiting for its turn"), "", *_running(True))

    def run(self, asked: Asked, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """Evaluate what was chosen; the page follows, and shows the run at its end.

        Args:
            asked: as the browser sent it: the component would throw away the file's name.
            request: of the tab.
        """

        def start(stop: threading.Event, owner: str) -> Iterator[EvaluationEvent]:
            file = asked["file"]
            if not file:
                return self._evaluations.start(request_of(asked, self._evaluations, owner), stop)
            with uploads.taken(str(file.get("path"))) as taken:
                references = str(asked["references"] or "")
                own = SetSpec(
                    "predictions",
                    str(taken),
                    references=references if references in SAMPLE_SETS else "",
                    name=Path(str(file.get("orig_name") or "predictions")).stem,
                )
                # Everything is read here, before the upload is deleted.
                wanted = request_of(asked, self._evaluations, owner, (own,))
                return self._evaluations.start(wanted, stop, uploads=(own.path,))

        yield from self._followed(start, request)

    def estimate(
        self,
        variants: list[str],
        sets: list[str],
        controls: list[str],
        limit: int,
        request: gr.Request,
    ) -> str:
        """How long what is chosen will take, from what reports took in the last run."""
        owner = self._owner(request)
        found = [SAMPLE_SETS[name].n for name in sets]
        cases = sum(min(limit or n, n) for n in found)
        runs = self._evaluations.kept.runs(owner)
        costs = self._shelf.run(runs[0].id, owner).costs if runs else {}
        writing = [row for row in self._evaluations.controls() if row.id in controls]
        seconds = expected_seconds(costs, variants, [row.id for row in writing], cases)
        if not variants or not cases:
            return ""
        known = f", {minutes(seconds)} on a machine like that of the last run" if seconds else ""
        return (
            f'<p class="r3-fine">{counted(len(variants), "variant")} on {cases} cases{known}.</p>'
        )

    def resume(self, run_id: str, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """Go on with a run that was stopped; what it has written is kept."""
        yield from self._followed(
            lambda stop, owner: self._evaluations.resume(run_id, stop, owner), request
        )

    def _followed(self, start: Start, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        token = self._sessions.token(request)
        stop = self._stops.of(token)
        if stop is None:  # cancelled while it waited
            yield self._resting("Cancelled before it began.", "info")
            return
        owner, meter, run_id = owner_of(token), Meter(), ""
        try:
            events = self._watched(start(stop, owner), token)
            for event in throttled(events, _SECONDS_BETWEEN_UPDATES):
                run_id = event.run_id
                if event.stage != "done":
                    yield (meter.line(event), gr.skip(), *_running(None), *_skipped())
            self._shelf.forget(run_id)
            text = "Cancelled. What was written is kept: Resume goes on from there."
            notice = render.notice(text, "info") if stop.is_set() else ""
            yield ("", notice, *_running(False), *self._picked(run_id, owner))
        except Exception as error:
            self._shelf.forget(run_id)
            yield self._resting(sentence(error), "error")
        finally:
            stop.set()  # also where the tab was closed: the run stops at its next report
            if not self._sessions.touch(token):  # closed meanwhile: what was written since goes
                self._ended(token)

    def _watched(self, events: Iterator[EvaluationEvent], token: str) -> Iterator[EvaluationEvent]:
        """Who waits for a run is not idle, however long it takes."""
        for event in events:
            self._sessions.touch(token)
            yield event

    def cancel(self, request: gr.Request) -> str:
        """Stop the run."""
        self._stops.stop(self._sessions.token(request))
        return render.progress("Stopping after the report that is being written")

    def _ended(self, token: str) -> None:
        """A session ends, however: its evaluation stops and its own runs go."""
        self._stops.close(token)
        owner = owner_of(token)
        self._evaluations.kept.forget(owner)
        self._shelf.forget_owner(owner)

    def _resting(self, text: str, level: str) -> tuple[Any, ...]:
        return ("", render.notice(text, level), *_running(False), *_skipped())

    # -- files -------------------------------------------------------------------------------

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
        return owner_of(self._sessions.token(request))


def _running(now: bool | None) -> tuple[Any, Any, Any]:
    """Run, cancel and resume buttons."""
    if now is None:
        return gr.skip(), gr.skip(), gr.skip()
    return (
        gr.update(interactive=not now),
        gr.update(interactive=now),
        gr.update(interactive=not now),
    )


def _skipped() -> tuple[Any, ...]:
    return tuple(gr.skip() for _ in range(_N_OPENED - 1))


_N_OPENED = 1 + 2 + 1 + 1 + len(Content().outputs()) + N_CASES
"""Outputs of :meth:`EvaluationHandlers.open_tab`: the flag, both pickers, the notice, the resume
button, the content and the cases."""
