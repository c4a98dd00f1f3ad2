"""The commands of :mod:`rad3d.cli`, one module each, and the little that they share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

Commands = argparse._SubParsersAction  # what ``add_subparsers`` gives; argparse has no public name


def add_label_set(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add ``--label-set``: the id or the file of a label set."""
    parser.add_argument(
        "--label-set",
        default="ct-rate",
        metavar="SET",
        help=f"ct-rate (default), inspect, a file of your own (docs/researcher.md){more}",
    )


def add_command(
    commands: Commands[argparse.ArgumentParser], name: str, description: str, example: str
) -> argparse.ArgumentParser:
    """A parser whose help is worth reading.

    Args:
        commands: what ``add_subparsers`` gave.
        name: of the command.
        description: its first line is the summary in the list of commands.
        example: command lines worth copying.
    """
    description = description.strip()
    examples = "\n".join(f"  {line}" for line in example.strip().splitlines())
    return commands.add_parser(
        name,
        help=description.splitlines()[0].replace("%", "%%"),  # argparse formats this one
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def say(text: str) -> None:
    """Tell the person something: stderr, so that stdout holds results only."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """A result for a program: indented JSON on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(rows: Iterable[Sequence[str]], header: Sequence[str]) -> None:
    """A result for a person: aligned columns on stdout."""
    table = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
