"""A run as one HTML page that opens offline: figures, tables, verdicts, and cases to read.

plotly.js is inside it once; a content policy forbids it to load anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment
from plotly.offline import get_plotlyjs

from rad3d.core.encoders import disclaimer, knows_only_phantoms
from rad3d.data.samples import Prediction, Sample, dropped_sentence
from rad3d.evaluation.claims import claims
from rad3d.evaluation.figures.classifier_curves import calibration_figure, classifier_figure
from rad3d.evaluation.figures.comparison import forest_figure, heatmap_figure
from rad3d.evaluation.figures.scaling import AGAINST, study_figure
from rad3d.evaluation.figures.style import NARROW_PX
from rad3d.evaluation.figures.worth import worth_figure
from rad3d.evaluation.leaderboard import SetFacts, StudyView, view_of
from rad3d.evaluation.listening import listening_table
from rad3d.evaluation.parts import STATIC, Board, board_of, templates
from rad3d.evaluation.run_types import EvaluationRun
from rad3d.evaluation.summary_text import finding_in_words
from rad3d.evaluation.system_names import LOOKUP
from rad3d.metrics.factuality import Match
from rad3d.metrics.registry import FAMILIES, MetricRow, metric_row
from rad3d.metrics.scorecard import score_case

METRIC = "f1_macro"
"""What the figures show and the text ranks by, where it was scored."""

CASES = 6
"""Cases of each set that are printed: those that the best system gets most wrong."""


def report_page(run: EvaluationRun) -> bytes:
    """Return the page as UTF-8."""
    view = view_of(run)
    metric = metric_row(_main_metric(view))
    return offline_page(
        templates(),
        "page.jinja",
        run.title,
        _figures(run, view, metric),
        run=run,
        disclaimer=disclaimer(_phantoms_only(run)),
        facts=_facts(run),
        words=finding_in_words(view, metric.id),
        claims=claims(view),
        listening=list(_listening(run, view)),
        leaderboards=[(s, boards) for s in view.sets if (boards := _boards(view, s))],
        missing=list(_missing(run)),
        worst=list(_worst(run, view, metric)),
        signatures={m: s for card in run.cards.values() for m, s in card.signature.items()},
        metric_row=metric_row,
    )


def offline_page(
    made: Environment,
    template: str,
    title: str,
    figures: Iterable[tuple[str, go.Figure, str]],
    **values: object,
) -> bytes:
    """Return a page from a template that extends ``offline.jinja``, as UTF-8.

    Args:
        made: templates, see :func:`rad3d.evaluation.parts.templates`.
        template: name of the file.
        title: of the page.
        figures: heading, figure and a note on it, which may be empty.
        values: of the template.
    """
    return (
        made.get_template(template)
        .render(
            title=title,
            figures=[(name, json.loads(each.to_json()), note) for name, each, note in figures],
            narrow_px=NARROW_PX,
            style=_static("page.css"),
            plotly=get_plotlyjs(),
            script=_static("drawing.js") + _static("leaderboard.js") + _static("page.js"),
            **values,
        )
        .encode()
    )


def _static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _phantoms_only(run: EvaluationRun) -> bool:
    """Return whether a system of the run uses an encoder that was trained on phantoms only."""
    encoders = (said.facts.get("encoder") or {} for said in run.predictions.values())
    return any(knows_only_phantoms(encoder.get("id", "")) for encoder in encoders)


def _main_metric(view: StudyView) -> str:
    scored = [row.id for row in view.metrics()]
    return METRIC if METRIC in scored or not scored else scored[0]


def _facts(run: EvaluationRun) -> dict[str, Any]:
    request = run.request
    return {
        "Run": run.id,
        "Date": f"{run.created[:16].replace('T', ' ')} UTC",
        "Revision": run.revision,
        "State": run.status,
        "Resamples and seed": f"{request.draws}, {request.seed}",
        "Decoding": request.options.strategy,
        **run.facts,
        **{
            s.name: f"n = {len(s.samples)}, {dropped_sentence(s.dropped) or 'no row dropped'}"
            for s in run.sample_sets.values()
        },
        **{f"Note {i}": note for i, note in enumerate(run.notes, 1)},
    }


def _figures(
    run: EvaluationRun, view: StudyView, metric: MetricRow
) -> Iterator[tuple[str, go.Figure, str]]:
    points = view.points(metric.id)
    titles = {facts.id: f"{facts.name}, n = {facts.n}" for facts in view.sets}
    for against in AGAINST:
        if any(point.along(against) for point in points):  # type: ignore[arg-type]
            figure = study_figure(points, titles, metric, against, view.references(metric.id))  # type: ignore[arg-type]
            yield f"{metric.name} against {AGAINST[against].lower()}", figure, ""
    if contrasts := view.worth(metric.id):
        yield "What the prior is worth", worth_figure(contrasts, titles, metric), ""
    for facts in view.sets:
        f1 = view.label_f1(facts.id)
        names = {name: view.systems[name].short for name in f1}
        short = facts.label_set.short_names
        figure = heatmap_figure(f1, names, view.positives(facts.id), facts.id, short)
        yield f"F1 of each finding, percent: {facts.name}", figure, ""
        if (LOOKUP, facts.id) in view.cards:
            differences = view.differences(facts.id, metric.id, LOOKUP)
            figure = forest_figure(differences, view.names, metric, facts.id)
            yield f"Difference from the template baseline: {facts.name}", figure, ""
    for name, card in run.classifier.items():
        title = run.sample_sets[name].name
        note = (
            f"Macro AUROC {card.macro['auroc']}, macro average precision "
            f"{card.macro['average_precision']}, macro F1 {card.macro['f1']}, calibration error "
            f"{card.macro['calibration_error']}, n = {card.n}; thresholds from "
            f"{card.threshold_split or 'the encoder'}."
        )
        yield f"Classifier: {title}", classifier_figure(card), note
    if run.classifier:
        shown = {run.sample_sets[name].name: card for name, card in run.classifier.items()}
        yield "Calibration of the classifier", calibration_figure(shown), ""


def _listening(
    run: EvaluationRun, view: StudyView
) -> Iterator[tuple[SetFacts, list[str], list[list[str]]]]:
    """The table of flipped labels of each set for which there is one."""
    for facts in view.sets:
        head, rows = listening_table(run, view, facts.id)
        if rows:
            yield facts, head, rows


def _boards(view: StudyView, facts: SetFacts) -> list[tuple[str, Board]]:
    """One table for each family of metrics: they never share one."""
    boards = []
    for family, words in FAMILIES.items():
        columns = [row for row in view.metrics(facts.id) if row.family == family]
        if board := board_of(view, facts.id, columns):
            boards.append((words, board))
    return boards


def _missing(run: EvaluationRun) -> Iterator[str]:
    for system, reason in run.failed.items():
        yield f"{system}: {reason}"
    for (system, name), card in run.cards.items():
        if card.failures:
            yield (
                f"{system} on {name}: {card.failures} of {card.n} reports are missing "
                "and scored as empty text"
            )


def _worst(
    run: EvaluationRun, view: StudyView, metric: MetricRow
) -> Iterator[tuple[SetFacts, str, list[tuple[Sample, Prediction, tuple[Match, ...]]]]]:
    """The best system of each set, and the cases that it gets most wrong."""
    for facts in view.sets:
        for best in view.ranked(facts.id, metric.id)[:1]:
            key = (view.single(best.name), facts.id)
            order = sorted(
                view.cards[key].cases,
                key=lambda case: (case.values.get("factuality", math.inf), case.id),
            )
            samples = {sample.id: sample for sample in run.sample_sets[facts.id].samples}
            predictions = {p.id: p for p in run.predictions[key].predictions}
            pairs = [
                (samples[c.id], predictions[c.id]) for c in order[:CASES] if c.id in predictions
            ]
            cases = [(s, p, score_case(s, p, facts.label_set).findings) for s, p in pairs]
            yield facts, view.names[key[0]], cases
