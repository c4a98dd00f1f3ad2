"""Train one variant: a language model in one adaptation mode, on your own features and reports.

Features come from an encoder (a file or a store), reports from a table or a data set, named as the
evaluation names it; they are matched by the scan's id. Without --features it learns from the demo's
phantoms, and what is missing on the way is made first. Published language models are trained by the
paper's recipe, shipped ones by their own schedule; any other causal model can be named by its hub
id or directory. A run that was interrupted goes on. What is held out is measured along the way, and
the best weights are kept. The memory of a step is counted first. docs/training.md has the
modes as commands.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rad3d.commands import say
from rad3d.commands.demo import tell
from rad3d.core.errors import BadRequest
from rad3d.core.language_models import LANGUAGE_MODELS, LanguageModel, language_model
from rad3d.core.modes import MODES
from rad3d.core.settings import Settings

if TYPE_CHECKING:
    from rad3d.train.pairs import TrainingData

EXAMPLE = """
rad3d train --llm gpt2 --mode v3 --features features --reports reports.csv
rad3d train --llm gpt2 --mode v3 --features features --reports folder:my-scans
rad3d train --llm llama-3.2-1b --mode v3 --features features --reports ct-rate:CT-RATE
rad3d train --llm llama-3.2-1b --mode v2 --features features --reports ct-rate:CT-RATE \\
    --validation-reports ct-rate:CT-RATE --batch-size 4 --accumulate 4 --gradient-checkpointing
rad3d train --llm phantom-s --mode linear --quick --steps 50
"""

SCHEDULE = (
    "steps", "epochs", "learning_rate", "precision", "seed", "batch_size", "accumulate", "layers",
    "latent_weight", "logits_weight", "llm_precision", "validate_every", "patience", "prefix_scale",
    "targets", "wording", "mixing", "other_weight",
)  # fmt: skip
"""Options that override the schedule under their own names."""

ABOVE_ZERO = (
    "steps", "epochs", "learning_rate", "batch_size", "accumulate", "layers", "validate_every",
    "jobs",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rad3d train``."""
    add = parser.add_argument
    listed = ", ".join(LANGUAGE_MODELS)
    add("--llm", required=True, metavar="NAME", help=f"{listed}; or a hub id or a directory")
    add("--mode", required=True, choices=list(MODES), help="what is trained, and from what")
    _data(parser.add_argument_group("data"))
    _schedule(parser.add_argument_group("schedule"))
    _learned(parser.add_argument_group("what is learned"))
    _memory(parser.add_argument_group("memory and files"))
    parser.set_defaults(run=run)


def _data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--features", type=Path, metavar="STORE", help="features of an encoder: file or store")
    add("--reports", metavar="CSV", help="table of reports, or a data "
        "set: ct-rate:DIR and inspect:DIR for their training split, folder:DIR")  # fmt: skip
    add("--id-column", default="id", metavar="NAME", help="default: %(default)s")
    add(
        "--report-column", action="append", metavar="NAME",
        help="default: report, or reference in folder:DIR; repeat it for several parts, as in "
        "Findings=Findings_EN, which puts the heading Findings before the text",
    )  # fmt: skip
    add("--patient-column", default="", metavar="NAME", help="default: from CT-RATE's names")
    add("--validation-reports", default="", metavar="CSV", help="of scans that are held out; "
        "ct-rate:DIR and inspect:DIR are their validation split")  # fmt: skip
    add("--validation-features", type=Path, metavar="STORE", help="default: --features")
    add(
        "--validation-share", type=float, default=0.05, metavar="X",
        help="without --validation-reports, hold out this share of the patients; 0 holds out none "
        "(default: %(default)s)",
    )  # fmt: skip
    add("--quick", action="store_true", help="the phantoms of `rad3d demo build --quick`")
    add("--jobs", type=int, default=1, help="processes for phantoms (default: %(default)s)")


