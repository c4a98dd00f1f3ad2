"""The run panel: choose variants, cases, baselines and ablations; run, watch, cancel, resume."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from rad3d.core.variant_ids import split_variant_id
from rad3d.core.words import capitalised
from rad3d.data.sample_sets import SAMPLE_SETS
from rad3d.evaluation.summary_text import listed
from rad3d.evaluation.system_names import CONTROLS
from rad3d.metrics.registry import DEFAULT_FAMILIES
from rad3d.ui.components import markup
from rad3d.ui.evaluation.run_handlers import RunHandlers
from rad3d.ui.page_state import Snapshot, page_state
from rad3d.ui.report.generation_fields import generation_fields

if TYPE_CHECKING:
    from rad3d.evaluation.evaluations import Evaluations

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_FILE_TYPES = [".csv", ".tsv", ".jsonl", ".json"]


@dataclass(frozen=True)
class RunPanel:
    """The components of the panel; ``asked`` holds the choices for a run, see :data:`Asked`."""

    asked: dict[str, Any]
    estimate: gr.HTML
    progress: gr.HTML
    notice: gr.HTML
    run: gr.Button
    cancel: gr.Button
    resume: gr.Button
    resume_area: gr.Column

    @property
    def shown(self) -> dict[str, Any]:
        """The components that a running evaluation writes to, by the names of the handlers."""
        return {
            "progress": self.progress, "run_notice": self.notice, "start": self.run,
            "cancel": self.cancel, "resume": self.resume,
        }  # fmt: skip


def run_panel(evaluations: Evaluations) -> RunPanel:
    """Lay out the run panel."""
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
        more = _more(evaluations)
        estimate = markup("", "run-estimate")
        notice = markup("", "run-notice")
        with gr.Row(elem_classes="r3-run"):
            run = gr.Button("Run", variant="primary", elem_id="run-start")
            cancel = gr.Button("Cancel", elem_id="run-cancel", interactive=False)
        with gr.Column(visible=False) as resume_area:
            resume = gr.Button("Resume the run that is shown", elem_id="run-resume")
    progress = markup("", "run-progress")
    asked = {
        "variants": variants, "sets": sets, "controls": controls, "limit": limit, "file": file,
        "references": references, "layout": layout, "path": path, **more,
    }  # fmt: skip
    return RunPanel(asked, estimate, progress, notice, run, cancel, resume, resume_area)


def _systems(evaluations: Evaluations) -> tuple[gr.CheckboxGroup, gr.CheckboxGroup]:
    ready = [s.id for s in evaluations.variants() if s.ready]
    variants = gr.CheckboxGroup(
        [(_name(each), each) for each in ready],
        value=_frozen_and_tuned(ready) or ready[-1:],
        label="Variants",
        show_select_all=True,
        elem_id="run-variants",
        visible=bool(ready),
    )
    if not ready:
        markup(
            '<p class="r3-fine">No model is ready here. Baselines and predictions files can be '
            "evaluated all the same.</p>"
        )
    rows = CONTROLS.values()
    controls = gr.CheckboxGroup(
        [(capitalised(row.name), row.id) for row in rows],
        value=[row.id for row in rows],
        label="Baselines and ablations",
        info="What the variants are compared with.",
        show_select_all=True,
        elem_id="run-compared",
    )
    return variants, controls


def _frozen_and_tuned(ready: list[str]) -> list[str]:
    """Return V-1 and V-3 of the last language model that has both: the method's comparison."""
    for llm in dict.fromkeys(variant.rpartition("/")[0] for variant in reversed(ready)):
        pair = [f"{llm}/v1", f"{llm}/v3"]
        if set(pair) <= set(ready):
            return pair
    return []


def _sets(evaluations: Evaluations) -> tuple[gr.CheckboxGroup, gr.Slider]:
    cards = SAMPLE_SETS.values()
    sets = gr.CheckboxGroup(
        [(card.name, card.id) for card in cards],
        value=[card.id for card in cards],
        label="Sample sets",
        elem_id="run-sets",
    )
    allowed = evaluations.rights.offered.cases
    limit = gr.Slider(
        0,
        min(filter(None, (max((card.n for card in cards), default=200), allowed))),
        50,
        step=10,
        label="Cases of each set (0 is all)",
        info=f"At most {allowed} on this server." if allowed else None,
        elem_id="run-limit",
    )
    return sets, limit


