"""Read labels, such as the 18 of CT-RATE, out of each report of a CSV file.

The rows go to stdout as CSV: the input's columns without the text, then the labels in their
order as 0 or 1. Rules read the text, no model; about 200 reports a second. What is only
suspected counts; what the history, indication, technique or comparison says does not. Rows without
a report ("nan", "Not given.") are left out and counted. Label columns that the table has already
stay, with "(given)" behind their names.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from rad3d.commands import add_label_set, say
from rad3d.core.errors import some
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.tables import Table, label_columns, open_table, write_table

DEFAULT_COLUMN = "report"

EXAMPLE = """
rad3d label reports.csv > labels.csv
rad3d label ct-rate.csv --text-column Findings_EN --text-column Impressions_EN > labels.csv
rad3d label reports.csv --label-set own.json > labels.csv
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
    add_label_set(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Stream the rows."""
    columns = args.text_column or [DEFAULT_COLUMN]
    labels = LabelSet.find(args.label_set)
    labels.require_rules()
    if args.reports == "-":
        write_labels(Table(sys.stdin.buffer, "stdin", columns), sys.stdout, columns, labels)
    else:
        with open_table(Path(args.reports), columns) as table:
            write_labels(table, sys.stdout, columns, labels)
    return 0


def write_labels(
    table: Table, target: TextIO, columns: Sequence[str], label_set: LabelSet = CT_RATE
) -> None:
    """Label every row of a table, and tell how many, and what was left out.

    Args:
        table: has the columns.
        target: receives CSV.
        columns: names of the text columns, joined in this order.
        label_set: the labels.

    Raises:
        BadRequest: a row is not whole.
    """
    from rad3d.data.predictions import report_of
    from rad3d.reports.labeller import label_report

    kept = [name for name in table.columns if name not in columns]
    given = set(label_columns(tuple(kept), label_set).values())
    heads = [f"{name} (given)" if name in given else name for name in kept]
    labelled: list[int] = []
    without: list[int] = []

    def rows() -> Iterator[tuple[object, ...]]:
        yield (*heads, *label_set.names)
        for row in table.complete():
            text = "\n".join(filter(None, (report_of(row.cells[column]) for column in columns)))
            (labelled if text else without).append(row.line)
            if text:
                yield (*(row.cells[name] for name in kept), *label_report(text, label_set))

    write_table(target, rows())
    for note in table.notes:
        say(note)
    if given:
        say(f"{table.name} has label columns already: they stay, with (given) behind their names.")
    if without:
        lines = some([str(line) for line in without], 5)
        say(f"{len(without)} without a report, left out: line {lines}")
    say(f"{len(labelled)} reports")
