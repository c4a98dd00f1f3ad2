"""Shared style of the figures: colours, panels that stack on a phone, rows with captions.

A figure carries its phone layout in ``layout.meta["narrow"]``: a partial layout that whoever draws
it merges in below :data:`NARROW_PX`; ``narrow_traces`` likewise is merged into every trace. Every
clickable point has ``customdata[0:3]`` = system, sample set and label (empty where there is none),
so that it can lead to its cases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

NARROW_PX = 520
"""Drawn narrower than this, a figure takes its phone layout."""

FONT = "IBM Plex Sans, system-ui, sans-serif"

# Hues and greys of middle lightness, so that they hold on a light and on a dark page.
GRID = "rgba(128, 144, 158, 0.22)"
QUIET = "#8494a3"
ACCENT = "#0e9384"
SECOND = "#c9772b"
ALARM = "#d6455d"

AXIS: dict[str, Any] = {
    "gridcolor": GRID,
    "linecolor": GRID,
    "zeroline": False,
    "fixedrange": True,
    "ticks": "",
    "automargin": True,
}

ROW_PX = 38
_PANEL_PX = 300
_LEGEND_PX = 62


@dataclass(frozen=True)
class Row:
    """One line of a dot plot: points with intervals, below a caption that spans the figure.

    Attributes:
        caption: at the left.
        figures: at the right.
        points: (series, value, low, high, hover); low and high may be NaN.
        strong: whether the caption stands out.
        target: system, sample set and label that a click leads to.
    """

    caption: str
    figures: str
    points: tuple[tuple[str, float, float, float, str], ...]
    strong: bool = False
    target: tuple[str, str, str] = ("", "", "")


@dataclass(frozen=True)
class Series:
    """Name, colour and symbol of one series of points."""

    name: str
    color: str
    symbol: str
    extra: dict[str, Any] = field(default_factory=dict)


TEMPLATE = go.layout.Template(
    layout={
        "margin": {"l": 46, "r": 10, "t": 34, "b": 40},
        "font": {"family": FONT, "size": 13},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"align": "left", "font": {"family": FONT, "size": 13}},
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "font": {"size": 13},
        },
        "dragmode": False,
        "xaxis": AXIS,
        "yaxis": AXIS,
    }
)
"""The style of every figure; a figure only says where it differs."""


def base(
    height: int,
    narrow: dict[str, Any] | None = None,
    narrow_traces: dict[str, Any] | None = None,
    **layout: Any,
) -> go.Figure:
    """An empty figure in the project's style."""
    meta = {"narrow": narrow or {}, "narrow_traces": narrow_traces or {}}
    return go.Figure().update_layout(template=TEMPLATE, height=height, meta=meta, **layout)


def panels(titles: Sequence[str], x_title: str, y_title: str) -> go.Figure:
    """One pair of axes for each title: side by side, and below each other on a phone.

    The axes of panel ``i`` are ``x{i}`` and ``y{i}`` (see :func:`axis`); all share one y range.
    """
    n = len(titles)
    names = [f"<b>{title}</b>" for title in titles]
    across = make_subplots(1, n, subplot_titles=names, shared_yaxes=True, horizontal_spacing=0.07)
    down = make_subplots(n, 1, subplot_titles=names, vertical_spacing=0.17)
    for figure in (across, down):
        # Titles begin at the left edge of their panels.
        for i, each in enumerate(figure.layout.annotations):
            left = figure.layout[_long(axis("x", i))].domain[0]
            each.update(x=left, xanchor="left", yshift=6, font={"size": 13})
    bottom = _LEGEND_PX + 70
    narrow: dict[str, Any] = {
        "height": 34 + n * (_PANEL_PX - 34) + bottom,
        "margin": {"l": 40, "r": 6, "t": 28, "b": bottom},
        "annotations": [each.to_plotly_json() for each in down.layout.annotations],
    }
    for i in range(n):
        x, y = _long(axis("x", i)), _long(axis("y", i))
        across.layout[x].title = axis_title(x_title)
        across.layout[y].title = axis_title(y_title if i == 0 else "")
        narrow[x] = {
            "domain": list(down.layout[x].domain),
            "title": {"text": x_title if i == n - 1 else ""},
        }
        narrow[y] = {
            "domain": list(down.layout[y].domain),
            "showticklabels": True,
            "title": {"text": ""},
        }
    return across.update_layout(
        template=TEMPLATE,
        height=_PANEL_PX + _LEGEND_PX + 60,
        margin={"l": 58, "r": 10, "t": 34, "b": _LEGEND_PX + 56},
        meta={"narrow": narrow, "narrow_traces": {}},
    )


