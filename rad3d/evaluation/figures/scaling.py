"""The pictures of a study: quality against size, pairs or cost, and what the prior is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Literal

import plotly.graph_objects as go

from rad3d.core.modes import MODES
from rad3d.evaluation.figures.style import ACCENT, QUIET, Series, add_line, axis, count, panels
from rad3d.evaluation.system_names import System, mode_name
from rad3d.metrics.bootstrap import Estimate
from rad3d.metrics.compare import Difference
from rad3d.metrics.registry import MetricRow

Against = Literal["parameters", "pairs", "trainable", "seconds"]

AGAINST: dict[str, str] = {
    "parameters": "Parameters of the language model",
    "pairs": "Pairs to learn from",
    "trainable": "Trainable parameters",
    "seconds": "Seconds per report",
}
"""What quality can be drawn against, and how the axis is called."""

_LOOKS = (
    ("#d97706", "circle"), ("#4c8dd9", "square"), (ACCENT, "diamond"), ("#b3609f", "triangle-up"),
    ("#2f8fa8", "pentagon"), ("#c0504d", "triangle-down"), ("#5b6bb5", "hexagon"),
    ("#8a6d4b", "star"), ("#6f7d2b", "cross"), (QUIET, "x"),
)  # fmt: skip

MODE_STYLES: dict[str, Series] = {
    mode: Series(mode_name(mode), *look) for mode, look in zip(MODES, cycle(_LOOKS), strict=False)
}
"""Colour and symbol of an adaptation mode; symbols differ, so that colour is not needed."""


@dataclass(frozen=True)
class Point:
    """One system on one sample set, with what it costs.

    Attributes:
        system: its name in the run.
        shown: its name for people.
        size_name: a short name of the language model, for the axis.
        mode: key of :data:`rad3d.core.modes.MODES`.
        sample_set: id of the set.
        estimate: of the metric that is drawn.
        parameters, trainable: of the language model, and of what training changed; 0 if not known.
        seconds: for one report; None where it was not measured.
        pairs: that it learned from; 0 if not known.
        encoder: whose embeddings it reads; empty for the shipped one.
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
    pairs: int = 0
    encoder: str = ""

    def along(self, against: Against) -> float | None:
        """The place on the x axis; None where it is not known."""
        value = getattr(self, against)
        return float(value) if value else None


@dataclass(frozen=True)
class Contrast:
    """The difference of two modes on a set, with language model, pairs and encoder alike.

    Attributes:
        system: that of the second mode.
        sample_set: id of the set.
        difference: second minus first.
    """

    system: System
    sample_set: str
    difference: Difference


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
    shown = _comparable([p for p in points if p.along(against)], against)
    places = sorted({p.along(against) or 1.0 for p in shown})
    lines: dict[tuple[str, str, str], list[Point]] = {}
    for point in sorted(shown, key=lambda p: (list(MODES).index(p.mode), p.along(against) or 0.0)):
        llm = point.size_name if against == "pairs" else ""
        lines.setdefault((point.mode, llm, point.encoder), []).append(point)
    several = len({llm for _, llm, _ in lines}) > 1
    for i, sample_set in enumerate(titles):
        for reference in (r for r in references if r.sample_set == sample_set):
            _add_reference(figure, reference, places, i)
        for k, ((mode, llm, encoder), points_of) in enumerate(lines.items()):
            line = [p for p in points_of if p.sample_set == sample_set]
            if line:
                apart = against in ("parameters", "pairs")
                shift = k - (len(lines) - 1) / 2 if apart else 0.0
                style = line_style(mode, llm if several else "", encoder)
                _add_line(
                    figure, line, metric, style, i, _dodge(places, shift, len(lines)), against
                )
    ticks = _ticks(shown, places, against)
    for i in range(len(titles)):
        figure.update_layout(
            {f"xaxis{i + 1 if i else ''}": {"type": "log", "range": _log_range(places), **ticks}}
        )
    return figure


def _comparable(points: Sequence[Point], against: Against) -> list[Point]:
    """Leave out points that differ from the others of their line in more than what x is.

    Against the pairs these are language models with one number of pairs; else the trainings on
    fewer pairs than the most.
    """
    if against != "pairs":
        most = max((p.pairs for p in points), default=0)
        return [p for p in points if p.pairs in (0, most)]
    numbers: dict[str, set[int]] = {}
    for point in points:
        numbers.setdefault(point.size_name, set()).add(point.pairs)
    return [p for p in points if len(numbers[p.size_name]) > 1]


def line_style(mode: str, llm: str, encoder: str) -> Series:
    """The look of a mode's line, named after all that sets it apart; dotted for other encoders."""
    style = MODE_STYLES[mode]
    name = ", ".join(filter(None, (style.name, llm, encoder)))
    return replace(style, name=name, extra={"line": {"dash": "dot"}} if encoder else {})


def _add_line(
    figure: go.Figure,
    line: Sequence[Point],
    metric: MetricRow,
    style: Series,
    panel: int,
    factor: float,
    against: Against,
) -> None:
    add_line(
        figure,
        [(p.along(against) or 1.0) * factor for p in line],
        [(p.estimate.value, p.estimate.low, p.estimate.high) for p in line],
        [[p.system, p.sample_set, "", _hover(p, metric)] for p in line],
        style,
        panel,
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
        f"{point.pairs:,} pairs" if point.pairs else "",
    ]
    return (
        f"<b>{point.shown}</b><br>{metric.name} {e}<br>"
        f"{', '.join(filter(None, cost))}<br>n = {e.n}; press to read its cases"
    )


def _log_range(places: Sequence[float]) -> list[float]:
    """Range of a log axis with room at both ends."""
    if not places:
        return [0.0, 1.0]
    low, high = math.log10(places[0]), math.log10(places[-1])
    room = max(0.12 * (high - low), 0.12)
    return [low - room, high + room]


def _dodge(places: Sequence[float], shift: float, lines: int) -> float:
    """The factor that sets a line's points apart from the others at the same place."""
    low, high = _log_range(places)
    return float(10 ** (shift * min(0.022, 0.09 / max(lines, 1)) * (high - low)))


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
    if against == "pairs":
        return {"tickvals": list(places), "ticktext": [f"{v:,.0f}" for v in places]}
    exponents = range(math.floor(math.log10(places[0])), math.ceil(math.log10(places[-1])) + 1)
    values = [m * 10.0**e for e in exponents for m in (1, 2, 5)]
    return {"tickvals": values, "ticktext": [_number(v) for v in values]}


def _number(value: float) -> str:
    return count(round(value)) if value >= 1000 else f"{value:g}"
