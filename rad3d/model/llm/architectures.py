"""Language models without weights: built from their sizes, on no memory or with random numbers.

What a model takes, and whether the table of the registry is right, is found by building it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BioGptConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
)
from transformers.initialization import no_init_weights
from transformers.pytorch_utils import Conv1D

from rad3d.core.registry import Architecture, lookup


def _gpt2(a: Architecture) -> PreTrainedConfig:
    return GPT2Config(
        vocab_size=a.vocabulary, n_positions=a.context, n_embd=a.width, n_layer=a.layers,
        n_head=a.heads, n_inner=a.inner, tie_word_embeddings=a.tied,
    )  # fmt: skip


def _shared(a: Architecture) -> dict[str, Any]:
    return {
        "vocab_size": a.vocabulary,
        "max_position_embeddings": a.context,
        "hidden_size": a.width,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "intermediate_size": a.inner,
        "tie_word_embeddings": a.tied,
    }


CONFIGS: dict[str, Callable[[Architecture], PreTrainedConfig]] = {
    "gpt2": _gpt2,
    "biogpt": lambda a: BioGptConfig(**_shared(a)),
    "gpt_neox": lambda a: GPTNeoXConfig(**_shared(a)),
    "llama": lambda a: LlamaConfig(**_shared(a), num_key_value_heads=a.kv_heads),
}
"""Family of an :class:`rad3d.core.registry.Architecture` -> transformers' configuration."""


def build_config(architecture: Architecture) -> PreTrainedConfig:
    """The configuration of a row's architecture; raises UnknownName for another family."""
    return lookup("model family", CONFIGS, architecture.family)(architecture)


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


def random_model(
    config: PreTrainedConfig, dtype: torch.dtype = torch.float32, device: str = "cpu", seed: int = 0
) -> Any:
    """The causal model of a configuration with small random weights, in eval mode.

    Weights are cut from one pool of random numbers: filling billions one by one takes minutes.
    """
    generator = torch.Generator().manual_seed(seed)
    pool = (torch.randn(2**22, generator=generator) * 0.02).to(device, dtype)
    with no_init_weights(), torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    model.tie_weights()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(1.0 if "norm" in name or "ln_" in name else 0.0)
                continue
            flat = parameter.view(-1)
            for start in range(0, flat.numel(), len(pool)):
                piece = flat[start : start + len(pool)]
                piece.copy_(pool[: len(piece)])
    whole_output_input(model)
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


def quantise_(model: nn.Module, precision: str) -> None:
    """Turn the linear layers of a model, its output layer apart, into ``"8bit"`` or ``"4bit"``.

    For weights that are in no file; those in files are quantised as they are loaded.
    """
    import bitsandbytes  # slow to import, and only needed here

    output = getattr(model, "get_output_embeddings", lambda: None)()
    for name, module in list(model.named_modules()):
        if not _shrinks(module) or module is output:
            continue
        weight = module.weight.data.T if isinstance(module, Conv1D) else module.weight.data
        shape = (weight.shape[1], weight.shape[0], module.bias is not None)
        layer: Any
        packed: Any
        if precision == "8bit":
            layer = bitsandbytes.nn.Linear8bitLt(*shape, has_fp16_weights=False, device="meta")
            packed = bitsandbytes.nn.Int8Params(
                weight.contiguous().cpu(), requires_grad=False, has_fp16_weights=False
            )
        else:
            layer = bitsandbytes.nn.Linear4bit(
                *shape, compute_dtype=weight.dtype, quant_type="nf4", device="meta"
            )
            packed = bitsandbytes.nn.Params4bit(
                weight.contiguous(), requires_grad=False, quant_type="nf4"
            )
        layer.weight = packed.to(weight.device)
        if module.bias is not None:
            layer.bias = module.bias
        model.set_submodule(name, layer.requires_grad_(False))
