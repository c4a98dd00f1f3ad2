"""The commands of :mod:`rad3d.cli`, one module each, and the little that they share."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any


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
