"""Limits how often a client may do something within a minute."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

MAX_CLIENTS = 10_000
"""Of whom the latest attempts are remembered."""


class RateLimit:
    """Tokens that come back over a minute, for each client. Thread-safe.

    Args:
        per_minute: how many a client has, and gets back in a minute.
        clock: seconds; for tests.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = float(per_minute), clock
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def spend(self, client: Hashable) -> bool:
        """Take a token of a client; False where none is left."""
        with self._lock:
            left, since = self._left.get(client, (self._most, 0.0))
            left = min(self._most, left + (self._clock() - since) * self._most / 60)
            self._left[client] = (max(left - 1, 0.0), self._clock())
            self._left.move_to_end(client)
            while len(self._left) > MAX_CLIENTS:
                self._left.popitem(last=False)
            return left >= 1