def add_line(
    figure: go.Figure,
    x: Sequence[float],
    points: Sequence[tuple[float, float, float]],
    targets: Sequence[list[str]],
    style: Series,
    panel: int,
) -> None:
    """Add points with intervals, joined by a line; in the legend once, whatever the panels.

    Args:
        figure: of :func:`panels`.
        x: places.
        points: value, low and high of each.
        targets: system, sample set, label and hover text of each.
        style: of the line.
        panel: which.
    """
    figure.add_scatter(
        x=list(x),
        y=[value for value, _, _ in points],
        mode="lines+markers",
        name=style.name,
        legendgroup=style.name,
        showlegend=style.name not in {t.name for t in figure.data},
        line={"color": style.color, "width": 2, **style.extra.get("line", {})},
        marker={"color": style.color, "symbol": style.symbol, "size": 10},
        error_y=interval_bars(points, style.color),
        customdata=list(targets),
        hovertemplate="%{customdata[3]}<extra></extra>",
        xaxis=axis("x", panel),
        yaxis=axis("y", panel),
    )


def rows_figure(
    rows: Sequence[Row],
    series: Sequence[Series],
    x_title: str,
    x_range: tuple[float, float],
    line_at: float | None = None,
) -> go.Figure:
    """A dot plot whose captions stand above their rows, so that it reads the same at any width."""
    legend = _LEGEND_PX // 2 if len(series) > 1 else 0
    figure = base(
        ROW_PX * len(rows) + 66 + legend,
        margin={"l": 6, "r": 6, "t": 8, "b": 46 + legend},
        showlegend=len(series) > 1,
    )
    places = list(range(len(rows)))[::-1]
    for each in series:
        points = [
            (place, row, point)
            for place, row in zip(places, rows, strict=True)
            for point in row.points
            if point[0] == each.name
        ]
        figure.add_scatter(
            x=[p[1] for _, _, p in points],
            y=[place for place, _, _ in points],
            mode="markers",
            name=each.name,
            marker={"color": each.color, "symbol": each.symbol, "size": 10, "line": {"width": 0}},
            error_x=interval_bars([p[1:4] for _, _, p in points], each.color),
            customdata=[[*row.target, p[4]] for _, row, p in points],
            hovertemplate="%{customdata[3]}<extra></extra>",
            **each.extra,
        )
    for place, row in zip(places, rows, strict=True):
        for x, anchor, text in ((0, "left", row.caption), (1, "right", row.figures)):
            figure.add_annotation(
                x=x,
                xref="paper",
                y=place,
                xanchor=anchor,
                yanchor="bottom",
                yshift=5,
                showarrow=False,
                text=f"<b>{text}</b>" if row.strong else text,
                font={"size": 12.5},
            )
    if line_at is not None:
        for place in places:  # beside each row's points and not through its caption
            figure.add_shape(
                type="line",
                x0=line_at,
                x1=line_at,
                y0=place - 0.42,
                y1=place + 0.14,
                line={"color": QUIET, "width": 1.5},
                layer="below",
            )
    figure.update_xaxes(title=axis_title(x_title), range=list(x_range))
    figure.update_yaxes(visible=False, fixedrange=True, range=[-0.5, len(rows) - 0.25])
    return figure


def interval_bars(points: Sequence[tuple[float, float, float]], color: str) -> dict[str, Any]:
    """Error bars of (value, low, high); a bound that is not known gives none."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(high - value, 0.0) if high == high else 0.0 for value, _, high in points],
        "arrayminus": [max(value - low, 0.0) if low == low else 0.0 for value, low, _ in points],
        "color": color,
        "thickness": 1.5,
        "width": 0,
    }


def axis(letter: str, i: int) -> str:
    """``"x", 1 -> "x2"``: how a trace names the axis of panel ``i``."""
    return letter if i == 0 else f"{letter}{i + 1}"


def count(number: int) -> str:
    """``5_242_880 -> "5.2M"``."""
    for unit, factor in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= factor:
            return f"{number / factor:.3g}{unit}"
    return str(number)


def p_text(p: float) -> str:
    """``0.0004 -> "< 0.001"``."""
    return "not defined" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def axis_title(text: str) -> dict[str, Any]:
    """Return an axis title in the size of the other text."""
    return {"text": text, "standoff": 8, "font": {"size": 13}}


def _long(name: str) -> str:
    return f"{name[0]}axis{name[1:]}"
