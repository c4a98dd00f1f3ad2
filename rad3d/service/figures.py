"""The figures of an evaluation, as plotly figures: for the app and for the HTML report.

Plain values in, a figure out; see :mod:`rad3d.service.figure_parts` for what they share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from rad3d.eval.classifier import ClassifierCard
from rad3d.eval.compare import Difference
from rad3d.eval.registry import MetricRow
from rad3d.eval.resampling import Estimate
from rad3d.labels import LABELS
from rad3d.registry import MODES
from rad3d.service.figure_parts import (
    ACCENT,
    ALARM,
    GRID,
    QUIET,
    SECOND,
    Row,
    Series,
    axis,
    base,
    interval_bars,
    panels,
    rows_figure,
)

Against = Literal["parameters", "trainable", "seconds"]

AGAINST: dict[str, str] = {
    "parameters": "Parameters of the language model",
    "trainable": "Trainable parameters",
    "seconds": "Seconds per report",
}
"""What quality can be drawn against, and how the axis is called."""

MODE_STYLES: dict[str, Series] = {
    "v1": Series("V-1", "#d97706", "circle"),
    "v2": Series("V-2", "#4c8dd9", "square"),
    "v3": Series("V-3", ACCENT, "diamond"),
    "linear": Series("Linear", "#b3609f", "triangle-up"),
}
"""Colour and symbol of an adaptation mode; symbols differ, so that colour is not needed."""

_OTHER_MODE = Series("Other", QUIET, "x")
_SCALE = ((0.0, "#22323d"), (0.5, "#0f7f75"), (1.0, "#c8f2e4"))


_SHORT = {
    "Arterial wall calcification": "Arterial calcif.",
    "Coronary artery wall calcification": "Coronary calcif.",
    "Interlobular septal thickening": "Septal thickening",
    "Mosaic attenuation pattern": "Mosaic attenuation",
    "Pulmonary fibrotic sequela": "Fibrotic sequela",
}
"""Labels that are too long for a phone."""


@dataclass(frozen=True)
class Point:
    """One system on one sample set, with what it costs.

    Attributes:
        system: its name in the run.
        shown: its name for people.
        size_name: a short name of the language model, for the axis.
        mode: key of :data:`rad3d.registry.MODES`.
        sample_set: id of the set.
        estimate: of the metric that is drawn.
        parameters, trainable: of the language model, and of what training changed; 0 if not known.
        seconds: for one report; None where it was not measured.
    """

    system: str
    shown: str
    size_name: str
    mode: str
    sample_set: str
    estimate: Estimate
    parameters: int = 0
    trainable: int = 0
    seconds: float | None = None

    def along(self, against: Against) -> float | None:
        """The place on the x axis; None where it is not known."""
        value = getattr(self, against)
        return float(value) if value else None


@dataclass(frozen=True)
class Reference:
    """A control drawn as a line across its sample set's panel."""

    shown: str
    sample_set: str
    estimate: Estimate


def study_figure(
    points: Sequence[Point],
    titles: Mapping[str, str],
    metric: MetricRow,
    against: Against = "parameters",
    references: Sequence[Reference] = (),
) -> go.Figure:
    """Quality against a cost, one line for each adaptation mode, one panel for each sample set.

    Args:
        points: systems without a known cost are left out.
        titles: sample set -> title of its panel, in order.
        metric: what the estimates are of.
        against: what x is; always logarithmic.
        references: controls to beat.
    """
    figure = panels(list(titles.values()), AGAINST[against], metric.name)
    shown = [p for p in points if p.along(against)]
    places = sorted({p.along(against) or 1.0 for p in shown})
    for i, sample_set in enumerate(titles):
        here = [p for p in shown if p.sample_set == sample_set]
        for reference in (r for r in references if r.sample_set == sample_set):
            _add_reference(figure, reference, places, i)
        for k, mode in enumerate(MODES):
            line = sorted(
                (p for p in here if p.mode == mode), key=lambda p: p.along(against) or 0.0
            )
            if line:
                shift = (k - (len(MODES) - 1) / 2) if against == "parameters" else 0.0
                _add_mode(figure, line, metric, against, i, _dodge(places, shift))
    ticks = _ticks(shown, places, against)
    for i in range(len(titles)):
        figure.update_layout(
            {f"xaxis{i + 1 if i else ''}": {"type": "log", "range": _log_range(places), **ticks}}
        )
    return figure


def _add_mode(
    figure: go.Figure,
    line: Sequence[Point],
    metric: MetricRow,
    against: Against,
    panel: int,
    factor: float,
) -> None:
    style = MODE_STYLES.get(line[0].mode, _OTHER_MODE)
    figure.add_scatter(
        x=[(p.along(against) or 1.0) * factor for p in line],
        y=[p.estimate.value for p in line],
        mode="lines+markers",
        name=style.name,
        legendgroup=style.name,
        showlegend=style.name not in {t.name for t in figure.data},
        line={"color": style.color, "width": 2},
        marker={"color": style.color, "symbol": style.symbol, "size": 10},
        error_y=interval_bars(
            [(p.estimate.value, p.estimate.low, p.estimate.high) for p in line], style.color
        ),
        customdata=[[p.system, p.sample_set, "", _hover(p, metric)] for p in line],
        hovertemplate="%{customdata[3]}<extra></extra>",
        xaxis=axis("x", panel),
        yaxis=axis("y", panel),
    )


