"""What the prior is worth: modes that read it minus the one that reads the image alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from rad3d.evaluation.figures.scaling import MODE_STYLES, Contrast, line_style
from rad3d.evaluation.figures.style import QUIET, add_line, axis, panels
from rad3d.metrics.bootstrap import span
from rad3d.metrics.registry import MetricRow

BASE = "v2"
"""The mode that reads the image alone, with a frozen language model."""


def worth_figure(
    contrasts: Sequence[Contrast], titles: Mapping[str, str], metric: MetricRow
) -> go.Figure:
    """Differences along the pairs, or along the language models where pairs do not vary.

    Args:
        contrasts: with :data:`BASE`, on every sample set.
        titles: sample set -> title of its panel, in order.
        metric: of the differences.
    """
    by_pairs = len({c.system.pairs for c in contrasts}) > 1
    if by_pairs:  # a language model with one number of pairs has no line
        varied = {llm for llm, n in _numbers(contrasts).items() if len(n) > 1}
        contrasts = [c for c in contrasts if c.system.llm in varied] or contrasts
    models = list(dict.fromkeys(c.system.llm for c in contrasts))
    numbers = sorted({c.system.pairs for c in contrasts})
    places = [f"{n:,}" for n in numbers] if by_pairs else models

    def place(c: Contrast) -> int:
        return numbers.index(c.system.pairs) if by_pairs else models.index(c.system.llm)

    lines: dict[tuple[str, str, str], list[Contrast]] = {}
    for c in contrasts:
        llm = c.system.llm if by_pairs and len(models) > 1 else ""
        lines.setdefault((c.system.mode, llm, c.system.encoder), []).append(c)
    figure = panels(
        list(titles.values()),
        "Pairs to learn from" if by_pairs else "Language model",
        f"{metric.name}, minus {MODE_STYLES[BASE].name}",
    )
    ends = [-0.5, len(places) - 0.5]
    for i, sample_set in enumerate(titles):
        figure.add_scatter(
            x=ends, y=[0, 0], mode="lines", hoverinfo="skip", showlegend=False,
            line={"color": QUIET, "width": 1.5, "dash": "dash"},
            xaxis=axis("x", i), yaxis=axis("y", i),
        )  # fmt: skip
        for k, (names, of_line) in enumerate(lines.items()):
            line = sorted((c for c in of_line if c.sample_set == sample_set), key=place)
            shift = (k - (len(lines) - 1) / 2) * min(0.12, 0.5 / len(lines))
            add_line(
                figure,
                [place(c) + shift for c in line],
                [(c.difference.value, c.difference.low, c.difference.high) for c in line],
                [[c.system.id, c.sample_set, "", _hover(c, metric)] for c in line],
                line_style(*names),
                i,
            )
    figure.update_xaxes(tickvals=list(range(len(places))), ticktext=places, range=ends)
    return figure


def _numbers(contrasts: Sequence[Contrast]) -> dict[str, set[int]]:
    """Language model -> the numbers of pairs that it learned from."""
    numbers: dict[str, set[int]] = {}
    for c in contrasts:
        numbers.setdefault(c.system.llm, set()).add(c.system.pairs)
    return numbers


def _hover(contrast: Contrast, metric: MetricRow) -> str:
    system, d = contrast.system, contrast.difference
    return (
        f"<b>{system.shown}</b> minus {MODE_STYLES[BASE].name}<br>{metric.name} {d.value:+.3f} "
        f"{span(d.low, d.high, '+.3f')}<br>n = {d.n}; {d.detectable:.3f} would be found with 80% "
        "power"
    )
