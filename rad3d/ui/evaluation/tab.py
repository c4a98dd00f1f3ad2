"""The evaluation tab: results, the cases behind them, and the panel that runs evaluations."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import gradio as gr

from rad3d.evaluation.exports import EXPORTS
from rad3d.evaluation.figures.scaling import AGAINST
from rad3d.ui.components import markup
from rad3d.ui.evaluation.case_view import ORDERS
from rad3d.ui.evaluation.components import (
    case_list_view,
    downloads_view,
    figure_view,
    leaderboard_view,
)
from rad3d.ui.evaluation.handlers import EvaluationHandlers
from rad3d.ui.evaluation.html import TABLES, published
from rad3d.ui.evaluation.run_panel import connect_panel, run_panel
from rad3d.ui.evaluation.views import Look
from rad3d.ui.page_state import page_state
from rad3d.ui.report import html

if TYPE_CHECKING:
    from rad3d.evaluation.evaluations import Evaluations
    from rad3d.ui.report.tab import ReportTab

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_LAST: dict[str, Any] = {**_QUIET, "trigger_mode": "always_last", "preprocess": False}
"""Of several choices made while an answer is on its way, the last one follows."""

_EVERY: dict[str, Any] = {**_QUIET, "trigger_mode": "multiple", "preprocess": False}
"""Each press is answered; the choices of the lists are those of the page's state."""

_TO_CASES = "() => document.getElementById('cases').scrollIntoView({behavior: 'smooth'})"
_TO_TOP = "() => window.scrollTo({top: 0})"


def evaluation_tab(
    evaluations: Evaluations,
    handlers: EvaluationHandlers,
    report: ReportTab,
    tabs: gr.Tabs,
    tab: gr.Tab,
) -> None:
    """Lay out the tab and connect it."""
    shown = _pickers()
    shown["headline"] = markup(html.progress("Reading the last evaluation"), "headline")
    panel = run_panel(evaluations)
    with gr.Column(visible=False, elem_classes="r3-evaluation") as body:
        shown |= {"body": body, **_sections()}
        downloads = shown.pop("downloads")
        cases = _cases(handlers)
        markup(published())
    shown |= {"resume_area": panel.resume_area, "cases": cases["state"]}
    state = page_state("evaluation-state", shown, handlers.again)
    runs = [shown["picker"], shown["other"]]
    running = connect_panel(handlers.running, panel, shown["picker"], state)
    tab.select(handlers.open_tab, None, state, **_QUIET).then(
        handlers.running.follow, None, running, concurrency_limit=None, **_QUIET
    )
    shown["picker"].input(handlers.pick_run, shown["picker"], state, **_LAST)
    downloads.select(handlers.download, runs[:1], [downloads, state], preprocess=False, **_QUIET)
    _connect_look(handlers, runs, shown, state)
    _connect_sections(handlers, runs, shown, cases)
    _connect_cases(handlers, runs, cases, shown["baseline"], report, tabs)


def _pickers() -> dict[str, Any]:
    with gr.Row(elem_classes="r3-choice r3-pickers"):
        run = gr.Dropdown(
            [], label="Evaluation", elem_id="run-picker", filterable=False, visible=False
        )
        other = gr.Dropdown(
            [("No other run", "")],
            value="",
            label="Compare with",
            elem_id="other-picker",
            filterable=False,
            visible=False,
        )
    return {"picker": run, "other": other, "notice": markup("", "evaluation-notice")}


def _sections() -> dict[str, Any]:
    """Lay out a run; components by the names of :func:`.views.content_of`."""
    with gr.Row(elem_classes="r3-card r3-choice r3-lens"):
        sample_set = gr.Radio([], label="Sample set", elem_id="lens-set")
        metric = gr.Dropdown([], label="Metric of the figures", elem_id="lens-metric")
    with gr.Column(elem_classes="r3-card r3-choice"):
        against = gr.Radio(
            [(name, id_) for id_, name in AGAINST.items()],
            value="parameters",
            label="Against",
            elem_id="against",
        )
        study = figure_view("study-figure")
    with gr.Column(elem_classes="r3-card"):
        worth = figure_view("worth-figure")
    claims = markup("", "claims")
    with gr.Column(elem_classes="r3-card r3-board"):
        with gr.Row(elem_classes="r3-choice r3-board-head"):
            markup("<h2>Leaderboard</h2>")
            table = gr.Radio(
                [(name, id_) for id_, name in TABLES.items()],
                show_label=False,
                container=False,
                elem_id="table-picker",
            )
        leaderboard = leaderboard_view()
        downloads = downloads_view(
            [(row.id, row.name, f"A .{row.suffix} file") for row in EXPORTS.values()]
        )
    with gr.Column(elem_classes="r3-card"):
        heatmap = figure_view("heatmap-figure")
    with gr.Row(elem_classes="r3-pairs"):
        with gr.Column(elem_classes="r3-card r3-choice", min_width=320):
            baseline = gr.Dropdown(
                [], label="Differences from", elem_id="baseline", filterable=False
            )
            forest = figure_view("forest-figure")
        with gr.Column(elem_classes="r3-stack", min_width=320):
            with gr.Column(elem_classes="r3-card"):
                classifier = figure_view("classifier-figure")
            with gr.Column(elem_classes="r3-card"):
                calibration = figure_view("calibration-figure")
    return {
        "sample_set": sample_set, "metric": metric, "table": table, "against": against,
        "baseline": baseline, "leaderboard": leaderboard, "study": study, "worth": worth,
        "claims": claims, "heatmap": heatmap,
        "forest": forest, "classifier": classifier, "calibration": calibration,
        "downloads": downloads,
    }  # fmt: skip


