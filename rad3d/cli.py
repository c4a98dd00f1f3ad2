"""The command ``rad3d``: machine-readable output on stdout, everything else on stderr.

A command is one row of :data:`COMMANDS` and one module of :mod:`rad3d.commands`, which has

* a docstring: its first line is the summary, the whole is the description,
* ``EXAMPLE``: command lines worth copying,
* ``configure(parser)``: its arguments, and ``set_defaults(run=...)`` with a function
  ``run(args) -> int`` that gives the exit status, or ``"module:function"`` where that is heavy.

Importing those modules is cheap (no torch, no gradio): they import what they run inside ``run``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from rad3d import __version__
from rad3d.commands import add_command
from rad3d.core.errors import Rad3dError
from rad3d.core.lookup import resolve

COMMANDS: dict[str, str] = {
    "serve": "rad3d.commands.serve",
    "report": "rad3d.commands.report",
    "variants": "rad3d.commands.variants",
    "doctor": "rad3d.commands.doctor",
    "cost": "rad3d.commands.cost",
    "phantom": "rad3d.commands.phantom",
    "demo": "rad3d.commands.demo",
    "train": "rad3d.commands.train",
    "convert": "rad3d.commands.convert",
    "label": "rad3d.commands.label",
    "features": "rad3d.commands.features",
    "head": "rad3d.commands.head",
    "eval": "rad3d.commands.eval",
    "readers": "rad3d.commands.readers",
    "space": "rad3d.commands.space",
}
"""Name of a command -> its module."""

EPILOG = "Each command has its own help: rad3d report --help"


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``rad3d`` with every command of :data:`COMMANDS`."""
    parser = argparse.ArgumentParser(
        prog="rad3d",
        description="See, compare and adapt language models that write reports for 3D chest CTs. "
        "A research demo, not a medical device.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"rad3d {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, target in COMMANDS.items():
        module = importlib.import_module(target)
        module.configure(add_command(commands, name, module.__doc__ or "", module.EXAMPLE))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when it did what was asked, 1 for bad input (one sentence on stderr, no traceback),
        2 for a wrong command line (argparse), 130 when the person stopped it.
    """
    args = build_parser().parse_args(argv)
    try:
        run = resolve(args.run) if isinstance(args.run, str) else args.run
        status = int(run(args))
        sys.stdout.flush()
        return status
    except Rad3dError as error:
        print(f"rad3d: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of the pipe has gone (`rad3d label ... | head`): not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"rad3d: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("rad3d: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
