"""Visitors' sessions: isolated, bounded in bytes and time, and freed as a whole when they end.

A session is found by its unguessable token or by the browser tab that it belongs to. Everything
that a visitor has hangs on it: the open scan, its report, the stop signal of the report that is
being written, what the page shows, running evaluations. Idle time is measured by a clock that
nobody can set and that goes on while the machine sleeps.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar, cast

from rad3d.core.edits import Edits
from rad3d.core.errors import BadRequest
from rad3d.core.types import Report, Volume


def since_boot() -> float:
    """Return seconds on a clock that neither a set time nor a sleeping machine changes."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; elsewhere sleep may not count
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Closable(Protocol):
    """A part of a session that is closed when the session ends."""

    def close(self) -> None:
        """End it and free what it holds."""


Part = TypeVar("Part", bound=Closable)


class Stop(threading.Event):
    """The stop signal of a report that was asked for.

    Attributes:
        edits: of the diagnosis that it is written from.
        compared: the variants that write beside each other; none where one writes the report.
    """

    def __init__(self, edits: Edits | None = None, compared: Sequence[str] = ()) -> None:
        super().__init__()
        self.edits, self.compared = dict(edits or {}), tuple(compared)


class Session:
    """Everything that belongs to one visitor. Made by :class:`SessionStore`. Thread-safe.

    Attributes:
        token: unguessable; whoever sends it may see the scan.
        owner: identifies the session's evaluation runs on disk; does not reveal the token.
        tab: hash of its browser tab; empty for programs on this machine.
        volume: the open scan, or None.
        report: the last finished report on the open scan, or None.
        edited: the last one since then from an edited diagnosis, or None.
        comparison: the stop signal of the last comparison on the open scan that has begun, or None.
        hashes: content hashes of all scans opened so far, to free what was computed from them.
        touched: time of the last use, in seconds of the store's clock.
        running: computations that use the scan now; a session with one does not expire.
        ended: True once everything is freed, for good.
        opening: held while a scan is read, so that the scan that was asked for last stays open.
    """

    def __init__(self, tab: str = "", touched: float = 0.0) -> None:
        self.token = secrets.token_urlsafe(24)
        self.owner = hashlib.sha256(f"evaluation:{self.token}".encode()).hexdigest()[:32]
        self.tab, self.touched = tab, touched
        self.volume: Volume | None = None
        self.report: Report | None = None
        self.edited: Report | None = None
        self.comparison: Stop | None = None
        self.hashes: set[str] = set()
        self.running = 0
        self.ended = False
        self.opening = threading.Lock()
        self._parts: dict[str, Closable] = {}
        self._stop: Stop | None = None
        self._is_waiting = False
        self._lock = threading.Lock()

    def part(self, name: str, make: Callable[[], Part]) -> Part:
        """Return the part of this name, made on first use and closed with the session."""
        with self._lock:
            if not self.ended:
                if name not in self._parts:
                    self._parts[name] = make()
                return cast(Part, self._parts[name])
        part = make()
        part.close()
        return part

    def arm(self, edits: Edits | None = None, compared: Sequence[str] = ()) -> Stop:
        """Return a new stop signal for what was asked for, and stop the earlier one.

        Nobody can :meth:`claim` it before it is offered by :meth:`offer`.

        Args:
            edits: of the diagnosis that is to be written from.
            compared: the variants of a comparison, which leaves the reports as they are.
        """
        with self._lock:
            self._halt()
            self._stop = Stop(edits, compared)
            if not edits and not compared:
                self.edited = None
            if self.ended:
                self._stop.set()
            return self._stop

    def offer(self, stop: Stop) -> None:
        """Let the report of a stop signal be written, now that the page says that it waits."""
        with self._lock:
            if self._stop is stop:
                self._is_waiting = True

    def claim(self) -> Stop | None:
        """Return the stop signal of the waiting report; None where another caller has taken it."""
        with self._lock:
            is_waiting, self._is_waiting = self._is_waiting, False
            if is_waiting and self._stop is not None and self._stop.compared:
                self.comparison = self._stop
            return self._stop if is_waiting else None

    def stop(self) -> bool:
        """Stop the latest report; True where it had not begun, so that nothing will answer."""
        with self._lock:
            return self._halt()

    def is_latest(self, stop: threading.Event) -> bool:
        """Tell whether this signal belongs to the latest report on the scan that is open now."""
        return self._stop is stop

    @property
    def is_comparing(self) -> bool:
        """True while a comparison is written or waits."""
        stop = self._stop
        return stop is not None and bool(stop.compared) and not stop.is_set()

    def keep(self, report: Report, volume: Volume, stop: threading.Event) -> None:
        """Keep a finished report, unless another scan is open by now or a later report stopped it.

        The page does not show the rest of a report that was stopped for a later one.
        """
        with self._lock:
            if self.volume is volume and (self._stop is stop or not stop.is_set()):
                if report.diagnosis.edited:
                    self.edited = report
                else:
                    self.report, self.edited = report, None

    def revise(self, report: Report, revised: Report) -> bool:
        """Replace a report by its revision; False where it is not the session's any more."""
        with self._lock:
            if self.report is not report:
                return False
            self.report = revised
            return True

    def drop_edits(self) -> bool:
        """Forget the report from an edited diagnosis, also one that is being written.

        Returns:
            False where there is none.
        """
        with self._lock:
            stop = self._stop
            is_asked = stop is not None and bool(stop.edits) and not stop.compared
            had, self.edited = self.edited is not None or is_asked, None
            if is_asked:
                self._halt()
                self._stop = None
            return had

    def set_volume(self, volume: Volume | None) -> None:
        """Replace the scan: its report goes, and a report that is being written is stopped."""
        with self._lock:
            self._halt()
            self.volume, self.report, self.edited = volume, None, None
            self._stop, self.comparison = None, None

    def close(self) -> None:
        """Free everything; called by :meth:`SessionStore.end`."""
        self.set_volume(None)
        with self._lock:
            parts, self._parts = list(self._parts.values()), {}
        for part in parts:
            part.close()

    def _halt(self) -> bool:
        if self._stop is not None:
            self._stop.set()
        is_waiting, self._is_waiting = self._is_waiting, False
        return is_waiting


