"""The report tab: a scan on the left, its report on the right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from rad3d.ui import choices
from rad3d.ui.components import markup, report_sheet, scan_source, volume_viewer
from rad3d.ui.page_state import Snapshot, page_state
from rad3d.ui.report.generation_fields import generation_fields
from rad3d.ui.report.handlers import OPTION_NAMES, Handlers
from rad3d.ui.report.views import NO_RUN

if TYPE_CHECKING:
    from rad3d.core.registry import EncoderRow
    from rad3d.core.settings import Settings
    from rad3d.service.service import Service

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_READING: dict[str, Any] = {**_QUIET, "concurrency_id": "reading", "concurrency_limit": 2}


@dataclass(frozen=True)
class ScanColumn:
    """Components of the left column."""

    source: gr.HTML
    notice: gr.HTML
    viewer: gr.HTML
    notes: gr.HTML
    truth: gr.HTML
    delete: gr.Button


@dataclass(frozen=True)
class Choice:
    """The pickers and the buttons."""

    llm: gr.Radio
    mode: gr.Radio
    guidance: gr.HTML
    options: list[Any]
    generate: gr.Button
    anyway: gr.Button
    cancel: gr.Button

    @property
    def variant(self) -> list[Any]:
        """What names the chosen variant."""
        return [self.llm, self.mode]


@dataclass(frozen=True)
class ReportColumn:
    """Components that a run writes to."""

    progress: gr.HTML
    report: gr.HTML
    verdicts: gr.HTML
    chart: gr.Plot
    table: gr.HTML


@dataclass(frozen=True)
class ReportTab:
    """What other parts of the page have to know of.

    Attributes:
        state: what is shown; every handler writes to it and to nothing else.
        describe: :meth:`Handlers.describe`.
        chosen: what it takes.
    """

    state: gr.HTML
    describe: Callable[..., Snapshot]
    chosen: list[Any]


def report_tab(
    service: Service, settings: Settings, handlers: Handlers, look: choices.Look
) -> ReportTab:
    """Lay the tab out and connect it.

    Args:
        service: scans and reports.
        settings: limits and places.
        handlers: what the components call.
        look: what was measured of a variant.
    """
    with gr.Row(elem_classes="r3-columns"):
        with gr.Column(scale=12, min_width=320, elem_classes="r3-left"):
            scan = _scan_column(service, settings)
        with gr.Column(scale=13, min_width=320, elem_classes="r3-right"):
            choice = _choice(service, settings, look)
            run = _report_column()
    state = _connect(handlers, scan, choice, run)
    for chosen in _connect_pickers(service, look, choice, scan.viewer):
        chosen.then(handlers.describe, choice.variant, state, **_READING)
    return ReportTab(state, handlers.describe, choice.variant)


def _scan_column(service: Service, settings: Settings) -> ScanColumn:
    source = scan_source(service.gallery.cards, settings)
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
    return ScanColumn(source, notice, viewer, notes, truth, delete)


def _choice(service: Service, settings: Settings, look: choices.Look) -> Choice:
    statuses = service.variants()
    llm_id, mode_id = choices.first_choice(statuses, settings.default_variant)
    with gr.Column(elem_classes="r3-card r3-choice"):
        llm = gr.Radio(
            choices.llm_choices(statuses),
            value=llm_id,
            label="Language model",
            elem_id="llm",
        )
        mode = gr.Radio(
            choices.mode_choices(statuses, llm_id),
            value=mode_id,
            label="Adaptation mode",
            elem_id="mode",
        )
        guidance = markup(choices.guidance(statuses, llm_id, mode_id, look), "guidance")
        options = _options()
        needs = choices.not_ready(statuses)
        if needs:
            with gr.Accordion("Other models, and what they need", open=False):
                markup(needs, "needs")
        with gr.Row(elem_classes="r3-run"):
            generate = gr.Button(
                "Generate report", variant="primary", elem_id="generate", interactive=bool(llm_id)
            )
            anyway = gr.Button("Write a report anyway", elem_id="anyway", visible=False)
            cancel = gr.Button("Cancel", elem_id="cancel", interactive=False)
    return Choice(llm, mode, guidance, options, generate, anyway, cancel)


def _options() -> list[Any]:
    """The fields of :class:`GenerationOptions`, in the order of ``OPTION_NAMES``."""
    with gr.Accordion("Generation options", open=False, elem_id="options"):
        found = generation_fields()
    return [found[name] for name in OPTION_NAMES]


def _report_column() -> ReportColumn:
    progress = markup("", "progress")
    with gr.Row(elem_classes="r3-result"):
        with gr.Column(scale=11, min_width=320):
            verdicts = markup("", "verdicts")  # first: a report must not be read without it
            report = report_sheet(NO_RUN.values()["report"])
        with gr.Column(scale=10, min_width=300, elem_classes="r3-card r3-diagnosis"):
            markup(
                "<h2>Diagnosis</h2><p>The classifier's probability of each finding; the upright "
                "line is its threshold. &ne;: contradicted by the report; &empty;: not mentioned "
                "in it.</p>"
            )
            chart = gr.Plot(show_label=False, visible=False, elem_id="chart")
            table = markup("", "table")
    return ReportColumn(progress, report, verdicts, chart, table)


def _connect(handlers: Handlers, scan: ScanColumn, choice: Choice, run: ReportColumn) -> gr.HTML:
    """Connect the events; returns what is shown."""
    shown = {
        "viewer": scan.viewer, "notice": scan.notice, "notes": scan.notes, "truth": scan.truth,
        "progress": run.progress, "report": run.report, "verdicts": run.verdicts,
        "chart": run.chart, "table": run.table,
        "generate": choice.generate, "anyway": choice.anyway, "cancel": choice.cancel,
    }  # fmt: skip
    state = page_state("report-state", shown, handlers.again)
    # By default an event is dropped while the one before it is answered; here the last one counts.
    every: dict[str, Any] = {**_READING, "trigger_mode": "multiple"}
    for chosen in (
        scan.source.upload(handlers.open_upload, scan.source, state, **every),
        scan.source.select(handlers.pick_sample, None, state, **every),
    ):
        chosen.then(handlers.describe, choice.variant, state, **every)
    for button, insist in ((choice.generate, False), (choice.anyway, True)):
        button.click(handlers.begin, None, state, queue=False, **_QUIET).then(
            handlers.generate,
            [*choice.variant, *choice.options, gr.State(insist)],
            state,
            concurrency_id="report",
            concurrency_limit=None,  # ReportQueue has the limit
            trigger_mode="multiple",  # the run before it may still be on its way to its end
            **_QUIET,
        )
    choice.cancel.click(handlers.cancel, None, state, queue=False, **_QUIET)
    scan.delete.click(handlers.forget, None, state, queue=False, **_QUIET)
    return state


def _connect_pickers(
    service: Service, look: choices.Look, choice: Choice, viewer: gr.HTML
) -> list[Any]:
    """Connect the two pickers; returns the events after which another encoder may be chosen."""

    def llm_chosen(llm: str, mode: str | None) -> tuple[Any, ...]:
        statuses = service.variants()
        modes = choices.mode_choices(statuses, llm)
        ids = [mode_id for _, mode_id in modes]
        kept = mode if mode in ids else (ids[-1] if ids else None)
        return gr.update(choices=modes, value=kept), *mode_chosen(llm, kept)

    def mode_chosen(llm: str, mode: str | None) -> tuple[Any, ...]:
        statuses = service.variants()
        encoder = _shown_encoder(choices.encoder_of(statuses, llm, mode))
        return choices.guidance(statuses, llm, mode, look), gr.update(encoder=encoder)

    changed = [choice.guidance, viewer]
    return [
        choice.llm.input(
            llm_chosen, choice.variant, [choice.mode, *changed], queue=False, **_QUIET
        ),
        choice.mode.input(mode_chosen, choice.variant, changed, queue=False, **_QUIET),
    ]


def _shown_encoder(encoder: EncoderRow) -> dict[str, str]:
    return {"id": encoder.id, "name": encoder.name}
