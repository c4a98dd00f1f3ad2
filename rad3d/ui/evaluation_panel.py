"""The run panel: choose variants, cases and controls, run, watch, cancel, resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from rad3d.registry import split_variant_id
from rad3d.ui.components import markup
from rad3d.ui.evaluation_handlers import EvaluationHandlers

if TYPE_CHECKING:
    from rad3d.service.evaluation import Evaluations

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_FILE_TYPES = [".csv", ".tsv", ".jsonl", ".json"]


@dataclass(frozen=True)
class RunPanel:
    """Components of the panel; ``asked`` are the inputs of a run, in the handler's order."""

    asked: list[Any]
    estimate: gr.HTML
    progress: gr.HTML
    notice: gr.HTML
    run: gr.Button
    cancel: gr.Button
    resume: gr.Button
    resume_area: gr.Column

    @property
    def outputs(self) -> list[Any]:
        """What a running evaluation writes to."""
        return [self.progress, self.notice, self.run, self.cancel, self.resume]


def run_panel(evaluations: Evaluations) -> RunPanel:
    """Lay the panel out."""
    with gr.Accordion(
        "Run an evaluation", open=False, elem_classes="r3-card r3-panel", elem_id="run-panel"
    ):
        with gr.Row(elem_classes="r3-choice r3-panel-columns"):
            with gr.Column(min_width=300):
                variants, controls = _systems(evaluations)
            with gr.Column(min_width=300):
                sets, limit = _sets(evaluations)
                file, references = _own_file(evaluations)
                layout, path = _own_folder(evaluations)
        estimate = markup("", "run-estimate")
        notice = markup("", "run-notice")
        with gr.Row(elem_classes="r3-run"):
            run = gr.Button("Run", variant="primary", elem_id="run-start")
            cancel = gr.Button("Cancel", elem_id="run-cancel", interactive=False)
        with gr.Column(visible=False) as resume_area:
            resume = gr.Button("Resume the run that is shown", elem_id="run-resume")
    progress = markup("", "run-progress")
    asked = [variants, sets, controls, limit, file, references, layout, path]
    return RunPanel(asked, estimate, progress, notice, run, cancel, resume, resume_area)


def _systems(evaluations: Evaluations) -> tuple[gr.CheckboxGroup, gr.CheckboxGroup]:
    ready = [s.id for s in evaluations.variants() if s.ready]
    variants = gr.CheckboxGroup(
        [(_name(each), each) for each in ready],
        value=ready[-1:],
        label="Variants",
        show_select_all=True,
        elem_id="run-variants",
    )
    rows = evaluations.controls()
    controls = gr.CheckboxGroup(
        [(row.name, row.id) for row in rows],
        value=[row.id for row in rows],
        label="Controls",
        info="They show what a figure means.",
        show_select_all=True,
        elem_id="run-controls",
    )
    return variants, controls


def _sets(evaluations: Evaluations) -> tuple[gr.CheckboxGroup, gr.Slider]:
    cards = evaluations.sets()
    sets = gr.CheckboxGroup(
        [(card.name, card.id) for card in cards],
        value=[card.id for card in cards],
        label="Sample sets",
        elem_id="run-sets",
    )
    most = max((card.n for card in cards), default=200)
    limit = gr.Slider(
        0,
        most,
        50,
        step=10,
        label="Cases of each set (0 is all)",
        elem_id="run-limit",
    )
    return sets, limit


def _own_file(evaluations: Evaluations) -> tuple[gr.File, gr.Dropdown]:
    with gr.Accordion("Evaluate a predictions file", open=False, elem_id="run-file-area"):
        markup(
            '<p class="r3-fine">CSV or JSONL with the columns id, reference and prediction, or the '
            "VLM3D schema. It stays in this session.</p>"
        )
        file = gr.File(
            show_label=False, file_types=_FILE_TYPES, type="filepath", height=96, elem_id="run-file"
        )
        references = gr.Dropdown(
            [("In the file itself", ""), *((s.name, s.id) for s in evaluations.sets())],
            value="",
            label="References",
            filterable=False,
            elem_id="run-references",
        )
    return file, references


def _own_folder(evaluations: Evaluations) -> tuple[gr.Dropdown, gr.Textbox]:
    """Folders of the machine that the app runs on; only where the operator allows it."""
    rows = [row for row in evaluations.layouts() if row.id != "predictions"]
    with gr.Accordion(
        "Evaluate on a folder of this machine", open=False, visible=bool(rows), elem_id="run-folder"
    ):
        layout = gr.Dropdown(
            [(row.name, row.id) for row in rows],
            value=rows[0].id if rows else None,
            label="Layout",
            filterable=False,
            elem_id="run-layout",
        )
        path = gr.Textbox(label="Path", placeholder="/data/CT-RATE", elem_id="run-path")
        markup(
            '<ul class="r3-fine">'
            + "".join(f"<li>{row.name}: {row.description}</li>" for row in rows)
            + "</ul>"
        )
    return layout, path


def connect_panel(
    handlers: EvaluationHandlers, panel: RunPanel, picker: gr.Dropdown, picked: list[Any]
) -> None:
    """Connect the buttons; a finished run is shown in the components ``picked``."""
    followed = [*panel.outputs, *picked]
    running: dict[str, Any] = {**_QUIET, "concurrency_id": "evaluation", "concurrency_limit": 1}
    panel.run.click(handlers.begin, None, panel.outputs, queue=False, **_QUIET).then(
        handlers.run, panel.asked, followed, preprocess=False, **running
    )
    panel.resume.click(handlers.begin, None, panel.outputs, queue=False, **_QUIET).then(
        handlers.resume, picker, followed, **running
    )
    panel.cancel.click(handlers.cancel, None, panel.progress, queue=False, **_QUIET)
    variants, sets, controls, limit = panel.asked[:4]
    for control in (variants, sets, controls, limit):
        control.change(handlers.estimate, panel.asked[:4], panel.estimate, queue=False, **_QUIET)


def _name(variant: str) -> str:
    llm, mode = split_variant_id(variant)
    return f"{llm.name} · {mode.name.split(' (')[0]}"
