"""What the evaluation's handlers send to the page, as plain values in a fixed order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from rad3d.evaluation.figures.scaling import Against
from rad3d.evaluation.leaderboard import StudyView
from rad3d.evaluation.run_types import EvaluationRun, RunSummary, Status
from rad3d.evaluation.summary_text import where
from rad3d.metrics.registry import MetricRow
from rad3d.ui.evaluation import figures, render

PRIMARY_METRIC = "f1_macro"


@dataclass(frozen=True)
class Look:
    """How a run is looked at: the controls of the page."""

    sample_set: str = ""
    metric: str = PRIMARY_METRIC
    table: str = "core"
    against: Against = "parameters"
    baseline: str = ""

    def fitted(self, view: StudyView) -> Look:
        """The same look with what the run does not have replaced by what it has."""
        sets = [s.id for s in view.sets]
        sample_set = self.sample_set if self.sample_set in sets else sets[0]
        metrics = [row.id for row in view.metrics(sample_set)]
        metric = self.metric if self.metric in metrics else _first(metrics, PRIMARY_METRIC)
        tables = [id_ for _, id_ in render.tables_of(view)]
        table = self.table if self.table in tables else _first(tables, "core")
        systems = [card.name for card in view.on(sample_set)]
        best = view.ranked(sample_set, metric) or view.ranked(sample_set, metric, controls=True)
        first = best[0].name if best else systems[0]  # none is defined on normal scans
        baseline = self.baseline if self.baseline in systems else first
        return Look(sample_set, metric, table, self.against, baseline)


@dataclass(frozen=True)
class Content:
    """Everything of a run on the page; the fields are in the order of the components."""

    headline: Any = None
    body: Any = None
    sample_set: Any = None
    metric: Any = None
    table: Any = None
    leaderboard: Any = None
    study: Any = None
    heatmap: Any = None
    baseline: Any = None
    forest: Any = None
    classifier: Any = None
    calibration: Any = None

    def outputs(self) -> tuple[Any, ...]:
        """In the order of the page's components; None leaves one as it is."""
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(gr.skip() if value is None else value for value in values)


NO_FIGURE: dict[str, Any] = {}
"""Hides a figure."""


def content_of(run: EvaluationRun, view: StudyView, look: Look) -> Content:
    """A run as the page shows it; ``look`` has been fitted to the view."""
    return Content(
        headline=render.headline(view, run.title, facts_of(run, view)),
        body=gr.update(visible=True),
        sample_set=gr.update(choices=[(where(s), s.id) for s in view.sets], value=look.sample_set),
        metric=gr.update(choices=_metric_choices(view.metrics(look.sample_set)), value=look.metric),
        table=gr.update(choices=render.tables_of(view), value=look.table),
        leaderboard=render.leaderboard(view, look.sample_set, look.table),
        study=figures.study(view, look.metric, look.against) or NO_FIGURE,
        heatmap=figures.heatmap(view, look.sample_set) or NO_FIGURE,
        baseline=gr.update(choices=system_choices(view, look.sample_set), value=look.baseline),
        forest=figures.forest(view, look.sample_set, look.metric, look.baseline) or NO_FIGURE,
        classifier=figures.classifier(view, run.classifier.get(look.sample_set)) or NO_FIGURE,
        calibration=figures.calibration(view, dict(run.classifier)) or NO_FIGURE,
    )


EMPTY = Content(headline=render.nothing_yet(), body=gr.update(visible=False))
"""The page without a run."""


def facts_of(run: EvaluationRun, view: StudyView) -> dict[str, str]:
    """What the headline states of a run."""
    variants = [s for s in view.systems.values() if s.is_variant]
    controls = [s for s in view.systems.values() if s.control]
    others = len(view.systems) - len(variants) - len(controls)
    compared = [
        counted(len(variants), "variant"),
        counted(len(controls), "control"),
        counted(others, "predictions file"),
    ]
    failures = sum(card.failures for card in run.cards.values())
    dropped = sum(len(card.dropped) for card in run.cards.values())
    seeds = dict.fromkeys(str(card.settings.get("seed", "")) for card in run.cards.values())
    return {
        "Compared": ", ".join(filter(None, compared)),
        "Cases": ", ".join(f"{where(s).lower()} {s.n}" for s in view.sets),
        "Date": run.created[:16].replace("T", " "),
        "Revision": run.revision[:12],
        "Seed of the draws": ", ".join(filter(None, seeds)),
        "Reports that failed": str(failures) if failures else "none",
        "Rows that were dropped": str(dropped) if dropped else "",
        "Notes": " ".join(run.notes),
        "Systems without a result": "; ".join(f"{k}: {v}" for k, v in run.failed.items()),
        "Status": "" if run.status == "finished" else _STATUS.get(run.status, run.status),
    }


