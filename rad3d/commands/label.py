"""Read the 18 findings out of each report of a CSV file.

The rows go to stdout as CSV: the input's columns without the text, then the 18 labels in their
published order as 0 or 1. Rules read the text, no model; about 200 reports a second. What is only
suspected counts; what the history, indication, technique or comparison says does not. Rows without
a report ("nan", "Not given.") are left out and counted. Label columns that the table has already
stay, with "(given)" behind their names.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from rad3d.commands import say
from rad3d.core.errors import some
from rad3d.core.labels import LABELS
from rad3d.core.tables import Table, guarded, open_table, recognised

DEFAULT_COLUMN = "report"

EXAMPLE = """
rad3d label reports.csv > labels.csv
rad3d label ct-rate.csv --text-column Findings_EN --text-column Impressions_EN > labels.csv
cat reports.csv | rad3d label - --text-column text
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rad3d label``."""
    parser.add_argument(
        "reports", metavar="REPORTS.csv", help="CSV with a header row; - reads stdin"
    )
    parser.add_argument(
        "--text-column",
        metavar="C",
        action="append",
        help=f"column with the text; given twice, the texts are joined (default: {DEFAULT_COLUMN})",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Stream the rows."""
    columns = args.text_column or [DEFAULT_COLUMN]
    if args.reports == "-":
        write_labels(Table(sys.stdin.buffer, "stdin", columns), sys.stdout, columns)
    else:
        with open_table(Path(args.reports), columns) as table:
            write_labels(table, sys.stdout, columns)
    return 0


def write_labels(table: Table, target: TextIO, columns: Sequence[str]) -> None:
    """Label every row of a table, and tell how many, and what was left out.

    Args:
        table: has the columns.
        target: receives CSV.
        columns: names of the text columns, joined in this order.

    Raises:
        BadRequest: a row is not whole.
    """
    from rad3d.data.predictions import report_of
    from rad3d.reports.labeller import label_report

    kept = [name for name in table.columns if name not in columns]
    given = {**recognised(kept, LABELS), **{name: name for name in kept if name in LABELS}}
    heads = [f"{name} (given)" if name in given else name for name in kept]
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([*map(guarded, heads), *LABELS])
    count, without = 0, []
    for row in table.complete():
        text = "\n".join(filter(None, (report_of(row.cells[column]) for column in columns)))
        if not text:
            without.append(row.line)
            continue
        writer.writerow([*(guarded(row.cells[name]) for name in kept), *label_report(text)])
        count += 1
    for note in table.notes:
        say(note)
    if given:
        say(f"{table.name} has label columns already: they stay, with (given) behind their names.")
    if without:
        lines = some([str(line) for line in without], 5)
        say(f"{len(without)} without a report, left out: line {lines}")
    say(f"{count} reports")
