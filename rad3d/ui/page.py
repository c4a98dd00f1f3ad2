"""The page: header, tabs, and the life of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from rad3d.core.encoders import disclaimer
from rad3d.evaluation.evaluations import Evaluations
from rad3d.metrics.cases import Places
from rad3d.server.queue import ReportQueue
from rad3d.ui.about import about_tab
from rad3d.ui.components import markup, module_script
from rad3d.ui.endpoints import add_endpoints
from rad3d.ui.evaluation.handlers import EvaluationHandlers
from rad3d.ui.evaluation.tab import evaluation_tab
from rad3d.ui.report.handlers import Handlers
from rad3d.ui.report.tab import report_tab

if TYPE_CHECKING:
    from rad3d.core.settings import Settings
    from rad3d.service.service import Service

MODEL_PLACES = 2
"""Reports written at the same time."""

MAX_EVENTS = 400
"""Opened scans and the like that may wait in Gradio's queue."""

_HEADER = f"""
<header class="r3-header"><div class="r3-brand"><span class="r3-logo" aria-hidden="true"></span>
<div><h1>RAD3D</h1><p>Language models that write reports for 3D chest CTs</p></div></div>
<p class="r3-disclaimer" role="note">{disclaimer(phantoms_only=True)}</p>
<button type="button" class="r3-theme" aria-label="Switch between light and dark">◐</button>
</header><p class="r3-sr" id="announcement" role="status"></p>
"""
_READER_STUDIES = """
<section class="r3-card r3-studies"><h2>Reader studies</h2><p>Let people rate these reports without
knowing who wrote them, by a secret link. <a href="studies" target="_blank">Make a study or see its
results</a>. Only the owner can do this.</p></section>
"""
_HEADER_SCRIPT = """
element.querySelector(".r3-theme").addEventListener("click", () =>
  document.body.classList.toggle("dark"));
"""


def build_ui(
    service: Service,
    settings: Settings,
    evaluations: Evaluations | None = None,
    turns: ReportQueue | None = None,
) -> gr.Blocks:
    """Return the whole app, to be launched with :func:`rad3d.ui.launch.launch_options`.

    Args:
        service: scans and reports.
        settings: limits and places.
        evaluations: evaluations of that service; made here by default.
        turns: the queue of the reports; made here by default.
    """
    evaluations = evaluations or Evaluations(service, settings)
    turns = turns or ReportQueue(MODEL_PLACES, settings.queue_size)
    handlers = Handlers(service, turns, evaluations.listening)
    evaluation = EvaluationHandlers(evaluations, service, handlers)
    with gr.Blocks(
        title="RAD3D: reports for chest CTs",
        analytics_enabled=False,
        fill_width=True,
    ) as demo:
        gr.HTML(_HEADER, js_on_load=_HEADER_SCRIPT, apply_default_css=False, elem_id="header")
        gr.HTML(
            html_template='<aside class="r3-tour" aria-label="A short tour" hidden></aside>',
            js_on_load=module_script("tour.js", ""),
            apply_default_css=False,
            elem_id="tour",
        )
        troubles = markup("", "troubles")
        with gr.Tabs() as tabs:
            with gr.Tab("Report", id="report"):
                report = report_tab(service, settings, handlers, evaluations.measured)
            with gr.Tab("Evaluation", id="evaluation") as tab:
                evaluation_tab(evaluations, evaluation, report, tabs, tab)
                if service.owner_secret:
                    markup(_READER_STUDIES)
            with gr.Tab("About", id="about"):
                about_tab(service, evaluations.measured, Places.of(settings))
        add_endpoints(service, turns, settings.default_variant)
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        demo.load(handlers.start, None, [report.state, troubles], **quiet).then(
            report.describe, report.variant, report.state, **quiet
        )
        demo.load(evaluation.prepare, None, None, concurrency_limit=1, **quiet)
        demo.unload(handlers.end)
    # Reports wait in ReportQueue, which tells them how long; this bound is for everything else.
    demo.queue(max_size=MAX_EVENTS, default_concurrency_limit=2)
    return demo
