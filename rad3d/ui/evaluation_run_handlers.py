"""Event handlers of the run panel: an evaluation is asked for, waits, is followed and stopped."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import gradio as gr

from rad3d.errors import Cancelled
from rad3d.service.evaluation_sets import SAMPLE_SETS
from rad3d.service.evaluation_types import EvaluationEvent, Events, SetSpec
from rad3d.service.systems import expected_seconds
from rad3d.service.turns import Turn, Turns
from rad3d.ui import render, uploads
from rad3d.ui.evaluation_asked import Asked, request_of
from rad3d.ui.evaluation_run import (
    Meter,
    Stops,
    minutes,
    owner_asking,
    owner_of,
    throttled,
    waiting_line,
)
from rad3d.ui.evaluation_shelf import Shelf
from rad3d.ui.evaluation_views import counted
from rad3d.ui.handlers import sentence
from rad3d.ui.sessions import Sessions
from rad3d.ui.waiting import in_turn

if TYPE_CHECKING:
    from rad3d.service.evaluation import Evaluations

Start = Callable[[threading.Event, str], Events]
Shown = tuple[Any, ...]
"""Values for the panel's outputs and for the components that show a run."""

MOST_WAITING = 8
"""Evaluations that may wait for the one that runs: each may take an hour."""

_SECONDS_BETWEEN_UPDATES = 0.4
_NEVER_BEGAN = "Cancelled before it began: nothing was evaluated. Run starts it anew."


class RunHandlers:
    """The handlers, bound to the evaluations of one service.

    Args:
        evaluations: run.
        sessions: whose an evaluation is.
        shelf: the runs that are looked at.
        picked: what shows a run to its owner, given its id.
        n_picked: how many components that is.
    """

    def __init__(
        self,
        evaluations: Evaluations,
        sessions: Sessions,
        shelf: Shelf,
        picked: Callable[[str, str], Shown],
        n_picked: int,
    ) -> None:
        self._evaluations, self._sessions, self._shelf = evaluations, sessions, shelf
        self._picked = picked
        self._skipped = tuple(gr.skip() for _ in range(n_picked))
        self._stops = Stops()
        self._turns = Turns(1, MOST_WAITING)
        sessions.at_end(self._ended)

    def begin(self, request: gr.Request) -> Shown:
        """Run or resume was pressed: arm the stop signal and say that it begins."""
        self._stops.arm(self._sessions.token(request))
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
        return (
            f'<p class="r3-fine">{counted(len(variants), "variant")} on {cases} cases{known}.</p>'
        )

    async def resume(self, run_id: str, request: gr.Request) -> AsyncGenerator[Shown, None]:
        """Go on with a run that was stopped; what it has written is kept."""

        def start(stop: threading.Event, owner: str) -> Events:
            return self._evaluations.resume(run_id, stop, owner)

        async with aclosing(self._followed(start, request)) as steps:
            async for step in steps:
                yield step

    async def _followed(self, start: Start, request: gr.Request) -> AsyncGenerator[Shown, None]:
        """Read what was asked for, wait for the turn, and follow the run to its end."""
        token = self._sessions.token(request)
        stop = self._stops.of(token)
        if stop is None:  # cancelled in the instant before
            yield self._resting(_NEVER_BEGAN, "info")
            return
        try:
            # Refused before the wait, not after it; and an upload is not kept for so long.
            owner = owner_asking(self._sessions, request)
            events = await anyio.to_thread.run_sync(start, stop, owner)
            steps = in_turn(
                self._turns,
                stop,
                lambda: self._watched(events, stop, token, owner),
                self._waiting,
                lambda: self._sessions.touch(token),
            )
            async with aclosing(steps):  # type: ignore[type-var]
                async for step in steps:
                    yield step
        except Cancelled:
            yield self._resting(_NEVER_BEGAN, "info")
        except Exception as error:
            yield self._resting(sentence(error), "error")
        finally:
            stop.set()  # also where the tab was closed: the run stops at its next report
            if not self._sessions.touch(token):  # closed meanwhile: what was written since goes
                self._ended(token)

    def _watched(
        self, events: Events, stop: threading.Event, token: str, owner: str
    ) -> Iterator[Shown]:
        """The page at each event of a run; at the last one it shows the run."""
        meter, run_id = Meter(), ""
        try:
            for event in throttled(self._awake(events, token), _SECONDS_BETWEEN_UPDATES):
                run_id = event.run_id
                if event.stage != "done":
                    yield (meter.line(event), gr.skip(), *_running(None), *self._skipped)
        finally:
            events.close()  # before a session that has ended forgets its runs
            self._shelf.forget(run_id)
        text = "Cancelled. What was written is kept: Resume goes on from there."
        notice = render.notice(text, "info") if stop.is_set() else ""
        yield ("", notice, *_running(False), *self._picked(run_id, owner))

    def _waiting(self, turn: Turn) -> Shown:
        line = render.progress(waiting_line(turn.ahead))
        return (line, gr.skip(), *_running(None), *self._skipped)

    def _awake(self, events: Iterator[EvaluationEvent], token: str) -> Iterator[EvaluationEvent]:
        """Who looks on is not idle, however long it takes."""
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

    def _resting(self, text: str, level: str) -> Shown:
        return ("", render.notice(text, level), *_running(False), *self._skipped)


def _running(now: bool | None) -> tuple[Any, Any, Any]:
    """Run, cancel and resume buttons."""
    if now is None:
        return gr.skip(), gr.skip(), gr.skip()
    return (
        gr.update(interactive=not now),
        gr.update(interactive=now),
        gr.update(interactive=not now),
    )