_STATUS = {
    "running": "still running: what there is so far",
    "cancelled": "cancelled: what there was by then",
    "interrupted": "interrupted when its process ended: what there was by then",
    "failures": "finished, with failures",
}


_RESUME = "Resume, under “Run an evaluation”, goes on from there."


def standing(status: Status) -> str:
    """What a person should know before reading on; empty where there is nothing of the kind."""
    if status != "interrupted":
        return ""
    return (
        "The run was interrupted: the program that wrote it ended. What was finished is kept; "
        + _RESUME
    )


def unscored(status: Status) -> str:
    """Why nothing of a run was scored, and what to do."""
    why = {
        "running": "It is running. Open this page again, or choose it again, to see what came "
        "of it.",
        "cancelled": f"It was cancelled before that. {_RESUME}",
        "interrupted": f"The program that ran it ended before that. {_RESUME}",
    }
    rest = "It ended without a result: start it anew under “Run an evaluation”."
    return f"Nothing of this run has been scored. {why.get(status, rest)}"


def first_choice(runs: Sequence[RunSummary]) -> str:
    """Id of the run that the tab opens on: the newest that has results; empty for none at all."""
    done = [run for run in runs if run.systems and run.status != "running"]
    return (done or list(runs))[0].id if runs else ""


def beside(runs: Sequence[RunSummary], chosen: str, unreadable: int) -> str:
    """What there is besides the run that is shown; empty for nothing that has to be said.

    Args:
        runs: newest first.
        chosen: id of the one that is shown.
        unreadable: folders of runs that cannot be read.
    """
    newer = itertools.takewhile(lambda run: run.id != chosen, runs)
    rows = [f"“{run.title}” of {run.created[:16].replace('T', ' ')} {_left(run)}" for run in newer]
    said = f"{'; '.join(rows[:3])}. Choose it under “Evaluation” above." if rows else ""
    if unreadable:
        said += f" {counted(unreadable, 'run')} cannot be read: damaged, or of another version."
    return said.strip()


def _left(run: RunSummary) -> str:
    """Why a run is not shown though it is newer."""
    why = {"running": "is running", "finished": "cannot be shown"}.get(run.status, "")
    return why or f"{_ENDED.get(run.status, run.status)} before anything was scored"


_ENDED = {"cancelled": "was cancelled", "interrupted": "was interrupted", "failures": "ended"}


def run_choices(runs: Sequence[RunSummary]) -> list[tuple[str, str]]:
    """(shown, id) of the runs, newest first."""
    return [(_row(run), run.id) for run in runs]


def _row(run: RunSummary) -> str:
    status = "" if run.status == "finished" else run.status
    parts = (run.title, run.created[:10], counted(run.systems, "system"), status)
    return " · ".join(filter(None, parts))


def system_choices(view: StudyView, sample_set: str) -> list[tuple[str, str]]:
    """(shown, id) of the systems on a set, what is compared before the controls."""
    cards = [*view.on(sample_set, controls=False), *view.on(sample_set)]
    return [(view.names[name], name) for name in dict.fromkeys(card.name for card in cards)]


def _metric_choices(rows: Sequence[MetricRow]) -> list[tuple[str, str]]:
    ordered = sorted(rows, key=lambda row: row.family != "clinical")
    return [(row.name, row.id) for row in ordered]


def _first(found: Sequence[str], wanted: str) -> str:
    return wanted if wanted in found else (found[0] if found else "")


def counted(number: int, noun: str) -> str:
    """``2, "variant" -> "2 variants"``; empty for none."""
    return "" if not number else f"{number} {noun}{'' if number == 1 else 's'}"
