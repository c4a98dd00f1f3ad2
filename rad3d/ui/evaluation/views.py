"""What the handlers of the evaluation tab show: values of components by their names."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from rad3d.evaluation.figures.scaling import AGAINST, Against
from rad3d.evaluation.leaderboard import StudyView
from rad3d.evaluation.run_types import EvaluationRun, RunSummary, Status
from rad3d.evaluation.summary_text import where
from rad3d.metrics.registry import MetricRow
from rad3d.ui.evaluation import figures, html

PRIMARY_METRIC = "f1_macro"


@dataclass(frozen=True)
class Look:
    """How a run is looked at: the values of the page's controls."""

    sample_set: str = ""
    metric: str = PRIMARY_METRIC
    table: str = "core"
    against: Against = "parameters"
    baseline: str = ""

    def fitted(self, view: StudyView) -> Look:
        """Return the look with values that the run does not have replaced by ones that it has."""
        sets = [s.id for s in view.sets]
        sample_set = self.sample_set if self.sample_set in sets else sets[0]
        metrics = [row.id for row in view.metrics(sample_set)]
        metric = self.metric if self.metric in metrics else _first(metrics, PRIMARY_METRIC)
        tables = [id_ for _, id_ in html.tables_of(view)]
        table = self.table if self.table in tables else _first(tables, "core")
        systems = [card.name for card in view.on(sample_set)]
        best = view.ranked(sample_set, metric) or view.ranked(sample_set, metric, controls=True)
        first = best[0].name if best else systems[0]  # none is defined on normal scans
        baseline = self.baseline if self.baseline in systems else first
        against = self.against if self.against in AGAINST else "parameters"
        return Look(sample_set, metric, table, against, baseline)


def content_of(
    run: EvaluationRun, view: StudyView, look: Look, parts: Collection[str] = ()
) -> dict[str, Any]:
    """Return the values for a run, or only these parts of it.

    Args:
        run: which.
        view: view of the run.
        look: has been fitted to the view.
        parts: names of components; all of the run by default.
    """
    sample_set, metric, baseline = look.sample_set, look.metric, look.baseline
    made: dict[str, Callable[[], Any]] = {
        "headline": lambda: html.headline(view, run.title, facts_of(run, view)),
        "body": lambda: gr.update(visible=True),
        "sample_set": lambda: _choice([(where(s), s.id) for s in view.sets], sample_set),
        "metric": lambda: _choice(_metric_choices(view.metrics(sample_set)), metric),
        "table": lambda: _choice(html.tables_of(view), look.table),
        "leaderboard": lambda: html.leaderboard(view, sample_set, look.table),
        "against": lambda: gr.update(value=look.against),
        "study": lambda: figures.study(view, metric, look.against) or NO_FIGURE,
        "worth": lambda: figures.worth(view, metric) or NO_FIGURE,
        "claims": lambda: html.claims(run, view, sample_set),
        "heatmap": lambda: figures.heatmap(view, sample_set) or NO_FIGURE,
        "baseline": lambda: _choice(system_choices(view, sample_set), baseline),
        "forest": lambda: figures.forest(view, sample_set, metric, baseline) or NO_FIGURE,
        "classifier": lambda: figures.classifier(view, run.classifier.get(sample_set)) or NO_FIGURE,
        "calibration": lambda: figures.calibration(view, dict(run.classifier)) or NO_FIGURE,
    }
    return {name: made[name]() for name in parts or made}


def _choice(choices: Sequence[tuple[str, str]], value: str) -> dict[str, Any]:
    return gr.update(choices=list(choices), value=value)


_FIGURES = ("study", "worth", "heatmap", "forest", "classifier", "calibration")

NO_FIGURE: dict[str, Any] = {}
"""The value that hides a figure."""

EMPTY: dict[str, Any] = {
    "headline": html.nothing_yet(),
    "body": gr.update(visible="hidden"),
    "leaderboard": "",
    "claims": "",
    **dict.fromkeys(
        ("study", "worth", "heatmap", "forest", "classifier", "calibration"), NO_FIGURE
    ),
}
"""The values of the page without a run: what is hidden holds nothing of an earlier one."""


