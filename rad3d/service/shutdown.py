"""Reports that are being written now, and how they end when the server stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rad3d.core.errors import BadRequest


class RunningReports:
    """The stop signals of all running work, and whether new work is taken. Thread-safe.

    Reports are let finish where the server stops; an evaluation, which can be resumed, is not.
    """

    def __init__(self) -> None:
        self._signals: dict[int, threading.Event] = {}
        self._resumable: dict[int, threading.Event] = {}
        self._stopping = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        with self._changed:
            return len(self._signals)

    @property
    def stopping(self) -> bool:
        """True once no new report is taken."""
        with self._changed:
            return self._stopping

    @contextmanager
    def report(self, cancel: threading.Event) -> Iterator[None]:
        """Around the writing of one report; raises :class:`BadRequest` while stopping."""
        with self._among(self._signals, cancel):
            yield

    @contextmanager
    def evaluation(self, cancel: threading.Event) -> Iterator[None]:
        """Around one evaluation, which is cancelled as soon as the server stops."""
        with self._among(self._resumable, cancel):
            yield

    @contextmanager
    def _among(
        self, signals: dict[int, threading.Event], cancel: threading.Event
    ) -> Iterator[None]:
        with self._changed:
            if self._stopping:
                raise BadRequest(
                    "The server is about to restart and takes no new work.",
                    "Try again in a minute.",
                    code="stopping",
                )
            signals[id(cancel)] = cancel
        try:
            yield
        finally:
            with self._changed:
                signals.pop(id(cancel), None)
                self._changed.notify_all()

    def stop(self, grace_seconds: float, cancel_seconds: float = 5.0) -> int:
        """Take no more reports, let the running ones finish, and cancel those that take too long.

        A cancelled report ends at its next token with what has been written so far.

        Args:
            grace_seconds: for finishing.
            cancel_seconds: for ending after the cancellation.

        Returns:
            How many were cancelled.
        """
        with self._changed:
            self._stopping = True
            for signal in self._resumable.values():
                signal.set()
        if self._emptied(grace_seconds):
            return 0
        with self._changed:
            late = list(self._signals.values())
            for signal in late:
                signal.set()
        self._emptied(cancel_seconds)
        return len(late)

    def _emptied(self, seconds: float) -> bool:
        limit = time.monotonic() + seconds
        with self._changed:
            while self._signals and (left := limit - time.monotonic()) > 0:
                self._changed.wait(left)
            return not self._signals
