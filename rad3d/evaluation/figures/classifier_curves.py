"""The classifier's figures: how well it ranks each label, and whether its probabilities hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import cycle

import plotly.graph_objects as go

from rad3d.evaluation.figures.style import (
    ACCENT,
    GRID,
    QUIET,
    SECOND,
    Row,
    Series,
    base,
    interval_bars,
    rows_figure,
)
from rad3d.metrics.bootstrap import Estimate
from rad3d.metrics.classifier import ClassifierCard


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


def _two(estimate: Estimate) -> str:
    return "–" if math.isnan(estimate.value) else f"{estimate.value:.2f}"
