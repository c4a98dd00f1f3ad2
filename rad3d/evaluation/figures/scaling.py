"""The picture of a study: quality against the size of the language model, a line for each mode."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import plotly.graph_objects as go

from rad3d.core.registry import MODES
from rad3d.evaluation.figures.style import ACCENT, QUIET, Series, axis, count, interval_bars, panels
from rad3d.metrics.bootstrap import Estimate
from rad3d.metrics.registry import MetricRow

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


@dataclass(frozen=True)
class Point:
    """One system on one sample set, with what it costs.

    Attributes:
        system: its name in the run.
        shown: its name for people.
        size_name: a short name of the language model, for the axis.
        mode: key of :data:`rad3d.core.registry.MODES`.
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
    """A baseline drawn as a line across its sample set's panel."""

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
        references: baselines to beat.
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
    name = reference.shown
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


def _number(value: float) -> str:
    return count(round(value)) if value >= 1000 else f"{value:g}"
