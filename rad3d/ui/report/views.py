"""What the event handlers of the report tab show: values of components by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from rad3d.core.errors import BadRequest
from rad3d.core.types import Diagnosis, DiagnosisEvent, Event, Report, StageEvent, TextEvent
from rad3d.core.variant_ids import split_variant_id
from rad3d.reports.changes import changes_of
from rad3d.reports.crosscheck import CrossCheck, cross_check
from rad3d.reports.export import report_json, report_text
from rad3d.reports.fhir import report_fhir
from rad3d.service.revisions import report_key, revise
from rad3d.service.sessions import Session, Stop
from rad3d.ui.page_state import PageState, Values
from rad3d.ui.report import html
from rad3d.ui.report.chart import diagnosis_chart

if TYPE_CHECKING:
    from rad3d.service.service import Service


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


def _panel(text: str, report: Report | None = None, draft: Values | None = None) -> dict[str, Any]:
    """Return the value of the report sheet: what it shows, and what of a finished report it saves.

    Args:
        text: HTML.
        report: the finished one.
        draft: what is sent back where the report is revised in the page.
    """
    panel: dict[str, Any] = {"html": text, "text": "", "draft": draft}
    if report is None:
        return panel
    edited = "-edited" if report.diagnosis.edited else ""
    return {
        **panel,
        "name": f"report-{report.variant_id.replace('/', '-')}{edited}",
        "text": report_text(report),
        "json": report_json(report),
        "fhir": report_fhir(report),
    }


NO_WHAT_IF: Values = {"what_if": {"of": "", "reason": ""}, "listening": ""}
"""The page without a diagnosis that could be edited."""

NO_RUN: Values = {
    "progress": "",
    "report": _panel(html.report_panel("")),
    "verdicts": "",
    "chart": gr.update(value=None, visible=False),
    "table": "",
    **NO_WHAT_IF,
    **buttons(running=False),
}
"""The page before the first report on a scan."""


def shown(event: Event, original: Report | None = None) -> Values:
    """Return what an event of a run changes on the page.

    Args:
        event: of the run.
        original: the report beside which one is written from an edited diagnosis; None where the
            diagnosis is the classifier's.
    """
    if isinstance(event, StageEvent):
        return {"progress": html.progress(event.stage, event.fraction), **buttons(running=True)}
    if isinstance(event, DiagnosisEvent):
        waiting = _being_written("", "waiting for the first word", original)
        trained_on = html.trained_on(event.diagnosis)
        return {
            "report": waiting,
            "verdicts": html.verdicts(event.novelty, trained_on, notes=event.notes),
            "chart": _chart(event.diagnosis),
            "table": html.diagnosis_table(event.diagnosis),
        }
    if isinstance(event, TextEvent):
        status = f"writing, {event.n_tokens} tokens"
        return {"report": _being_written(event.text, status, original)}
    return finished(original, event.report) if original else finished(event.report)


def _being_written(text: str, status: str, original: Report | None) -> dict[str, str]:
    if original is None:
        return _panel(html.report_panel(text, status, writing=True))
    return _panel(html.comparison(original.text, text, status))


def finished(original: Report, edited: Report | None = None) -> Values:
    """Return a finished report with everything that belongs to it.

    Args:
        original: from the classifier's diagnosis.
        edited: from an edited diagnosis; shown beside the original.
    """
    report = edited or original
    check = cross_check(report.final_text, report.diagnosis)
    status = html.report_status(report)
    draft: Values | None = None
    if edited is None:
        text = html.report_panel(
            report.final_text, status, check.statements, located=report.located,
            changes=changes_of(report),
        )  # fmt: skip
        seconds = report.revision.seconds if report.revision else 0.0
        draft = {"of": report_key(report), "text": report.final_text, "original": report.text,
                 "seconds": seconds}  # fmt: skip
    else:
        followed = html.followed(
            cross_check(original.text, edited.diagnosis), check, edited.diagnosis
        )
        unfinished = edited.finish_reason != "end"
        text = html.comparison(original.text, edited.text, status, followed, unfinished)
    trained_on = html.trained_on(report.diagnosis)
    return {
        "progress": "",
        "report": _panel(text, report, draft),
        "verdicts": html.verdicts(report.novelty, trained_on, check, report.notes, report.located),
        "chart": _chart(report.diagnosis, check),
        "table": html.diagnosis_table(report.diagnosis, report.located),
        "what_if": what_if(original, edited),
        **buttons(running=False),
    }


def what_if(original: Report, edited: Report | None = None, chosen: str = "") -> dict[str, Any]:
    """Return the rows of the diagnosis that can be edited; see ``static/what_if.js``.

    Args:
        original: from the classifier's diagnosis.
        edited: the report that is shown beside it.
        chosen: the variant that is picked now; for another than the report's there are no rows.
    """
    if chosen not in ("", original.variant_id):
        reason = f"{_variant_name(chosen)} is chosen now. Generate its report first."
        return {"of": "", "reason": reason}
    rows = sorted(original.diagnosis.to_rows(), key=lambda row: -row["probability"])
    _, mode = split_variant_id(original.variant_id)
    return {
        "of": report_key(original),
        "variant": _variant_name(original.variant_id),
        "listens": mode.reads_prior,
        "rows": [{k: row[k] for k in ("label", "probability", "threshold")} for row in rows],
        "edits": edits_of(edited) if edited else {},
    }


def edits_of(report: Report) -> dict[str, float]:
    """Return the probabilities that a person set for a report."""
    rows = report.diagnosis.to_rows()
    return {row["label"]: row["probability"] for row in rows if row["edited"]}


def _variant_name(variant: str) -> str:
    llm, mode = split_variant_id(variant)
    return f"{llm.name} · {mode.name}"


def _chart(diagnosis: Diagnosis, check: CrossCheck | None = None) -> dict[str, Any]:
    drawing: dict[str, Any] = diagnosis_chart(diagnosis, check).model_dump()
    return gr.update(value=drawing, visible=True)


def last_finished(session: Session) -> Values:
    """Return the last finished report; of an edited diagnosis where there is one since."""
    return finished(session.report, session.edited) if session.report else NO_RUN


def revised(service: Service, session: Session, page: PageState, event: gr.EventData) -> None:
    """Keep a revision that the page has sent, see ``static/draft.js``, and show what it says.

    The report itself is shown anew once the person is done; until then it is being typed.

    Raises:
        BadRequest: it is of another report, or unusable.
    """
    of, text, seconds = (getattr(event, name, None) for name in ("of", "text", "seconds"))
    if not isinstance(text, str) or not isinstance(seconds, int | float):
        raise BadRequest("A revision is a text and the seconds that it took.")
    report = revise(service, session, str(of), text, float(seconds))
    is_done = getattr(event, "done", False) is True
    names = ("verdicts", "chart", "table") + (("report",) if is_done else ())

    def values(now: Values) -> Values:
        if now["cancel"]["interactive"] and not session.is_comparing:
            return {}  # another report is being written
        made = finished(report)
        return {name: made[name] for name in names}

    page.write(values, lambda: session.report is report and session.edited is None)


def resting(session: Session, text: str, level: str = "error", insist: bool = False) -> Values:
    """Return the values after a run that ended early: the reason and the last finished report."""
    return {
        **last_finished(session),
        "progress": html.notice(text, level),
        **buttons(False, insist),
    }


def beside(session: Session, values: Values) -> Callable[[Values], Values]:
    """Return what makes the values; while a comparison is written, they do not say it is not."""

    def made(now: Values) -> Values:
        running = {name: now[name] for name in ("progress", "anyway", "generate", "cancel")}
        return {**values, **running} if session.is_comparing else values

    return made


def armed(
    stop: Stop,
    session: Session,
    page: PageState,
    values: Callable[[Values], Values],
    stage: str = "Waiting for a free model",
) -> None:
    """Show that something was asked for, unless something else was asked for since.

    Args:
        stop: its signal.
        session, page: where.
        values: what changes besides, made from what is shown now.
        stage: said until its first event.
    """
    asked = {"progress": html.progress(stage), "notice": "", **buttons(running=True)}
    page.write(lambda now: {**values(now), **asked}, lambda: session.is_latest(stop))
    session.offer(stop)  # else another press could have it written before the page says it waits