def _add_reference(
    figure: go.Figure, reference: Reference, places: Sequence[float], panel: int
) -> None:
    low, high = (10**exponent for exponent in _log_range(places))
    estimate = reference.estimate
    name = f"Control: {reference.shown}"
    figure.add_scatter(
        x=[low, high],
        y=[estimate.value] * 2,
        mode="lines",
        name=name,
        legendgroup=name,
        showlegend=name not in {t.name for t in figure.data},
        line={"color": QUIET, "width": 2, "dash": "dash"},
        legendrank=2000,
        hovertemplate=f"{name}<br>{estimate}<extra></extra>",
        xaxis=axis("x", panel),
        yaxis=axis("y", panel),
    )


def _hover(point: Point, metric: MetricRow) -> str:
    e = point.estimate
    cost = [
        f"{count(point.parameters)} parameters" if point.parameters else "",
        f"{count(point.trainable)} trained" if point.trainable else "",
        f"{point.seconds:.2f} s per report" if point.seconds else "",
    ]
    return (
        f"<b>{point.shown}</b><br>{metric.name} {e.value:.3f} [{e.low:.3f}, {e.high:.3f}]<br>"
        f"{', '.join(filter(None, cost))}<br>n = {e.n}; press to read its cases"
    )


def _log_range(places: Sequence[float]) -> list[float]:
    """Range of a log axis with room at both ends."""
    if not places:
        return [0.0, 1.0]
    low, high = math.log10(places[0]), math.log10(places[-1])
    room = max(0.12 * (high - low), 0.12)
    return [low - room, high + room]


def _dodge(places: Sequence[float], shift: float) -> float:
    """The factor that sets a mode's points apart from the others at the same place."""
    low, high = _log_range(places)
    return float(10 ** (shift * 0.022 * (high - low)))


def _ticks(points: Sequence[Point], places: Sequence[float], against: Against) -> dict[str, object]:
    """A tick for each language model where there are few; round numbers otherwise."""
    if against == "parameters" and len(places) <= 6:
        names = {p.parameters: p.size_name for p in points}
        return {
            "tickvals": list(places),
            "ticktext": [f"{names[int(v)]}<br>{count(int(v))}" for v in places],
        }
    if not places:
        return {}
    exponents = range(math.floor(math.log10(places[0])), math.ceil(math.log10(places[-1])) + 1)
    values = [m * 10.0**e for e in exponents for m in (1, 2, 5)]
    return {"tickvals": values, "ticktext": [_number(v) for v in values]}


def heatmap_figure(
    f1: Mapping[str, Mapping[str, float]],
    names: Mapping[str, str],
    positives: Mapping[str, int],
    sample_set: str,
) -> go.Figure:
    """F1 of each system on each of the 18 findings, the most frequent finding at the top.

    Args:
        f1: system -> label -> F1, NaN where the label neither occurs nor is stated.
        names: system -> what its column is called, in order.
        positives: label -> number of cases that have it.
        sample_set: the figures are of; for the cases that a cell leads to.
    """
    labels = sorted(LABELS, key=lambda label: positives.get(label, 0))
    values = np.array([[f1[s].get(label, math.nan) for s in names] for label in labels])
    target = [
        [
            [s, sample_set, label, f"<b>{label}</b>, {positives.get(label, 0)} cases<br>{names[s]}"]
            for s in names
        ]
        for label in labels
    ]
    rows = [f"{label} ({positives.get(label, 0)})" for label in labels]
    short = [f"{_SHORT.get(label, label)} ({positives.get(label, 0)})" for label in labels]
    margin = {"l": 4, "r": 4, "t": 4, "b": 4}
    figure = base(
        120 + 27 * len(labels),
        {
            "margin": margin,
            "font": {"size": 11.5},
            "height": 110 + 24 * len(labels),
            "xaxis": {"tickfont": {"size": 9}},
            "yaxis": {"tickvals": rows, "ticktext": short},
        },
        {"texttemplate": ""},  # cells are too narrow for their figures there
        margin=margin,
    )
    figure.add_heatmap(
        z=values,
        x=list(names.values()),
        y=rows,
        zmin=0,
        zmax=1,
        colorscale=[list(stop) for stop in _SCALE],
        xgap=2,
        ygap=2,
        text=[["" if v != v else f"{100 * v:.0f}" for v in row] for row in values],
        texttemplate="%{text}",
        textfont={"size": 11},
        customdata=target,
        hovertemplate="%{customdata[3]}<br>F1 %{z:.2f}; press to read the cases<extra></extra>",
        showscale=False,
        hoverongaps=False,
    )
    tick = {"fixedrange": True, "ticks": "", "automargin": True, "showgrid": False}
    figure.update_xaxes(**tick, tickangle=-90, side="top", dtick=1)
    figure.update_yaxes(**tick, dtick=1)
    return figure