def facts_of(run: EvaluationRun, view: StudyView) -> dict[str, str]:
    """Return what the headline states about a run."""
    pooled = {s.group for s in view.systems.values()}
    systems = [s for s in view.systems.values() if s.id not in pooled]
    variants = [s for s in systems if s.is_variant]
    ablations = [s for s in systems if s.of_variant]
    baselines = [s for s in systems if s.control and not s.of_variant]
    others = len(systems) - len(variants) - len(ablations) - len(baselines)
    compared = [
        counted(len(variants), "variant"),
        counted(len(baselines), "baseline"),
        counted(len(ablations), "ablation"),
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
        "Seed of the resamples": ", ".join(filter(None, seeds)),
        "Failed reports": str(failures) if failures else "none",
        "Dropped rows": str(dropped) if dropped else "",
        "Notes": " ".join(run.notes),
        "Systems without a result": "; ".join(f"{k}: {v}" for k, v in run.failed.items()),
        "Status": "" if run.status == "finished" else _STATUS.get(run.status, run.status),
    }


_STATUS = {
    "running": "still running; results so far",
    "cancelled": "cancelled; results up to then",
    "interrupted": "interrupted when its process ended; results up to then",
    "failures": "finished, with failures",
}


_RESUME = "Press Resume under “Run an evaluation” to continue it."


def standing(status: Status) -> str:
    """Return what a person should know about an interrupted run; empty for any other."""
    if status != "interrupted":
        return ""
    return (
        "This run was interrupted because its program ended. Finished results are kept. " + _RESUME
    )


def unscored(status: Status) -> str:
    """Return why nothing of a run was scored, and what to do."""
    why = {
        "running": "It is still running. Reload this page, or choose the run again, to see "
        "results.",
        "cancelled": f"It was cancelled first. {_RESUME}",
        "interrupted": f"Its program ended first. {_RESUME}",
    }
    rest = "It ended without a result. Start it again under “Run an evaluation”."
    return f"Nothing of this run has been scored. {why.get(status, rest)}"


def first_choice(runs: Sequence[RunSummary]) -> str:
    """Return the id of the newest run that has results; empty where there is no run."""
    done = [run for run in runs if run.systems and run.status != "running"]
    return (done or list(runs))[0].id if runs else ""


def beside(runs: Sequence[RunSummary], chosen: str, unreadable: int) -> str:
    """Return a sentence on newer runs that are not shown and runs that cannot be read.

    Args:
        runs: newest first.
        chosen: id of the one that is shown.
        unreadable: folders of runs that cannot be read.
    """
    newer = itertools.takewhile(lambda run: run.id != chosen, runs)
    rows = [f"“{run.title}” of {run.created[:16].replace('T', ' ')} {_left(run)}" for run in newer]
    text = f"{'; '.join(rows[:3])}. Choose it under “Evaluation” above." if rows else ""
    if unreadable:
        text += f" {counted(unreadable, 'run')} cannot be read: damaged, or of another version."
    return text.strip()


def _left(run: RunSummary) -> str:
    """Return why a run is not shown though it is newer."""
    why = {"running": "is running", "finished": "cannot be shown"}.get(run.status, "")
    return why or f"{_ENDED.get(run.status, run.status)} before anything was scored"


_ENDED = {"cancelled": "was cancelled", "interrupted": "was interrupted", "failures": "ended"}


def run_choices(runs: Sequence[RunSummary]) -> list[tuple[str, str]]:
    """Return (name, id) of the runs, newest first."""
    return [(_row(run), run.id) for run in runs]


def _row(run: RunSummary) -> str:
    status = "" if run.status == "finished" else run.status
    parts = (run.title, run.created[:10], counted(run.systems, "system"), status)
    return " · ".join(filter(None, parts))


def system_choices(view: StudyView, sample_set: str, single: bool = False) -> list[tuple[str, str]]:
    """The (shown, id) choices of the systems on a set, the compared ones first.

    Args:
        view: the evaluation.
        sample_set: the set.
        single: the trainings from single seeds in place of the system that stands for them.
    """
    cards = [*view.on(sample_set, controls=False), *view.on(sample_set)]
    names = dict.fromkeys(card.name for card in cards)
    if single:
        names = dict.fromkeys(each for name in names for each in view.members.get(name, [name]))
    return [(view.names[name], name) for name in names]


def _metric_choices(rows: Sequence[MetricRow]) -> list[tuple[str, str]]:
    ordered = sorted(rows, key=lambda row: row.family != "clinical")
    return [(row.name, row.id) for row in ordered]


def _first(options: Sequence[str], preferred: str) -> str:
    return preferred if preferred in options else (options[0] if options else "")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``2 variants``; empty for none."""
    return "" if not number else f"{number} {noun}{'' if number == 1 else 's'}"
