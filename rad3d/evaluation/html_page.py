"""A run as one HTML page that opens offline: figures, tables, verdicts, and cases to read.

plotly.js is inside it once; a content policy forbids it to load anything. All text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from rad3d.core.registry import disclaimer, knows_only_phantoms
from rad3d.data.samples import dropped_sentence
from rad3d.evaluation.figures.classifier_curves import calibration_figure, classifier_figure
from rad3d.evaluation.figures.comparison import forest_figure, heatmap_figure
from rad3d.evaluation.figures.scaling import AGAINST, study_figure
from rad3d.evaluation.leaderboard import SetFacts, StudyView, view_of
from rad3d.evaluation.run_types import EvaluationRun
from rad3d.evaluation.summary_text import finding_in_words
from rad3d.evaluation.system_names import LOOKUP
from rad3d.metrics.bootstrap import Estimate
from rad3d.metrics.registry import FAMILIES, MetricRow, metric_row
from rad3d.metrics.scorecard import score_case

METRIC = "f1_macro"
"""What the figures show and the text ranks by, where it was scored."""

CASES = 6
"""Cases of each set that are printed: those that the best system gets most wrong."""


def report_page(run: EvaluationRun) -> bytes:
    """The page, UTF-8."""
    view = view_of(run)
    metric = metric_row(_main_metric(view))
    body = [
        f"<header><h1>{escape(run.title)}</h1><p>{escape(disclaimer(_phantoms_only(run)))}</p></header>",
        _facts(run),
        _section("What was found", *(f"<p>{escape(t)}</p>" for t in _words(view, metric))),
        *_figures(run, view, metric),
        *(_leaderboards(view, facts) for facts in view.sets),
        _verdicts(run),
        _missing(run),
        *(_cases(run, view, facts, metric) for facts in view.sets),
        _signatures(run),
    ]
    return _PAGE.format(
        title=escape(run.title),
        style=_STYLE,
        plotly=get_plotlyjs(),
        script=_SCRIPT,
        body="\n".join(part for part in body if part),
    ).encode()


def _phantoms_only(run: EvaluationRun) -> bool:
    """Whether a system of the run listens to an encoder that knows only phantoms."""
    encoders = (said.facts.get("encoder") or {} for said in run.predictions.values())
    return any(knows_only_phantoms(encoder.get("id", "")) for encoder in encoders)


def _main_metric(view: StudyView) -> str:
    scored = [row.id for row in view.metrics()]
    return METRIC if METRIC in scored or not scored else scored[0]


def _words(view: StudyView, metric: MetricRow) -> tuple[str, ...]:
    return finding_in_words(view, metric.id)


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>" if parts else ""


def _facts(run: EvaluationRun) -> str:
    request = run.request
    rows = {
        "Run": run.id,
        "Date": f"{run.created[:16].replace('T', ' ')} UTC",
        "Revision": run.revision,
        "State": run.status,
        "Draws and seed": f"{request.draws}, {request.seed}",
        "Decoding": request.options.strategy,
        **{str(key): str(value) for key, value in run.facts.items()},
        **{
            s.name: f"n = {len(s.samples)}, {dropped_sentence(s.dropped) or 'no row dropped'}"
            for s in run.sample_sets.values()
        },
        **{f"Note {i}": note for i, note in enumerate(run.notes, 1)},
    }
    cells = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows.items())
    return f"<dl>{cells}</dl>"


# Figures


def _figures(run: EvaluationRun, view: StudyView, metric: MetricRow) -> Iterator[str]:
    points = view.points(metric.id)
    titles = {facts.id: f"{facts.name}, n = {facts.n}" for facts in view.sets}
    for against in AGAINST:
        if any(point.along(against) for point in points):  # type: ignore[arg-type]
            figure = study_figure(points, titles, metric, against, view.references(metric.id))  # type: ignore[arg-type]
            yield _figure(f"{metric.name} against {AGAINST[against].lower()}", figure)
    for facts in view.sets:
        f1 = view.label_f1(facts.id)
        names = {name: view.systems[name].short for name in f1}
        figure = heatmap_figure(f1, names, view.positives(facts.id), facts.id)
        yield _figure(f"F1 of each finding, percent: {facts.name}", figure)
        if (LOOKUP, facts.id) in view.cards:
            differences = view.differences(facts.id, metric.id, LOOKUP)
            figure = forest_figure(differences, view.names, metric, facts.id)
            yield _figure(f"Difference from the look-up: {facts.name}", figure)
    for name, card in run.classifier.items():
        title = run.sample_sets[name].name
        note = (
            f"Macro AUROC {card.macro['auroc']}, macro average precision "
            f"{card.macro['average_precision']}, macro F1 {card.macro['f1']}, calibration error "
            f"{card.macro['calibration_error']}, n = {card.n}; thresholds from "
            f"{card.threshold_split or 'the encoder'}."
        )
        yield _figure(f"Classifier: {title}", classifier_figure(card), note)
    if run.classifier:
        shown = {run.sample_sets[name].name: card for name, card in run.classifier.items()}
        yield _figure("Calibration of the classifier", calibration_figure(shown))


def _figure(title: str, figure: go.Figure, note: str = "") -> str:
    data = figure.to_json().replace("<", "\\u003c")
    words = f"<p>{escape(note)}</p>" if note else ""
    return _section(
        title, words, f'<div class="figure"><script type="application/json">{data}</script></div>'
    )


# Tables


def _leaderboards(view: StudyView, facts: SetFacts) -> str:
    """One table for each family of metrics: they never share one."""
    parts = []
    for family, words in FAMILIES.items():
        columns = [row for row in view.metrics(facts.id) if row.family == family]
        if columns:
            parts.append(f"<h3>{escape(words)}</h3>{_leaderboard(view, facts, columns)}")
    note = "<p>95% bootstrap intervals. Bold: significantly better than the next system.</p>"
    return _section(f"{facts.name}, n = {facts.n}", *parts, note)


def _leaderboard(view: StudyView, facts: SetFacts, columns: Sequence[MetricRow]) -> str:
    leaders = {row.id: view.leader(facts.id, row.id) for row in columns}
    arrows = ("↑" if row.higher_is_better else "↓" for row in columns)
    head = "".join(
        f"<th>{escape(row.name)} {arrow}</th>" for row, arrow in zip(columns, arrows, strict=True)
    )
    rows = []
    for card in view.on(facts.id):
        cells = "".join(
            f"<td{' class=best' if leaders[row.id] == card.name else ''}>"
            f"{_cell(card.estimates.get(row.id))}</td>"
            for row in columns
        )
        rows.append(f"<tr><th>{escape(view.names[card.name])}</th>{cells}</tr>")
    return (
        f'<div class="wide"><table><thead><tr><th>System</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(estimate: Estimate | None) -> str:
    if estimate is None or math.isnan(estimate.value):
        return "–"
    return f"{estimate.value:.3f}<small> [{estimate.low:.3f}, {estimate.high:.3f}]</small>"


def _verdicts(run: EvaluationRun) -> str:
    by_set: dict[str, list[str]] = {}
    for verdict in run.verdicts:
        kind = "yes" if verdict.beats else "no"
        line = f'<li class="{kind}">{escape(verdict.text)}</li>'
        by_set.setdefault(run.sample_sets[verdict.sample_set].name, []).append(line)
    parts = [
        f"<details><summary>{escape(name)} ({len(lines)})</summary><ul>{''.join(lines)}</ul>"
        "</details>"
        for name, lines in by_set.items()
    ]
    return _section("Against the controls, one by one", *parts)


def _missing(run: EvaluationRun) -> str:
    lines = [
        f"<li>{escape(system)}: {escape(reason)}</li>" for system, reason in run.failed.items()
    ]
    lines += [
        f"<li>{escape(system)} on {escape(name)}: {card.failures} of {card.n} reports are missing "
        "and scored as empty text</li>"
        for (system, name), card in run.cards.items()
        if card.failures
    ]
    return _section("What is missing", f"<ul>{''.join(lines)}</ul>") if lines else ""


# Cases


def _cases(run: EvaluationRun, view: StudyView, facts: SetFacts, metric: MetricRow) -> str:
    """The cases that the best system gets most wrong, with their findings compared."""
    ranked = view.ranked(facts.id, metric.id)
    if not ranked:
        return ""
    best = ranked[0]
    order = sorted(best.cases, key=lambda case: (case.values.get("factuality", math.inf), case.id))[
        :CASES
    ]
    samples = {sample.id: sample for sample in run.sample_sets[facts.id].samples}
    found = {p.id: p for p in run.predictions[best.name, facts.id].predictions}
    parts = []
    for case in order:
        if case.id not in found:
            continue
        sample, prediction = samples[case.id], found[case.id]
        rows = "".join(
            f"<tr class={match.kind}><td>{match.kind.replace('_', ' ')}</td>"
            f"<td>{escape(match.label)}</td><td>{escape(match.reference_sentence)}</td>"
            f"<td>{escape(match.prediction_sentence)}</td><td>{escape(match.detail)}</td></tr>"
            for match in score_case(sample, prediction).findings
        )
        parts.append(
            f"<details><summary>{escape(case.id)}</summary>"
            f'<div class="pair"><div><h4>Reference</h4><p>{escape(sample.reference)}</p></div>'
            f"<div><h4>Generated</h4><p>{escape(prediction.text)}</p></div></div>"
            f'<div class="wide"><table><thead><tr><th></th><th>Finding</th><th>Reference says</th>'
            f"<th>Report says</th><th>Differs</th></tr></thead><tbody>{rows}</tbody></table></div>"
            "</details>"
        )
    title = f"What {view.names[best.name]} gets most wrong: {facts.name}"
    return _section(title, *parts)


def _signatures(run: EvaluationRun) -> str:
    found = {m: s for card in run.cards.values() for m, s in card.signature.items()}
    cells = "".join(
        f"<dt>{escape(metric_row(m).name)}</dt><dd><code>{escape(s)}</code></dd>"
        for m, s in found.items()
    )
    return _section("How each figure was computed", f"<dl>{cells}</dl>") if cells else ""


_STYLE = """
:root{color-scheme:light dark;--line:#8886}
body{font:16px/1.5 system-ui,sans-serif;max-width:68rem;margin:auto;padding:1rem}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem}h3{font-size:1rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem}dt{opacity:.7}dd{margin:0}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem}
th,td{padding:.25rem .5rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
td{white-space:nowrap}details td{white-space:normal}small{opacity:.65}.best{font-weight:700}
details{border-bottom:1px solid var(--line);padding:.3rem 0}summary{cursor:pointer}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(18rem,1fr));gap:1rem}
.pair p{white-space:pre-wrap}.yes{color:#0e9384}.no{color:#b4551f}
.matched td:first-child{color:#0e9384}.omitted td:first-child{color:#c9772b}
.hallucinated td:first-child,.contradictory td:first-child{color:#d6455d}
"""

_SCRIPT = """
function merged(a, b) {
  const out = {...a};
  for (const [k, v] of Object.entries(b)) {
    const plain = v && typeof v === "object" && !Array.isArray(v);
    out[k] = plain ? merged(a[k] || {}, v) : v;
  }
  return out;
}
for (const place of document.querySelectorAll(".figure")) {
  const figure = JSON.parse(place.querySelector("script").textContent);
  const draw = () => {
    const narrow = (figure.layout.meta || {}).narrow || {};
    const ink = getComputedStyle(document.body).color;
    const wide = merged(figure.layout, {font: {color: ink}});
    const layout = place.clientWidth < 620 ? merged(wide, narrow) : wide;
    Plotly.react(place, figure.data, layout, {displayModeBar: false, responsive: true});
  };
  draw();
  addEventListener("resize", draw);
}
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'; img-src data: blob:; font-src data:">
<title>{title}</title><style>{style}</style></head>
<body>{body}
<script>{plotly}</script><script>{script}</script></body></html>
"""
