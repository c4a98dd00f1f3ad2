"""What the event handlers show, as plain values by the name of the component."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from rad3d.core.registry import ENCODERS, SHIPPED_ENCODER
from rad3d.core.types import (
    Diagnosis,
    DiagnosisEvent,
    DoneEvent,
    Event,
    Report,
    StageEvent,
    TextEvent,
)
from rad3d.reports.crosscheck import CrossCheck, cross_check
from rad3d.reports.export import report_json, report_text
from rad3d.ui.report import render
from rad3d.ui.report.chart import diagnosis_chart


def _given(view: Any) -> dict[str, Any]:
    """The fields of a view that are not None."""
    found = {field.name: getattr(view, field.name) for field in fields(view)}
    return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class ScanView:
    """After a scan was opened or refused; None leaves a part of the page as it is."""

    viewer: dict[str, Any] | None = None
    notice: str | None = ""
    notes: str | None = None
    truth: str | None = None

    def values(self) -> dict[str, Any]:
        """By the name of the component."""
        return _given(self)


@dataclass(frozen=True)
class RunView:
    """While a report is written: None leaves a part of the page as it is.

    What a run has to say stands in ``progress``, beside its button; ``notice`` is about the scan.
    ``insist``: a report would mean nothing, and the second button writes one all the same.
    """

    progress: str | None = None
    report: dict[str, str] | None = None
    verdicts: str | None = None
    chart: dict[str, Any] | None = None
    table: str | None = None
    notice: str | None = None
    running: bool | None = None
    insist: bool = False

    def values(self) -> dict[str, Any]:
        """By the name of the component; the buttons follow ``running`` and ``insist``."""
        found = _given(self)
        running, insist = found.pop("running", None), found.pop("insist")
        if running is not None:
            found["anyway"] = gr.update(visible=insist)
            found["generate"] = gr.update(interactive=not running)
            found["cancel"] = gr.update(interactive=running)
        return found


NO_RUN = RunView(
    progress="",
    report={"html": render.report_panel(""), "text": "", "json": "", "name": ""},
    verdicts="",
    chart=gr.update(value=None, visible=False),
    table="",
    running=False,
)
"""The page before the first report of a scan."""


def shown(event: Event) -> RunView:
    """What an event of a run changes on the page."""
    if isinstance(event, StageEvent):
        return RunView(progress=render.progress(event.stage, event.fraction), running=True)
    if isinstance(event, DiagnosisEvent):
        return RunView(
            report=_panel(render.report_panel("", "waiting for the first word", writing=True)),
            verdicts=render.verdicts(
                event.novelty, _trained_on(event.diagnosis), notes=event.notes
            ),
            chart=_chart(event.diagnosis),
            table=render.diagnosis_table(event.diagnosis),
        )
    if isinstance(event, TextEvent):
        status = f"writing, {event.n_tokens} tokens"
        return RunView(report=_panel(render.report_panel(event.text, status, writing=True)))
    return _finished(event)


def _finished(event: DoneEvent) -> RunView:
    report = event.report
    check = cross_check(report.text, report.diagnosis)
    html = render.report_panel(report.text, render.report_status(report), check.statements)
    return RunView(
        progress="",
        report=_panel(html, report_text(report), report_json(report), _file_name(report)),
        verdicts=render.verdicts(
            report.novelty, _trained_on(report.diagnosis), check, report.notes
        ),
        chart=_chart(report.diagnosis, check),
        table=render.diagnosis_table(report.diagnosis),
        running=False,
    )


def _panel(html: str, text: str = "", data: str = "", name: str = "report") -> dict[str, str]:
    return {"html": html, "text": text, "json": data, "name": name}


def _chart(diagnosis: Diagnosis, check: CrossCheck | None = None) -> dict[str, Any]:
    drawn: dict[str, Any] = diagnosis_chart(diagnosis, check).model_dump()
    return gr.update(value=drawn, visible=True)


def _trained_on(diagnosis: Diagnosis) -> str:
    """What the encoder behind a diagnosis learned from."""
    return ENCODERS.get(diagnosis.source, ENCODERS[SHIPPED_ENCODER]).trained_on


def _file_name(report: Report) -> str:
    return f"report-{report.variant_id.replace('/', '-')}"
