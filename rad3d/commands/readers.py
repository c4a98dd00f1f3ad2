"""Let readers rate reports without knowing who wrote them, and evaluate what they answer.

A study takes cases and reports that are written already: those of a stored evaluation, or of
predictions files. `new` prints a secret link. Whoever opens it on the running app (rad3d serve)
sees scan and report without names, in an order that is balanced over readers and systems, and rates
clinical accuracy, language and discrepancy, and which of two reports on a scan is better. Answers
are kept in one SQLite file: RAD3D_RATINGS_FILE, or readers.sqlite below RAD3D_RUNS_DIR.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rad3d.commands import add_command
from rad3d.commands.options import add_resamples

NEW = """Make a study and print its secret link.

Without --predictions the reports are those of a stored evaluation (rad3d eval runs). Readers never
see the names of systems; the title is shown to them.
"""

NEW_EXAMPLE = """
rad3d readers new --systems phantom-l/v1 phantom-l/v3
rad3d readers new --run latest --set phantom-in --systems phantom-l/v1 phantom-l/v3 --cases 40
rad3d readers new --predictions ours.csv#phantom-in theirs.csv#phantom-in --title "Chest CT reports"
"""

LIST = "List the studies and how far their readers are.\n"
LIST_EXAMPLE = "rad3d readers list\nrad3d readers list --json\n"

LINK = "Give a study a new secret link and print it; the old link opens nothing any more.\n"
LINK_EXAMPLE = "rad3d readers link latest\n"

RESULTS = """Print what the readers found: means, differences, agreement and preferences.

Intervals are by bootstrap over readers and cases. With one reader they are over cases alone: how
another reader would rate is then not known.
"""
RESULTS_EXAMPLE = """
rad3d readers results latest
rad3d readers results latest --csv ratings.csv --html results.html
"""

BACKUP = """Copy the file of all studies while it may be in use.
"""
BACKUP_EXAMPLE = "rad3d readers backup ratings-2026-11-30.sqlite\n"

DELETE = "Delete a study with everything that was rated.\n"
DELETE_EXAMPLE = "rad3d readers delete 1a2b3c --yes\n"

SIMULATE = """Make a study whose readers are drawn by a computer, and print its results.

It shows the whole and tests the statistics: the systems differ by known steps. Everything that
comes of it is marked as simulated.
"""
SIMULATE_EXAMPLE = """
rad3d readers simulate
rad3d readers simulate --readers 5 --cases 100 --seed 1
"""

EXAMPLE = NEW_EXAMPLE + "rad3d readers results latest\nrad3d readers simulate\n"

_WORK = "rad3d.commands.readers_work"
"""Module with the work of the parts."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of every part of ``rad3d readers``."""
    parts = parser.add_subparsers(metavar="PART", required=True)
    _configure_new(add_command(parts, "new", NEW, NEW_EXAMPLE))
    listing = add_command(parts, "list", LIST, LIST_EXAMPLE)
    listing.add_argument("--json", action="store_true", help="a JSON list instead of a table")
    listing.set_defaults(run=f"{_WORK}:list_studies")
    link = add_command(parts, "link", LINK, LINK_EXAMPLE)
    _add_study(link)
    _add_address(link)
    link.set_defaults(run=f"{_WORK}:link")
    results = add_command(parts, "results", RESULTS, RESULTS_EXAMPLE)
    _add_study(results)
    _add_outputs(results)
    results.set_defaults(run=f"{_WORK}:results")
    backup = add_command(parts, "backup", BACKUP, BACKUP_EXAMPLE)
    backup.add_argument("target", metavar="FILE", type=Path, help="the copy")
    backup.set_defaults(run=f"{_WORK}:backup")
    delete = add_command(parts, "delete", DELETE, DELETE_EXAMPLE)
    _add_study(delete)
    delete.add_argument("--yes", action="store_true", help="do it; without it nothing is deleted")
    delete.set_defaults(run=f"{_WORK}:delete")
    _configure_simulate(add_command(parts, "simulate", SIMULATE, SIMULATE_EXAMPLE))


def _configure_new(new: argparse.ArgumentParser) -> None:
    add = new.add_argument
    add("--run", dest="source_run", metavar="RUN", default="study",
        help="id, latest, study or a folder (default: %(default)s)")  # fmt: skip
    add("--set", default="", metavar="SET", help="of the run (default: its first one)")
    add("--systems", nargs="+", default=[], metavar="ID", help="2 to 4 systems of the run")
    add("--predictions", nargs="+", default=[], metavar="FILE[#REFERENCES]",
        help="in place of a run: 2 to 4 files about the same cases")  # fmt: skip
    add(
        "--cases",
        type=int,
        default=20,
        metavar="N",
        help="drawn from those on which every system has a report (default: %(default)s)",
    )
    add("--ids", nargs="+", default=[], metavar="ID", help="exactly these cases")
    add("--per-case", type=int, default=2, metavar="N",
        help="reports that a reader reads on each scan, 1 to the number of systems "
        "(default: %(default)s)")  # fmt: skip
    add("--title", default="", help="shown to the readers: name no system in it")
    add("--seed", type=int, default=0, help="of cases and orders (default: %(default)s)")
    _add_address(new)
    new.set_defaults(run=f"{_WORK}:new")


def _configure_simulate(simulate: argparse.ArgumentParser) -> None:
    add = simulate.add_argument
    add("--readers", type=int, default=2, metavar="N", help="default: %(default)s")
    add("--cases", type=int, default=20, metavar="N", help="default: %(default)s")
    add(
        "--step",
        type=float,
        default=0.6,
        metavar="POINTS",
        help="by which a system is better than the one before it (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="of everything (default: %(default)s)")
    _add_outputs(simulate)
    simulate.set_defaults(run=f"{_WORK}:simulate")


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY", help="id of rad3d readers list, or latest")


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address",
        default="",
        metavar="URL",
        help="where readers reach the app (default: from RAD3D_HOST, RAD3D_PORT, RAD3D_ROOT_PATH)",
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    add_resamples(parser)
    add = parser.add_argument
    add("--csv", type=Path, metavar="FILE", help="also write the ratings, one line each")
    add("--html", type=Path, metavar="FILE", help="also write a page that opens offline")
    add("--json", action="store_true", help="JSON instead of tables")
