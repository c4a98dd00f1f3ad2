"""Measure reports: anybody's predictions file, or the variants that ship.

Every figure comes with n and a 95% bootstrap interval; systems are compared on the same cases, with
p-values corrected for their number.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rad3d.commands import add_command, add_label_set, eval_run, print_json, print_table
from rad3d.core.settings import Settings

SCORE_EXAMPLE = """
rad3d eval score predictions.csv
rad3d eval score ours.csv theirs.csv --profile hf --json > scores.json
rad3d eval score vlm3d.json --references references.csv --metric f1_macro --metric crg
rad3d eval score predictions.jsonl --require f1_macro=0.5
"""

METRICS_EXAMPLE = """
rad3d eval metrics
rad3d eval metrics --json
"""

EXAMPLE = SCORE_EXAMPLE + eval_run.RUN_EXAMPLE.lstrip()

SCORE = """Score predictions files: CSV or JSON lines (id, reference, prediction) or VLM3D JSON.

The labels of a reference are read from columns of their names where there are any, else from
its text. Rows that cannot be used are dropped and counted on stderr; a case without a report is a
failure and is scored as empty text. Several files are also compared with the first, which they
must share the cases with.

Exit status: 0 scored; 1 for input that cannot be scored; 2 for a wrong command line; 3 where a
figure is below --require or above it for metrics that count errors; 4 with --strict where a row was
dropped or a report is missing.
"""

METRICS = """List every metric: what it measures, and whether it can run here.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of every part of ``rad3d eval``."""
    parts = parser.add_subparsers(metavar="PART", required=True)
    _configure_score(add_command(parts, "score", SCORE, SCORE_EXAMPLE))
    metrics = add_command(parts, "metrics", METRICS, METRICS_EXAMPLE)
    metrics.add_argument("--json", action="store_true", help="a JSON list instead of a table")
    metrics.set_defaults(run=run_metrics)
    eval_run.configure(parts)


def _configure_score(score: argparse.ArgumentParser) -> None:
    add = score.add_argument
    add("predictions", metavar="PREDICTIONS", nargs="+", type=Path, help="predictions files")
    add("--references", type=Path, metavar="FILE", help="references, where the files hold none")
    add(
        "--profile",
        choices=("hf", "coco"),
        default="hf",
        help="which implementation of word overlap (default: %(default)s); coco needs Java",
    )
    add(
        "--metric",
        action="append",
        metavar="NAME",
        help="only this one; may be given again (default: all that need no weights)",
    )
    add("--id-column", default="id", metavar="C", help="default: %(default)s")
    add("--reference-column", default="reference", metavar="C", help="default: %(default)s")
    add("--prediction-column", default="prediction", metavar="C", help="default: %(default)s")
    add_label_set(score)
    add("--resamples", type=int, default=1000, help="bootstrap resamples (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the resampling (default: %(default)s)")
    add(
        "--require",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="exit with 3 where a figure of the first file is worse; may be given again",
    )
    add("--strict", action="store_true", help="exit with 4 where a row or a report is missing")
    add("--json", action="store_true", help="JSON instead of tables")
    score.set_defaults(run=run_score)


def run_metrics(args: argparse.Namespace) -> int:
    """Print the table of metrics."""
    from dataclasses import asdict

    from rad3d.metrics.cases import Places
    from rad3d.metrics.registry import METRICS as ROWS
    from rad3d.metrics.registry import metric_status

    places = Places.of(Settings.from_env())
    statuses = {name: metric_status(name, places) for name in ROWS}
    if args.json:
        print_json([asdict(row) | {"status": asdict(statuses[row.id])} for row in ROWS.values()])
        return 0
    rows = []
    for row in ROWS.values():
        status = statuses[row.id]
        about = row.description if status.ready else f"{status.reason} Run: {status.command}"
        rows.append((row.id, row.family, status.state, about.removesuffix(" Run: ")))
    print_table(rows, ("metric", "family", "state", "what it is, or what it needs"))
    return 0


def run_score(args: argparse.Namespace) -> int:
    """Score, compare, judge and print."""
    from rad3d.commands.eval_score import run

    return run(args)
