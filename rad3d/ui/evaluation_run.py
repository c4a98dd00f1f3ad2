"""Running an evaluation from the page: what is asked for, how far it is, and how it is stopped."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from html import escape

import gradio as gr

from rad3d.service.evaluation_rights import OPERATOR
from rad3d.service.evaluation_types import EvaluationEvent
from rad3d.ui import render
from rad3d.ui.sessions import Sessions

_STAGES = {
    "encode": "Encoding the scans",
    "write": "Writing reports",
    "score": "Scoring",
    "compare": "Comparing",
    "done": "Done",
}


def owner_of(token: str) -> str:
    """Whose runs a session may see: known to that session only, and not its key."""
    return hashlib.sha256(f"evaluation:{token}".encode()).hexdigest()[:32]


def owner_asking(sessions: Sessions, request: gr.Request) -> str:
    """Whose runs a request may see: everybody's for who started the app, else its session's."""
    if sessions.is_owner(request):
        return OPERATOR
    return owner_of(sessions.token(request))


class Stops:
    """The stop signal of each session's running evaluation."""

    def __init__(self) -> None:
        self._stops: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def arm(self, token: str) -> threading.Event:
        """A fresh signal; an earlier run of the session is stopped."""
        with self._lock:
            if token in self._stops:
                self._stops[token].set()
            self._stops[token] = threading.Event()
            return self._stops[token]

    def of(self, token: str) -> threading.Event | None:
        """The signal of the run that was asked for; None where it was stopped meanwhile."""
        with self._lock:
            stop = self._stops.get(token)
            return None if stop is None or stop.is_set() else stop

    def stop(self, token: str) -> None:
        """Stop the session's run."""
        with self._lock:
            if token in self._stops:
                self._stops[token].set()

    def close(self, token: str) -> None:
        """The session has ended."""
        self.stop(token)
        with self._lock:
            self._stops.pop(token, None)


def waiting_line(ahead: int) -> str:
    """What is told while others are first."""
    place = f"{ahead} before you" if ahead else "yours is next"
    return (
        f"Waiting: another evaluation is running, {place}. It begins by itself; leave this tab "
        "open, or press Cancel"
    )


def minutes(seconds: float) -> str:
    """``"about 2 min"``."""
    if seconds < 50:
        return f"about {max(5, round(seconds / 5) * 5)} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


class Meter:
    """Turns events into a line of progress with the time that is left.

    Args:
        clock: seconds; for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._first: int | None = None
        self.scored: list[str] = []

    def line(self, event: EvaluationEvent) -> str:
        """HTML of the progress bar, and of what is scored already."""
        if self._first is None:
            self._first = event.done
        if event.card is not None:
            figure = event.card.estimates.get("f1_macro")
            tail = f", macro F1 {figure}" if figure else ""
            self.scored.append(f"{event.card.name} on {event.card.sample_set}{tail}")
        share = event.done / event.total if event.total else 0.0
        text = f"{_STAGES[event.stage]}: {event.text} ({event.done} of {event.total}"
        left = self.seconds_left(event)
        text += f", {minutes(left)} left)" if left is not None else ")"
        done = "".join(f"<li>{escape(line)}</li>" for line in self.scored)
        return render.progress(text, share) + (f'<ul class="r3-scored">{done}</ul>' if done else "")

    def seconds_left(self, event: EvaluationEvent) -> float | None:
        """From the pace so far; None before there is one."""
        steps = event.done - (self._first or 0)
        elapsed = self._clock() - self._start
        if steps < 1 or elapsed < 2:
            return None
        return elapsed / steps * (event.total - event.done)


def throttled(events: Iterator[EvaluationEvent], seconds: float) -> Iterator[EvaluationEvent]:
    """Leave out events that come too quickly for the page; scorecards and the end always pass."""
    shown = -seconds
    for event in events:
        now = time.monotonic()
        if event.card is None and event.stage != "done" and now - shown < seconds:
            continue
        shown = now
        yield event
