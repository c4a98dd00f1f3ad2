"""Event handlers of the run panel: start, follow, resume and stop an evaluation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import gradio as gr

from rad3d.data.sample_sets import SAMPLE_SETS
from rad3d.data.spec import SetSpec
from rad3d.evaluation.access import OPERATOR
from rad3d.evaluation.run_types import Events
from rad3d.evaluation.system_names import CONTROLS, expected_seconds
from rad3d.server import uploads
from rad3d.server.queue import ReportQueue
from rad3d.ui.evaluation.form import Asked, request_of
from rad3d.ui.evaluation.job import Job, Start
from rad3d.ui.evaluation.run_cache import RunCache
from rad3d.ui.evaluation.run_progress import minutes
from rad3d.ui.evaluation.views import counted
from rad3d.ui.messages import failures_to
from rad3d.ui.page_state import PageHandlers, Snapshot, Values
from rad3d.ui.report import html
from rad3d.ui.visitor import client_of, session_of

if TYPE_CHECKING:
    from rad3d.evaluation.evaluations import Evaluations
    from rad3d.service.service import Service
    from rad3d.service.sessions import Session

MAX_WAITING = 8
"""Largest number of evaluations that wait for the one that runs: each may take an hour."""

SECONDS_BETWEEN_LOOKS = 0.2
"""Time between two looks at how far an evaluation is."""


class CurrentJob:
    """The evaluation that a session asked for last: a part of the session."""

    def __init__(self) -> None:
        self.job: Job | None = None

    def close(self) -> None:
        """Stop it where it ends with its tab."""
        if self.job is not None and not self.job.stays:
            self.job.stop.set()


class RunHandlers(PageHandlers):
    """The handlers, bound to the evaluations of one service.

    Args:
        evaluations: run.
        service: has the sessions.
        cache: the runs that are looked at.
        show: shows a run that has ended in the tab.
        shown: gives what the tab shows now.
    """

    def __init__(
        self,
        evaluations: Evaluations,
        service: Service,
        cache: RunCache,
        show: Callable[[str, gr.Request], None],
        shown: Callable[[gr.Request], Snapshot],
    ) -> None:
        super().__init__(service, "run")
        self._evaluations, self._cache = evaluations, cache
        self._show, self._shown = show, shown
        self._operators: list[Job] = []
        self._turns = ReportQueue(1, MAX_WAITING)

    def run(self, asked: Asked, request: gr.Request) -> Snapshot:
        """Begin to evaluate what was chosen; :meth:`follow` shows the rest.

        Args:
            asked: values as the browser sent them: the component would throw away the file's name.
            request: the tab's.
        """

        def start(job: Job) -> Events:
            file = asked["file"]
            if not file:
                order = request_of(asked, self._evaluations, job.owner)
                return self._evaluations.start(order, job.stop)
            with uploads.taken(str(file.get("path"))) as taken:
                references = str(asked["references"] or "")
                own = SetSpec(
                    "predictions",
                    str(taken),
                    references=references if references in SAMPLE_SETS else "",
                    name=Path(str(file.get("orig_name") or "predictions")).stem,
                )
                # Everything is read here, before the upload is deleted.
                order = request_of(asked, self._evaluations, job.owner, (own,))
                return self._evaluations.start(order, job.stop, uploads=(own.path,))

        return self._begin(start, request)

    def resume(self, run_id: str, request: gr.Request) -> Snapshot:
        """Go on with a run that was stopped; what it has written is kept."""
        return self._begin(
            lambda job: self._evaluations.resume(run_id, job.stop, job.owner), request
        )

    def _begin(self, start: Start, request: gr.Request) -> Snapshot:
        """Begin what was asked for; an earlier one of the session stops."""
        session, owner = session_of(self._service, request), self._cache.owner(request)
        job = Job(owner, owner == OPERATOR, lambda: self._service.sessions.touch(session))
        current = session.part("job", CurrentJob)
        earlier, current.job = current.job, job
        if earlier is not None:
            earlier.stop.set()
        if job.stays:
            self._operators.append(job)
        page = self.page(request)
        page.write({"progress": job.line, "run_notice": "", "evaluation": {}, **_running(True)})
        job.begin(start, self._turns, lambda: self._finished(job, session), client_of(request))
        if session.ended:
            current.close()
        return page.snapshot()

    def estimate(
        self,
        variants: list[str],
        sets: list[str],
        controls: list[str],
        limit: int,
        request: gr.Request,
    ) -> str:
        """Estimate how long the choice will take, from the time of a report in the last run."""
        owner = self._cache.owner(request)
        sizes = [SAMPLE_SETS[name].n for name in sets]
        cases = sum(min(limit or n, n) for n in sizes)
        runs = self._evaluations.kept.runs(owner)
        costs = self._cache.run(runs[0].id, owner).costs if runs else {}
        writing = [control for control in CONTROLS if control in controls]
        seconds = expected_seconds(costs, variants, writing, cases)
        if not variants or not cases:
            return ""
        duration = f", {minutes(seconds)} on a machine like that of the last run" if seconds else ""
        lasts = (
            "It goes on when this tab is closed."
            if owner == OPERATOR
            else "It ends when this tab is closed."
        )
        return (
            f'<p class="r3-fine">{counted(len(variants), "variant")} on {cases} cases{duration}. '
            f"{lasts}</p>"
        )

    async def follow(self, request: gr.Request) -> AsyncGenerator[Snapshot, None]:
        """Show how far an evaluation is, and at its end what came of it.

        The operator also follows what they started in a tab that is closed by now.
        """
        session, page = session_of(self._service, request), self.page(request)
        current, job = session.part("job", CurrentJob), self._job(request)
        is_alive = partial(self._service.sessions.touch, session)
        yield page.snapshot()  # where a stream ends without a value, Gradio empties its outputs
        if job is None or session.token in job.watched_by:
            return

        def show(values: Values) -> Snapshot:
            """Show values unless another evaluation has been asked for meanwhile."""
            page.write(values, lambda: current.job in (None, job))
            return page.snapshot()

        line = ""
        job.watched_by.add(session.token)
        try:
            while is_alive() and not job.has_ended:
                if job.line != line:
                    line = job.line
                    yield show({"progress": line, **_running(True)})
                await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            job.watched_by.discard(session.token)
            if not job.stays:
                job.stop.set()  # the tab was closed: the run stops at its next report
        if not is_alive():  # its runs are gone
            return
        notices = [job.notice]
        if job.run_id and current.job in (None, job):
            # It cannot be shown where its folder was deleted meanwhile.
            with failures_to(lambda text: notices.append(html.notice(text))):
                await anyio.to_thread.run_sync(self._show, job.run_id, request)
        ended = {"progress": "", "run_notice": "".join(notices), **_running(False)}
        yield show({**ended, "evaluation": self._shown(request)})
        if current.job is job:
            current.job = None

    def _job(self, request: gr.Request) -> Job | None:
        """Return the session's evaluation; for the operator else the latest of another tab."""
        job = session_of(self._service, request).part("job", CurrentJob).job
        if job is None and self._cache.owner(request) == OPERATOR:
            return next(reversed(self._operators), None)
        return job

    def _finished(self, job: Job, session: Session) -> None:
        """Take over what a job has left; called in the job's own thread."""
        if job.run is not None:
            self._cache.put(job.run, job.owner)
            job.run = None
        if job in self._operators:
            self._operators.remove(job)
        if not self._service.sessions.touch(session):
            self._cache.forget(session.owner)  # what was written since the session ended

    def cancel(self, request: gr.Request) -> Snapshot:
        """Stop the run."""
        page, job = self.page(request), self._job(request)
        if job is not None and not job.has_ended:
            job.stop.set()
            text = "Stopping after the report that is being written"
            page.write({"progress": html.progress(text)}, lambda: not job.has_ended)
        return page.snapshot()


def _running(now: bool) -> dict[str, Any]:
    """Return the states of the run, cancel and resume buttons."""
    idle = gr.update(interactive=not now)
    return {"start": idle, "cancel": gr.update(interactive=now), "resume": idle}
