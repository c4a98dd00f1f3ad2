"""Schedules of the second encoder's training; apart from it, which loads MONAI."""

from __future__ import annotations

from dataclasses import dataclass

from rad3d.train.loop import LoopConfig


@dataclass(frozen=True)
class ClipTraining:
    """Schedules of the three runs.

    Attributes:
        parts, whole: schedules on parts of scans and on whole scans.
        contrast: schedule of the read-out, in batches of its own.
        parts_batch, whole_batch, contrast_batch: examples for each step.
    """

    parts: LoopConfig
    whole: LoopConfig
    contrast: LoopConfig
    parts_batch: int = 32
    whole_batch: int = 8
    contrast_batch: int = 128

    @property
    def steps(self) -> int:
        """Steps of the trunk, which take the time."""
        return self.parts.steps + self.whole.steps
