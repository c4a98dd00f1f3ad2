"""Event handlers of the run panel: an evaluation is asked for, waits, is followed and stopped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import gradio as gr

from rad3d.core.errors import Rad3dError
from rad3d.data.sample_sets import SAMPLE_SETS
from rad3d.data.spec import SetSpec
from rad3d.evaluation.access import OPERATOR
from rad3d.evaluation.run_types import Events
from rad3d.evaluation.system_names import expected_seconds
from rad3d.server import uploads
from rad3d.server.queue import Turns
from rad3d.ui.evaluation.form import Asked, request_of
from rad3d.ui.evaluation.job import NEVER_BEGAN, Job
from rad3d.ui.evaluation.run_cache import Shelf
from rad3d.ui.evaluation.run_progress import Stops, minutes, owner_asking, owner_of
from rad3d.ui.evaluation.views import counted
from rad3d.ui.queued import client_of
from rad3d.ui.report import render
from rad3d.ui.sessions import Sessions

if TYPE_CHECKING:
    from rad3d.evaluation.service import Evaluations

Start = Callable[[threading.Event, str], Events]
Shown = tuple[Any, ...]
"""Values for the panel's outputs and for the components that show a run."""

MOST_WAITING = 8
"""Evaluations that may wait for the one that runs: each may take an hour."""

SECONDS_BETWEEN_LOOKS = 0.2
"""How often the page looks how far an evaluation is."""


