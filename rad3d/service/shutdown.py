"""Reports that are being written now: who watches them, and how they end when the server stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rad3d.core.errors import BadRequest
from rad3d.core.types import Report


class Watch(Protocol):
    """Told what happens, in figures and codes: no names, no content."""

    def scan_opened(self, seconds: float, voxels: int) -> None:
        """A scan was read."""

    def scan_refused(self, code: str) -> None:
        """A file was refused; ``code`` is that of the error."""

    def report_written(self, report: Report) -> None:
        """A report ended, also where the person cut it short; the watcher keeps no text."""

    def turn_came(self, seconds: float) -> None:
        """A report had waited so long for its turn; 0 where nobody was before it."""

    def report_failed(self, code: str) -> None:
        """A report could not be written; ``code`` is ``defect`` where no person caused it."""


class Unwatched:
    """A watch that looks away."""

    def scan_opened(self, seconds: float, voxels: int) -> None:
        """Nothing."""

    def scan_refused(self, code: str) -> None:
        """Nothing."""

    def turn_came(self, seconds: float) -> None:
        """Nothing."""

    def report_written(self, report: Report) -> None:
        """Nothing."""

    def report_failed(self, code: str) -> None:
        """Nothing."""


class Running:
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
