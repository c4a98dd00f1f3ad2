"""``rad3d eval run|runs|compare|report|features``: arguments; the work is in eval_study."""

from __future__ import annotations

import argparse
from pathlib import Path

from rad3d.commands import Commands, add_command, add_label_set
from rad3d.commands.options import add_generation_options

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

FEATURES = """Write what the shipped encoder sees in the shipped sample sets and training scans.

Renders and encodes the scans that were not encoded before, about a second each.
"""

FEATURES_EXAMPLE = """
rad3d eval features
rad3d eval features --out my-study/features
"""

SETS = "phantom-in phantom-out"


def configure(parts: Commands[argparse.ArgumentParser]) -> None:
    """Arguments of the parts of ``rad3d eval`` that work on runs."""
    _configure_run(add_command(parts, "run", RUN, RUN_EXAMPLE))
    runs = add_command(parts, "runs", RUNS, RUNS_EXAMPLE)
    runs.add_argument("--json", action="store_true", help="a JSON list instead of a table")
    runs.set_defaults(run=run_runs)
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
    report.set_defaults(run=run_report)
    features = add_command(parts, "features", FEATURES, FEATURES_EXAMPLE)
    features.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="receives the files (default: assets/study/features)",
    )
    features.set_defaults(run=run_features)


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
    add("--ablations", nargs="*", metavar="NAME",
        help="of each variant: logits-only, image-zero, image-shuffled (default: all; none: "
        "--ablations with nothing after it)")  # fmt: skip
    add("--baselines", nargs="*", metavar="NAME",
        help="without a language model: lookup (template baseline), majority, nearest (default: "
        "all; none: --baselines with nothing after it)")  # fmt: skip
    add("--features", nargs="+", default=[], metavar="DIR",
        help="stores of `rad3d features` in place of scans: cases are found by id")  # fmt: skip
    add("--reference-set", metavar="SET",
        help="training cases from which the baselines take their reports, such as "
        "ct-rate:DIR#train, with their features among --features (default: the phantoms of the "
        "shipped models)")  # fmt: skip
    add_label_set(run)
    add("--metric", action="append", metavar="NAME", help="only this one; may be given again")
    add("--limit", type=int, default=0, metavar="N", help="at most N cases of each set")
    add("--resamples", type=int, default=1000, help="bootstrap resamples (default: %(default)s)")
    add("--seed", type=int, default=0,
        help="of resampling and shuffling, and of reports with --strategy sample "
        "(default: %(default)s)")  # fmt: skip
    add("--title", default="", help="shown in the list of runs")
    add("--resume", metavar="RUN", help="go on with a run; all other options but --out are its own")
    add("--out", type=Path, metavar="DIR", help="also write the run here, such as assets/study")
    add("--json", action="store_true", help="JSON instead of tables")
    add_generation_options(run, seed=False)
    run.set_defaults(run=run_run)


def _configure_compare(compare: argparse.ArgumentParser) -> None:
    add = compare.add_argument
    add("first", metavar="RUN", help="the run to compare with")
    add("second", metavar="RUN", nargs="?", help="the run that is compared")
    add("--baseline", metavar="SYSTEM", help="within one run: what the others are compared with")
    add("--set", metavar="ID", help="only this sample set")
    add("--resamples", type=int, default=1000, help="bootstrap resamples (default: %(default)s)")
    add("--seed", type=int, default=0, help="of resampling and permutations (default: %(default)s)")
    add("--fail-if-worse", action="store_true", help="exit with 3 where something is worse")
    add("--json", action="store_true", help="a JSON list instead of a table")
    compare.set_defaults(run=run_compare)


def run_run(args: argparse.Namespace) -> int:
    """Evaluate."""
    from rad3d.commands.eval_study import run

    return run(args)


def run_runs(args: argparse.Namespace) -> int:
    """List the runs."""
    from rad3d.commands.eval_study import list_runs

    return list_runs(args)


def run_compare(args: argparse.Namespace) -> int:
    """Compare."""
    from rad3d.commands.eval_study import compare

    return compare(args)


def run_report(args: argparse.Namespace) -> int:
    """Export."""
    from rad3d.commands.eval_study import report

    return report(args)


def run_features(args: argparse.Namespace) -> int:
    """Write the files of features."""
    from rad3d.commands.eval_features import run

    return run(args)
