"""The queue in front of the models, with an estimate of the waiting time.

Each client has its share: the client with the fewest runs comes first, and among equals the one
that came first. Where the queue is full, a client that has more in it than a newcomer makes room.

Nothing blocks here: a caller asks its :class:`Ticket` again and again whether it is ready, so that
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
"""The estimate is made from the mean length of so many finished runs."""

SHORTEST_RUN_S = 0.2
"""A run that ended sooner was refused or cancelled, so the estimate ignores it."""


class ReportQueue:
    """A queue in front of a few places. Thread-safe.

    Args:
        places: runs at the same time.
        most_waiting: a newcomer beyond so many is refused.
        on_event: called with how long each report waited, and when a client is refused.
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
        """Number of tickets that wait now."""
        with self._lock:
            return len(self._waiting)

    @property
    def running(self) -> int:
        """Number of tickets that have their turn now."""
        with self._lock:
            return len(self._running)

    def join(self, client: str = "") -> Ticket:
        """Take a ticket, to be left in a ``finally``.

        Args:
            client: such as an address; empty is a client that has nothing else here.

        Raises:
            BadRequest: ``queue_full``.
        """
        with self._lock:
            if len(self._waiting) >= self.most_waiting and not self._make_room(client):
                self._on_event("report_failed", code="queue_full")
                raise BadRequest(
                    f"The queue is full: {len(self._waiting)} waiting already.",
                    "Try again in a minute; your scan stays open.",
                    code="queue_full",
                )
            ticket = Ticket(self, self._clock(), client)
            self._waiting.append(ticket)
            self._admit()
            return ticket

    def _make_room(self, client: str) -> bool:
        """Displace the latest ticket of a client that has at least two more here than another."""
        held = Counter(ticket.client for ticket in (*self._waiting, *self._running))
        latest = max(
            (ticket for ticket in self._waiting if ticket.client),
            key=lambda ticket: (held[ticket.client], ticket.joined),
            default=None,
        )
        if latest is None or held[latest.client] < (held[client] if client else 0) + 2:
            return False
        self._waiting.remove(latest)
        latest.displaced = True
        return True

    def _order(self) -> list[Ticket]:
        """Return the waiting tickets in the order in which they will come."""
        before = Counter(ticket.client for ticket in self._running if ticket.client)
        ranked = []
        for place, ticket in enumerate(self._waiting):
            ranked.append((before[ticket.client], place))
            if ticket.client:
                before[ticket.client] += 1
        waiting = list(self._waiting)
        return [waiting[place] for _, place in sorted(ranked)]

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self.places:
            ticket, now = self._order()[0], self._clock()
            self._waiting.remove(ticket)
            self._running[ticket] = now
            self._on_event("turn_came", seconds=now - ticket.joined)


class Ticket:
    """One client's place in the queue.

    Attributes:
        joined: when it was taken, by the queue's clock.
        client: the address that it belongs to.
        displaced: True once the place was given to a client that had none.
    """

    def __init__(self, queue: ReportQueue, joined: float, client: str = "") -> None:
        self._queue, self.joined, self.client = queue, joined, client
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
        with self._queue._lock:
            return self in self._queue._running

    def is_overdue(self, seconds: float) -> bool:
        """Tell whether it has been used for longer than ``seconds`` while somebody waits."""
        queue = self._queue
        with queue._lock:
            start = queue._running.get(self)
            return bool(queue._waiting) and start is not None and queue._clock() - start > seconds

    @property
    def ahead(self) -> int:
        """Number of tickets that come before it."""
        with self._queue._lock:
            return self._queue._order().index(self) if self in self._queue._waiting else 0

    @property
    def seconds(self) -> float | None:
        """Estimated waiting time in seconds; None before any run has finished."""
        queue = self._queue
        with queue._lock:
            if self not in queue._waiting:
                return 0.0
            if not queue._lengths or not queue._running:
                return None
            mean = sum(queue._lengths) / len(queue._lengths)
            now = queue._clock()
            left = sorted(max(0.0, start + mean - now) for start in queue._running.values())
            rounds, place = divmod(queue._order().index(self), queue.places)
            return left[min(place, len(left) - 1)] + rounds * mean

    def leave(self) -> None:
        """Give the place back: finished, cancelled or gone; doing it twice is fine."""
        queue = self._queue
        with queue._lock:
            if self in queue._running:
                length = queue._clock() - queue._running.pop(self)
                if length >= SHORTEST_RUN_S:
                    queue._lengths.append(length)
            elif self in queue._waiting:
                queue._waiting.remove(self)
            queue._admit()

    def __str__(self) -> str:
        """Say how many are ahead: ``Waiting for a free model: 2 before you, about 40 s``."""
        text = "Waiting for a free model: "
        text += f"{self.ahead} before you" if self.ahead else "you are next"
        seconds = self.seconds
        return text if seconds is None else f"{text}, about {max(1, round(seconds))} s"
