"""A step of ``rad3d demo build``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PHANTOM_SECONDS = 0.7


@dataclass(frozen=True)
class Stage:
    """One resumable step of the build: ``done`` looks for its output, ``run`` makes it.

    ``minutes`` is an estimate for two cores, measured on the shipped plan and scaled to others by
    their number of phantoms and steps.
    """

    name: str
    done: Callable[[], bool]
    run: Callable[[], object]
    minutes: float = 0.0
