"""HTML of the evaluation tab: headline, leaderboard, published figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from rad3d.evaluation.claims import claims as paper_claims
from rad3d.evaluation.leaderboard import StudyView
from rad3d.evaluation.listening import listening_table
from rad3d.evaluation.parts import board_of
from rad3d.evaluation.run_types import EvaluationRun
from rad3d.evaluation.summary_text import finding_in_words, standing
from rad3d.metrics.registry import FAMILIES, METRICS, MetricRow, metric_status
from rad3d.ui.html import evaluation_html

CORE = (
    "f1_macro",
    "f1_micro",
    "crg",
    "factuality",
    "prior_f1",
    "side",
    "hallucinated",
    "omitted",
)
"""The clinical metrics of the short table; the others are one switch away."""

TABLES: dict[str, str] = {
    "core": "Clinical",
    "clinical": "Clinical, all",
    "prior": "Against the prior",
    "overlap-hf": "Word overlap, hf",
    "overlap-coco": "Word overlap, coco",
    "weights": "With a model",
}
"""Tables of the leaderboard; families never share one."""


def tables_of(view: StudyView) -> list[tuple[str, str]]:
    """Return (name, id) of the tables for which something was scored."""
    families = {row.family for row in view.metrics()}
    return [
        (name, id_)
        for id_, name in TABLES.items()
        if (id_ if id_ != "core" else "clinical") in families
    ]


def columns_of(view: StudyView, sample_set: str, table: str) -> list[MetricRow]:
    """Return the metrics of a table."""
    rows = view.metrics(sample_set)
    if table == "core":
        return [row for row in rows if row.id in CORE]
    return [row for row in rows if row.family == table]


def headline(view: StudyView, title: str, facts: Mapping[str, str]) -> str:
    """Return what was compared and what came out of it.

    Args:
        view: the evaluation.
        title: title of the run.
        facts: name -> value, such as date and revision.
    """
    return evaluation_html(
        "headline",
        title=title,
        sentences=[_led(sentence) for sentence in finding_in_words(view)],
        facts={name: value for name, value in facts.items() if value},
        standing=standing(view),
    )


def _led(sentence: str) -> tuple[str, str]:
    """Split a sentence after its first words; names of systems stay on one line."""
    lead = re.match(r"[^,:]{1,60}(?=[,:])", sentence)
    end = lead.end() if lead else 0
    return sentence[:end], sentence[end:].replace(" · ", "\N{NBSP}·\N{NBSP}")


def unscored(title: str, text: str) -> str:
    """Return the headline of a run of which nothing was scored, and why."""
    return evaluation_html("unscored", title=title, text=text)


def nothing_yet() -> str:
    """Return the headline where there is neither a study nor a run."""
    return evaluation_html("nothing_yet")


def claims(run: EvaluationRun, view: StudyView, sample_set: str) -> str:
    """The claims of the paper one by one, and whether reports follow a flipped label."""
    head, rows = listening_table(run, view, sample_set)
    return evaluation_html("claims_card", claims=paper_claims(view), head=head, rows=rows)


def leaderboard(view: StudyView, sample_set: str, table: str) -> str:
    """Return the table of a set: compared systems, then baselines and ablations below a rule."""
    board = board_of(view, sample_set, columns_of(view, sample_set, table))
    return evaluation_html("leaderboard", board=board, needs=list(_needs(view)))


def _needs(view: StudyView) -> Iterator[tuple[str, str, str, str]]:
    """Yield the metrics that were not scored, why, and the command that makes them ready."""
    scored = {row.id for row in view.metrics()}
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in METRICS.values():
        if row.id not in scored:
            status = metric_status(row.id)
            why = f"{status.state}: {status.reason}"
            reason = "not chosen for this run" if status.ready else why
            key = (f"{FAMILIES[row.family]}, {reason}", status.command)
            reasons.setdefault(key, []).append(row.name)
    for (reason, command), names in reasons.items():
        yield ", ".join(names), "", reason, command


def published() -> str:
    """Return the published figures, clearly apart from what was measured here."""
    return evaluation_html("published")
