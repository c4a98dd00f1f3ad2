"""An evaluation at work in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rad3d.core.errors import Cancelled
from rad3d.evaluation.run_types import EvaluationRun, Events
from rad3d.server.queue import ReportQueue, Ticket
from rad3d.ui.evaluation.run_progress import Meter, waiting_line
from rad3d.ui.messages import failures_to
from rad3d.ui.report import html

POLL_SECONDS = 0.2
"""Time between two looks at the place in the queue."""

MAX_SECONDS = 600.0
"""Longest time that a visitor's evaluation may take while others wait."""

NEVER_BEGAN = "Cancelled before it began. Nothing was evaluated; press Run to start again."
_CANCELLED = "Cancelled. Finished reports are kept; press Resume to continue."
_PAUSED = (
    "Others are waiting, so this evaluation was paused after 10 minutes. Finished reports are "
    "kept; press Resume to continue after the others."
)
_READING = html.progress("Reading the sample sets")


class Job:
    """One evaluation from its request to its end; nobody needs to look on.

    Args:
        owner: owner of the run.
        stays: it goes on when the tab that asked for it is closed.
        awake: called at every step: who looks on is not idle, however long it takes.

    Attributes:
        stop: ends it: at once while it waits, else at its next step.
        line: HTML of how far it is.
        notice: HTML of why it ended early; empty where it did not.
        run_id: id of the run, as soon as it has begun.
        run: the finished run; None before.
        watched_by: keys of the sessions whose page shows it.
    """

    def __init__(self, owner: str, stays: bool, awake: Callable[[], object]) -> None:
        self.owner, self.stays, self._awake = owner, stays, awake
        self.stop = threading.Event()
        self.line, self.notice, self.run_id = _READING, "", ""
        self.run: EvaluationRun | None = None
        self.watched_by: set[str] = set()
        self._ended, self._paused = threading.Event(), False

    @property
    def has_ended(self) -> bool:
        """True once nothing will change any more."""
        return self._ended.is_set()

    def begin(
        self, start: Start, turns: ReportQueue, ended: Callable[[], None], client: str = ""
    ) -> None:
        """Read what was asked for, wait for the turn, and work; returns at once.

        Args:
            start: gives the events; refuses what cannot be evaluated.
            turns: the queue of the evaluations.
            ended: called at the end, however that comes.
            client: its address.
        """

        def refused(text: str) -> None:
            self.notice = html.notice(text)

        def work() -> None:
            try:
                with failures_to(refused):
                    self._work(start, turns, client)
            finally:
                try:
                    ended()
                finally:
                    self._ended.set()

        threading.Thread(target=work, name="evaluation", daemon=True).start()

    def _work(self, start: Start, turns: ReportQueue, client: str) -> None:
        try:
            events = start(self)  # refused before the wait, not after it
            turn = turns.join(client)
            try:
                self._wait(turn)
                self._follow(events, turn)
            finally:
                events.close()
                turn.leave()
            if self.stop.is_set():
                self.notice = html.notice(_PAUSED if self._paused else _CANCELLED, "info")
        except Cancelled:
            self.notice = html.notice(NEVER_BEGAN, "info")

    def _wait(self, turn: Ticket) -> None:
        while not (self.stop.is_set() or turn.ready):
            self._awake()
            self.line = html.progress(waiting_line(turn.ahead, self.stays))
            self.stop.wait(POLL_SECONDS)
        if self.stop.is_set():
            raise Cancelled("Cancelled while waiting.")

    def _follow(self, events: Events, turn: Ticket) -> None:
        meter = Meter()
        for event in events:
            self._awake()
            if not self.stays and turn.is_overdue(MAX_SECONDS):
                self._paused = True
                self.stop.set()
            self.run_id, self.run = event.run_id, event.run
            if event.stage != "done":
                self.line = meter.line(event)


Start = Callable[[Job], Events]
"""Begins what was asked for, for a job."""
