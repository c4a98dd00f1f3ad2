"""What the tests of processes of their own have done there; imports little, as each imports it."""

from __future__ import annotations

import os
import re
from typing import Any

from rad3d.core.errors import UnknownName


def stuck() -> None:
    """Holds the interpreter for longer than anybody waits: no signal and no thread gets through."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def added(one: int, two: int, progress: Any) -> tuple[int, int]:
    progress("adding", 0.5)
    return one + two, os.getpid()


def refuses() -> None:
    raise UnknownName("column", "text", ["report"])


def too_much() -> int:
    return len(bytearray(2**40))


def ends() -> None:
    os.kill(os.getpid(), 9)


def breaks() -> None:
    raise ValueError("a patient's name")
