"""Per-person state: kept apart, bounded in bytes and time, freed when the person leaves.

Time is counted by a clock that nobody can set and that goes on while the machine sleeps.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rad3d.core.errors import BadRequest
from rad3d.core.types import Report, Volume


def since_boot() -> float:
    """Seconds that neither a set clock nor a sleeping machine changes."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; elsewhere sleep may not count
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass
class Session:
    """What one person has open.

    Attributes:
        volume: the open scan, or None.
        report: the last finished report, or None.
        seen: hashes of all volumes opened, to free what was computed from them.
        touched: time of the last use, in seconds of the monotonic clock.
        running: reports being written now; such a session does not expire.
    """

    volume: Volume | None = None
    report: Report | None = None
    seen: set[str] = field(default_factory=set)
    touched: float = 0.0
    running: int = 0


class SessionStore:
    """Sessions by unguessable token. Thread-safe.

    Args:
        idle_seconds: a session unused for so long is ended.
        max_bytes: of all open volumes together; beyond it the scans that were unused longest are
            closed, except those that a report is being written from.
        on_free: called with the hash of a volume that no session knows any more.
        clock: seconds; for tests.
        on_end: called with the token of a session that has ended, however that came.
    """

    def __init__(
        self,
        idle_seconds: float,
        max_bytes: int,
        on_free: Callable[[str], None],
        clock: Callable[[], float] = since_boot,
        on_end: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._idle, self._max_bytes = idle_seconds, max_bytes
        self._on_free, self._on_end, self._clock = on_free, on_end, clock
        self._sessions: dict[str, Session] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._sessions)

    @property
    def nbytes(self) -> int:
        """Bytes of the open volumes, equal ones counted once."""
        with self._lock:
            return sum(self._open_volumes().values())

    def new(self) -> str:
        """Start a session; idle ones are ended first."""
        self.sweep()
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._sessions[token] = Session(touched=self._clock())
        return token

    def find(self, token: str) -> Session | None:
        """The session, marked as used now; None where it has ended or never was."""
        self.sweep()
        with self._lock:
            session = self._sessions.get(token)
            if session is not None:
                session.touched = self._clock()
            return session

    def get(self, token: str) -> Session:
        """The session; raises :class:`BadRequest` where it has ended."""
        session = self.find(token)
        if session is None:
            raise BadRequest(
                "This session has ended.", "Reload the page to start anew.", code="no_session"
            )
        return session

    def knows(self, token: str) -> bool:
        """Whether a session is alive; does not count as a use of it."""
        with self._lock:
            return token in self._sessions

    def end(self, token: str) -> None:
        """Free everything of a session; an unknown token is fine."""
        with self._lock:
            session = self._sessions.pop(token, None)
            if session is not None:
                self._free(session.seen)
        if session is not None:
            self._on_end(token)  # without the lock: others may delete files now

    def open(self, token: str, volume: Volume) -> Volume:
        """Make a volume the open one of a session; its last report is forgotten.

        Returns:
            The volume; where another session has the same content open, its array is shared.
        """
        session = self.get(token)
        with self._lock:
            session.volume = self._shared(volume)
            session.report = None
            session.seen.add(volume.sha256)
            self._make_room(session)
            return session.volume

    def begin(self, token: str) -> Volume:
        """A report is about to be written; returns the volume. Raises :class:`BadRequest`."""
        session = self.get(token)
        with self._lock:
            if session.volume is None:
                raise BadRequest(
                    "There is no open scan.",
                    "Open one; a scan that was not used for long may have been closed.",
                    code="no_volume",
                )
            session.running += 1
            return session.volume

    def finish(self, token: str, volume: Volume, report: Report | None) -> None:
        """The report is written or given up; kept if the same scan is still open."""
        with self._lock:
            session = self._sessions.get(token)
            if session is None:  # ended meanwhile: what was computed after that is freed now
                self._free({volume.sha256})
                return
            session.running -= 1
            session.touched = self._clock()
            if report is not None and session.volume is volume:
                session.report = report

    def sweep(self) -> None:
        """End the sessions that were unused for too long."""
        with self._lock:
            limit = self._clock() - self._idle
            idle = [t for t, s in self._sessions.items() if s.touched < limit and not s.running]
        for token in idle:
            self.end(token)

    def _shared(self, volume: Volume) -> Volume:
        for other in self._sessions.values():
            if other.volume is not None and other.volume.sha256 == volume.sha256:
                return Volume(
                    other.volume.hu, other.volume.affine, volume.sha256, volume.name, volume.notes
                )
        return volume

    def _open_volumes(self) -> dict[str, int]:
        return {
            s.volume.sha256: s.volume.hu.nbytes
            for s in self._sessions.values()
            if s.volume is not None
        }

    def _make_room(self, keep: Session) -> None:
        others = [s for s in self._sessions.values() if s is not keep and not s.running]
        for session in sorted(others, key=lambda s: s.touched):
            if sum(self._open_volumes().values()) <= self._max_bytes:
                return
            session.volume, session.report = None, None

    def _free(self, hashes: set[str]) -> None:
        used = set().union(*(s.seen for s in self._sessions.values()))
        for sha256 in hashes - used:
            self._on_free(sha256)
