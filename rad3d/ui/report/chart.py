"""The diagnosis as a chart: a bar for each label, sorted, with thresholds and the logit on hover.

Each label stands above its own bar, so that the chart reads the same at 390 px as on a desktop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from gradio.components.plot import PlotData

from rad3d.core.types import Diagnosis
from rad3d.core.words import shortened

if TYPE_CHECKING:
    from rad3d.reports.crosscheck import CrossCheck

CONTRADICTED, NOT_MENTIONED = "≠", "∅"
"""Signs in front of a label that the report contradicts, or leaves out."""

_SAYS = {CONTRADICTED: "contradicted by the report", NOT_MENTIONED: "not mentioned in the report"}
# Mid greys and hues that hold on a light and on a dark page; the colours of text and thresholds
# come from style.css.
_PRESENT = "#0e9384"
_ABSENT = "#94a3b8"
_CONFLICT = "#d97706"
_EDITED = "#7c74e0"
_THRESHOLD_DROP = 0.07
"""How far a threshold's line is moved down, in rows: below its bar, clear of the label above."""
_ROW_PX = 32
LONGEST = 42
"""Characters of a label that stand beside its probability on a phone."""


def diagnosis_chart(diagnosis: Diagnosis, check: CrossCheck | None = None) -> PlotData:
    """Return a chart of all probabilities, highest at the top.

    Args:
        diagnosis: the probabilities and thresholds.
        check: marks labels that the report contradicts or does not mention; None marks none.
    """
    signs = _signs(check)
    order = sorted(range(len(diagnosis.label_set)), key=lambda i: float(diagnosis.probabilities[i]))
    rows = list(range(len(order)))
    figure = go.Figure()
    figure.add_bar(
        x=[1.0] * len(rows),
        y=rows,
        orientation="h",
        width=0.26,
        marker={"color": "rgba(148, 163, 184, 0.16)", "line": {"width": 0}},
        hoverinfo="skip",
        name="track",
    )
    figure.add_bar(
        x=[float(diagnosis.probabilities[i]) for i in order],
        y=rows,
        orientation="h",
        width=0.26,
        marker={
            "color": [_color(diagnosis, i, signs) for i in order],
            "line": {"width": 0},
        },
        customdata=[_hover(diagnosis, i, signs) for i in order],
        hovertemplate=(
            "<b>%{customdata[0]}</b><br>probability %{customdata[1]}<br>"
            "logit %{customdata[2]}<br>threshold %{customdata[3]}%{customdata[4]}<extra></extra>"
        ),
        name="probability",
    )
    figure.add_scatter(
        x=[float(diagnosis.thresholds[i]) for i in order],
        y=[row - _THRESHOLD_DROP for row in rows],
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 9, "line": {"width": 2}},
        hoverinfo="skip",
        name="threshold",
    )
    for row, i in zip(rows, order, strict=True):
        _caption(figure, row, i, diagnosis, signs)
    figure.update_layout(
        barmode="overlay",
        height=_ROW_PX * len(rows) + 34,
        margin={"l": 2, "r": 2, "t": 14, "b": 22},
        showlegend=False,
        dragmode=False,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "IBM Plex Sans, system-ui, sans-serif", "size": 12},
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(
        range=[0, 1.0],
        fixedrange=True,
        tickvals=[0.25, 0.5, 0.75],
        ticktext=["25 %", "50 %", "75 %"],
        gridcolor="rgba(148, 163, 184, 0.18)",
        zeroline=False,
    )
    figure.update_yaxes(visible=False, fixedrange=True, range=[-0.6, len(rows) - 0.3])
    drawing = json.loads(figure.to_json())
    drawing["config"] = {"displayModeBar": False, "scrollZoom": False, "doubleClick": False}
    return PlotData(type="plotly", plot=json.dumps(drawing))


def _signs(check: CrossCheck | None) -> dict[str, str]:
    """Return label -> the sign in front of it."""
    if check is None:
        return {}
    return {
        **{item.label: CONTRADICTED for item in check.contradictions},
        **{item.label: NOT_MENTIONED for item in check.not_mentioned},
    }


def _color(diagnosis: Diagnosis, i: int, signs: Mapping[str, str]) -> str:
    if diagnosis.label_set.names[i] in signs:
        return _CONFLICT
    if diagnosis.label_set.names[i] in diagnosis.edited:
        return _EDITED
    return _PRESENT if diagnosis.present[i] else _ABSENT


def _hover(diagnosis: Diagnosis, i: int, signs: Mapping[str, str]) -> list[str]:
    label = diagnosis.label_set.names[i]
    sign = signs.get(label)
    return [
        label + (" (edited)" if label in diagnosis.edited else ""),
        f"{float(diagnosis.probabilities[i]):.3f}",
        f"{float(diagnosis.logits[i]):+.2f}",
        f"{float(diagnosis.thresholds[i]):.3f}",
        f"<br>{_SAYS[sign]}" if sign else "",
    ]


def _caption(
    figure: go.Figure, row: int, i: int, diagnosis: Diagnosis, signs: Mapping[str, str]
) -> None:
    """Write the label above the bar on the left, and the probability on the right."""
    labels = diagnosis.label_set
    label = labels.names[i]
    sign = signs.get(label)
    bold = diagnosis.present[i] or sign is not None
    name = shortened(label if len(label) <= LONGEST else labels.short_names[label], LONGEST)
    name = f"{sign} {name}" if sign else name
    name = f"{name} · edited" if label in diagnosis.edited else name
    value = f"{100 * float(diagnosis.probabilities[i]):.0f} %"
    for x, anchor, text in ((0, "left", name), (1, "right", value)):
        figure.add_annotation(
            x=x,
            y=row,
            xanchor=anchor,
            yanchor="bottom",
            yshift=3,
            showarrow=False,
            text=f"<b>{text}</b>" if bold else text,
            font={"size": 12},
        )
