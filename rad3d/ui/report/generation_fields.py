"""The controls of how a report is written: a component for each option, wherever one is written."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rad3d.core.types import GenerationOptions

STRATEGIES = (("Greedy", "greedy"), ("Sampling", "sample"), ("Beam search", "beam"))
_SHOWN_FOR = {"temperature": "sample", "top_p": "sample", "seed": "sample", "beams": "beam"}
"""Option -> the strategy that uses it; the others always count."""


def generation_fields(own_seed: bool = True) -> dict[str, Any]:
    """A component for each field of :class:`GenerationOptions`, by its name.

    Args:
        own_seed: False leaves the seed to the caller.
    """
    d = GenerationOptions()
    found: dict[str, Any] = {
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
        found["seed"] = gr.Number(d.seed, precision=0, minimum=0, label="Seed", visible=False)
    found |= {
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
    folded = {name: for_ for name, for_ in _SHOWN_FOR.items() if name in found}
    found["strategy"].change(
        lambda strategy: tuple(gr.update(visible=strategy == for_) for for_ in folded.values()),
        found["strategy"],
        [found[name] for name in folded],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    return found
