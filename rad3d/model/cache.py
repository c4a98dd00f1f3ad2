"""A cache that is bounded in bytes, shared between threads, and computes each value once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

Value = TypeVar("Value")


class ByteCache:
    """Least recently used values go first when the sum of their sizes passes the limit.

    A value that is being used lives on in its user's hands after it was dropped from here. Two
    threads that ask for the same absent value wait for one computation; other keys do not wait.

    Args:
        max_bytes: limit; the value asked for last is kept even where it alone exceeds it.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        with self._lock:
            return sum(size for _, size in self._values.values())

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._values

    def __len__(self) -> int:
        with self._lock:
            return len(self._values)

    def get(self, key: Hashable, make: Callable[[], Value], size: Callable[[Value], int]) -> Value:
        """The value of ``key``, made if it is absent; an error of ``make`` leaves nothing."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return cast(Value, self._values[key][0])
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return cast(Value, self._values[key][0])
            try:
                value = make()
                with self._lock:
                    self._values[key] = (value, size(value))
                    self._shrink()
            finally:
                with self._lock:
                    self._making.pop(key, None)
            return value

    def touch(self, key: Hashable) -> None:
        """Mark a value as used now, where it is held."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)

    def drop(self, unwanted: Callable[[Hashable], bool]) -> None:
        """Forget the values whose keys are unwanted."""
        with self._lock:
            for key in [key for key in self._values if unwanted(key)]:
                del self._values[key]

    def _shrink(self) -> None:
        total = sum(size for _, size in self._values.values())
        while total > self.max_bytes and len(self._values) > 1:
            _, (_, size) = self._values.popitem(last=False)
            total -= size
