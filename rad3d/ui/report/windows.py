"""The display windows, in one table."""

from __future__ import annotations

from dataclasses import dataclass

from rad3d.core.findings import ORGANS


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


def window_of(label: str) -> Window:
    """Return the window in which a finding is looked for; that of the lungs where none is named."""
    lung, mediastinum, _ = WINDOWS
    return lung if not label or label in ORGANS["Lungs and airways"] else mediastinum
