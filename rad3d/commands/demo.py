"""Make everything that ships, from seeds alone, and measure it.

"build" trains the encoder, the language models and their variants. It goes on where it was
interrupted; a stage whose output is there is skipped. "evaluate" scores them on held-out phantoms.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rad3d.commands import add_command, print_table, say
from rad3d.errors import UnknownName
from rad3d.settings import Settings

BUILD_EXAMPLE = """
rad3d demo build --list
rad3d demo build --quick
rad3d demo build --stage variant:phantom-m
"""

EVALUATE_EXAMPLE = """
rad3d demo evaluate
rad3d demo evaluate --variant phantom-l/v3 --cases 50
"""

EXAMPLE = BUILD_EXAMPLE + EVALUATE_EXAMPLE.lstrip()

BUILD = """Train everything that ships, or go on where an earlier run stopped.

Stages run in order: phantoms, encoder, features, calibration, tokenizer, llm, variant. --quick
proves the whole path with smaller models, beside the shipped ones and not worth using.
"""

EVALUATE = """Print what the shipped models reach on held-out phantoms, with n and 95% intervals.

Held-out phantoms that are not there yet are made first. Reports are kept in the runs directory and
the scores are also written into each variant's variant.json.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rad3d demo build`` and ``rad3d demo evaluate``."""
    parts = parser.add_subparsers(metavar="PART", required=True)
    build = add_command(parts, "build", BUILD, BUILD_EXAMPLE)
    add = build.add_argument
    add("--quick", action="store_true", help="small schedules, under 20 minutes on two cores")
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
    evaluate = add_command(parts, "evaluate", EVALUATE, EVALUATE_EXAMPLE)
    evaluate.add_argument("--quick", action="store_true", help="the models of build --quick")
    evaluate.add_argument("--variant", metavar="ID", help="only this one, such as phantom-l/v3")
    evaluate.add_argument(
        "--cases", type=int, default=0, metavar="N", help="at most N of each split (default: all)"
    )
    evaluate.set_defaults(run=run_evaluate)


def run_build(args: argparse.Namespace) -> int:
    """Build, or list the stages."""
    settings = Settings.from_env()

    from rad3d.train.build import DemoBuild, build_demo
    from rad3d.train.plan import FULL, QUICK

    plan = QUICK if args.quick else FULL
    quick_models = settings.runs_dir / plan.name / "models"
    models = args.models or (quick_models if args.quick else settings.models_dir)
    stages = list(DemoBuild(plan, models, settings.runs_dir, 1, tell).stages())
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
        jobs=args.jobs,
        threads=settings.threads,
        progress=tell,
    )
    return 0


def run_evaluate(args: argparse.Namespace) -> int:
    """Score the variants and print one line for each and split."""
    settings = Settings.from_env()

    from rad3d.train.build import DemoBuild
    from rad3d.train.evaluate import DemoEvaluation, classifier_auroc, prevalence
    from rad3d.train.plan import FULL, QUICK

    plan = QUICK if args.quick else FULL
    models = settings.runs_dir / plan.name / "models" if args.quick else settings.models_dir
    build = DemoBuild(plan, models, settings.runs_dir, os.cpu_count() or 1, tell)
    evaluation = DemoEvaluation(build, args.cases)
    variants = evaluation.variants()
    if args.variant is not None:
        if args.variant not in variants:
            raise UnknownName("trained variant", args.variant, variants)
        variants = [args.variant]
    for split in plan.test_splits:
        build.run(f"phantoms:{split.name}")
        build.run(f"features:{split.name}")
    for split in evaluation.splits:
        auroc = classifier_auroc(split, build.features(split))
        print(f"{split.name}: n {split.n}, classifier macro AUROC {auroc}, "
              f"label prevalence {prevalence(split):.3f}")  # fmt: skip
    rows = [
        (variant, name, str(s.macro_f1), str(s.micro_f1), str(s.side), str(s.side_strict),
         str(s.shuffled_f1), f"{s.finished:.2f}", f"{s.words:.0f}")
        for variant in variants
        for name, s in evaluation.run(variant).items()
    ]  # fmt: skip
    print_table(
        rows,
        ("variant", "split", "macro F1", "micro F1", "side", "side strict", "shuffled F1",
         "ended", "words"),
    )  # fmt: skip
    return 0


def tell(text: str, fraction: float) -> None:
    """A line of progress on stderr."""
    say(f"{fraction:4.0%} {text}")
