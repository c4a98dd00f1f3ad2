"""Flags that several commands share: generation, device and precision, bootstrap resamples."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from typing import Any, get_args

from rad3d.core.language_models import PRECISIONS
from rad3d.core.settings import Settings
from rad3d.core.types import GenerationOptions, Strategy

HELP: dict[str, str] = {
    "strategy": "how the next word is chosen",
    "max_new_tokens": "length limit, 1 to 1024",
    "temperature": "with --strategy sample: above 0; lower is more predictable",
    "top_p": "with --strategy sample: keep the likeliest words up to this probability",
    "beams": "with --strategy beam: 2 to 8",
    "repetition_penalty": "1 (off) to 2",
    "no_repeat_ngram": "forbid repeating word groups of this many tokens; 0 is off",
    "seed": "with --strategy sample: the same seed gives the same report",
}


def add_generation_options(parser: argparse.ArgumentParser, *, seed: bool = True) -> None:
    """One flag per field, with the field's default.

    Args:
        parser: receives them.
        seed: False where the command has a ``--seed`` of its own, which then counts here as well.
    """
    group = parser.add_argument_group("how the report is written")
    for field in fields(GenerationOptions):
        if field.name == "seed" and not seed:
            continue
        kind: dict[str, Any] = {"type": type(field.default)}
        if field.name == "strategy":
            kind = {"choices": get_args(Strategy)}
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            default=field.default,
            help=f"{HELP[field.name]} (default: %(default)s)",
            **kind,
        )


def generation_options(args: argparse.Namespace) -> GenerationOptions:
    """The options of a command line; raises BadRequest where one is out of range."""
    return GenerationOptions(**{f.name: getattr(args, f.name) for f in fields(GenerationOptions)})


def add_resamples(parser: argparse.ArgumentParser) -> None:
    """``--resamples``, which older scripts call ``--draws``: of the bootstrap."""
    parser.add_argument(
        "--resamples",
        "--draws",
        type=int,
        default=1000,
        help="bootstrap resamples (default: %(default)s)",
    )


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """``--precision`` and ``--device``, which win over RAD3D_PRECISION and RAD3D_DEVICE."""
    parser.add_argument(
        "--precision",
        choices=("auto", *PRECISIONS),
        help="of the language model (default: RAD3D_PRECISION or auto, which is by memory)",
    )
    parser.add_argument(
        "--device",
        help="auto, cpu or cuda (default: RAD3D_DEVICE or auto: a GPU where there is one)",
    )


def with_device_options(settings: Settings, args: argparse.Namespace) -> Settings:
    """The settings with what the command line says about device and precision."""
    options = {name: getattr(args, name) for name in ("precision", "device")}
    return replace(settings, **{name: value for name, value in options.items() if value})
