"""Print what a language model in a mode and precision takes: parameters and memory.

Counted without weights and without the memory: a training step (weights, gradients, AdamW's
averages, activations) and the writing of one report. docs/cost.md explains the figures, and lists
those of the published sizes with measured times.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rad3d.commands import print_json, print_table, say
from rad3d.commands.demo import tell
from rad3d.core.language_models import PRECISIONS, LanguageModel, language_model
from rad3d.core.modes import MODES
from rad3d.core.settings import Settings
from rad3d.core.words import byte_text

if TYPE_CHECKING:
    from rad3d.model.llm.cost import Cost, Workload

EXAMPLE = """
rad3d cost --llm llama-3.2-1b --mode v3 --precision bf16
rad3d cost --llm gpt2 --mode v1 --batch-size 2
rad3d cost --llm Qwen/Qwen3-0.6B --precision 8bit --json
"""

PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimiser": "optimiser (AdamW)",
    "activations": "activations",
    "scores": "gradient of the scores",
    "training": "training step, together",
    "writing": "writing one report",
}
"""Field of a cost -> its name in the table, in order."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rad3d cost``."""
    add = parser.add_argument
    add("--llm", metavar="NAME", required=True, help="listed, a hub id, or a directory")
    add("--mode", choices=list(MODES), default="v3", help="default: %(default)s")
    add("--precision", choices=list(PRECISIONS), default="bf16", help="default: %(default)s")
    add("--batch-size", type=int, default=16, help="pairs per step (default: %(default)s)")
    add("--report-tokens", type=int, default=300, help="per report (default: %(default)s)")
    add("--layers", type=int, default=8, help="of the projector (default: %(default)s)")
    add("--gradient-checkpointing", action="store_true", help="as in rad3d train: keep the inputs "
        "of the language model's layers only")  # fmt: skip
    add("--json", action="store_true", help="JSON instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Count and print."""
    row = language_model(args.llm)

    from rad3d.model.llm.cost import Workload, config_of, estimate
    from rad3d.model.llm.hub import Hub

    settings = Settings.from_env()
    load = Workload(args.batch_size, args.report_tokens, args.layers, args.gradient_checkpointing)
    config = config_of(row, Hub.from_settings(settings), settings.models_dir, tell)
    cost = estimate(config, args.mode, args.precision, load)
    if args.json:
        print_json(_facts(args, load, row, cost))
    else:
        _print(args, load, row, cost)
    return 0


def _facts(
    args: argparse.Namespace, load: Workload, row: LanguageModel, cost: Cost
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "llm": row.id,
        "mode": args.mode,
        "precision": args.precision,
        "workload": asdict(load),
        "cost": cost.to_dict(),
    }


def _print(args: argparse.Namespace, load: Workload, row: LanguageModel, cost: Cost) -> None:
    pairs = "1 pair" if load.batch_size == 1 else f"{load.batch_size} pairs"
    say(
        f"{row.name} in {MODES[args.mode].name}, {args.precision}; {pairs} per step, "
        f"{load.report_tokens} tokens per report"
    )
    table = [
        ("parameters", f"{cost.total:,}"),
        ("trainable parameters", f"{cost.trainable:,}"),
        *((name, byte_text(cost.to_dict()[part])) for part, name in PARTS.items()),
    ]
    print_table(table, ("what", "takes"))
