"""HTML of the evaluation tab: headline, leaderboard, published table. Text from outside is escaped.

The script beside it, ``static/leaderboard.js``, sorts the table and turns a pressed name into an
event.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape

from rad3d.evaluation.figures.style import count
from rad3d.evaluation.leaderboard import StudyView
from rad3d.evaluation.summary_text import PHANTOMS, finding_in_words
from rad3d.evaluation.system_names import System
from rad3d.metrics.bootstrap import Estimate
from rad3d.metrics.registry import FAMILIES, METRICS, MetricRow, metric_status
from rad3d.metrics.scorecard import Scorecard

CORE = (
    "f1_macro",
    "f1_micro",
    "crg",
    "factuality",
    "side",
    "hallucinated",
    "omitted",
)
"""The clinical figures of the short table; the others are one switch away."""

TABLES: dict[str, str] = {
    "core": "Clinical",
    "clinical": "Clinical, all",
    "overlap-hf": "Word overlap, hf",
    "overlap-coco": "Word overlap, coco",
    "weights": "With a model",
}
"""What the leaderboard can show; families never share a table."""


def tables_of(view: StudyView) -> list[tuple[str, str]]:
    """(shown, id) of the tables for which something was scored."""
    families = {row.family for row in view.metrics()}
    return [
        (name, id_)
        for id_, name in TABLES.items()
        if (id_ if id_ != "core" else "clinical") in families
    ]


def columns_of(view: StudyView, sample_set: str, table: str) -> list[MetricRow]:
    """The metrics of a table."""
    rows = view.metrics(sample_set)
    if table == "core":
        return [row for row in rows if row.id in CORE]
    return [row for row in rows if row.family == table]


def headline(view: StudyView, title: str, facts: Mapping[str, str]) -> str:
    """What was compared and what came out of it.

    Args:
        view: the evaluation.
        title: of the run.
        facts: name -> value, such as date and revision.
    """
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts.items()
        if value
    )
    paragraphs = "".join(f"<p>{_led(sentence)}</p>" for sentence in finding_in_words(view))
    return (
        f'<section class="r3-card r3-headline"><h2>{escape(title)}</h2>'
        f'<div class="r3-finding">{paragraphs}</div><dl>{cells}</dl>'
        f'<p class="r3-standing" role="note">{escape(PHANTOMS)}</p></section>'
    )


def _led(sentence: str) -> str:
    """A sentence whose first words are bold, and whose names of systems stay on one line."""
    lead = re.match(r"[^,:]{1,60}(?=[,:])", sentence)
    end = lead.end() if lead else 0
    start = f"<strong>{escape(sentence[:end])}</strong>" if end else ""
    return start + escape(sentence[end:]).replace(" · ", "&nbsp;·&nbsp;")


def unscored(title: str, text: str) -> str:
    """A run of which nothing was scored, and why."""
    return (
        f'<section class="r3-card r3-headline"><h2>{escape(title)}</h2>'
        f'<div class="r3-finding"><p>{escape(text)}</p></div></section>'
    )


def nothing_yet() -> str:
    """Where there is neither a study nor a run."""
    return (
        '<section class="r3-card r3-headline"><h2>No evaluation yet</h2><div class="r3-finding">'
        "<p>No study ships with this copy and nothing was evaluated here. Choose variants and "
        "sample sets below and press Run, or make the whole study with "
        "<code>rad3d eval run</code>.</p></div></section>"
    )


def leaderboard(view: StudyView, sample_set: str, table: str) -> str:
    """The table of one sample set: compared systems, then controls below a rule."""
    columns = columns_of(view, sample_set, table)
    cards = view.on(sample_set)
    if not cards or not columns:
        return '<p class="r3-fine">Nothing was scored here.</p>'
    first = columns[0].id
    ordered = [
        *view.ranked(sample_set, first, controls=True),
        *(card for card in cards if first not in card.estimates),
    ]
    leaders = {row.id: view.leader(sample_set, row.id) for row in columns}
    compared = view.on(sample_set, controls=False) or cards
    spans = {row.id: _span(compared, row.id) for row in columns}
    failures = any(card.failures for card in cards)
    groups: dict[str, list[str]] = {"compared": [], "alone": [], "of_variant": []}
    for card in [*ordered, *(c for c in cards if c not in ordered)]:
        system = view.systems[card.name]
        kind = "of_variant" if system.of_variant else "alone" if system.control else "compared"
        groups[kind].append(
            _row(card, system, view.names[card.name], columns, leaders, spans, failures)
        )
    width = 1 + len(columns) + failures + 2
    controls = _controls(groups["alone"], "Controls: what a figure means", width) + _controls(
        groups["of_variant"], "Controls: each variant with less to go on", width, folded=True
    )
    return (
        f'<div class="r3-scroll" tabindex="0" role="region" aria-label="Leaderboard"><table>'
        f"<thead><tr>{_head(columns, failures)}</tr></thead>"
        f"<tbody>{''.join(groups['compared'])}</tbody>{controls}</table></div>"
        f'<p class="r3-fine">{escape(_legend(view, sample_set))}</p>{_missing(view, table)}'
    )


def _controls(rows: Sequence[str], title: str, width: int, folded: bool = False) -> str:
    """A part of the table below a rule; a folded one opens when its title is pressed."""
    if not rows:
        return ""
    shown = escape(title)
    if folded:
        shown = (
            '<button type="button" data-fold aria-expanded="false">'
            f"{shown} ({len(rows)} rows)</button>"
        )
    return (
        f'<tbody class="r3-controls{" folded" if folded else ""}"><tr class="r3-rule">'
        f'<th colspan="{width}" scope="rowgroup">{shown}</th></tr>{"".join(rows)}</tbody>'
    )


def _head(columns: Sequence[MetricRow], failures: bool) -> str:
    cells = [_sorter("System", "", "ascending")]
    for i, row in enumerate(columns):
        arrow = "" if row.higher_is_better else " ↓"
        hint = row.description + ("" if row.higher_is_better else " Lower is better.")
        unit = f"<small>{escape(row.unit)}</small>" if row.unit else ""
        first = "descending" if row.higher_is_better else "ascending"
        cells.append(_sorter(row.name + arrow, hint, first, unit, sorted_now=i == 0))
    if failures:
        cells.append(
            _sorter("Failed", "Cases without a report, scored as empty text.", "ascending")
        )
    cells.append(_sorter("Trained", "Parameters that training changed.", "ascending"))
    cells.append(_sorter("s / report", "Seconds for one report, as measured.", "ascending"))
    return "".join(cells)


def _sorter(name: str, hint: str, first: str, more: str = "", sorted_now: bool = False) -> str:
    state = first if sorted_now else "none"
    return (
        f'<th scope="col" aria-sort="{state}" data-first="{first}"><button type="button" '
        f'title="{escape(hint, quote=True)}">{escape(name)}{more}</button></th>'
    )


def _row(
    card: Scorecard,
    system: System,
    shown: str,
    columns: Sequence[MetricRow],
    leaders: Mapping[str, str],
    spans: Mapping[str, tuple[float, float]],
    failures: bool,
) -> str:
    cells = [
        f'<th scope="row"><button type="button" data-system="{escape(card.name, quote=True)}" '
        f'title="Read its cases">{escape(shown)}</button></th>'
    ]
    for row in columns:
        best = leaders[row.id] == card.name
        cells.append(_figure(card.estimates.get(row.id), best, spans[row.id]))
    if failures:
        cells.append(f'<td data-value="{card.failures}">{card.failures}</td>')
    cells.append(_cost(system.trainable, count(system.trainable) if system.trainable else ""))
    cells.append(_cost(system.seconds, f"{system.seconds:.2f}" if system.seconds else ""))
    return f"<tr>{''.join(cells)}</tr>"


def _figure(estimate: Estimate | None, best: bool, span: tuple[float, float]) -> str:
    if estimate is None or math.isnan(estimate.value):
        return '<td data-value="">–</td>'
    low, high = span
    width = max(high - low, 1e-9)
    # Controls may lie outside of what the compared systems span: they end at its edge.
    left, at, right = (
        min(max(100 * (end - low) / width, 0.0), 100.0)
        for end in (estimate.low, estimate.value, estimate.high)
    )
    length = max(right - left, 1.5)
    star = '<abbr title="Significantly better than the runner-up">★</abbr> ' if best else ""
    return (
        f'<td data-value="{estimate.value:.6f}"{" class=best" if best else ""}>'
        f"<span>{star}{estimate.value:.3f}</span>"
        f"<small>[{estimate.low:.3f}, {estimate.high:.3f}]</small>"
        f'<i style="--at:{at:.1f}%;--from:{left:.1f}%;--long:{length:.1f}%"></i></td>'
    )


def _cost(value: float | None, shown: str) -> str:
    return f'<td data-value="{value or ""}">{shown or "–"}</td>'


def _span(cards: Sequence[Scorecard], metric: str) -> tuple[float, float]:
    """From the lowest to the highest end of an interval in a column."""
    ends = [
        end
        for card in cards
        if (e := card.estimates.get(metric)) is not None
        for end in (e.low, e.high, e.value)
        if not math.isnan(end)
    ]
    return (min(ends), max(ends)) if ends else (0.0, 1.0)


def _legend(view: StudyView, sample_set: str) -> str:
    card = view.on(sample_set)[0]
    draws = card.settings.get("draws", "")
    return (
        f"n = {card.n}. In brackets: 95% intervals, percentile bootstrap over reports, {draws} "
        "draws. ★: better than the runner-up by a paired randomisation test, corrected (Holm) over "
        "the comparisons with the best; where there is no ★, the best is not known to be better. "
        "↓: lower is better."
    )


def _missing(view: StudyView, table: str) -> str:
    """Metrics that were not scored, why, and the command that makes them ready."""
    scored = {row.id for row in view.metrics()}
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in METRICS.values():
        if row.id in scored:
            continue
        status = metric_status(row.id)
        reason = "not asked for in this run" if status.ready else f"{status.state}: {status.reason}"
        key = (f"{FAMILIES[row.family]}, {reason}", status.command)
        reasons.setdefault(key, []).append(row.name)
    if not reasons:
        return ""
    rows = "".join(
        f"<tr><th scope='row'>{escape(', '.join(names))}</th><td>{escape(reason)}"
        f"{f'<code>{escape(command)}</code>' if command else ''}</td></tr>"
        for (reason, command), names in reasons.items()
    )
    return (
        '<details class="r3-more"><summary>Metrics that are not in this run, and what they need'
        f'</summary><table class="r3-needs"><tbody>{rows}</tbody></table></details>'
    )


PUBLISHED: tuple[tuple[str, ...], ...] = (
    ("R2GenGPT", "LLaMA-3.2-1B", "0.2902", "0.3762", "0.3468", "0.8751", "0.4120"),
    ("RAD3D-Prefix", "LLaMA-3.2-1B", "0.3637", "0.4694", "0.4190", "0.8883", "0.5488"),
    ("R2GenGPT", "LLaMA-2-7b-chat", "0.3523", "0.4509", "0.4038", "0.8886", "0.5041"),
    ("RAD3D-Prefix", "DeepSeek-R1-Distill-LLaMA-8B", "0.3405", "0.4459", "0.4339", "0.8909",
     "0.5443"),
    ("CT2Rep", "–", "–", "–", "–", "–", "0.5247"),
)  # fmt: skip
"""The CT-RATE test set in arXiv 2606.17213."""

PUBLISHED_MODES: tuple[tuple[str, ...], ...] = (
    ("V-1", "fine-tuned", "image", "1.51B", "0.4454"),
    ("V-2", "frozen", "image", "279.09M", "0.5428"),
    ("V-3, RAD3D-Prefix", "frozen", "image and logits", "279.46M", "0.5488"),
)
"""The adaptation modes with LLaMA-3.2-1B, same source."""


def published() -> str:
    """The published figures, clearly apart from what was measured here."""
    return (
        '<details class="r3-card r3-published"><summary><h2>Published figures</h2>'
        "<span>other data, other models, not comparable</span></summary>"
        '<p class="r3-fine">arXiv 2606.17213, CT-RATE test set, real scans of patients; models of '
        "1B to 8B parameters. Nothing in this table was measured here, and none of it may be set "
        "against the figures above.</p>"
        + _published_table(
            ("Method", "Language model", "Mean BLEU", "METEOR", "ROUGE-L", "BERTScore", "GREEN"),
            PUBLISHED,
        )
        + _published_table(
            ("Mode", "LLaMA-3.2-1B", "Prefix from", "Trainable", "GREEN"), PUBLISHED_MODES
        )
        + '<p class="r3-fine">INSPECT, out of domain: RAD3D-Prefix against CT2Rep, GREEN 0.2400 '
        "and 0.2219, METEOR 0.2122 and 0.1207.</p></details>"
    )


def _published_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th scope='col'>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr><th scope='row'>{escape(row[0])}</th>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f"<div class='r3-scroll' tabindex='0' role='region' aria-label='Published figures'><table>"
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
    )
