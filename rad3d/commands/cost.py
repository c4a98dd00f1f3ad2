"""Print what a language model in a mode and precision takes: parameters and memory.

Counted without weights and without the memory: a training step (weights, gradients, AdamW's
averages, activations) and the writing of one report. docs/cost.md explains the figures, and lists
those of the published sizes with measured times.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rad3d.commands import print_json, print_table, say
from rad3d.commands.demo import tell
from rad3d.core.language_models import LANGUAGE_MODELS, PRECISIONS, LanguageModel, language_model
from rad3d.core.modes import MODES
from rad3d.core.settings import Settings
from rad3d.core.words import byte_text

if TYPE_CHECKING:
    from rad3d.model.llm.cost import Cost, Workload

EXAMPLE = """
rad3d cost --llm llama-3.2-1b --mode v3 --precision bf16
rad3d cost --llm gpt2 --mode v1 --batch-size 2
rad3d cost --llm Qwen/Qwen3-0.6B --precision 8bit --json
rad3d cost --all --mode v3 --precision bf16
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
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--llm", metavar="NAME", help="listed, a hub id, or a directory")
    which.add_argument("--all", action="store_true", help="one row for every published one")
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
    rows = (
        [row for row in LANGUAGE_MODELS.values() if row.config]
        if args.all
        else [language_model(args.llm)]
    )

    from rad3d.model.llm.cost import Workload, config_of, estimate
    from rad3d.model.llm.hub import Hub

    settings = Settings.from_env()
    load = Workload(args.batch_size, args.report_tokens, args.layers, args.gradient_checkpointing)
    costs = []
    for at, row in enumerate(rows):
        if args.all:
            tell(f"Counting {row.name}", at / len(rows))
        config = config_of(row, Hub.from_settings(settings), settings.models_dir, tell)
        costs.append(estimate(config, args.mode, args.precision, load))
    if args.json:
        facts = [_facts(args, load, *pair) for pair in zip(rows, costs, strict=True)]
        print_json(facts if args.all else facts[0])
    elif args.all:
        _print_all(rows, costs)
    else:
        _print(args, load, rows[0], costs[0])
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


def _print_all(rows: Sequence[LanguageModel], costs: Sequence[Cost]) -> None:
    table = [
        (
            row.id,
            f"{cost.total:,}",
            f"{cost.trainable:,}",
            byte_text(cost.weights),
            byte_text(cost.training),
            byte_text(cost.writing),
        )
        for row, cost in zip(rows, costs, strict=True)
    ]
    head = ("LLM", "parameters", "trainable", "weights", "training step", "writing")
    print_table(table, head)
