"""The progress of a running evaluation as one line."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape

from rad3d.evaluation.run_types import EvaluationEvent
from rad3d.ui.report import html

_STAGES = {
    "encode": "Encoding the scans",
    "write": "Writing reports",
    "score": "Scoring",
    "compare": "Comparing",
    "done": "Done",
}


def waiting_line(ahead: int, stays: bool = False) -> str:
    """Return the line for a waiting evaluation; ``stays``: it goes on without its tab."""
    place = f"{ahead} before you" if ahead else "yours is next"
    leave = "even if this tab is closed" if stays else "while this tab is open"
    return f"Waiting: another evaluation is running, {place}. It starts by itself, {leave}"


def minutes(seconds: float) -> str:
    """Return a duration as a person says it: ``about 2 min``."""
    if seconds < 50:
        return f"about {max(5, round(seconds / 5) * 5)} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


class Meter:
    """Turns events into a line of progress with the remaining time.

    Args:
        clock: seconds; for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._first: int | None = None
        self.scored: list[str] = []

    def line(self, event: EvaluationEvent) -> str:
        """Return the progress bar and what is scored already, as HTML."""
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
        return html.progress(text, share) + (f'<ul class="r3-scored">{done}</ul>' if done else "")

    def seconds_left(self, event: EvaluationEvent) -> float | None:
        """Return the seconds left at the pace so far; None before there is one."""
        steps = event.done - (self._first or 0)
        elapsed = self._clock() - self._start
        if steps < 1 or elapsed < 2:
            return None
        return elapsed / steps * (event.total - event.done)
