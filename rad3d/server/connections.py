"""Connections that ask for nothing: they are closed in time, and never take the last descriptor.

uvicorn waits for the head of a first request as long as the other side likes. Who opens many and
sends nothing, or a byte now and then, would keep everybody else out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from rad3d.server import limits

SWEEP_SECONDS = 1.0


def most_connections() -> int:
    """Ask for many descriptors and return how many connections there may be."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        descriptors = limits.MAX_CONNECTIONS + limits.RESERVED_DESCRIPTORS
        descriptors = descriptors if hard == resource.RLIM_INFINITY else min(descriptors, hard)
        if soft != resource.RLIM_INFINITY and soft < descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
            soft = descriptors
        if soft != resource.RLIM_INFINITY:
            return max(64, min(limits.MAX_CONNECTIONS, soft - limits.RESERVED_DESCRIPTORS))
    return limits.MAX_CONNECTIONS


class Connections:
    """Closes connections that ask for nothing; :meth:`sweep` is called every second.

    Args:
        most: beyond these the connections that have asked for nothing for longest are closed.
        clock: seconds, of a clock that nobody sets.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = most, clock
        self._silent: dict[Any, tuple[Any, float]] = {}

    def sweep(self, connections: Iterable[Any]) -> int:
        """Look at uvicorn's connections; returns how many were closed."""
        now, open_ = self._clock(), list(connections)
        silent: dict[Any, tuple[Any, float]] = {}
        for connection in open_:
            request = connection.cycle  # uvicorn's latest of this connection
            if request is None or request.response_complete:
                earlier = self._silent.get(connection)
                silent[connection] = (
                    earlier if earlier and earlier[0] is request else (request, now)
                )
        oldest = sorted(silent, key=lambda connection: silent[connection][1])
        surplus = len(open_) - self._most
        closed = [
            connection
            for place, connection in enumerate(oldest)
            if place < surplus or now - silent[connection][1] > limits.HEAD_SECONDS
        ]
        for connection in closed:
            connection.transport.abort()
            del silent[connection]
        self._silent = silent
        return len(closed)
