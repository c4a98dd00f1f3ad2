"""What the event handlers of the report tab show: values of components by their names."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rad3d.core.encoders import ENCODERS, SHIPPED_ENCODER
from rad3d.core.types import Diagnosis, DiagnosisEvent, Event, Report, StageEvent, TextEvent
from rad3d.reports.crosscheck import CrossCheck, cross_check
from rad3d.reports.export import report_json, report_text
from rad3d.ui.page_state import Values
from rad3d.ui.report import html
from rad3d.ui.report.chart import diagnosis_chart


def buttons(running: bool, insist: bool = False) -> Values:
    """Return the states of the buttons.

    Args:
        running: a report is being written, or waits for its turn.
        insist: show the button that writes a report which would mean nothing.
    """
    return {
        "anyway": gr.update(visible=insist),
        "generate": gr.update(interactive=not running),
        "cancel": gr.update(interactive=running),
    }


def _panel(text: str, data: str = "", plain: str = "", name: str = "") -> dict[str, str]:
    return {"html": text, "text": plain, "json": data, "name": name}


NO_RUN: Values = {
    "progress": "",
    "report": _panel(html.report_panel("")),
    "verdicts": "",
    "chart": gr.update(value=None, visible=False),
    "table": "",
    **buttons(running=False),
}
"""The page before the first report on a scan."""


def shown(event: Event) -> Values:
    """Return what an event of a run changes on the page."""
    if isinstance(event, StageEvent):
        return {"progress": html.progress(event.stage, event.fraction), **buttons(running=True)}
    if isinstance(event, DiagnosisEvent):
        waiting = html.report_panel("", "waiting for the first word", writing=True)
        trained_on = _trained_on(event.diagnosis)
        return {
            "report": _panel(waiting),
            "verdicts": html.verdicts(event.novelty, trained_on, notes=event.notes),
            "chart": _chart(event.diagnosis),
            "table": html.diagnosis_table(event.diagnosis),
        }
    if isinstance(event, TextEvent):
        status = f"writing, {event.n_tokens} tokens"
        return {"report": _panel(html.report_panel(event.text, status, writing=True))}
    return finished(event.report)


def finished(report: Report) -> Values:
    """Return a finished report with everything that belongs to it."""
    check = cross_check(report.text, report.diagnosis)
    text = html.report_panel(report.text, html.report_status(report), check.statements)
    name = f"report-{report.variant_id.replace('/', '-')}"
    trained_on = _trained_on(report.diagnosis)
    return {
        "progress": "",
        "report": _panel(text, report_json(report), report_text(report), name),
        "verdicts": html.verdicts(report.novelty, trained_on, check, report.notes),
        "chart": _chart(report.diagnosis, check),
        "table": html.diagnosis_table(report.diagnosis),
        **buttons(running=False),
    }


def _chart(diagnosis: Diagnosis, check: CrossCheck | None = None) -> dict[str, Any]:
    drawing: dict[str, Any] = diagnosis_chart(diagnosis, check).model_dump()
    return gr.update(value=drawing, visible=True)


def _trained_on(diagnosis: Diagnosis) -> str:
    """Return what the encoder behind a diagnosis was trained on."""
    return ENCODERS.get(diagnosis.source, ENCODERS[SHIPPED_ENCODER]).trained_on
