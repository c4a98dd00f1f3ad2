"""Measure reports: anybody's predictions file, or the variants that ship.

Every figure comes with n and a 95% bootstrap interval; systems are compared on the same cases, with
p-values corrected for their number.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rad3d.commands import add_command, add_label_set, print_json, print_table
from rad3d.commands.options import add_generation_options, add_resamples
from rad3d.core.encoders import ENCODERS, SHIPPED_ENCODER
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.modes import MODES
from rad3d.core.settings import Settings
from rad3d.evaluation.system_names import CONTROLS

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


RUN = """Evaluate variants with ablations and baselines on sample sets; without arguments the study.

A sample set is phantom-in or phantom-out (200 held-out synthetic scans each), or is read by path:
  ct-rate:DIR[#valid|train]        the folder as downloaded
  inspect:DIR[#test|valid|train]   the folder as downloaded
  folder:DIR[#TABLE.csv]           your scans with a CSV: id, reference, and labels or scan if any
  predictions:FILE[#REFERENCES]    what somebody else wrote; references: a file or a shipped set
Reports are kept below RAD3D_RUNS_DIR: a run that was stopped goes on where it was (--resume), and
what has been written once is not written again.

Exit status: 0 finished; 1 for input that cannot be evaluated; 2 for a wrong command line;
4 finished, but reports or systems are missing; 130 stopped.
"""

RUN_EXAMPLE = """
rad3d eval run
rad3d eval run --variants phantom-s/v1 phantom-s/v3 --sets phantom-in --limit 40
rad3d eval run --variants phantom-l/v3 --strategy beam --beams 3 --title "Beams of 3"
rad3d eval run --sets ct-rate:CT-RATE --features valid train --reference-set ct-rate:CT-RATE#train
rad3d eval run --sets predictions:theirs.jsonl#phantom-in --variants phantom-l/v3
rad3d eval run --resume latest
"""

RUNS = """List the runs that are kept, newest first, and the study that ships.
"""

RUNS_EXAMPLE = """
rad3d eval runs
rad3d eval runs --json
"""

COMPARE = """Compare two runs, or the systems of one run with one of them.

A run is an id, "latest", "study" or a folder that holds run.json. Of two runs the systems and cases
that both have are compared, the second minus the first; with --baseline the other systems of one
run minus that one. P-values are by approximate randomisation, Holm-corrected over what is printed.

Exit status: 0; 1 for input that cannot be compared; 3 with --fail-if-worse where a difference is
significantly for the worse.
"""

COMPARE_EXAMPLE = """
rad3d eval compare study latest --fail-if-worse
rad3d eval compare study --baseline lookup --set phantom-in
"""

REPORT = """Write a run as a file: tables, predictions, or an HTML page that opens offline.
"""

REPORT_EXAMPLE = """
rad3d eval report
rad3d eval report latest --format markdown --out table.md
rad3d eval report study --format vlm3d --out predictions.zip
"""

FEATURES = """Write what an encoder sees in the shipped sample sets and training scans.

Renders and encodes the scans that were not encoded before, about a second each.
"""

FEATURES_EXAMPLE = """
rad3d eval features
rad3d eval features --encoder phantom-clip --out my-study/features
"""

GRID = """Train variants on few and many pairs, from several seeds, and evaluate them all.

A cell of the grid is one training: a language model in a mode, with so many pairs, a seed and an
encoder's embeddings. Cells are trained on the stored features of the training phantoms, seed after
seed; those that are done are not trained again, and a training that was stopped goes on. By default
the numbers of pairs are varied on the first language model alone, and further encoders are tried
with that one alone; what is cut from the grid is listed with the reason. --plan only prints the
cells, what they cost and what is there.

The variants lie in the runs folder and are not offered in the app. The evaluation is a run like any
other: the app shows its curves, what the prior is worth, and the claims of the paper one by one.

Exit status: 0; 1 for input that cannot be used; 2 for a wrong command line; 4 finished, but reports
or systems are missing; 130 stopped: the same command goes on.
"""

GRID_EXAMPLE = """
rad3d eval study --plan
rad3d eval study --pairs 200 400 1600 --seeds 0 1 2 --out assets/study
rad3d eval study --llms phantom-s --modes v2 v3 --pairs 200 --seeds 0 --steps 100 --limit 40
"""

SETS = "phantom-in phantom-out"

EXAMPLE = SCORE_EXAMPLE + RUN_EXAMPLE.lstrip()

STUDY = "rad3d.commands.eval_study"
"""Module with the work of the parts that evaluate and read runs."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of every part of ``rad3d eval``."""
    parts = parser.add_subparsers(metavar="PART", required=True)
    _configure_score(add_command(parts, "score", SCORE, SCORE_EXAMPLE))
    metrics = add_command(parts, "metrics", METRICS, METRICS_EXAMPLE)
    metrics.add_argument("--json", action="store_true", help="a JSON list instead of a table")
    metrics.set_defaults(run=run_metrics)
    _configure_run(add_command(parts, "run", RUN, RUN_EXAMPLE))
    runs = add_command(parts, "runs", RUNS, RUNS_EXAMPLE)
    runs.add_argument("--json", action="store_true", help="a JSON list instead of a table")
    runs.set_defaults(run=f"{STUDY}:list_runs")
    _configure_study(add_command(parts, "study", GRID, GRID_EXAMPLE))
    _configure_compare(add_command(parts, "compare", COMPARE, COMPARE_EXAMPLE))
    report = add_command(parts, "report", REPORT, REPORT_EXAMPLE)
    add = report.add_argument
    add("target", metavar="RUN", nargs="?", default="latest", help="default: latest")
    add(
        "--format",
        default="html",
        metavar="KIND",
        help="csv, markdown, latex, jsonl, vlm3d or html (default: %(default)s)",
    )
    add("--out", type=Path, metavar="FILE", help="default: a name of its own, here")
    report.set_defaults(run=f"{STUDY}:report")
    features = add_command(parts, "features", FEATURES, FEATURES_EXAMPLE)
    features.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="receives the files (default: assets/study/features)",
    )
    features.add_argument(
        "--encoder", choices=list(ENCODERS), default=SHIPPED_ENCODER,
        help="whose features (default: %(default)s)",
    )  # fmt: skip
    features.set_defaults(run=f"{STUDY}:write_study_features")


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
    add_resamples(score)
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
    score.set_defaults(run="rad3d.commands.eval_score:run")


def _configure_run(run: argparse.ArgumentParser) -> None:
    add = run.add_argument
    add("--sets", nargs="+", metavar="SET", default=SETS.split(), help=f"default: {SETS}")
    add(
        "--variants",
        nargs="*",
        metavar="ID",
        help="LLM/mode as listed by `rad3d variants` (default: every shipped one that is ready, "
        "where a set has scans)",
    )
    _add_controls(run)
    add("--features", nargs="+", default=[], metavar="DIR",
        help="stores of `rad3d features` in place of scans: cases are found by id")  # fmt: skip
    add("--reference-set", metavar="SET",
        help="training cases from which the baselines take their reports, such as "
        "ct-rate:DIR#train, with their features among --features (default: the phantoms of the "
        "shipped models)")  # fmt: skip
    add_label_set(run)
    add("--metric", action="append", metavar="NAME", help="only this one; may be given again")
    add("--limit", type=int, default=0, metavar="N", help="at most N cases of each set")
    add_resamples(run)
    add("--seed", type=int, default=0,
        help="of resampling and shuffling, and of reports with --strategy sample "
        "(default: %(default)s)")  # fmt: skip
    add("--title", default="", help="shown in the list of runs")
    add("--resume", metavar="RUN", help="go on with a run; all other options but --out are its own")
    add("--out", type=Path, metavar="DIR", help="also write the run here, such as assets/study")
    add("--json", action="store_true", help="JSON instead of tables")
    add_generation_options(run, seed=False)
    run.set_defaults(run=f"{STUDY}:run")


def _configure_compare(compare: argparse.ArgumentParser) -> None:
    add = compare.add_argument
    add("first", metavar="RUN", help="the run to compare with")
    add("second", metavar="RUN", nargs="?", help="the run that is compared")
    add("--baseline", metavar="SYSTEM", help="within one run: what the others are compared with")
    add("--set", metavar="ID", help="only this sample set")
    add_resamples(compare)
    add("--seed", type=int, default=0, help="of resampling and permutations (default: %(default)s)")
    add("--fail-if-worse", action="store_true", help="exit with 3 where something is worse")
    add("--json", action="store_true", help="a JSON list instead of a table")
    compare.set_defaults(run=f"{STUDY}:compare")


def _add_controls(parser: argparse.ArgumentParser) -> None:
    for name, of_variants, what in (
        ("ablations", True, "of each variant"),
        ("baselines", False, "without training"),
    ):
        rows = ", ".join(row.id for row in CONTROLS.values() if row.per_variant == of_variants)
        parser.add_argument(
            f"--{name}",
            nargs="*",
            metavar="NAME",
            help=f"{what}: {rows} (default: all that apply; none: --{name} with nothing after it)",
        )


def _configure_study(study: argparse.ArgumentParser) -> None:
    add = study.add_argument
    shipped = [row.id for row in LANGUAGE_MODELS.values() if row.shipped]
    add("--plan", action="store_true", help="print the plan and do nothing")
    add("--llms", nargs="+", default=shipped, metavar="NAME", help=f"default: {' '.join(shipped)}")
    add(
        "--modes",
        nargs="+",
        default=list(MODES),
        metavar="MODE",
        help=f"default: {' '.join(MODES)}",
    )
    add("--pairs", nargs="+", type=int, default=[200, 400, 1600], metavar="N",
        help="default: 200 400 1600")  # fmt: skip
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    add("--encoders", nargs="+", default=[SHIPPED_ENCODER], metavar="NAME",
        help=f"whose embeddings and priors (default: {SHIPPED_ENCODER})")  # fmt: skip
    add("--full", action="store_true", help="every combination of these")
    add("--hours", type=float, default=0.0, metavar="H",
        help="cut the last cells beyond so many hours (default: 0, none)")  # fmt: skip
    add("--steps", type=int, default=0, metavar="N", help="of each training (default: as shipped)")
    add("--sets", nargs="+", metavar="SET", default=SETS.split(), help=f"default: {SETS}")
    add("--limit", type=int, default=0, metavar="N", help="at most N cases of each set")
    _add_controls(study)
    add_resamples(study)
    add(
        "--folder",
        type=Path,
        metavar="DIR",
        help="of the study (default: study in the runs folder)",
    )
    add("--out", type=Path, metavar="DIR", help="also write the run here, such as assets/study")
    add("--json", action="store_true", help="JSON instead of tables")
    study.set_defaults(run="rad3d.commands.eval_grid:run")


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
