"""Exports of a run: tables, predictions, and a report that opens offline."""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rad3d.core.lookup import lookup
from rad3d.core.tables import write_table
from rad3d.core.templates import environment
from rad3d.evaluation.html_page import report_page
from rad3d.evaluation.leaderboard import SetFacts, StudyView, view_of
from rad3d.evaluation.parts import TEMPLATES
from rad3d.evaluation.run_types import EvaluationRun
from rad3d.evaluation.storage import slug
from rad3d.evaluation.system_names import LOOKUP
from rad3d.metrics.bootstrap import Estimate
from rad3d.metrics.registry import MetricRow, metric_row
from rad3d.metrics.writers import predictions_text

SHOWN = (
    "f1_macro", "f1_micro", "crg", "factuality", "side", "hallucinated", "omitted", "hf_bleu",
    "hf_bleu_4", "hf_meteor", "hf_rouge_l",
)  # fmt: skip
"""Columns of the Markdown and LaTeX tables, where they were scored; the CSV holds all."""

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The same run gives the same archive."""


@dataclass(frozen=True)
class Export:
    """A file: its name, media type and bytes."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True)
class ExportKind:
    """One row of :data:`EXPORTS`.

    Attributes:
        id: on the command line.
        name: shown to people.
        suffix: of the file.
        media_type: of the file.
        make: run -> bytes.
    """

    id: str
    name: str
    suffix: str
    media_type: str
    make: Callable[[EvaluationRun], bytes]


def export(run: EvaluationRun, kind: str) -> Export:
    """Export a run; raises UnknownName for an unknown kind."""
    row = lookup("export", EXPORTS, kind)
    data = row.make(run)
    name = f"evaluation-{slug(run.id)}"
    if data.startswith(b"PK"):
        return Export(f"{name}-{row.id}.zip", "application/zip", data)
    return Export(f"{name}.{row.suffix}", row.media_type, data)


# Tables


def _csv(run: EvaluationRun) -> bytes:
    """Write one line per system, set and metric; no cell can run as a spreadsheet formula."""
    rows: list[tuple[object, ...]] = [
        ("sample_set", "system", "metric", "family", "value", "low", "high", "n", "failures",
         "dropped", "better_is", "signature", "run", "revision", "created")
    ]  # fmt: skip
    for (system, sample_set), card in run.cards.items():
        for metric, estimate in card.estimates.items():
            row = metric_row(metric)
            rows.append((
                sample_set, system, metric, row.family, *_numbers(estimate), estimate.n,
                card.failures, len(card.dropped), "higher" if row.higher_is_better else "lower",
                card.signature[metric], run.id, run.revision, run.created,
            ))  # fmt: skip
    target = io.StringIO(newline="")
    write_table(target, rows)
    return target.getvalue().encode()


def _numbers(estimate: Estimate) -> Iterator[str | float]:
    for value in (estimate.value, estimate.low, estimate.high):
        yield "" if math.isnan(value) else round(value, 6)


def _tables(template: str, escape: Callable[[str], str]) -> Callable[[EvaluationRun], bytes]:
    """Return an export by a template, every value escaped."""

    def make(run: EvaluationRun) -> bytes:
        view = view_of(run)
        columns = {facts: _columns(view, facts) for facts in view.sets}
        tables = [(facts, rows, _table(view, facts, rows)) for facts, rows in columns.items()]
        told = [verdict for verdict in run.verdicts if verdict.control == LOOKUP]
        made = environment(TEMPLATES, escape=escape).get_template(template)
        text = made.render(run=run, origin=_origin(run), tables=tables, verdicts=told)
        return f"{text.strip()}\n".encode()

    return make


def _md(text: str) -> str:
    """Escape text that would end a cell, or be emphasis, HTML, a link or an image."""
    escaped = re.sub(r"([\\|`*\[\]])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "·": r"$\cdot$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in " ".join(text.split()))


def _columns(view: StudyView, facts: SetFacts) -> list[MetricRow]:
    rows = {row.id: row for row in view.metrics(facts.id)}
    return [rows[name] for name in SHOWN if name in rows] or list(rows.values())


def _table(
    view: StudyView, facts: SetFacts, columns: Sequence[MetricRow]
) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    """Return each system's cells, and which of them is significantly best."""
    leaders = {row.id: view.leader(facts.id, row.id) for row in columns}
    for card in view.on(facts.id):
        yield (
            view.names[card.name],
            [(_cell(card.estimates.get(row.id)), leaders[row.id] == card.name) for row in columns],
        )


def _cell(estimate: Estimate | None) -> str:
    return "–" if estimate is None or math.isnan(estimate.value) else str(estimate)


def _origin(run: EvaluationRun) -> str:
    return (
        f"Run {run.id}, {run.created[:10]}, revision {run.revision}, 95% bootstrap intervals "
        f"({run.request.draws} resamples, seed {run.request.seed})."
    )


# Predictions


def _predictions(kind: str, suffix: str) -> Callable[[EvaluationRun], bytes]:
    """Return one file of predictions, or an archive of one per system and set."""

    def make(run: EvaluationRun) -> bytes:
        texts: dict[str, str] = {}
        for (system, name), predictions in run.predictions.items():
            stem = f"{slug(system)}--{slug(name)}"
            if f"{stem}.{suffix}" in texts:  # a variant, and a file that is called as its file is
                stem += f"-{len(texts)}"
            texts[f"{stem}.{suffix}"] = predictions_text(run.sample_sets[name], predictions, kind)
        if len(texts) == 1:
            return next(iter(texts.values())).encode()
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in texts.items():
                archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), text, zipfile.ZIP_DEFLATED)
        return target.getvalue()

    return make


EXPORTS: dict[str, ExportKind] = {
    row.id: row
    for row in (
        ExportKind("csv", "Table, CSV", "csv", "text/csv", _csv),
        ExportKind("markdown", "Table, Markdown", "md", "text/markdown",
                   _tables("table.md.jinja", _md)),
        ExportKind("latex", "Table, LaTeX", "tex", "application/x-tex",
                   _tables("table.tex.jinja", _tex)),
        ExportKind("jsonl", "Predictions, JSON lines", "jsonl", "application/jsonl",
                   _predictions("jsonl", "jsonl")),
        ExportKind("vlm3d", "Predictions, VLM3D", "json", "application/json",
                   _predictions("vlm3d", "json")),
        ExportKind("html", "Report, HTML", "html", "text/html", report_page),
    )
}  # fmt: skip
"""What a run can be taken along as."""
