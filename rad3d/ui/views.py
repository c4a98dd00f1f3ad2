"""What the event handlers send to the page, as plain values in a fixed order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from rad3d.ui.render import report_panel


@dataclass(frozen=True)
class ScanView:
    """After a scan was opened or refused: viewer, notice, notes, known truth."""

    viewer: Any = None
    notice: Any = ""
    notes: Any = None
    truth: Any = None

    def outputs(self) -> tuple[Any, ...]:
        """In the order of the page's components; None leaves one as it is."""
        return tuple(_or_skip(v) for v in (self.viewer, self.notice, self.notes, self.truth))


@dataclass(frozen=True)
class RunView:
    """While a report is written: None leaves a part of the page as it is.

    What a run has to say stands in ``progress``, beside its button; ``notice`` is about the scan.
    """

    progress: Any = None
    report: Any = None
    verdicts: Any = None
    chart: Any = None
    table: Any = None
    notice: Any = None
    running: bool | None = None

    def outputs(self) -> tuple[Any, ...]:
        """In the order of the page's components."""
        values = (
            self.progress, self.report, self.verdicts, self.chart, self.table, self.notice,
        )  # fmt: skip
        buttons: tuple[Any, Any] = (gr.skip(), gr.skip())
        if self.running is not None:
            buttons = (
                gr.update(interactive=not self.running),
                gr.update(interactive=self.running),
            )
        return (*(_or_skip(v) for v in values), *buttons)


NO_RUN = RunView(
    progress="",
    report={"html": report_panel(""), "text": "", "json": "", "name": ""},
    verdicts="",
    chart=gr.update(value=None, visible=False),
    table="",
    running=False,
)
"""The page before the first report of a scan."""


def _or_skip(value: Any) -> Any:
    return gr.skip() if value is None else value
