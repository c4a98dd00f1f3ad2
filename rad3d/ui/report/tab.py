"""The report tab: a scan on the left, its report on the right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from rad3d.ui import choices
from rad3d.ui.components import (
    compare_card,
    markup,
    report_sheet,
    scan_source,
    volume_viewer,
    what_if_panel,
)
from rad3d.ui.page_state import Snapshot, page_state
from rad3d.ui.report.compare_card import offered
from rad3d.ui.report.generation_fields import OPTION_NAMES, generation_fields
from rad3d.ui.report.handlers import Handlers
from rad3d.ui.report.views import NO_RUN

if TYPE_CHECKING:
    from rad3d.core.encoders import EncoderRow
    from rad3d.core.settings import Settings
    from rad3d.service.service import Service

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_READING: dict[str, Any] = {**_QUIET, "concurrency_id": "reading", "concurrency_limit": 2}

Components = dict[str, Any]
"""Components by the names of :data:`rad3d.ui.report.views.NO_RUN` and of the handlers."""


@dataclass(frozen=True)
class ReportTab:
    """The parts of the tab that the rest of the page uses.

    Attributes:
        state: the page state; every handler writes to it and to nothing else.
        describe: :meth:`Handlers.describe`.
        variant: the components that name the chosen variant, which ``describe`` takes.
    """

    state: gr.HTML
    describe: Callable[..., Snapshot]
    variant: list[Any]


def report_tab(
    service: Service, settings: Settings, handlers: Handlers, look: choices.Look
) -> ReportTab:
    """Lay out the tab and connect it.

    Args:
        service: scans and reports.
        settings: limits and places.
        handlers: called by the components.
        look: gives the results of a variant.
    """
    with gr.Row(elem_classes="r3-columns"):
        with gr.Column(scale=12, min_width=320, elem_classes="r3-left"):
            source = scan_source(service.gallery.cards, settings)
            shown, delete = _scan_column(service, settings)
        with gr.Column(scale=13, min_width=320, elem_classes="r3-right"):
            choice, options = _choice(service, settings, look)
            shown |= {name: choice[name] for name in ("generate", "anyway", "cancel")}
            shown |= _report_column()
        with gr.Column(elem_classes="r3-across"):
            shown["compare"] = compare_card(offered(service.variants()))
    variant = [choice["llm"], choice["mode"]]
    state = page_state("report-state", shown, handlers.again)
    _connect_scan(handlers, source, delete, variant, state)
    panels = shown["what_if"], shown["compare"], shown["report"]
    _connect_run(handlers, choice, panels, [*variant, *options], state)
    for picked in _connect_pickers(service, look, choice, shown["viewer"]):
        picked.then(handlers.describe, variant, state, **_READING)
    return ReportTab(state, handlers.describe, variant)


def _scan_column(service: Service, settings: Settings) -> tuple[Components, gr.Button]:
    """Lay out the viewer, the notes on the scan, and the button that deletes it."""
    notice = markup("", "notice")
    statuses = service.variants()
    chosen = choices.first_choice(statuses, settings.default_variant)
    viewer = volume_viewer(_shown_encoder(choices.encoder_of(statuses, *chosen)))
    notes = markup("", "notes")
    truth = markup("", "truth")
    with gr.Row(elem_classes="r3-run"):
        delete = gr.Button("Delete scan and report", size="sm", elem_id="delete")
    markup(
        '<p class="r3-fine">Your scan is kept in this server\'s memory only. The scan and '
        "everything computed from it, on a shared server your evaluations too, are deleted when "
        f"you press Delete, when you close this tab, and after {settings.session_minutes} minutes "
        "without use.</p>"
    )
    return {"viewer": viewer, "notice": notice, "notes": notes, "truth": truth}, delete


def _choice(
    service: Service, settings: Settings, look: choices.Look
) -> tuple[Components, list[Any]]:
    """Lay out the pickers, the buttons, and the options in the order of OPTION_NAMES."""
    statuses = service.variants()
    llm_id, mode_id = choices.first_choice(statuses, settings.default_variant)
    ready = bool(llm_id)  # without a model there is nothing to choose and nothing to press
    with gr.Column(elem_classes="r3-card r3-choice"):
        llm = gr.Radio(
            choices.llm_choices(statuses),
            value=llm_id,
            label="Language model",
            elem_id="llm",
            visible=ready,
        )
        mode = gr.Radio(
            choices.mode_choices(statuses, llm_id),
            value=mode_id,
            label="Adaptation mode",
            elem_id="mode",
            visible=ready,
        )
        guidance = markup(choices.guidance(statuses, llm_id, mode_id, look), "guidance")
        with gr.Row(elem_classes="r3-run", visible=ready):
            generate = gr.Button("Generate report", variant="primary", elem_id="generate")
            anyway = gr.Button("Write a report anyway", elem_id="anyway", visible=False)
            cancel = gr.Button("Cancel", elem_id="cancel", interactive=False)
        with gr.Accordion("Generation options", open=False, elem_id="options", visible=ready):
            options = generation_fields()
        needs = choices.not_ready(statuses)
        if needs:
            with gr.Accordion("Other models, and what they need", open=False):
                markup(needs, "needs")
    choice = {
        "llm": llm, "mode": mode, "guidance": guidance, "generate": generate, "anyway": anyway,
        "cancel": cancel,
    }  # fmt: skip
    return choice, [options[name] for name in OPTION_NAMES]


def _report_column() -> Components:
    """Lay out the components that a run writes to."""
    progress = markup("", "progress")
    with gr.Row(elem_classes="r3-result"):
        with gr.Column(scale=11, min_width=320):
            verdicts = markup("", "verdicts")  # first: a report must not be read without it
            report = report_sheet(NO_RUN["report"])
        with gr.Column(scale=10, min_width=300, elem_classes="r3-card r3-diagnosis"):
            markup(
                "<h2>Diagnosis</h2><p>The classifier's probability of each finding; the upright "
                "line is its threshold. &ne;: contradicted by the report; &empty;: not mentioned "
                "in it.</p>"
            )
            what_if = what_if_panel()
            listening = markup("", "listening")
            chart = gr.Plot(show_label=False, visible=False, elem_id="chart")
            table = markup("", "table")
    return {
        "progress": progress, "report": report, "verdicts": verdicts, "chart": chart,
        "table": table, "what_if": what_if, "listening": listening,
    }  # fmt: skip


def _connect_scan(
    handlers: Handlers, source: gr.HTML, delete: gr.Button, variant: list[Any], state: gr.HTML
) -> None:
    # By default an event is dropped while the one before it is answered; here the last one counts.
    every: dict[str, Any] = {**_READING, "trigger_mode": "multiple"}
    for opened in (
        source.upload(handlers.open_upload, source, state, **every),
        source.select(handlers.pick_sample, None, state, **every),
    ):
        opened.then(handlers.describe, variant, state, **every)
    delete.click(handlers.forget, None, state, queue=False, **_QUIET)


def _connect_run(
    handlers: Handlers,
    choice: Components,
    panels: tuple[gr.HTML, gr.HTML, gr.HTML],
    inputs: list[Any],
    state: gr.HTML,
) -> None:
    at_once: dict[str, Any] = {**_QUIET, "queue": False}
    what_if, compare, report = panels
    report.submit(handlers.revise, None, state, trigger_mode="multiple", **_READING)
    what_if.expand(handlers.listen, None, state, **_QUIET)
    edited = what_if.submit(handlers.begin_edited, None, state, trigger_mode="multiple", **at_once)
    compared = compare.submit(
        handlers.begin_comparison, None, state, trigger_mode="multiple", **at_once
    )
    compare.stop(handlers.cancel, None, state, **at_once)
    for begun, insist in (
        (choice["generate"].click(handlers.begin, None, state, **at_once), False),
        (choice["anyway"].click(handlers.begin, None, state, **at_once), True),
        (edited, True),
        (compared, False),
    ):
        begun.then(
            handlers.generate,
            [*inputs, gr.State(insist)],
            state,
            concurrency_id="report",
            concurrency_limit=None,  # ReportQueue has the limit
            trigger_mode="multiple",  # the run before it may still be on its way to its end
            **_QUIET,
        )
    choice["cancel"].click(handlers.cancel, None, state, queue=False, **_QUIET)


def _connect_pickers(
    service: Service, look: choices.Look, choice: Components, viewer: gr.HTML
) -> list[Any]:
    """Connect the two pickers; returns the events after which another encoder may be chosen."""

    def llm_chosen(llm: str, mode: str | None) -> tuple[Any, ...]:
        modes = choices.mode_choices(service.variants(), llm)
        ids = [mode_id for _, mode_id in modes]
        chosen = mode if mode in ids else (ids[-1] if ids else None)
        return gr.update(choices=modes, value=chosen), *mode_chosen(llm, chosen)

    def mode_chosen(llm: str, mode: str | None) -> tuple[Any, ...]:
        statuses = service.variants()
        encoder = _shown_encoder(choices.encoder_of(statuses, llm, mode))
        return choices.guidance(statuses, llm, mode, look), gr.update(encoder=encoder)

    llm, mode, changed = choice["llm"], choice["mode"], [choice["guidance"], viewer]
    return [
        llm.input(llm_chosen, [llm, mode], [mode, *changed], queue=False, **_QUIET),
        mode.input(mode_chosen, [llm, mode], changed, queue=False, **_QUIET),
    ]


def _shown_encoder(encoder: EncoderRow) -> dict[str, str]:
    return {"id": encoder.id, "name": encoder.name}
