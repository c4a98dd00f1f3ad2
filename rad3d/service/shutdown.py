"""The work that runs now, and how it ends when the server stops."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from rad3d.core.errors import BadRequest


class RunningReports:
    """The stop signals of all running work, and whether new work is taken. Thread-safe.

    When the server stops, reports may finish first; evaluations, which can be resumed, end at once.
    """

    def __init__(self) -> None:
        self._reports: set[threading.Event] = set()
        self._evaluations: set[threading.Event] = set()
        self._stopping = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        with self._changed:
            return len(self._reports)

    @property
    def stopping(self) -> bool:
        """True once no new report is taken."""
        return self._stopping

    def report(self, cancel: threading.Event) -> AbstractContextManager[None]:
        """Surround the writing of one report; raises :class:`BadRequest` while stopping."""
        return self._among(self._reports, cancel)

    def evaluation(self, cancel: threading.Event) -> AbstractContextManager[None]:
        """Surround one evaluation, which is cancelled as soon as the server stops."""
        return self._among(self._evaluations, cancel)

    @contextmanager
    def _among(self, signals: set[threading.Event], cancel: threading.Event) -> Iterator[None]:
        with self._changed:
            if self._stopping:
                raise BadRequest(
                    "The server is about to restart and takes no new work.",
                    "Try again in a minute.",
                    code="stopping",
                )
            signals.add(cancel)
        try:
            yield
        finally:
            with self._changed:
                signals.discard(cancel)
                self._changed.notify_all()

    def stop(self, grace_seconds: float, cancel_seconds: float = 5.0) -> int:
        """Take no more reports, let running ones finish, and cancel those that take too long.

        A cancelled report ends at its next token with what has been written so far.

        Args:
            grace_seconds: time for finishing.
            cancel_seconds: time for ending after the cancellation.

        Returns:
            The number of reports that were cancelled.
        """
        with self._changed:
            self._stopping = True
            for signal in self._evaluations:
                signal.set()
            if self._changed.wait_for(lambda: not self._reports, grace_seconds):
                return 0
            late = len(self._reports)
            for signal in self._reports:
                signal.set()
            self._changed.wait_for(lambda: not self._reports, cancel_seconds)
        return late
