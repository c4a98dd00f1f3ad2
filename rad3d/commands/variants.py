"""List every language model and adaptation mode: what is ready here, and what others need.

A variant is LLM/mode, such as phantom-m/v3. One that is not ready is listed with the reason and,
where there is one, the command that makes it ready.
"""

from __future__ import annotations

import argparse

from rad3d.commands import print_json, print_table
from rad3d.settings import Settings

EXAMPLE = """
rad3d variants
rad3d variants --json | jq -r '.[] | select(.ready) | .id'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rad3d variants``."""
    parser.add_argument("--json", action="store_true", help="a JSON list instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the status of every variant of the registry."""
    from dataclasses import asdict

    from rad3d.model.store import ModelStore

    statuses = ModelStore(Settings.from_env()).statuses()
    if args.json:
        print_json([asdict(status) for status in statuses])
        return 0
    rows = [
        (
            status.id,
            "yes" if status.ready else "no",
            f"{status.parameters:,}" if status.parameters else "",
            f"{status.reason} Run: {status.command}" if status.command else status.reason,
        )
        for status in statuses
    ]
    print_table(rows, ("variant", "ready", "LLM parameters", "what it needs"))
    return 0
