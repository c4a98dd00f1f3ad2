"""Variants from ClipCap-style state dicts, the form in which RAD3D-Prefix's code saves its models.

Such a file holds a mapper, alone or below ``clip_project.`` beside the language model (``gpt.``).
It says nothing about the encoder, the language model's name, the number of attention heads or the
prompt, so a person does. Scaling is the paper's plain concatenation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rad3d.core.errors import BadRequest
from rad3d.model.llm.language import LanguageBundle
from rad3d.model.tensor_files import without_numbers
from rad3d.model.variants.projector import (
    InputScaling,
    LinearProjector,
    TransformerProjector,
    clipcap_state_dict,
    projector_from_clipcap,
)
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.model.variants.variant import VariantConfig, write_variant

LLM_PREFIX = "gpt."
"""Prefix of the language model's keys in a whole ClipCap model."""

ADAPTER = re.compile(r"\.lora_\w+\b|\.base_layer\.|\.prompt_encoder\.")
"""Parts of the keys of a language model that was tuned with PEFT."""

COMPUTED = re.compile(r"\.attn\.(masked_)?bias$|\.inv_freq$|\.attention\.(masked_)?bias$")
"""Buffers that older versions of transformers stored and newer ones compute."""

Projector = TransformerProjector | LinearProjector


def described(
    state: Mapping[str, Tensor], config: VariantConfig, width: int
) -> tuple[VariantConfig, Projector]:
    """The projector of a state dict, and the configuration with the sizes it tells.

    Args:
        state: of a mapper, or of a whole ClipCap model.
        config: mode, encoder, ``latent_dim`` and ``heads``.
        width: of the language model.

    Raises:
        BadRequest: a tensor is absent, of another shape, or unknown; the sizes are not those of
            the mode, the encoder and the language model; or this has an adapter.
    """
    if adapters := [key for key in state if ADAPTER.search(key)]:
        raise BadRequest(
            f"The language model in this state dict has a PEFT adapter ({len(adapters)} tensors, "
            f"such as {adapters[0]}), which would be lost.",
            "Merge it into the weights before they are saved (merge_and_unload), and choose v1.",
            code="adapter",
        )
    linear = config.mode_row.projector == "linear"
    projector = _linear(state) if linear else projector_from_clipcap(state, config.heads)
    if projector.width != width:
        raise BadRequest(
            f"The mapper makes tokens of {projector.width} numbers, and {config.llm} reads "
            f"{width}.",
            "Name the language model that it was trained with.",
            code="other_llm",
        )
    if projector.dim_input != config.latent_dim + config.logits_dim:
        takes = f"{config.latent_dim} of {config.encoder}"
        takes += f" and {config.logits_dim} logits" if config.logits_dim else ""
        raise BadRequest(
            f"The mapper takes {projector.dim_input} numbers, and {config.mode_row.name} gives "
            f"{takes}.",
            "Choose the mode and encoder that it was trained with.",
            code="other_mode",
        )
    config = replace(config, prefix_length=projector.prefix_length)
    if isinstance(projector, TransformerProjector):
        layers = len(projector.transformer.layers)
        config = replace(config, clip_length=projector.clip_length, layers=layers)
    return config, projector


def _linear(state: Mapping[str, Tensor]) -> LinearProjector:
    """One linear map to as many tokens as every variant has by default, since it does not say."""
    mapper = clipcap_state_dict(state)
    shapes = {key: tuple(value.shape) for key, value in mapper.items()}
    rows = shapes.get("linear.bias", (0,))[0]
    weight = shapes.get("linear.weight", ())
    length = VariantConfig.prefix_length
    fits = len(weight) == 2 and weight[0] == rows and rows > 0 and rows % length == 0
    if set(shapes) != {"linear.weight", "linear.bias"} or not fits:
        raise BadRequest(
            f"This is no linear mapper (it holds {', '.join(list(shapes)[:4]) or 'nothing'}).",
            "Give a state dict with linear.weight and linear.bias.",
            code="not_clipcap",
        )
    built = LinearProjector(weight[1], rows // length, length)
    built.load_state_dict(mapper, strict=True)
    return built


def write_frozen(directory: Path, config: VariantConfig, projector: Projector) -> VariantConfig:
    """Write a variant whose language model stays as it was published; it is not needed for it."""
    scaling = InputScaling(config.latent_dim, config.logits_dim)
    directory.mkdir(parents=True, exist_ok=True)
    return write_variant(directory, config, projector, scaling, torch.float32)


def write_tuned(
    directory: Path,
    config: VariantConfig,
    projector: Projector,
    language: LanguageBundle,
    state: Mapping[str, Tensor],
) -> VariantConfig:
    """Write a V-1 with the language model of a whole ClipCap model.

    Args:
        directory: of the variant.
        config, projector: from :func:`described`.
        language: the published model, in float32; its weights are replaced.
        state: of the whole ClipCap model.

    Raises:
        BadRequest: the state dict has no language model, or another one.
    """
    tuned = {
        key.removeprefix(LLM_PREFIX): value
        for key, value in state.items()
        if key.startswith(LLM_PREFIX)
    }
    model: Any = language.model
    known = set(model.state_dict())
    wrong = sorted((known - set(tuned)) | {k for k in set(tuned) - known if not COMPUTED.search(k)})
    wrong += without_numbers({k: tuned[k] for k in known & set(tuned)})
    if wrong:
        what = "no language model" if not tuned else f"another language model than {config.llm}"
        raise BadRequest(
            f"The state dict holds {what} ({len(wrong)} tensors differ, such as {wrong[0]}).",
            "V-1 needs a whole ClipCap model of that language model; for a mapper alone choose v2.",
            code="not_clipcap",
        )
    try:
        model.load_state_dict({k: v for k, v in tuned.items() if k in known}, strict=True)
    except RuntimeError as error:
        raise BadRequest(
            f"A tensor has another shape than in {config.llm}: "
            f"{str(error).splitlines()[-1].strip()}",
            "Name the language model that it was trained with.",
            code="other_llm",
        ) from error
    reporter = PrefixReporter(config, language)
    reporter.projector.load_state_dict(projector.state_dict(), strict=True)
    return reporter.save_pretrained(directory, dtype=torch.float32)