def _schedule(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--steps", type=int, help="optimiser steps, instead of epochs")
    add("--epochs", type=float, help="passes over the pairs (published LLMs: 10)")
    add("--learning-rate", type=float, help="for all weights (published LLMs: 2e-5)")
    add("--batch-size", type=int, help="pairs at once in each process (published LLMs: 16)")
    add("--accumulate", type=int, help="batches that make one step (default: 1)")
    add("--layers", type=int, help="transformer layers of the projector (published LLMs: 8)")
    add("--scaling", choices=("plain", "standardised"), help="of image embedding and logits: as "
        "they are (published LLMs, as in the paper), or each number standardised")  # fmt: skip
    add("--latent-weight", type=float, help="factor of the embedding after that (default: 1)")
    add("--logits-weight", type=float, help="factor of the logits after that (default: 1)")
    add("--validate-every", type=int, help="steps (published LLMs: 500)")
    add("--patience", type=int, help="end after so many measurements on what is held out without "
        "a better one (default: 0, never)")  # fmt: skip
    add("--seed", type=int, help="of new weights, order, dropout, and who is held out")


def _learned(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--targets", choices=("reports", "findings"),
        help="reports of the scans (published LLMs), or reports that the grammar writes about the "
        "findings that the mode reads",
    )  # fmt: skip
    add("--wording", choices=("varied", "canonical"), help="of the latter")
    add(
        "--mixing", type=float, metavar="X",
        help="with --targets findings: take this share of them from other scans",
    )  # fmt: skip
    add(
        "--other-weight", type=float, metavar="X",
        help="of tokens outside the sentences that state findings (published LLMs: 1)",
    )  # fmt: skip
    add(
        "--prefix-scale", choices=("published", "words"),
        help="vectors of the prefix as the projector makes them (default), or as long as the "
        "embeddings of words",
    )  # fmt: skip


def _memory(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--llm-precision", choices=("auto", "float32", "bf16", "8bit", "4bit"),
        help="of a frozen language model (published LLMs: auto)")  # fmt: skip
    add("--precision", choices=("auto", "bf16", "no"), help="compute in bf16 or in float32 (no); "
        "auto times both for a moment and says what it found (published LLMs: auto)")  # fmt: skip
    add("--gradient-checkpointing", action="store_true", help="compute the language model's layers "
        "twice instead of keeping what they made: less memory, more time")  # fmt: skip
    add("--device", default="", help="auto, cpu or cuda (default: RAD3D_DEVICE)")
    add("--force", action="store_true", help="train even if a step does not seem to fit")
    add("--run-dir", type=Path, metavar="DIR", help="checkpoint and log of the run (default: "
        "train/LLM-MODE in the runs folder)")  # fmt: skip
    add("--replace", action="store_true", help="overwrite a variant of this name")


def run(args: argparse.Namespace) -> int:
    """Train and print where the variant lies."""
    _check_numbers(args)
    if (args.features is None) != (args.reports is None):
        raise BadRequest("--features and --reports go together.", code="bad_option")
    settings = Settings.from_env()
    row = language_model(args.llm)

    from rad3d.model.llm.hub import Hub
    from rad3d.train.demo_plan import FULL, QUICK
    from rad3d.train.single import PUBLISHED, Place, overridden, train_single

    plan = QUICK if args.quick else FULL
    models = settings.runs_dir / plan.name / "models" if args.quick else settings.models_dir
    shipped = row.id in plan.variants
    schedule = overridden(
        plan.schedule(row.id, args.mode) if shipped else PUBLISHED,
        **{name: getattr(args, name) for name in SCHEDULE},
        standardised=args.scaling and args.scaling == "standardised",
        checkpointing=args.gradient_checkpointing or None,
    )
    place = Place(
        models,
        args.run_dir or settings.runs_dir / "train" / f"{row.id}-{args.mode}",
        Hub.from_settings(settings),
        args.device or settings.device,
        args.force,
        args.replace,
    )
    data = _read(args, row, models, settings)
    for note in data.source.get("notes", ()):
        say(note)
    print(train_single(data, args.llm, args.mode, schedule, place, tell))
    return 0


def _check_numbers(args: argparse.Namespace) -> None:
    rules: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
        (ABOVE_ZERO, lambda value: 0 < value < math.inf, "above 0"),
        (("latent_weight", "logits_weight"), math.isfinite, "a number"),
        (("patience", "seed"), lambda value: value >= 0, "0 or more"),
    )
    for names, allowed, range_text in rules:
        for name in names:
            value = getattr(args, name)
            if value is not None and not allowed(value):
                option = f"--{name.replace('_', '-')}"
                raise BadRequest(f"{option} must be {range_text}.", code="bad_option")


def _read(
    args: argparse.Namespace, row: LanguageModel, models: Path, settings: Settings
) -> TrainingData:
    """The pairs: from files, or else the demo's."""
    from rad3d.data.predictions import Columns
    from rad3d.model.llm.hub import Hub, obtain
    from rad3d.model.llm.models_folder import placed
    from rad3d.train.demo_build import DemoBuild
    from rad3d.train.demo_plan import FULL, QUICK
    from rad3d.train.file_source import FileSource

    if args.features is None:
        plan = QUICK if args.quick else FULL
        if row.id not in plan.language_models:  # before minutes go into phantoms for nothing
            hub, row = Hub.from_settings(settings), placed(row, models)
            obtain(row.source, hub, models_dir=models, revision=row.revision, progress=tell)
        build = DemoBuild(plan, models, settings.runs_dir, args.jobs, tell)
        return build.prepared(row.id, args.mode)
    columns = Columns(args.id_column, tuple(args.report_column or ()), patient=args.patient_column)
    return FileSource(
        args.features,
        args.reports,
        columns,
        args.validation_features,
        args.validation_reports,
        args.validation_share,
        args.seed or 0,
        models,
        "findings" in MODES[args.mode].reads,
    ).read()