def _cases(handlers: EvaluationHandlers) -> dict[str, Any]:
    """Lay out the cases; components by the names of :class:`CaseHandlers`, and their state."""
    with gr.Column(elem_classes="r3-card r3-case-card", elem_id="cases"):
        markup("<h2>Cases</h2>")
        notice = markup("", "case-notice")
        with gr.Row(elem_classes="r3-choice r3-case-choice"):
            system = gr.Dropdown([], label="System", elem_id="case-system", filterable=False)
            sample_set = gr.Dropdown([], label="Sample set", elem_id="case-set", filterable=False)
            order = gr.Dropdown(
                [(name, id_) for id_, name in ORDERS.items()],
                value="worst",
                label="Order",
                elem_id="case-order",
                filterable=False,
            )
            label = gr.Dropdown(
                [("Any", "")],
                value="",
                label="With this finding",
                elem_id="case-label",
                filterable=False,
            )
        with gr.Row(elem_classes="r3-case-body"):
            with gr.Column(scale=3, min_width=240):
                listed = case_list_view()
            with gr.Column(scale=8, min_width=320):
                with gr.Row(elem_classes="r3-case-buttons"):
                    previous = gr.Button("← Previous", size="sm", elem_id="case-previous")
                    following = gr.Button("Next →", size="sm", elem_id="case-next")
                    opened = gr.Button(
                        "Open this scan", size="sm", variant="primary", elem_id="case-open"
                    )
                    compare = gr.Button("Compare on it", size="sm", elem_id="case-compare")
                case = markup("", "case")
    shown = {
        "notice": notice, "system": system, "sample_set": sample_set, "label": label,
        "listed": listed, "shown": case,
    }  # fmt: skip
    state = page_state("cases-state", shown, handlers.cases.again)
    return {
        **shown, "order": order, "previous": previous, "next": following, "open": opened,
        "compare": compare, "state": state,
    }  # fmt: skip


_CHANGES = {
    "other": (),
    "sample_set": (),
    "metric": (),
    "table": ("table", "leaderboard"),
    "against": ("against", "study"),
    "baseline": ("baseline", "forest"),
}
"""Control -> the parts that it changes; none stands for all."""


def _connect_look(
    handlers: EvaluationHandlers, runs: list[Any], shown: dict[str, Any], state: gr.HTML
) -> None:
    look = [shown[field.name] for field in fields(Look)]
    for name, parts in _CHANGES.items():
        shown[name].input(handlers.look(*parts), [*runs, *look], state, **_LAST)


def _connect_sections(
    handlers: EvaluationHandlers,
    runs: list[Any],
    shown: dict[str, Any],
    cases: dict[str, Any],
) -> None:
    order, state = cases["order"], cases["state"]
    for name in ("study", "worth", "heatmap", "forest"):
        shown[name].select(handlers.cases.press_point, [*runs, order], state, **_EVERY).then(
            None, js=_TO_CASES
        )
    shown["leaderboard"].select(
        handlers.cases.press_name, [*runs, shown["sample_set"], order], state, **_EVERY
    ).then(None, js=_TO_CASES)


def _connect_cases(
    handlers: EvaluationHandlers,
    runs: list[Any],
    cases: dict[str, Any],
    baseline: gr.Dropdown,
    report: ReportTab,
    tabs: gr.Tabs,
) -> None:
    state = cases["state"]
    controls = [cases[name] for name in ("system", "sample_set", "order", "label")]
    inputs = [*runs, *controls]
    for control in controls:
        control.input(handlers.cases.list_cases, inputs, state, **_EVERY)
    cases["listed"].select(handlers.cases.press_case, inputs, state, **_EVERY)
    for name, forward in (("previous", -1), ("next", 1)):
        cases[name].click(handlers.cases.step(forward), inputs, state, **_EVERY)
    reading: dict[str, Any] = {**_QUIET, "concurrency_id": "reading"}
    scan = [runs[0], cases["sample_set"]]
    pair = [*scan, cases["system"], baseline]
    for name, handler, inputs in (
        ("open", handlers.cases.open_case, scan),
        ("compare", handlers.cases.compare_case, pair),
    ):
        opened = (
            cases[name]
            .click(handler, inputs, [tabs, state, report.state], preprocess=False, **reading)
            .then(report.describe, report.variant, report.state, **reading)
        )
        if name == "open":
            opened.then(None, js=_TO_TOP)
