"""Events of a service, for the log and the metrics: figures and codes, no names, no content."""

from __future__ import annotations

from typing import Protocol


class OnEvent(Protocol):
    """Receives the name and the fields of each event.

    - ``scan_opened``: ``seconds`` for reading it, ``voxels``;
    - ``scan_refused``: ``code`` of the error;
    - ``turn_came``: ``seconds`` that a report has waited; 0 where nobody was before it;
    - ``report_written``, also where the person cut it short: ``variant``, ``finish``, ``tokens``,
      and for each stage ``<stage>_s``;
    - ``report_failed``: ``code``, which is ``defect`` where no person caused it.
    """

    def __call__(self, name: str, **fields: object) -> None:
        """Record an event."""


def ignore_event(name: str, **fields: object) -> None:
    """Ignore every event."""
