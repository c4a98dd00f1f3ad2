"""Print what a language model in a mode and precision takes: parameters, memory and time.

Counted without weights and without the memory: a training step (weights, gradients, AdamW's
averages, activations) and the writing of one report. --measure also runs both with random weights
on this machine, bounded by --seconds for each. docs/cost.md explains the figures and lists those
of the published sizes.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rad3d.commands import print_json, print_table, say
from rad3d.commands.demo import tell
from rad3d.core.errors import BadRequest
from rad3d.core.registry import LANGUAGE_MODELS, MODES, PRECISIONS, LanguageModel, language_model
from rad3d.core.settings import Settings

if TYPE_CHECKING:
    from rad3d.model.llm.cost import Cost, Workload
    from rad3d.model.llm.timing import Measured

EXAMPLE = """
rad3d cost --llm llama-3.2-1b --mode v3 --precision bf16
rad3d cost --llm gpt2 --mode v1 --batch-size 2 --measure
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
    add("--measure", action="store_true", help="run it here with random weights")
    add("--device", default="auto", help="with --measure: auto, cpu or cuda")
    add("--seconds", type=float, default=60, help="with --measure: bound (default: %(default)s)")
    add("--json", action="store_true", help="JSON instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Count, measure where asked, print."""
    if args.seconds <= 0:
        raise BadRequest("--seconds must be above 0.", code="bad_option")
    rows = (
        [row for row in LANGUAGE_MODELS.values() if row.architecture]
        if args.all
        else [language_model(args.llm)]
    )

    from rad3d.model.llm.cost import Workload

    load = Workload(args.batch_size, args.report_tokens, args.layers, args.gradient_checkpointing)
    results = []
    for at, row in enumerate(rows):
        if args.all:
            tell(f"Counting {row.name}", at / len(rows))
        results.append((row, *_one(row, args, load)))
    if args.json:
        facts = [_facts(args, load, *result) for result in results]
        print_json(facts if args.all else facts[0])
    elif args.all:
        print_table([_line(*result) for result in results], _HEAD)
    else:
        _print(args, load, *results[0])
    return 0


def _one(
    row: LanguageModel, args: argparse.Namespace, load: Workload
) -> tuple[Cost, Measured | None]:
    from rad3d.model.llm.cost import config_of, estimate
    from rad3d.model.llm.hub import Hub
    from rad3d.model.llm.precision import inspect_machine
    from rad3d.model.llm.timing import measure

    settings = Settings.from_env()
    config = config_of(row, Hub.from_settings(settings), settings.models_dir, tell)
    cost = estimate(config, args.mode, args.precision, load)
    if not args.measure:
        return cost, None
    machine = inspect_machine(args.device)
    seconds = args.seconds
    return cost, measure(
        config, args.mode, args.precision, machine, load, seconds=seconds, progress=tell
    )


def _facts(
    args: argparse.Namespace,
    load: Workload,
    row: LanguageModel,
    cost: Cost,
    measured: Measured | None,
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "llm": row.id,
        "mode": args.mode,
        "precision": args.precision,
        "workload": asdict(load),
        "cost": cost.to_dict(),
        "measured": asdict(measured) if measured else None,
    }


def _print(
    args: argparse.Namespace,
    load: Workload,
    row: LanguageModel,
    cost: Cost,
    measured: Measured | None,
) -> None:
    from rad3d.core.words import byte_text

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
    if measured:
        table += [
            ("measured on", f"{measured.machine}, {measured.threads} threads"),
            ("share of their time that it had", f"{measured.share:.0%}"),
            (f"training step, median of {measured.steps}", f"{measured.step_s:.2f} s"),
            ("first token", f"{measured.first_token_s:.2f} s"),
            ("then", f"{measured.tokens_per_s:.1f} tokens per second"),
        ]
    print_table(table, ("what", "takes"))


_HEAD = (
    "LLM",
    "parameters",
    "trainable",
    "weights",
    "training step",
    "writing",
    "step",
    "tokens/s",
)


def _line(row: LanguageModel, cost: Cost, measured: Measured | None) -> tuple[str, ...]:
    from rad3d.core.words import byte_text

    return (
        row.id,
        f"{cost.total:,}",
        f"{cost.trainable:,}",
        byte_text(cost.weights),
        byte_text(cost.training),
        byte_text(cost.writing),
        f"{measured.step_s:.2f} s" if measured else "",
        f"{measured.tokens_per_s:.1f}" if measured else "",
    )
