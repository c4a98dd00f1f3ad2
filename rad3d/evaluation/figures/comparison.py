"""Systems beside each other: F1 of every finding, and differences from a baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from rad3d.core.labels import CT_RATE
from rad3d.core.words import shortened
from rad3d.evaluation.figures.style import (
    ACCENT,
    ALARM,
    QUIET,
    Row,
    Series,
    base,
    p_text,
    rows_figure,
)
from rad3d.metrics.bootstrap import span
from rad3d.metrics.compare import Difference
from rad3d.metrics.registry import MetricRow

_SCALE = ((0.0, "#22323d"), (0.5, "#0f7f75"), (1.0, "#c8f2e4"))

_LONGEST, _LONGEST_NARROW = 40, 22
"""Characters of a label beside the heatmap; on a phone."""


def heatmap_figure(
    f1: Mapping[str, Mapping[str, float]],
    names: Mapping[str, str],
    positives: Mapping[str, int],
    sample_set: str,
    short: Mapping[str, str] = CT_RATE.short_names,
) -> go.Figure:
    """F1 of each system on each label, the most frequent finding at the top.

    Args:
        f1: system -> label -> F1, NaN where the label neither occurs nor is stated.
        names: system -> what its column is called, in order.
        positives: label -> number of cases that have it.
        sample_set: the figures are of; for the cases that a cell leads to.
        short: label -> what stands for it on a phone.
    """
    labels = sorted(positives, key=lambda label: positives[label])
    values = np.array([[f1[s].get(label, math.nan) for s in names] for label in labels])
    target = [
        [
            [s, sample_set, label, f"<b>{label}</b>, {positives.get(label, 0)} cases<br>{names[s]}"]
            for s in names
        ]
        for label in labels
    ]
    rows = [f"{label} ({positives[label]})" for label in labels]
    wide = [f"{shortened(label, _LONGEST)} ({positives[label]})" for label in labels]
    narrow = [
        f"{shortened(short.get(label, label), _LONGEST_NARROW)} ({positives[label]})"
        for label in labels
    ]
    margin = {"l": 4, "r": 4, "t": 4, "b": 4}
    figure = base(
        120 + 27 * len(labels),
        {
            "margin": margin,
            "font": {"size": 11.5},
            "height": 110 + 24 * len(labels),
            "xaxis": {"tickfont": {"size": 9}},
            "yaxis": {"tickvals": rows, "ticktext": narrow},
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
    figure.update_yaxes(**tick, tickvals=rows, ticktext=wide)
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
        f"{span(d.low, d.high, '+.3f')}<br>p = {d.p_randomisation:.3f}, corrected "
        f"{d.p_adjusted:.3f}<br>n = {d.n}: {series}"
    )
    return Row(
        shown,
        f"{d.value:+.3f}, p {p_text(d.p_adjusted)}",
        ((series, d.value, d.low, d.high, hover),),
        bool(d.better),
        (d.b, sample_set, ""),
    )
