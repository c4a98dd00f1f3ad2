"""An evaluation at work, which needs nobody to look on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rad3d.core.errors import Cancelled
from rad3d.evaluation.run_types import Events
from rad3d.server.queue import Turn, Turns
from rad3d.ui.evaluation.run_progress import Meter, waiting_line
from rad3d.ui.report import render
from rad3d.ui.report.handlers import sentence

POLL_SECONDS = 0.2
"""How often the place in the queue is looked at."""

MOST_SECONDS = 600.0
"""A visitor's evaluation may take so long while others wait."""

NEVER_BEGAN = "Cancelled before it began: nothing was evaluated. Run starts it anew."
_CANCELLED = "Cancelled. What was written is kept: Resume goes on from there."
_PAUSED = (
    "Others are waiting, so this evaluation was paused after 10 minutes. What was written is kept: "
    "Resume goes on from there, behind them."
)
_READING = render.progress("Reading what is to be evaluated")


class Job:
    """One evaluation, in a thread of its own from its request to its end.

    Args:
        owner: whose it is.
        stop: ends it: at once while it waits, else at its next step.
        stays: it goes on when the tab that asked for it is closed.
        awake: called at every step: who looks on is not idle, however long it takes.

    Attributes:
        line: HTML of how far it is.
        notice: HTML of why it ended early; empty where it did not.
        run_id: of the run, as soon as it has begun.
        watched_by: keys of the sessions whose page shows it.
    """

    def __init__(
        self, owner: str, stop: threading.Event, stays: bool, awake: Callable[[], object]
    ) -> None:
        self.owner, self.stop, self.stays, self._awake = owner, stop, stays, awake
        self.line, self.notice, self.run_id = _READING, "", ""
        self.watched_by: set[str] = set()
        self._ended, self._paused = threading.Event(), False

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self._ended.is_set()

    def begin(
        self,
        start: Callable[[], Events],
        turns: Turns,
        ended: Callable[[], None],
        whose: str = "",
    ) -> None:
        """Read what was asked for, wait for the turn, and work; returns at once.

        Args:
            start: gives the events; refuses what cannot be evaluated.
            turns: who may work.
            whose: the client.
            ended: called at the end, however that comes.
        """
        work = threading.Thread(
            target=self._work, args=(start, turns, ended, whose), name="evaluation", daemon=True
        )
        work.start()

    def _work(
        self,
        start: Callable[[], Events],
        turns: Turns,
        ended: Callable[[], None],
        whose: str,
    ) -> None:
        try:
            events = start()  # refused before the wait, not after it
            turn = turns.join(whose)
            try:
                self._wait(turn)
                self._follow(events, turn)
            finally:
                events.close()
                turn.leave()
            if self.stop.is_set():
                self.notice = render.notice(_PAUSED if self._paused else _CANCELLED, "info")
        except Cancelled:
            self.notice = render.notice(NEVER_BEGAN, "info")
        except Exception as error:
            self.notice = render.notice(sentence(error))
        finally:
            try:
                ended()
            finally:
                self._ended.set()

    def _wait(self, turn: Turn) -> None:
        while not turn.ready:
            self._awake()
            self.line = render.progress(waiting_line(turn.ahead, self.stays))
            if self.stop.wait(POLL_SECONDS):
                raise Cancelled("Cancelled while waiting.")

    def _follow(self, events: Events, turn: Turn) -> None:
        meter = Meter()
        for event in events:
            self._awake()
            if not self.stays and turn.is_overdue(MOST_SECONDS):
                self._paused = True
                self.stop.set()
            self.run_id = event.run_id
            if event.stage != "done":
                self.line = meter.line(event)
