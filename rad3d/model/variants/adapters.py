"""Low-rank adapters of a frozen language model, in the files of peft, which other servers read.

Every linear layer but the output's gets one (LoRA, Hu et al. 2021, arXiv 2106.09685; DoRA, Liu et
al. 2024, arXiv 2402.09353). Embeddings stay as they are, and so does the meaning of a prefix.
peft is imported where it is used, since that takes long.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from rad3d.model.llm.language import LanguageBundle

ADAPTER_DIR = "adapter"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
WRAPPED = "base_model.model."
"""Prefix of the keys in peft's files."""

NAME = "default"


def add_adapter(model: Any, kind: str, rank: int) -> None:
    """Put new adapters into a model in place; they alone are trained.

    Args:
        model: a causal model of transformers, frozen.
        kind: ``"lora"`` or ``"dora"``.
        rank: of the adapters, scaled by 2 as is usual.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        use_dora=kind == "dora",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        task_type="CAUSAL_LM",
    )
    inject_adapter_in_model(config, model, adapter_name=NAME)
    for parameter in adapter_parameters(model):
        if parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()  # bf16 would round small steps away


@contextmanager
def adapters_without_memory() -> Iterator[None]:
    """Around :func:`add_adapter` for a model of tensors without memory, which cannot be moved."""
    with patch.object(nn.Module, "to", lambda module, *_, **__: module):
        yield


def adapter_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The weights of the adapters in a model."""
    return [p for name, p in model.named_parameters() if ".lora_" in name]


def with_own_modules(language: LanguageBundle) -> LanguageBundle:
    """The same language model in modules of its own, which share its weights.

    Adapters change modules, and other variants go on using those of the model as it was loaded.
    """
    model: Any = language.model
    shared = {id(t): t for t in chain(model.parameters(), model.buffers())}
    return replace(language, model=deepcopy(model, shared))


def save_adapter(model: Any, directory: Path, base: str, dtype: torch.dtype) -> list[Path]:
    """Write peft's files.

    Args:
        model: with adapters.
        directory: made if need be.
        base: the language model, as the files name it.
        dtype: of the weights.
    """
    from peft import get_peft_model_state_dict

    directory.mkdir(parents=True, exist_ok=True)
    config = replace(model.peft_config[NAME], base_model_name_or_path=base, inference_mode=True)
    config.save_pretrained(directory)
    found = get_peft_model_state_dict(model, adapter_name=NAME)
    weights = {
        WRAPPED + k.removeprefix(WRAPPED): v.to(dtype).contiguous() for k, v in found.items()
    }
    save_file(weights, directory / WEIGHTS, metadata={"format": "pt"})
    return [directory / CONFIG, directory / WEIGHTS]


def load_adapter(model: Any, directory: Path) -> None:
    """Put the weights that :func:`save_adapter` wrote into a model with adapters.

    Raises:
        RuntimeError: they are of another model.
    """
    from peft import set_peft_model_state_dict

    saved = {k: v.float() for k, v in load_file(directory / WEIGHTS).items()}
    result: Any = set_peft_model_state_dict(model, saved, adapter_name=NAME)
    absent = [key for key in result.missing_keys if ".lora_" in key]
    if absent or result.unexpected_keys:
        raise RuntimeError("the adapters are of another model")
