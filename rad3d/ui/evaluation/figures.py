"""The figures of the evaluation tab as values of :func:`figure_view`: title, note and drawing."""

from __future__ import annotations

import json
from typing import Any

import plotly.graph_objects as go

from rad3d.evaluation.figures.classifier_curves import calibration_figure, classifier_figure
from rad3d.evaluation.figures.comparison import forest_figure, heatmap_figure
from rad3d.evaluation.figures.scaling import AGAINST, Against, study_figure
from rad3d.evaluation.figures.worth import worth_figure
from rad3d.evaluation.leaderboard import StudyView
from rad3d.evaluation.summary_text import where
from rad3d.metrics.classifier import ClassifierCard
from rad3d.metrics.registry import metric_row

FigureValue = dict[str, Any]


def figure_value(title: str, note: str, name: str, figure: go.Figure) -> FigureValue:
    """Return what the browser draws; ``name`` is that of a saved picture."""
    return {"title": title, "note": note, "name": name, "plot": json.loads(figure.to_json())}


def study(view: StudyView, metric: str, against: Against) -> FigureValue | None:
    """Return quality against a cost, one line for each mode; None without variants."""
    points = view.points(metric)
    if not any(point.along(against) for point in points):
        return None
    row = metric_row(metric)
    titles = {s.id: f"{where(s)}, n = {s.n}" for s in view.sets}
    figure = study_figure(points, titles, row, against, view.references(metric))
    direction = "" if row.higher_is_better else " Lower is better."
    return figure_value(
        f"{row.name} against {_lower(AGAINST[against])}",
        f"{row.description}{direction} Bars are 95% intervals. Press a point to read its cases.",
        f"rad3d-{metric}-by-{against}",
        figure,
    )


def worth(view: StudyView, metric: str) -> FigureValue | None:
    """What modes that read the prior gain over V-2; None where there is nothing to compare."""
    contrasts = view.worth(metric)
    if not contrasts:
        return None
    titles = {s.id: f"{where(s)}, n = {s.n}" for s in view.sets}
    least = max(c.difference.detectable for c in contrasts)
    seeds = max((len(names) for names in view.members.values()), default=1)
    over = f"cases and {seeds} seeds" if seeds > 1 else "cases; one training each"
    return figure_value(
        f"What the prior is worth: {metric_row(metric).name}",
        f"Differences from the mode that reads the image alone. Bars are 95% intervals over {over}."
        f" A true difference of {least:.3f} would have been found everywhere with 80% power.",
        f"rad3d-{metric}-prior",
        worth_figure(contrasts, titles, metric_row(metric)),
    )


def heatmap(view: StudyView, sample_set: str) -> FigureValue | None:
    """Return the F1 of every system on every finding."""
    f1 = view.label_f1(sample_set)
    if not f1:
        return None
    names = {name: view.systems[name].short for name in f1}
    short = view.set_facts(sample_set).label_set.short_names
    figure = heatmap_figure(f1, names, view.positives(sample_set), sample_set, short)
    return figure_value(
        f"F1 of each finding, {where(view.set_facts(sample_set)).lower()}",
        "In percent; number of cases with the finding in brackets. Press a cell to read them.",
        f"rad3d-findings-{sample_set}",
        figure,
    )


def forest(view: StudyView, sample_set: str, metric: str, baseline: str) -> FigureValue | None:
    """Return how every other system differs from the baseline."""
    differences = view.differences(sample_set, metric, baseline)
    if not differences:
        return None
    figure = forest_figure(differences, view.names, metric_row(metric), sample_set)
    return figure_value(
        f"Against {view.names[baseline]}, {where(view.set_facts(sample_set)).lower()}",
        f"Paired differences in {metric_row(metric).name} on the same {differences[0].n} cases "
        "with 95% intervals; p by approximate randomisation, Holm-corrected over what is shown "
        f"({len(differences)}).",
        f"rad3d-differences-{sample_set}-{metric}",
        figure,
    )


def classifier(view: StudyView, card: ClassifierCard | None) -> FigureValue | None:
    """Return AUROC and average precision of each label."""
    if card is None:
        return None
    auroc, precision = card.macro["auroc"], card.macro["average_precision"]
    return figure_value(
        f"Classifier, {where(view.set_facts(card.sample_set)).lower()}",
        f"Macro AUROC {auroc}, macro average precision {precision}, n = {card.n}; "
        "number of cases with the label in brackets. Thresholds were chosen on "
        f"{card.threshold_split}.",
        f"rad3d-classifier-{card.sample_set}",
        classifier_figure(card),
    )


def calibration(view: StudyView, cards: dict[str, ClassifierCard]) -> FigureValue | None:
    """Return how well the stated probabilities are calibrated, on every set."""
    shown = {where(view.set_facts(name)): card for name, card in cards.items()}
    if not shown:
        return None
    return figure_value(
        "Calibration",
        "Share of positive cases against the predicted probability, all labels together. On the "
        "dashed line the probabilities are calibrated.",
        "rad3d-calibration",
        calibration_figure(shown),
    )


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
