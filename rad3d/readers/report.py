"""What a reader study found, as tables, figures, a page and a CSV; simulated ones say so."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go

from rad3d.core.encoders import disclaimer
from rad3d.core.tables import write_table
from rad3d.core.words import counted, duration_text
from rad3d.evaluation.figures.style import (
    ACCENT,
    QUIET,
    SECOND,
    Row,
    Series,
    p_text,
    rows_figure,
)
from rad3d.evaluation.html_page import offline_page
from rad3d.evaluation.parts import templates
from rad3d.metrics.bootstrap import Estimate
from rad3d.readers.statistics import Gap, Results
from rad3d.readers.types import QUESTIONS, Question, Rating, Study

SIMULATED = (
    "SIMULATED: the readers were drawn by a computer. Nothing here was rated by a person, and it "
    "says nothing about any system."
)

_TEMPLATES = Path(__file__).parent / "templates"
_MEANS = (Series("systems", ACCENT, "circle"),)
_GAPS = (
    Series("significant", ACCENT, "diamond"),
    Series("no significant difference", QUIET, "circle"),
)
_CHANCES = (Series("systems", SECOND, "square"),)


@dataclass(frozen=True)
class ResultTable:
    """A table with a title and a note on how its figures were made."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def title_of(study: Study) -> str:
    """Return the title under which results are shown."""
    return f"{study.title}{' (simulated)' * study.simulated}"


def sentences(results: Results) -> list[str]:
    """Return what must be known before any figure: what was rated by whom, and what is missing."""
    study = results.study
    told = [SIMULATED] if study.simulated else []
    told.append(
        f"{counted(results.readers, 'reader')}, {counted(results.cases, 'case')}, "
        f"{counted(results.ratings, 'rating')} of {study.readers * study.total} asked for; each "
        f"reader reads {counted(study.per_case, 'report')} on a scan."
    )
    if results.counted < results.readers:
        left = results.readers - results.counted
        told.append(
            f"{counted(left, 'reader')} left out of means and differences, without a rating of "
            "every system yet."
        )
    if results.counted == 1:
        told.append(
            "One reader: intervals are over cases alone. How another reader would rate is not "
            "known, and intervals over readers cannot be had."
        )
    return told


def tables(results: Results) -> Iterator[ResultTable]:
    """Yield the tables of the results."""
    how = (
        f"95% intervals by bootstrap over {results.counted} readers and {results.cases} cases, "
        f"{results.resamples} resamples, seed {results.seed}."
        if results.counted > 1
        else f"95% intervals by bootstrap over {results.cases} cases, {results.resamples} "
        f"resamples, seed {results.seed}."
    )
    if results.means:
        head = ("system", *(_named(question) for question in QUESTIONS), "median time")
        rows = tuple(
            (system, *(_cell(results.means[q.id][system]) for q in QUESTIONS),
             duration_text(results.seconds[system]))
            for system in results.study.systems
        )  # fmt: skip
        yield ResultTable("Means", head, rows, how)
    if results.differences:
        rows = tuple(
            (_question(gap).name, gap.b, gap.a, _interval(gap), p_text(gap.p_adjusted),
             gap.better or "-", str(gap.pairs or "not paired"))
            for gap in results.differences
        )  # fmt: skip
        head = ("question", "system", "minus", "difference", "p", "better", "pairs")
        yield ResultTable("Paired differences", head, rows, f"p corrected (Holm). {how}")
    if results.preferences:
        wins = results.preferences.wins
        names = results.study.systems
        rows = tuple(
            (name, _cell(results.preferences.strength[name]),
             *("-" if i == j else f"{wins[i][j]:g}" for j in range(len(names))))
            for i, name in enumerate(names)
        )  # fmt: skip
        head = ("system", "chance to be preferred", *(f"over {name}" for name in names))
        note = (
            f"{counted(results.preferences.n, 'preference')}; no difference counts half. Chance "
            "against another system of the study, by Bradley and Terry's model."
        )
        yield ResultTable("Preferences", head, rows, note)
    rows = tuple((q.name, _cell(results.agreement[q.id])) for q in QUESTIONS)
    note = (
        "Krippendorff's ordinal alpha on reports that two readers or more have rated: 1 is full "
        "agreement, 0 that of chance. Intervals over cases."
    )
    yield ResultTable("Agreement of the readers", ("question", "alpha"), rows, note)


