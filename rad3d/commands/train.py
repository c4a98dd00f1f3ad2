"""Train one variant: a language model in one adaptation mode.

It learns from the paired phantoms of the demo; what is missing on the way (phantoms, features, a
shipped base model) is made first. A run that was interrupted goes on. Shipped language models have
a schedule of their own; for published ones the defaults are those below, and any other causal
model can be named by its hub id or directory. The resolved configuration, log and checkpoint lie
in runs/, the variant in the models folder.
"""

from __future__ import annotations

import argparse

from rad3d.commands.demo import tell
from rad3d.errors import BadRequest
from rad3d.registry import LANGUAGE_MODELS, MODES, language_model
from rad3d.settings import Settings

EXAMPLE = """
rad3d train --llm phantom-m --mode v3
rad3d train --llm gpt2 --mode v2 --steps 4000 --learning-rate 2e-4 --batch-size 16
rad3d train --llm phantom-s --mode linear --quick --steps 50
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rad3d train``."""
    add = parser.add_argument
    listed = ", ".join(LANGUAGE_MODELS)
    add("--llm", required=True, metavar="NAME", help=f"{listed}; or a hub id or a directory")
    add("--mode", required=True, choices=list(MODES), help="what is trained, and from what")
    add("--steps", type=int, help="optimiser steps (published LLMs: 2000)")
    add(
        "--learning-rate",
        type=float,
        help="peak, for all weights (published LLMs: 2e-4 frozen, 2e-5 fine-tuned)",
    )
    add("--batch-size", type=int, help="pairs per step (published LLMs: 16)")
    add("--layers", type=int, help="transformer layers of the projector (published LLMs: 8)")
    add("--precision", choices=("bf16", "no"), help="autocast to bfloat16, or float32")
    add("--seed", type=int, help="of new weights and dropout")
    add("--jobs", type=int, default=1, help="processes for phantoms (default: %(default)s)")
    add("--quick", action="store_true", help="the small data set of `rad3d demo build --quick`")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train and print where the variant lies."""
    for name in ("steps", "learning_rate", "batch_size", "layers", "jobs"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            raise BadRequest(f"--{name.replace('_', '-')} must be above 0.", code="bad_option")
    settings = Settings.from_env()

    from rad3d.train.plan import FULL, QUICK
    from rad3d.train.single import Overrides, train_single

    plan = QUICK if args.quick else FULL
    models = settings.runs_dir / plan.name / "models" if args.quick else settings.models_dir
    names = ("steps", "learning_rate", "precision", "seed", "batch_size", "layers")
    directory = train_single(
        plan,
        language_model(args.llm).id,
        args.mode,
        models,
        settings.runs_dir,
        overrides=Overrides(**{name: getattr(args, name) for name in names}),
        jobs=args.jobs,
        progress=tell,
    )
    print(directory)
    return 0
