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
        wanted = limits.MAX_CONNECTIONS + limits.RESERVED_DESCRIPTORS
        wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
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
        for each in open_:
            request = each.cycle  # uvicorn's latest of this connection
            if request is None or request.response_complete:
                known = self._silent.get(each)
                silent[each] = known if known and known[0] is request else (request, now)
        oldest = sorted(silent, key=lambda each: silent[each][1])
        surplus = len(open_) - self._most
        closed = [
            each
            for place, each in enumerate(oldest)
            if place < surplus or now - silent[each][1] > limits.HEAD_SECONDS
        ]
        for each in closed:
            each.transport.abort()
            del silent[each]
        self._silent = silent
        return len(closed)