def forest_figure(
    differences: Sequence[Difference], names: Mapping[str, str], metric: MetricRow, sample_set: str
) -> go.Figure:
    """Paired differences from a baseline with intervals; a press leads to the other system's cases.

    Args:
        differences: of one metric, all with the same ``a``.
        names: system -> shown name.
        metric: of the differences.
        sample_set: on which the systems were compared.
    """
    ordered = sorted(differences, key=lambda d: -d.value)
    rows = [_difference_row(d, names, metric, sample_set) for d in ordered]
    ends = [e for d in ordered for e in (d.low, d.high, d.value) if not math.isnan(e)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    room = max(0.05 * (high - low), 0.01)
    return rows_figure(
        rows, _FOREST, f"Difference in {metric.name}", (low - room, high + room), line_at=0.0
    )


_FOREST = (
    Series("better", ACCENT, "diamond"),
    Series("no significant difference", QUIET, "circle"),
    Series("worse", ALARM, "square"),
)


def _difference_row(
    d: Difference, names: Mapping[str, str], metric: MetricRow, sample_set: str
) -> Row:
    series = "no significant difference"
    if d.better:
        series = "better" if d.better == d.b else "worse"
    shown = names.get(d.b, d.b)
    hover = (
        f"<b>{shown}</b> minus {names.get(d.a, d.a)}<br>{metric.name} {d.value:+.3f} "
        f"[{d.low:+.3f}, {d.high:+.3f}]<br>p = {d.p_randomisation:.3f}, corrected "
        f"{d.p_adjusted:.3f}<br>n = {d.n}: {series}"
    )
    return Row(
        shown,
        f"{d.value:+.3f}, p {p_text(d.p_adjusted)}",
        ((series, d.value, d.low, d.high, hover),),
        bool(d.better),
        (d.b, sample_set, ""),
    )


def classifier_figure(card: ClassifierCard) -> go.Figure:
    """AUROC and average precision of each label with intervals, best AUROC at the top."""
    ordered = sorted(
        card.labels.items(),
        key=lambda item: math.inf if math.isnan(item[1].auroc.value) else -item[1].auroc.value,
    )
    rows = [
        Row(
            f"{label} ({q.positives})",
            f"{_two(q.auroc)} · {_two(q.average_precision)}",
            tuple(
                (name, e.value, e.low, e.high, f"<b>{label}</b>, {q.positives} cases<br>{name} {e}")
                for name, e in (("AUROC", q.auroc), ("Average precision", q.average_precision))
                if not math.isnan(e.value)
            ),
        )
        for label, q in ordered
    ]
    series = (Series("AUROC", ACCENT, "diamond"), Series("Average precision", SECOND, "circle"))
    return rows_figure(rows, series, "", (0, 1.005))


def calibration_figure(cards: Mapping[str, ClassifierCard]) -> go.Figure:
    """Share of positive cases against the stated probability; on the diagonal it is honest.

    Args:
        cards: name of the sample set -> its card.
    """
    room = 24 * len(cards)
    figure = base(
        430 + room,
        {"height": 380 + room},
        margin={"l": 58, "r": 10, "t": 8, "b": 64 + room},
    )
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": QUIET, "dash": "dash", "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )
    for (name, card), style in zip(cards.items(), cycle(_CURVES), strict=False):
        error = card.macro["calibration_error"]
        shares = [b.share for b in card.bins]
        figure.add_scatter(
            x=[b.probability for b in card.bins],
            y=[share.value for share in shares],
            mode="lines+markers",
            name=f"{name}, error {error.value:.3f}",
            line={"color": style.color, "width": 2},
            marker={"color": style.color, "symbol": style.symbol, "size": 9},
            error_y=interval_bars([(e.value, e.low, e.high) for e in shares], style.color),
            customdata=[["", "", "", share.n] for share in shares],
            hovertemplate=(
                "stated %{x:.2f}, positive %{y:.2f}<br>%{customdata[3]} decisions<extra></extra>"
            ),
        )
    frame = {"range": [0, 1], "gridcolor": GRID, "zeroline": False, "fixedrange": True}
    figure.update_xaxes(**frame, title={"text": "Stated probability", "standoff": 8})
    figure.update_yaxes(**frame, title={"text": "Share of positive cases", "standoff": 8})
    return figure


_CURVES = (Series("", ACCENT, "diamond"), Series("", SECOND, "circle"), Series("", QUIET, "square"))


def count(number: int) -> str:
    """``5_242_880 -> "5.2M"``."""
    for unit, factor in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= factor:
            return f"{number / factor:.3g}{unit}"
    return str(number)


def p_text(p: float) -> str:
    """``0.0004 -> "< 0.001"``."""
    return "not defined" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _number(value: float) -> str:
    return count(round(value)) if value >= 1000 else f"{value:g}"


def _two(estimate: Estimate) -> str:
    return "–" if math.isnan(estimate.value) else f"{estimate.value:.2f}"
