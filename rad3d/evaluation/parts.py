"""Parts that the evaluation tab and the exported page share: leaderboard and marked cases.

``templates/parts.jinja`` lays out what is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from rad3d.core.templates import environment
from rad3d.evaluation.figures.style import count
from rad3d.evaluation.leaderboard import StudyView
from rad3d.metrics.bootstrap import span
from rad3d.metrics.factuality import Match
from rad3d.metrics.registry import MetricRow
from rad3d.metrics.scorecard import Scorecard
from rad3d.reports.sections import split_report

_HERE = Path(__file__).parent
TEMPLATES = _HERE / "templates"
STATIC = _HERE / "static"
"""Scripts that the app serves and the exported page carries inside."""


@dataclass(frozen=True)
class Kind:
    """An outcome of matching a finding: its name, sign and meaning."""

    name: str
    sign: str
    about: str


KINDS: dict[str, Kind] = {
    "matched": Kind("matched", "✓", "both state it, and the details agree"),
    "omitted": Kind("omitted", "−", "only the reference states it"),
    "hallucinated": Kind("invented", "+", "only the report states it"),
    "wrong_place": Kind("wrong place", "↔", "wrong side or wrong site"),
    "wrong_size": Kind("wrong size", "±", "wrong size, or mild instead of severe"),
    "contradictory": Kind("contradicted", "≠", "present, but denied"),
}

_SEVERITY = ("contradictory", "hallucinated", "wrong_place", "wrong_size", "omitted", "matched")
"""Which kind colours a sentence that holds several."""


def templates(*folders: Path) -> Environment:
    """Return the templates of this package and of further folders, with the shared filters."""
    made = environment(TEMPLATES, *folders)
    made.globals |= {"kinds": KINDS, "span": span}
    made.filters |= {
        "by_severity": by_severity,
        "marked": marked,
        "parameters": count,
        "sections": split_report,
    }
    return made


def by_severity(findings: Sequence[Match]) -> list[Match]:
    """Sort the findings, worst first."""
    return sorted(findings, key=lambda match: _SEVERITY.index(match.kind))


def marked(text: str, findings: Sequence[Match], side: str) -> Iterator[tuple[str, list[Match]]]:
    """Cut the text into pieces, each with all findings of one sentence, or with none.

    Args:
        text: of a report.
        findings: of the case.
        side: the attribute of a finding that holds its sentence in this text.
    """
    by_sentence: dict[str, list[Match]] = {}
    for match in findings:
        if sentence := getattr(match, side):
            by_sentence.setdefault(sentence, []).append(match)
    places = sorted((at, sentence) for sentence in by_sentence if (at := text.find(sentence)) >= 0)
    end = 0
    for at, sentence in places:
        if at >= end:
            yield text[end:at], []
            yield sentence, by_sentence[sentence]
            end = at + len(sentence)
    yield text[end:], []


@dataclass(frozen=True)
class Bar:
    """An interval and its value in percent of a column's span."""

    start: float
    length: float
    at: float


@dataclass(frozen=True)
class Board:
    """The leaderboard of one sample set.

    Attributes:
        view: the evaluation.
        columns: the metrics; systems are ranked by the first.
        compared, controls, of_variants: the compared systems, the baselines, and the ablations.
        leaders: metric -> system that is significantly better than its runner-up, or empty.
        spans: metric -> lowest and highest end of an interval of what is compared.
        has_failures: whether a case of some system has no report.
        legend: how the figures were computed, in a few sentences.
    """

    view: StudyView
    columns: Sequence[MetricRow]
    compared: Sequence[Scorecard]
    controls: Sequence[Scorecard]
    of_variants: Sequence[Scorecard]
    leaders: Mapping[str, str]
    spans: Mapping[str, tuple[float, float]]
    has_failures: bool
    legend: str

    def bar(self, card: Scorecard, metric: str) -> Bar | None:
        """Return how a figure is drawn; None where there is none."""
        estimate = card.estimates.get(metric)
        if estimate is None or math.isnan(estimate.value):
            return None
        low, high = self.spans[metric]
        width = max(high - low, 1e-9)
        # A baseline may lie outside of what the compared systems span: it ends at their edge.
        start, at, end = (
            min(max(100 * (each - low) / width, 0.0), 100.0)
            for each in (
                estimate.value if math.isnan(end) else end  # one case has no interval
                for end in (estimate.low, estimate.value, estimate.high)
            )
        )
        return Bar(start, max(end - start, 1.5), at)


def board_of(view: StudyView, sample_set: str, columns: Sequence[MetricRow]) -> Board | None:
    """Return the leaderboard with these columns; None where nothing was scored."""
    cards = view.on(sample_set)
    if not cards or not columns:
        return None
    ranked = view.ranked(sample_set, columns[0].id, controls=True)
    ordered = [*ranked, *(card for card in cards if card not in ranked)]
    kinds = {card.name: view.systems[card.name] for card in cards}
    among = view.on(sample_set, controls=False) or cards
    return Board(
        view=view,
        columns=columns,
        compared=[card for card in ordered if not kinds[card.name].control],
        controls=[c for c in ordered if kinds[c.name].control and not kinds[c.name].of_variant],
        of_variants=[card for card in ordered if kinds[card.name].of_variant],
        leaders={row.id: view.leader(sample_set, row.id) for row in columns},
        spans={row.id: _span(among, row.id) for row in columns},
        has_failures=any(card.failures for card in cards),
        legend=_legend(cards[0]),
    )


def _span(cards: Sequence[Scorecard], metric: str) -> tuple[float, float]:
    """Return the lowest and the highest end of the intervals in a column."""
    ends = [
        end
        for card in cards
        if (e := card.estimates.get(metric)) is not None
        for end in (e.low, e.high, e.value)
        if not math.isnan(end)
    ]
    return (min(ends), max(ends)) if ends else (0.0, 1.0)


def _legend(card: Scorecard) -> str:
    return (
        f"n = {card.n}. In brackets: 95% intervals, percentile bootstrap over reports, "
        f"{card.settings.get('draws', '')} resamples. ★: better than the runner-up by a paired "
        "randomisation test, corrected (Holm) over the comparisons with the best; where there is "
        "no ★, the best is not known to be better. ↓: lower is better."
    )
