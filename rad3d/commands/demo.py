"""Make everything that ships, from seeds alone.

"build" trains the encoder, the language models and their variants. It goes on where it was
interrupted; a stage whose output is there is skipped. "rad3d eval run" measures what came of it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rad3d.commands import add_command, print_table, say
from rad3d.core.errors import UnknownName
from rad3d.core.settings import Settings

BUILD_EXAMPLE = """
rad3d demo build --list
rad3d demo build --quick
rad3d demo build --stage variant:phantom-m
"""

EXAMPLE = BUILD_EXAMPLE

BUILD = """Train everything that ships, or go on where an earlier run stopped.

Stages run in order: phantoms, encoder, features, calibration, prior, noise, tokenizer, llm,
variant. --quick proves the whole path with smaller models, beside the shipped ones and not worth
using.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rad3d demo build``."""
    parts = parser.add_subparsers(metavar="PART", required=True)
    build = add_command(parts, "build", BUILD, BUILD_EXAMPLE)
    add = build.add_argument
    add("--quick", action="store_true", help="small schedules, about 10 minutes on two cores")
    add("--stage", metavar="NAME", help="only the stages whose name begins so, such as llm:")
    add("--list", action="store_true", help="print the stages and which are done, and run none")
    add("--jobs", type=int, default=None, help="processes for phantoms (default: all cores)")
    add(
        "--models",
        type=Path,
        metavar="DIR",
        help="receives the models (default: RAD3D_MODELS_DIR or assets/models; "
        "with --quick runs/demo-quick/models)",
    )
    build.set_defaults(run=run_build)


def run_build(args: argparse.Namespace) -> int:
    """Build, or list the stages."""
    settings = Settings.from_env()

    from rad3d.train.demo_build import DemoBuild, build_demo
    from rad3d.train.demo_plan import FULL, QUICK

    plan = QUICK if args.quick else FULL
    quick_models = settings.runs_dir / plan.name / "models"
    models = args.models or (quick_models if args.quick else settings.models_dir)
    jobs = args.jobs or os.cpu_count() or 1
    stages = list(DemoBuild(plan, models, settings.runs_dir, jobs, tell).stages())
    if args.stage and not any(stage.name.startswith(args.stage) for stage in stages):
        raise UnknownName("stage", args.stage, [stage.name for stage in stages])
    if args.list:
        rows = [
            ("done" if stage.done() else "to do", f"{stage.minutes:.1f}", stage.name)
            for stage in stages
        ]
        print_table(rows, ("state", "minutes", "stage"))
        return 0
    build_demo(
        models,
        settings.runs_dir,
        quick=args.quick,
        only=args.stage,
        jobs=jobs,
        threads=settings.threads,
        progress=tell,
    )
    if not args.stage:
        say(f"measure what was made: {_measuring(models, settings, args.quick)}")
    return 0


def _measuring(models: Path, settings: Settings, quick: bool) -> str:
    """The command that measures a build; a few cases are enough where nothing was learned."""
    place = "" if models == settings.models_dir else f"RAD3D_MODELS_DIR={models} "
    few = " --limit 20 --ablations image-shuffled --baselines" if quick else ""
    return f"{place}rad3d eval run{few}"


def tell(text: str, fraction: float) -> None:
    """A line of progress on stderr."""
    say(f"{fraction:4.0%} {text}")