def _more(evaluations: Evaluations) -> dict[str, Any]:
    """Lay out the options that most runs leave alone; the names are those of :data:`Asked`."""
    with (
        gr.Accordion("More options", open=False, elem_id="run-more"),
        gr.Row(elem_classes="r3-choice r3-panel-columns"),
    ):
        with gr.Column(min_width=300):
            options = {"metrics": _metrics(evaluations), **_statistics(evaluations)}
        with gr.Column(min_width=300):
            options |= generation_fields(own_seed=False)
    return options


def _metrics(evaluations: Evaluations) -> gr.CheckboxGroup:
    groups = evaluations.metric_groups()
    metrics = gr.CheckboxGroup(
        [(f"{capitalised(g.name)}: {g.description}", g.id) for g in groups if g.ready],
        value=list(DEFAULT_FAMILIES),
        label="Metrics",
        elem_id="run-metrics",
    )
    needs: dict[str, list[str]] = {}
    for group in groups:
        for name, need in group.missing.items():
            needs.setdefault(need, []).append(name)
    lines = "".join(
        f"<li>{escape(listed(names))}: needs {escape(need)}</li>" for need, names in needs.items()
    )
    if lines:
        markup(
            '<details class="r3-fine r3-missing"><summary>Metrics that cannot run here</summary>'
            f"<ul>{lines}</ul><p><code>rad3d eval metrics</code> names the steps.</p></details>"
        )
    return metrics


def _statistics(evaluations: Evaluations) -> dict[str, Any]:
    return {
        "draws": gr.Slider(
            100,
            min(evaluations.rights.offered.resamples, 10_000),
            1000,
            step=100,
            label="Bootstrap resamples",
            info="More resamples take longer and give steadier intervals.",
            elem_id="run-resamples",
        ),
        "seed": gr.Number(
            0,
            precision=0,
            minimum=0,
            label="Seed",
            info="Of resampling, shuffling and sampled reports.",
            elem_id="run-seed",
        ),
    }


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
            [("In the file", ""), *((s.name, s.id) for s in SAMPLE_SETS.values())],
            value="",
            label="References",
            filterable=False,
            elem_id="run-references",
        )
    return file, references


_WHO_MAY = (
    '<p class="r3-fine">Only the owner can do this: open the link that the app printed at the '
    "start, which contains <code>owner=</code> and a secret.</p>"
)


def _own_folder(evaluations: Evaluations) -> tuple[gr.Dropdown, gr.Textbox]:
    """Lay out the choice of a folder of this machine, where the operator allows it."""
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
            + f"</ul>{_WHO_MAY}"
        )
    return layout, path


def connect_panel(
    handlers: RunHandlers, panel: RunPanel, picker: gr.Dropdown, evaluation: gr.HTML
) -> gr.HTML:
    """Connect the buttons; returns the state of what they show.

    Args:
        handlers: called by the buttons.
        panel: the components.
        picker: names a run to resume.
        evaluation: state of the tab, which a finished run changes.
    """
    state = page_state("run-state", {**panel.shown, "evaluation": evaluation}, handlers.again)
    once: dict[str, Any] = {**_QUIET, "queue": False, "preprocess": False}

    def run(values: dict[Any, Any], request: gr.Request) -> Snapshot:
        return handlers.run({name: values[each] for name, each in panel.asked.items()}, request)

    for begun in (
        panel.run.click(run, set(panel.asked.values()), state, **once),
        panel.resume.click(handlers.resume, picker, state, **once),
    ):
        begun.then(handlers.follow, None, state, concurrency_limit=None, **_QUIET)
    panel.cancel.click(handlers.cancel, None, state, queue=False, **_QUIET)
    counted = [panel.asked[name] for name in ("variants", "sets", "controls", "limit")]
    for control in counted:
        control.change(handlers.estimate, counted, panel.estimate, queue=False, **_QUIET)
    return state


def _name(variant: str) -> str:
    llm, mode = split_variant_id(variant)
    return f"{llm.name} · {mode.name.split(' (')[0]}"