def figures(results: Results) -> Iterator[tuple[str, go.Figure, str]]:
    """Yield heading, figure and note of each figure."""
    mark = "Simulated. " if results.study.simulated else ""
    for question in QUESTIONS:
        if means := results.means.get(question.id):
            rows = [_mean_row(name, each) for name, each in means.items()]
            span = (0.8, len(question.choices) + 0.2)
            yield _named(question), rows_figure(rows, _MEANS, "Mean score", span), mark
    for question in QUESTIONS:
        gaps = [gap for gap in results.differences if gap.question == question.id]
        if gaps:
            yield f"Differences: {_named(question)}", _gaps_figure(gaps), mark
    if results.preferences:
        rows = [_mean_row(name, each) for name, each in results.preferences.strength.items()]
        figure = rows_figure(rows, _CHANCES, "Chance to be preferred", (0.0, 1.0), line_at=0.5)
        yield "Preferences", figure, mark


def page(results: Results) -> bytes:
    """Return the results as one page that opens offline, as UTF-8."""
    study = results.study
    facts = {
        "Study": study.id,
        "Made": study.created[:10],
        "Systems": ", ".join(study.systems),
        "Reports from": ", ".join(f"{name} {value}" for name, value in study.source.items()),
        "Seed of the orders": study.seed,
    }
    return offline_page(
        templates(_TEMPLATES),
        "readers.jinja",
        title_of(study),
        figures(results),
        disclaimer=disclaimer(phantoms_only=False),
        facts=facts,
        sentences=sentences(results),
        tables=list(tables(results)),
        questions=QUESTIONS,
    )


def ratings_csv(results: Results, ratings: Sequence[Rating]) -> bytes:
    """Return one line for each rated report; no cell can run as a spreadsheet formula."""
    names = [question.id for question in QUESTIONS]
    rows: list[tuple[object, ...]] = [
        ("study", "simulated", "reader", "position", "case", "system", *names, "preferred",
         "compared_with", "comment", "seconds", "times_saved", "saved")
    ]  # fmt: skip
    for rating in ratings:
        answer, screen = rating.answer, rating.screen
        preferred = {"before": rating.before, "this": rating.system, "same": "no difference"}
        rows.append((
            results.study.id, int(results.study.simulated), f"R{rating.reader}",
            screen.position + 1, rating.case, rating.system,
            *(answer.scores[name] for name in names), preferred.get(answer.preference, ""),
            rating.before, answer.comment, round(answer.seconds, 1), screen.changes, screen.saved,
        ))  # fmt: skip
    target = io.StringIO(newline="")
    write_table(target, rows)
    return target.getvalue().encode()


def _question(gap: Gap) -> Question:
    return next(question for question in QUESTIONS if question.id == gap.question)


def _named(question: Question) -> str:
    lower = "" if question.higher_is_better else ", lower is better"
    return f"{question.name} (1 to {len(question.choices)}{lower})"


def _cell(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "not defined"
    if math.isnan(estimate.low):
        return f"{estimate.value:.2f} (no interval)"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _interval(gap: Gap) -> str:
    return f"{gap.value:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]"


def _mean_row(name: str, each: Estimate) -> Row:
    text = _cell(each)
    point = ("systems", each.value, each.low, each.high, f"<b>{name}</b><br>{text}")
    return Row(name, text, (point,))


def _gaps_figure(gaps: Sequence[Gap]) -> go.Figure:
    rows = [
        Row(
            f"{gap.b} minus {gap.a}",
            f"{gap.value:+.2f}, p {p_text(gap.p_adjusted)}",
            ((_GAPS[0 if gap.better else 1].name, gap.value, gap.low, gap.high, _interval(gap)),),
            bool(gap.better),
        )
        for gap in gaps
    ]
    ends = [end for gap in gaps for end in (gap.low, gap.high, gap.value) if not math.isnan(end)]
    low, high = min([0.0, *ends]) - 0.1, max([0.0, *ends]) + 0.1
    return rows_figure(rows, _GAPS, "Difference in points", (low, high), line_at=0.0)
