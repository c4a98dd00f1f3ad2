"""The controls of how a report is written, and the options that their values make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import gradio as gr

from rad3d.core.errors import BadRequest
from rad3d.core.types import GenerationOptions

STRATEGIES = (("Greedy", "greedy"), ("Sampling", "sample"), ("Beam search", "beam"))
OPTION_NAMES = tuple(field.name for field in fields(GenerationOptions))
"""Fields of :class:`GenerationOptions` in the order in which the report tab sends them."""

_SHOWN_FOR = {"temperature": "sample", "top_p": "sample", "seed": "sample", "beams": "beam"}
"""Option -> the only strategy that uses it."""


def generation_fields(own_seed: bool = True) -> dict[str, Any]:
    """Lay out a component for each field of :class:`GenerationOptions`; returns them by name.

    Args:
        own_seed: False leaves the seed to the caller.
    """
    d = GenerationOptions()
    components: dict[str, Any] = {
        "strategy": gr.Radio(
            list(STRATEGIES),
            value=d.strategy,
            label="Strategy",
            info="Greedy takes the likeliest word each time and always writes the same report.",
        ),
        "temperature": gr.Slider(
            0.05, 2, d.temperature, step=0.05, label="Temperature", visible=False
        ),
        "top_p": gr.Slider(0.05, 1, d.top_p, step=0.05, label="Top p", visible=False),
    }
    if own_seed:
        components["seed"] = gr.Number(d.seed, precision=0, minimum=0, label="Seed", visible=False)
    components |= {
        "beams": gr.Slider(2, 8, d.beams, step=1, label="Beams", visible=False),
        "max_new_tokens": gr.Slider(
            16, 1024, d.max_new_tokens, step=16, label="Longest report, in tokens"
        ),
        "repetition_penalty": gr.Slider(
            1, 2, d.repetition_penalty, step=0.05, label="Repetition penalty (1 is off)"
        ),
        "no_repeat_ngram": gr.Slider(
            0, 20, d.no_repeat_ngram, step=1, label="Never repeat n words (0 is off)"
        ),
    }
    folded = {name: only for name, only in _SHOWN_FOR.items() if name in components}
    components["strategy"].change(
        lambda strategy: tuple(gr.update(visible=strategy == only) for only in folded.values()),
        components["strategy"],
        [components[name] for name in folded],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    return components


def options_of(values: Mapping[str, Any]) -> GenerationOptions:
    """Return the options that a browser sent; a cleared number counts as 0.

    Args:
        values: name of each field -> its value.

    Raises:
        BadRequest: a value is no number, or out of its range.
    """
    return GenerationOptions(
        **{
            field.name: values[field.name]
            if isinstance(field.default, str)
            else number_of(values, field.name, type(field.default))
            for field in fields(GenerationOptions)
        }
    )


def number_of(values: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return a number that a browser sent, 0 for none; raises BadRequest for anything else."""
    try:
        return kind(values[name] if values[name] is not None else 0)
    except (TypeError, ValueError, OverflowError):
        raise BadRequest(f"{name} must be a number.", code="bad_option") from None
