"""Read the 18 findings out of each report of a CSV file.

The rows go to stdout as CSV: the input's columns without the text, then the 18 labels in their
published order as 0 or 1. Rules read the text, no model; about 200 reports a second. What is only
suspected counts; what the history, indication, technique or comparison says does not.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from rad3d.commands import say
from rad3d.errors import BadRequest
from rad3d.labels import LABELS
from rad3d.tables import Table, guarded, open_table

DEFAULT_COLUMN = "report"

EXAMPLE = """
rad3d label reports.csv > labels.csv
rad3d label ct-rate.csv --text-column Findings_EN --text-column Impressions_EN > labels.csv
cat reports.csv | rad3d label - --text-column text
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rad3d label``."""
    parser.add_argument(
        "reports", metavar="REPORTS.csv", help="CSV with a header row, UTF-8; - reads stdin"
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
        count = write_labels(Table(sys.stdin.buffer, "stdin", columns), sys.stdout, columns)
    else:
        with open_table(Path(args.reports), columns) as table:
            count = write_labels(table, sys.stdout, columns)
    say(f"{count} reports")
    return 0


def write_labels(table: Table, target: TextIO, columns: Sequence[str]) -> int:
    """Label every row of a table.

    Args:
        table: has the columns.
        target: receives CSV.
        columns: names of the text columns, joined in this order.

    Returns:
        How many reports were labelled; raises BadRequest for a row that is not whole.
    """
    kept = [name for name in table.columns if name not in columns]
    if taken := sorted(set(kept) & set(LABELS)):
        raise BadRequest(
            f"{table.name} already has label columns: {', '.join(taken)}.",
            "Remove or rename them.",
            code="bad_csv",
        )
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([*kept, *LABELS])
    count = 0
    for row in table.complete():
        cells = (guarded(row.cells[name]) for name in kept)
        writer.writerow([*cells, *_labels(row.cells, columns)])
        count += 1
    return count


def _labels(row: Mapping[str, str], columns: Sequence[str]) -> tuple[int, ...]:
    from rad3d.text.labeller import label_report

    return label_report("\n".join(row[column] for column in columns))