class RunHandlers:
    """The handlers, bound to the evaluations of one service.

    Args:
        evaluations: run.
        sessions: whose an evaluation is.
        shelf: the runs that are looked at.
        picked: what shows a run to its owner in a tab, given its id.
        n_picked: how many components that is.
    """

    def __init__(
        self,
        evaluations: Evaluations,
        sessions: Sessions,
        shelf: Shelf,
        picked: Callable[[str, str, gr.Request], Shown],
        n_picked: int,
    ) -> None:
        self._evaluations, self._sessions, self._shelf = evaluations, sessions, shelf
        self._picked = picked
        self._skipped = tuple(gr.skip() for _ in range(n_picked))
        self._stops = Stops()
        self._jobs: dict[str, Job] = {}
        self._turns = Turns(1, MOST_WAITING)
        sessions.at_end(self._ended)

    def begin(self, request: gr.Request) -> Shown:
        """Run or resume was pressed: arm the stop signal and say that it begins."""
        token = self._sessions.token(request)
        if token in self._jobs:
            self._jobs[token].stop.set()
        self._stops.arm(token)
        return (render.progress("Reading what is to be evaluated"), "", *_running(True))

    async def run(self, asked: Asked, request: gr.Request) -> AsyncGenerator[Shown, None]:
        """Evaluate what was chosen; the page follows, and shows the run at its end.

        Args:
            asked: as the browser sent it: the component would throw away the file's name.
            request: of the tab.
        """

        def start(stop: threading.Event, owner: str) -> Events:
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

        async with aclosing(self._followed(start, request)) as steps:
            async for step in steps:
                yield step

    def estimate(
        self,
        variants: list[str],
        sets: list[str],
        controls: list[str],
        limit: int,
        request: gr.Request,
    ) -> str:
        """How long what is chosen will take, from what reports took in the last run."""
        owner = owner_asking(self._sessions, request)
        found = [SAMPLE_SETS[name].n for name in sets]
        cases = sum(min(limit or n, n) for n in found)
        runs = self._evaluations.kept.runs(owner)
        costs = self._shelf.run(runs[0].id, owner).costs if runs else {}
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

    async def resume(self, run_id: str, request: gr.Request) -> AsyncGenerator[Shown, None]:
        """Go on with a run that was stopped; what it has written is kept."""

        def start(stop: threading.Event, owner: str) -> Events:
            return self._evaluations.resume(run_id, stop, owner)

        async with aclosing(self._followed(start, request)) as steps:
            async for step in steps:
                yield step

    async def follow(self, request: gr.Request) -> AsyncGenerator[Shown, None]:
        """The tab was opened: show what the person started in a tab that is closed."""
        token, job = self._sessions.token(request), self._job(request)
        yield (gr.skip(), gr.skip(), *_running(None), *self._skipped)
        if job is not None and token not in job.watched_by:
            async with aclosing(self._watched(job, request)) as steps:
                async for step in steps:
                    yield step

    def _job(self, request: gr.Request) -> Job | None:
        """What works for the session, and for who started the app what they began elsewhere."""
        own = self._jobs.get(self._sessions.token(request))
        if own is None and owner_asking(self._sessions, request) == OPERATOR:
            own = next((j for j in reversed(self._jobs.values()) if j.owner == OPERATOR), None)
        return own

    async def _followed(self, start: Start, request: gr.Request) -> AsyncGenerator[Shown, None]:
        """Begin what was asked for, and follow it to its end."""
        token, owner = self._sessions.token(request), owner_asking(self._sessions, request)
        stop = self._stops.claim(token)
        if stop is None:  # cancelled in the instant before
            yield self._resting(render.notice(NEVER_BEGAN, "info"))
            return
        stays = owner == OPERATOR
        job = self._jobs[token] = Job(owner, stop, stays, lambda: self._sessions.touch(token))
        job.begin(
            lambda: start(stop, owner),
            self._turns,
            lambda: self._finished(job, token),
            client_of(request),
        )
        async with aclosing(self._watched(job, request)) as steps:
            async for step in steps:
                yield step

    async def _watched(self, job: Job, request: gr.Request) -> AsyncGenerator[Shown, None]:
        """The page while a job works; at its end the page shows the run."""
        shown, token = "", self._sessions.token(request)
        job.watched_by.add(token)
        try:
            while not job.has_ended:
                self._sessions.touch(token)
                if job.line != shown:
                    shown = job.line
                    yield (shown, gr.skip(), *_running(True), *self._skipped)
                await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            job.watched_by.discard(token)
            if not job.stays:
                job.stop.set()  # the tab was closed: the run stops at its next report
        if not job.run_id:
            yield self._resting(job.notice)
            return
        try:
            picked = await anyio.to_thread.run_sync(self._picked, job.run_id, job.owner, request)
            yield ("", job.notice, *_running(False), *picked)
        except Rad3dError as error:  # its folder was deleted meanwhile
            yield self._resting(job.notice + render.notice(str(error)))

    def _finished(self, job: Job, token: str) -> None:
        """A job has ended, in its own thread."""
        self._shelf.forget(job.run_id)
        if self._jobs.get(token) is job:
            del self._jobs[token]
        if not self._sessions.touch(token):
            self._ended(token)  # closed meanwhile: what a visitor's run has written since goes

    def cancel(self, request: gr.Request) -> str:
        """Stop the run."""
        if self._stops.cancel(self._sessions.token(request)) is None:
            job = self._job(request)
            if job is None:
                return ""  # it has ended meanwhile
            job.stop.set()
        return render.progress("Stopping after the report that is being written")

    def _ended(self, token: str) -> None:
        """A session ends, however: a visitor's evaluation stops, and its own runs go."""
        self._stops.cancel(token)
        job = self._jobs.get(token)
        if job is not None and not job.stays:
            job.stop.set()
        owner = owner_of(token)
        self._evaluations.kept.forget(owner)
        self._shelf.forget_owner(owner)

    def _resting(self, notice: str) -> Shown:
        return ("", notice, *_running(False), *self._skipped)


def _running(now: bool | None) -> tuple[Any, Any, Any]:
    """Run, cancel and resume buttons."""
    if now is None:
        return gr.skip(), gr.skip(), gr.skip()
    return (
        gr.update(interactive=not now),
        gr.update(interactive=now),
        gr.update(interactive=not now),
    )
