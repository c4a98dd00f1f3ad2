"""Language models without weights: what a model takes is found by building it on no memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.pytorch_utils import Conv1D


@dataclass(frozen=True)
class Size:
    """Parameters of a model, tied ones counted once.

    Attributes:
        total: all of them.
        linear: weights of the linear layers inside, which quantisation shrinks; the output layer
            is not one of them. 0 where the family has layers of its own kind, as Falcon.
    """

    total: int
    linear: int


def _shrinks(module: nn.Module) -> TypeGuard[nn.Linear | Conv1D]:
    """True for what transformers hands to bitsandbytes; a subclass of Linear stays as it is."""
    return type(module) is nn.Linear or isinstance(module, Conv1D)


def count(model: nn.Module) -> Size:
    """Count a model that is not quantised; one on the meta device will do."""
    output = getattr(model, "get_output_embeddings", lambda: None)()
    linear = sum(
        module.weight.numel()
        for module in model.modules()
        if _shrinks(module) and module is not output
    )
    return Size(sum(p.numel() for p in model.parameters()), linear)


def meta_model(config: PreTrainedConfig, dtype: torch.dtype = torch.float32) -> Any:
    """The causal model of a configuration, in eval mode, on the meta device: no memory."""
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    return model.eval()


def whole_output_input(model: Any) -> None:
    """Hand the output layer its hidden states in one piece of memory.

    transformers gives it a slice, the last positions of each row. For a slice in bfloat16 torch
    multiplies row by row on the processor, each with a copy of the whole matrix: with 128,000 words
    the first token takes ten times as long, and a training step twice.
    """

    def in_one_piece(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        states = inputs[0].contiguous()
        # One row counts as contiguous with the strides of its slice; new ones come with a view.
        return (states.view(-1).view(states.shape), *inputs[1:])

    if (output := model.get_output_embeddings()) is not None:
        output.register_forward_pre_hook(in_one_piece)
