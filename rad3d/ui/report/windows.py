"""The display windows, in one table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Grey values from ``level - width / 2`` (black) to ``level + width / 2`` (white), in HU."""

    name: str
    level: int
    width: int


WINDOWS: tuple[Window, ...] = (
    Window("Lung", -600, 1500),
    Window("Mediastinum", 40, 400),
    Window("Bone", 400, 1800),
)
