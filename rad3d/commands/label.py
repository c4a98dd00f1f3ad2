"""Read the 18 findings out of each report of a CSV file.

The rows go to stdout as CSV: the input's columns without the text, then the 18 labels in their
published order as 0 or 1. Rules read the text, no model; about 200 reports a second.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from rad3d.commands import say
from rad3d.errors import BadRequest, UnknownName
from rad3d.labels import LABELS

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
    csv.field_size_limit(sys.maxsize)
    if args.reports == "-":
        count = write_labels(sys.stdin, sys.stdout, columns)
    else:
        with Path(args.reports).open(encoding="utf-8-sig", newline="") as source:
            count = write_labels(source, sys.stdout, columns)
    say(f"{count} reports")
    return 0


def write_labels(source: TextIO, target: TextIO, columns: Sequence[str]) -> int:
    """Label every row of ``source``.

    Args:
        source: CSV with a header row.
        target: receives CSV.
        columns: names of the text columns, joined in this order.

    Returns:
        How many reports were labelled; raises BadRequest for anything that is not such a CSV.
    """
    reader = csv.DictReader(source, strict=True)
    writer = csv.writer(target, lineterminator="\n")
    count = 0
    try:
        kept = _kept_columns(reader.fieldnames, columns)
        writer.writerow([*kept, *LABELS])
        for row in _complete(reader):
            writer.writerow([*(row[name] for name in kept), *_labels(row, columns)])
            count += 1
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadRequest(
            f"Near line {reader.line_num + 1} the file is not CSV in UTF-8: {error}.",
            "Save it as CSV with UTF-8 encoding.",
            code="bad_csv",
        ) from error
    return count


def _kept_columns(names: Sequence[str] | None, columns: Sequence[str]) -> list[str]:
    if not names:
        raise BadRequest("The CSV file is empty.", "It needs a header row.", code="bad_csv")
    for column in columns:
        if column not in names:
            raise UnknownName("column", column, list(names))
    kept = [name for name in names if name not in columns]
    if taken := sorted(set(kept) & set(LABELS)):
        raise BadRequest(
            f"The file already has label columns: {', '.join(taken)}.",
            "Remove or rename them.",
            code="bad_csv",
        )
    return kept


def _complete(reader: csv.DictReader[str]) -> Iterator[dict[str, str]]:
    """The rows; a row with more or fewer cells than the header is refused, not guessed at."""
    for row in reader:
        if None in row or None in row.values():
            raise BadRequest(
                f"The row that ends on line {reader.line_num} has not one cell for each column.",
                "Put cells that hold commas or line breaks in quotes.",
                code="bad_csv",
            )
        yield row


def _labels(row: dict[str, str], columns: Sequence[str]) -> tuple[int, ...]:
    from rad3d.text.labeller import label_report

    return label_report("\n".join(row[column] for column in columns))
