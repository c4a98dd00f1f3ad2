"""Who may use the models next, with an honest waiting time.

Each client has its share: whoever has fewest runs going comes first, and among equals who came
first. Where the queue is full, a client that has more in it than a newcomer makes room.

Nothing blocks here: a face asks its :class:`Ticket` again and again whether it is ready, so that
waiting costs no thread and ends at once when a person leaves.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable

from rad3d.core.errors import BadRequest
from rad3d.service.events import OnEvent, ignore_event

REMEMBERED = 20
"""Finished runs whose mean length the estimate is made from."""

SHORTEST_RUN_S = 0.2
"""A run that ended sooner was refused or cancelled and says nothing about the next."""


class ReportQueue:
    """A queue in front of a few places.

    Args:
        places: runs at the same time.
        most_waiting: beyond these a newcomer is refused.
        on_event: told how long each report waited, and who was refused.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        places: int,
        most_waiting: int,
        on_event: OnEvent = ignore_event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.places, self.most_waiting = places, most_waiting
        self._on_event, self._clock = on_event, clock
        self._waiting: deque[Ticket] = deque()
        self._running: dict[Ticket, float] = {}
        self._lengths: deque[float] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many wait now."""
        with self._lock:
            return len(self._waiting)

    @property
    def running(self) -> int:
        """How many have their turn now."""
        with self._lock:
            return len(self._running)

    def join(self, whose: str = "") -> Ticket:
        """A place in the queue; to be left in a ``finally``.

        Args:
            whose: the client, such as an address; empty is one that has nothing else here.

        Raises:
            BadRequest: ``queue_full``.
        """
        with self._lock:
            if len(self._waiting) >= self.most_waiting and not self._make_room(whose):
                self._on_event("report_failed", code="queue_full")
                raise BadRequest(
                    f"The queue is full: {len(self._waiting)} waiting already.",
                    "Try again in a minute; your scan stays open.",
                    code="queue_full",
                )
            turn = Ticket(self, self._clock(), whose)
            self._waiting.append(turn)
            self._admit()
            return turn

    def _make_room(self, whose: str) -> bool:
        """Displace the latest turn of a client that has at least two more here than another."""
        held = Counter(turn.whose for turn in (*self._waiting, *self._running))
        latest = max(
            (turn for turn in self._waiting if turn.whose),
            key=lambda turn: (held[turn.whose], turn.joined),
            default=None,
        )
        if latest is None or held[latest.whose] < (held[whose] if whose else 0) + 2:
            return False
        self._waiting.remove(latest)
        latest.displaced = True
        return True

    def _order(self) -> list[Ticket]:
        """Who waits, in the order in which they will come."""
        before = Counter(turn.whose for turn in self._running if turn.whose)
        ranked = []
        for place, turn in enumerate(self._waiting):
            ranked.append((before[turn.whose], place))
            if turn.whose:
                before[turn.whose] += 1
        waiting = list(self._waiting)
        return [waiting[place] for _, place in sorted(ranked)]

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self.places:
            turn, now = self._order()[0], self._clock()
            self._waiting.remove(turn)
            self._running[turn] = now
            self._on_event("turn_came", seconds=now - turn.joined)

    def _is_running(self, turn: Ticket) -> bool:
        with self._lock:
            return turn in self._running

    def _ahead(self, turn: Ticket) -> int:
        with self._lock:
            return self._order().index(turn) if turn in self._waiting else 0

    def _is_overdue(self, turn: Ticket, seconds: float) -> bool:
        with self._lock:
            began = self._running.get(turn)
            return bool(self._waiting) and began is not None and self._clock() - began > seconds

    def _estimate(self, turn: Ticket) -> float | None:
        with self._lock:
            if turn not in self._waiting:
                return 0.0
            if not self._lengths or not self._running:
                return None
            mean = sum(self._lengths) / len(self._lengths)
            now = self._clock()
            left = sorted(max(0.0, began + mean - now) for began in self._running.values())
            rounds, place = divmod(self._order().index(turn), self.places)
            return left[min(place, len(left) - 1)] + rounds * mean

    def _leave(self, turn: Ticket) -> None:
        with self._lock:
            if turn in self._running:
                length = self._clock() - self._running.pop(turn)
                if length >= SHORTEST_RUN_S:
                    self._lengths.append(length)
            elif turn in self._waiting:
                self._waiting.remove(turn)
            self._admit()


class Ticket:
    """One person's place in the queue.

    Attributes:
        joined: when it was taken, by the queue's clock.
        whose: the client.
        displaced: it was given to a client that had none.
    """

    def __init__(self, turns: ReportQueue, joined: float, whose: str = "") -> None:
        self._turns, self.joined, self.whose = turns, joined, whose
        self.displaced = False

    @property
    def ready(self) -> bool:
        """True once the models may be used, until :meth:`leave`.

        Raises:
            BadRequest: ``queue_full``: the place was given to another client.
        """
        if self.displaced:
            raise BadRequest(
                "The queue is full, and others had no place in it yet.",
                "Try again in a minute; your scan stays open.",
                code="queue_full",
            )
        return self._turns._is_running(self)

    def is_overdue(self, seconds: float) -> bool:
        """Whether it has been used for longer than that while somebody waits."""
        return self._turns._is_overdue(self, seconds)

    @property
    def ahead(self) -> int:
        """How many wait in front."""
        return self._turns._ahead(self)

    @property
    def seconds(self) -> float | None:
        """How long it will probably take; None before any run has finished."""
        return self._turns._estimate(self)

    def leave(self) -> None:
        """Finished, cancelled or gone; doing it twice is fine."""
        self._turns._leave(self)

    def __str__(self) -> str:
        """``Waiting for a free model: 2 before you, about 40 s``"""
        text = "Waiting for a free model: "
        text += f"{self.ahead} before you" if self.ahead else "you are next"
        seconds = self.seconds
        return text if seconds is None else f"{text}, about {max(1, round(seconds))} s"
