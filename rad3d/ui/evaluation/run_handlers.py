"""Event handlers of the run panel: an evaluation is asked for, waits, is followed and stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import gradio as gr

from rad3d.data.sample_sets import SAMPLE_SETS
from rad3d.data.spec import SetSpec
from rad3d.evaluation.access import OPERATOR
from rad3d.evaluation.run_types import Events
from rad3d.evaluation.system_names import expected_seconds
from rad3d.server import uploads
from rad3d.server.queue import ReportQueue
from rad3d.ui.evaluation.form import Asked, request_of
from rad3d.ui.evaluation.job import Job, Start
from rad3d.ui.evaluation.run_cache import RunCache
from rad3d.ui.evaluation.run_progress import minutes
from rad3d.ui.evaluation.views import counted
from rad3d.ui.failures import failures_to
from rad3d.ui.page_state import PageState, Snapshot, Values
from rad3d.ui.queued import client_of
from rad3d.ui.report import render
from rad3d.ui.sessions import Sessions, owner_of

if TYPE_CHECKING:
    from rad3d.evaluation.service import Evaluations

MAX_WAITING = 8
"""Evaluations that may wait for the one that runs: each may take an hour."""

SECONDS_BETWEEN_LOOKS = 0.2
"""How often the page looks how far an evaluation is."""


class ShownRun(Protocol):
    """The part of the tab that shows a run."""

    def show(self, run_id: str, request: gr.Request) -> Any:
        """Show a run that has ended."""

    def again(self, request: gr.Request) -> Snapshot:
        """What is shown now."""


class RunHandlers:
    """The handlers, bound to the evaluations of one service.

    Args:
        evaluations: run.
        sessions: whose an evaluation is.
        cache: the runs that are looked at.
        tab: shows a run.
    """

    def __init__(
        self,
        evaluations: Evaluations,
        sessions: Sessions,
        cache: RunCache,
        tab: ShownRun,
    ) -> None:
        self._evaluations, self._sessions = evaluations, sessions
        self._cache, self._tab = cache, tab
        self._jobs: dict[str, Job] = {}
        self._turns = ReportQueue(1, MAX_WAITING)
        sessions.at_end(self._ended)

    def page(self, request: gr.Request) -> PageState:
        """What the panel shows: small, as it is sent with every step of a run."""
        return self._sessions.page(request, "run")[1]

    def again(self, request: gr.Request) -> Snapshot:
        """What the panel shows now."""
        return self.page(request).snapshot()

    def run(self, asked: Asked, request: gr.Request) -> Snapshot:
        """Run was pressed: begin to evaluate what was chosen; :meth:`follow` shows the rest.

        Args:
            asked: as the browser sent it: the component would throw away the file's name.
            request: of the tab.
        """

        def start(job: Job) -> Events:
            file = asked["file"]
            if not file:
                wanted = request_of(asked, self._evaluations, job.owner)
                return self._evaluations.start(wanted, job.stop)
            with uploads.taken(str(file.get("path"))) as taken:
                references = str(asked["references"] or "")
                own = SetSpec(
                    "predictions",
                    str(taken),
                    references=references if references in SAMPLE_SETS else "",
                    name=Path(str(file.get("orig_name") or "predictions")).stem,
                )
                # Everything is read here, before the upload is deleted.
                wanted = request_of(asked, self._evaluations, job.owner, (own,))
                return self._evaluations.start(wanted, job.stop, uploads=(own.path,))

        return self._begin(start, request)

    def resume(self, run_id: str, request: gr.Request) -> Snapshot:
        """Go on with a run that was stopped; what it has written is kept."""
        return self._begin(
            lambda job: self._evaluations.resume(run_id, job.stop, job.owner), request
        )

    def _begin(self, start: Start, request: gr.Request) -> Snapshot:
        """Begin what was asked for; an earlier one of the session stops."""
        token, owner = self._sessions.token(request), self._sessions.owner(request)
        job = Job(owner, owner == OPERATOR, lambda: self._sessions.touch(token))
        earlier, self._jobs[token] = self._jobs.get(token), job
        if earlier is not None:
            earlier.stop.set()
        page = self.page(request)
        page.write({"progress": job.line, "run_notice": "", "evaluation": {}, **_running(True)})
        job.begin(start, self._turns, lambda: self._finished(job, token), client_of(request))
        return page.snapshot()

    def estimate(
        self,
        variants: list[str],
        sets: list[str],
        controls: list[str],
        limit: int,
        request: gr.Request,
    ) -> str:
        """How long what is chosen will take, from what reports took in the last run."""
        owner = self._sessions.owner(request)
        found = [SAMPLE_SETS[name].n for name in sets]
        cases = sum(min(limit or n, n) for n in found)
        runs = self._evaluations.kept.runs(owner)
        costs = self._cache.run(runs[0].id, owner).costs if runs else {}
        writing = [row for row in self._evaluations.controls() if row.id in controls]
        seconds = expected_seconds(costs, variants, [row.id for row in writing], cases)
        if not variants or not cases:
            return ""
        known = f", {minutes(seconds)} on a machine like that of the last run" if seconds else ""
        lasts = (
            "It goes on when this tab is closed."
            if owner == OPERATOR
            else "It ends when this tab is closed."
        )
        return (
            f'<p class="r3-fine">{counted(len(variants), "variant")} on {cases} cases{known}. '
            f"{lasts}</p>"
        )

    async def follow(self, request: gr.Request) -> AsyncGenerator[Snapshot, None]:
        """Show how far an evaluation is, and at its end what came of it.

        Also what the person started in a tab that is closed.
        """
        token, page, job = (
            self._sessions.token(request),
            self.page(request),
            self._job(request),
        )
        yield page.snapshot()  # where a stream ends without a value, Gradio empties its outputs
        if job is None or token in job.watched_by:
            return

        def show(values: Values) -> Snapshot:
            """Unless another evaluation has been asked for meanwhile."""
            page.write(values, lambda: self._jobs.get(token) in (None, job))
            return page.snapshot()

        shown = ""
        job.watched_by.add(token)
        try:
            while self._sessions.touch(token) and not job.has_ended:
                if job.line != shown:
                    shown = job.line
                    yield show({"progress": shown, **_running(True)})
                await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            job.watched_by.discard(token)
            if not job.stays:
                job.stop.set()  # the tab was closed: the run stops at its next report
        if not self._sessions.touch(token):  # its runs are gone
            return
        notices = [job.notice]
        if job.run_id and self._jobs.get(token) in (None, job):
            # It cannot be shown where its folder was deleted meanwhile.
            with failures_to(lambda text: notices.append(render.notice(text))):
                await anyio.to_thread.run_sync(self._tab.show, job.run_id, request)
        ended = {"progress": "", "run_notice": "".join(notices), **_running(False)}
        yield show({**ended, "evaluation": self._tab.again(request)})
        if self._jobs.get(token) is job:
            del self._jobs[token]

    def _job(self, request: gr.Request) -> Job | None:
        """What works for the session, and for who started the app what they began elsewhere."""
        own = self._jobs.get(self._sessions.token(request))
        if own is None and self._sessions.owner(request) == OPERATOR:
            jobs = (job for job in reversed(self._jobs.values()) if not job.has_ended)
            own = next((job for job in jobs if job.owner == OPERATOR), None)
        return own

    def _finished(self, job: Job, token: str) -> None:
        """A job has ended, in its own thread."""
        if job.run is not None:
            self._cache.put(job.run, job.owner)
            job.run = None
        if not self._sessions.touch(token):
            self._jobs.pop(token, None)
            self._ended(token)  # closed meanwhile: what a visitor's run has written since goes

    def cancel(self, request: gr.Request) -> Snapshot:
        """Stop the run."""
        page, job = self.page(request), self._job(request)
        if job is not None and not job.has_ended:
            job.stop.set()
            text = "Stopping after the report that is being written"
            page.write({"progress": render.progress(text)}, lambda: not job.has_ended)
        return page.snapshot()

    def _ended(self, token: str) -> None:
        """A session ends, however: a visitor's evaluation stops, and its own runs go."""
        job = self._jobs.get(token)
        if job is not None and (job.has_ended or not job.stays):
            job.stop.set()
            del self._jobs[token]
        owner = owner_of(token)
        self._evaluations.kept.forget(owner)
        self._cache.forget_owner(owner)


def _running(now: bool) -> dict[str, Any]:
    """The run, cancel and resume buttons."""
    idle = gr.update(interactive=not now)
    return {"start": idle, "cancel": gr.update(interactive=now), "resume": idle}
