"""Causal language models of any family, and what is needed to prompt them with embeddings.

A prefix goes in through ``inputs_embeds``, so tokens beside it must be embedded exactly as the
model would embed them itself. In transformers the input-embedding *module* holds family
peculiarities (BioGPT multiplies by sqrt(width) inside it), so calling it is right for every
family; reading its weight matrix is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from rad3d.core.errors import BadRequest


@dataclass(frozen=True)
class LanguageBundle:
    """A language model with its tokenizer.

    Attributes:
        model: a transformers causal model, in eval mode.
        tokenizer: the matching tokenizer.
        source: local directory (name below the models folder) or hub id.
        sha256: hash of a local model's weights (:func:`rad3d.model.identity.weights_hash`), empty
            for a hub model.
        revision: of a hub model, where one was asked for or the registry names it.
        precision: a key of :data:`rad3d.core.language_models.PRECISIONS`.
        reason: why this precision and device, in a sentence.
        caches: False where the family keeps no cache that serves the decoding, which then reads
            everything again for each token.
    """

    model: Any
    tokenizer: Any
    source: str
    sha256: str = ""
    revision: str | None = None
    precision: str = "float32"
    reason: str = ""
    caches: bool = True

    @property
    def width(self) -> int:
        """Size H of a token embedding."""
        return int(self.model.get_input_embeddings().embedding_dim)

    @property
    def vocabulary(self) -> int:
        """Number of tokens that have an embedding."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def device(self) -> torch.device:
        """The device on which embeddings are expected."""
        return self.model.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the embeddings."""
        return self.model.get_input_embeddings().weight.dtype

    @property
    def context(self) -> int:
        """Longest sequence in tokens, prefix and prompt included."""
        config = self.model.config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None)
        return int(limit) if limit and limit > 0 else 2048

    @property
    def bos_id(self) -> int | None:
        """The token that a text starts with, or None where there is none.

        It is what the tokenizer itself puts first (for BioGPT and OPT that is ``</s>``, which they
        learned to start from, not the ``<s>`` that they call their start token); where it puts
        nothing (GPT-2, GPT-NeoX), its start token, which separated the texts they learned from.
        """
        marked = [int(i) for i in self.tokenizer("a")["input_ids"]]
        plain = self.tokens("a")
        lead = marked[: marked.index(plain[0])] if plain and plain[0] in marked else []
        return lead[0] if lead else self.tokenizer.bos_token_id

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Every token that ends a text: the tokenizer's first, then those of the model."""
        ends: list[int] = []
        configs = (getattr(self.model, "generation_config", None), self.model.config)
        named = (getattr(config, "eos_token_id", None) for config in configs)
        for value in (self.tokenizer.eos_token_id, *named):
            ids = value if isinstance(value, (list, tuple)) else [value]
            ends += [int(i) for i in ids if i is not None and int(i) not in ends]
        return tuple(ends)

    @property
    def pad_id(self) -> int:
        """A token to fill rows with; what it is does not matter, as it is never attended to.

        Tokenizers may have a padding token that was added later and that the model has no row for.
        """
        pad = self.tokenizer.pad_token_id
        has_row = pad is not None and pad < self.vocabulary
        return int(pad) if has_row else (self.eos_ids or (0,))[0]

    @property
    def parameters(self) -> int:
        """Number of parameters, tied ones counted once, packed ones unpacked."""
        return int(self.model.num_parameters())

    @property
    def nbytes(self) -> int:
        """Memory of the weights in bytes, with the scales of quantised ones."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        tensors += [scale for weight in self.model.parameters() for scale in _scales(weight)]
        return sum(t.numel() * t.element_size() for t in tensors)

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) token ids -> (B, T, H) embeddings, as the model itself makes them."""
        return self.model.get_input_embeddings()(ids.to(self.device))

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        ids = self.tokenizer(text, add_special_tokens=False, return_attention_mask=False)
        return [int(i) for i in ids["input_ids"]]

    def report_tokens(self, prompt: str, report: str) -> list[int]:
        """Ids of a report that follows the prompt after one space, with the end token.

        The report is tokenised together with its prompt, since some tokenizers mark the start of
        a text; where the cut falls inside a token, it is tokenised on its own.
        """
        head, whole = self.tokens(prompt), self.tokens(f"{prompt} {report.strip()}")
        tail = (
            whole[len(head) :] if whole[: len(head)] == head else self.tokens(f" {report.strip()}")
        )
        return tail + list(self.eos_ids[:1])

    def decode(self, ids: list[int]) -> str:
        """Text of generated ids, without special tokens and surrounding space."""
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text.strip()

    def freeze(self) -> None:
        """Switch off the gradients of every weight, and dropout."""
        module: nn.Module = self.model
        module.requires_grad_(False)
        module.eval()


def _scales(weight: Any) -> list[Tensor]:
    """The tensors with which bitsandbytes turns a quantised weight back into numbers."""
    state = getattr(weight, "quant_state", None)
    second = getattr(state, "state2", None)
    candidates = [
        getattr(weight, "SCB", None),
        *(getattr(part, name, None) for part in (state, second) for name in ("absmax", "code")),
    ]
    return [tensor for tensor in candidates if isinstance(tensor, Tensor)]


def recompute_layers(bundle: LanguageBundle) -> int:
    """Keep only the inputs of each layer for the backward pass, which computes the rest again.

    Transformers' own switch does nothing in evaluation mode, in which a frozen model stays.
    Returns the number of layers.

    Raises:
        BadRequest: the family is not built from such layers.
    """
    layers = [m for m in bundle.model.modules() if isinstance(m, GradientCheckpointingLayer)]
    if not layers:
        raise BadRequest(
            f"{bundle.source} cannot compute its layers again.",
            "Train it without --gradient-checkpointing.",
            code="bad_option",
        )
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    return len(layers)