class SessionStore:
    """All sessions of a process. Thread-safe.

    Args:
        idle_seconds: a session unused for longer is ended.
        max_bytes: bound of all open scans; beyond it the scans that were unused longest are
            closed, except those that a report is being written from.
        on_free: called with the hash of a scan that no session knows any more.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        idle_seconds: float,
        max_bytes: int,
        on_free: Callable[[str], None],
        clock: Callable[[], float] = since_boot,
    ) -> None:
        self._idle, self._max_bytes = idle_seconds, max_bytes
        self._on_free, self._clock = on_free, clock
        self._sessions: dict[str, Session] = {}
        self._tabs: dict[str, Session] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._sessions)

    @property
    def nbytes(self) -> int:
        """Bytes of the open scans, equal ones counted once."""
        with self._lock:
            return sum(self._open_scans().values())

    def new(self) -> Session:
        """Start a session without a tab; idle ones are ended first."""
        self.sweep()
        with self._lock:
            return self._add("")

    def of_tab(self, tab: str | None) -> Session:
        """Return the session of a browser tab, marked as used now; a new one where it has none.

        Raises:
            BadRequest: there is no tab.
        """
        if not tab:
            raise BadRequest("This request belongs to no session.", "Reload the page.")
        self.sweep()
        with self._lock:
            session = self._tabs.get(tab) or self._add(tab)
            session.touched = self._clock()
            return session

    def find(self, token: str) -> Session | None:
        """Return the session of a token, marked as used now; None where there is none."""
        with self._lock:
            session = self._sessions.get(token)
        return session if session is not None and self.touch(session) else None

    def touch(self, session: Session) -> bool:
        """Mark a session as used now; False where it has ended."""
        self.sweep()
        with self._lock:
            session.touched = self._clock()
            return not session.ended

    def check(self, session: Session) -> None:
        """Mark a session as used now; raises :class:`BadRequest` where it has ended."""
        if not self.touch(session):
            raise BadRequest(
                "This session has ended.", "Reload the page to start anew.", code="no_session"
            )

    def end(self, session: Session) -> None:
        """Free everything of a session; ending it twice is fine."""
        with self._lock:
            session.ended = True
            self._sessions.pop(session.token, None)
            if self._tabs.get(session.tab) is session:
                del self._tabs[session.tab]
        session.close()  # without the lock: its parts may delete files
        with self._lock:
            self._free(session.hashes)

    def end_tab(self, tab: str | None) -> None:
        """End the session of a tab that was closed, if it has one."""
        with self._lock:
            session = self._tabs.get(tab or "")
        if session is not None:
            self.end(session)

    def open(self, session: Session, volume: Volume) -> Volume:
        """Make a volume the open scan of a session; see :meth:`Session.set_volume`.

        Returns:
            The volume; where another session has the same content open, its array is shared.

        Raises:
            BadRequest: the session has ended, so that the scan must not come back.
        """
        with self._lock:
            if session.ended:
                raise BadRequest(
                    "The scan was deleted while it was being read.",
                    "Open it again to go on.",
                    code="deleted",
                )
            volume = self._shared(volume)
            session.set_volume(volume)
            session.hashes.add(volume.sha256)
            session.touched = self._clock()
            self._make_room(session)
            return volume

    @contextmanager
    def using(self, session: Session) -> Iterator[Volume]:
        """Keep the open scan of a session while something is computed from it.

        Raises:
            BadRequest: there is no open scan, or the session has ended.
        """
        self.check(session)
        with self._lock:
            volume = session.volume
            if volume is None:
                raise BadRequest(
                    "There is no open scan.",
                    "Open one; a scan that was not used for long may have been closed.",
                    code="no_volume",
                )
            session.running += 1
        try:
            yield volume
        finally:
            with self._lock:
                session.running -= 1
                session.touched = self._clock()
                if session.ended:  # what was computed since then is freed now
                    self._free({volume.sha256})

    def sweep(self) -> None:
        """End the sessions that were unused for too long."""
        with self._lock:
            limit = self._clock() - self._idle
            sessions = self._sessions.values()
            idle = [s for s in sessions if s.touched < limit and not s.running]
        for session in idle:
            self.end(session)

    def _add(self, tab: str) -> Session:
        session = Session(tab, self._clock())
        self._sessions[session.token] = session
        if tab:
            self._tabs[tab] = session
        return session

    def _shared(self, volume: Volume) -> Volume:
        for other in self._sessions.values():
            if other.volume is not None and other.volume.sha256 == volume.sha256:
                return Volume(
                    other.volume.hu, other.volume.affine, volume.sha256, volume.name, volume.notes
                )
        return volume

    def _open_scans(self) -> dict[str, int]:
        volumes = (session.volume for session in self._sessions.values())
        return {volume.sha256: volume.hu.nbytes for volume in volumes if volume is not None}

    def _make_room(self, keep: Session) -> None:
        others = [s for s in self._sessions.values() if s is not keep and not s.running]
        for session in sorted(others, key=lambda s: s.touched):
            if sum(self._open_scans().values()) <= self._max_bytes:
                return
            session.set_volume(None)

    def _free(self, hashes: set[str]) -> None:
        used = set().union(*(s.hashes for s in self._sessions.values()))
        for sha256 in hashes - used:
            self._on_free(sha256)
