"""The tables: language models, adaptation modes, encoders. One row adds one thing.

Pickers, command-line choices and tests follow from these tables. No torch here: classes are
named as ``"module:attribute"`` and resolved by :func:`resolve` when they are needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from rad3d.errors import UnknownName

FREEZE_FROM_PARAMETERS = 1_000_000_000
"""The paper's rule: below about 1B parameters fine-tune the LLM, from there freeze it."""


@dataclass(frozen=True)
class Mode:
    """An adaptation mode: what is trained, and what the prefix is made from.

    Attributes:
        id: used in variant ids, such as ``phantom-m/v3``.
        name: shown to people.
        trains_llm: True where the language model's own weights are trained as well.
        uses_logits: True where the 18 diagnostic logits join the image embedding.
        projector: a key of :data:`PROJECTORS`.
        summary: one sentence.
    """

    id: str
    name: str
    trains_llm: bool
    uses_logits: bool
    projector: str
    summary: str


MODES: dict[str, Mode] = {
    mode.id: mode
    for mode in (
        Mode(
            "v1", "V-1 fine-tuned", True, False, "transformer",
            "The language model is fine-tuned together with the projector; "
            "the prefix is made from the image embedding.",
        ),
        Mode(
            "v2", "V-2 frozen", False, False, "transformer",
            "The language model stays frozen; the prefix is made from the image embedding.",
        ),
        Mode(
            "v3", "V-3 frozen + logits (RAD3D-Prefix)", False, True, "transformer",
            "The language model stays frozen; the prefix is made from the image embedding "
            "and the 18 diagnostic logits.",
        ),
        Mode(
            "linear", "Linear, frozen + logits", False, True, "linear",
            "As V-3, but with one linear map as the projector.",
        ),
    )
}  # fmt: skip

PROJECTORS: dict[str, str] = {
    "transformer": "rad3d.model.projector:TransformerProjector",
    "linear": "rad3d.model.projector:LinearProjector",
}


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model that can be prompted with a prefix.

    Attributes:
        id: used in variant ids.
        name: shown to people.
        source: directory below the models folder (shipped) or hub id (published).
        parameters: total number of parameters, 0 where only the trained files know.
        shipped: True where the weights are in this repository.
        licence: of the weights.
        gated: True where the hub asks for an accepted licence and a token.
    """

    id: str
    name: str
    source: str
    parameters: int
    shipped: bool = False
    licence: str = ""
    gated: bool = False

    @property
    def paper_advice(self) -> str:
        """``"fine-tune"`` below about 1B parameters, ``"freeze"`` from there on."""
        return "freeze" if self.parameters >= FREEZE_FROM_PARAMETERS else "fine-tune"


LANGUAGE_MODELS: dict[str, LanguageModel] = {
    row.id: row
    for row in (
        LanguageModel("phantom-s", "Phantom S", "llms/phantom-s", 0, True, "Apache-2.0"),
        LanguageModel("phantom-m", "Phantom M", "llms/phantom-m", 0, True, "Apache-2.0"),
        LanguageModel("phantom-l", "Phantom L", "llms/phantom-l", 0, True, "Apache-2.0"),
        LanguageModel("distilgpt2", "DistilGPT2", "distilbert/distilgpt2", 81_912_576,
                      licence="Apache-2.0"),
        LanguageModel("gpt2", "GPT-2", "openai-community/gpt2", 124_439_808, licence="MIT"),
        LanguageModel("gpt2-medium", "GPT-2 Medium", "openai-community/gpt2-medium", 354_823_168,
                      licence="MIT"),
        LanguageModel("gpt2-large", "GPT-2 Large", "openai-community/gpt2-large", 774_030_080,
                      licence="MIT"),
        LanguageModel("biogpt", "BioGPT", "microsoft/biogpt", 346_763_264, licence="MIT"),
        LanguageModel("llama-3.2-1b", "LLaMA-3.2-1B", "meta-llama/Llama-3.2-1B", 1_235_814_400,
                      licence="Llama 3.2 Community", gated=True),
        LanguageModel("gpt2-xl", "GPT-2 XL", "openai-community/gpt2-xl", 1_557_611_200,
                      licence="MIT"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class EncoderRow:
    """A CT encoder: where its class and weights are.

    Attributes:
        id: used in features and variants.
        name: shown to people.
        target: ``"module:attribute"`` of the class.
        source: directory below the models folder.
        shipped: True where the weights are in this repository.
        trained_on: said to the person when a scan looks unlike it.
    """

    id: str
    name: str
    target: str
    source: str
    shipped: bool
    trained_on: str


ENCODERS: dict[str, EncoderRow] = {
    row.id: row
    for row in (
        EncoderRow(
            "phantom-cnn",
            "Phantom CNN",
            "rad3d.model.encoder:ShippedEncoder",
            "encoders/phantom-cnn",
            True,
            "synthetic phantoms",
        ),
    )
}

SHIPPED_ENCODER = "phantom-cnn"

Row = TypeVar("Row")


def lookup(kind: str, table: Mapping[str, Row], name: str) -> Row:
    """The row called ``name``; raises :class:`UnknownName` with the known names."""
    if name not in table:
        raise UnknownName(kind, name, list(table))
    return table[name]


def resolve(target: str) -> Any:
    """The object named ``"module:attribute"``."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def variant_id(llm: str, mode: str) -> str:
    """``"phantom-m", "v3" -> "phantom-m/v3"``."""
    return f"{llm}/{mode}"


def split_variant_id(variant: str) -> tuple[LanguageModel, Mode]:
    """The table rows of a variant id; raises :class:`UnknownName`."""
    llm, _, mode = variant.partition("/")
    return lookup("language model", LANGUAGE_MODELS, llm), lookup("adaptation mode", MODES, mode)
