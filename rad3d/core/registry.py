"""The tables: language models, adaptation modes, encoders. One row adds one thing.

Pickers, command-line choices and tests follow from these tables. No torch here: classes are
named as ``"module:attribute"`` and resolved by :func:`resolve` when they are needed.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rad3d.core.errors import UnknownName

FREEZE_FROM_PARAMETERS = 1_000_000_000
"""The paper's rule: below about 1B parameters fine-tune the LLM, from there freeze it."""


@dataclass(frozen=True)
class Mode:
    """An adaptation mode: what is trained, and what the prefix is made from.

    Attributes:
        id: used in variant ids, such as ``phantom-m/v3``.
        name: shown to people.
        trains_llm: True where the language model's own weights are trained as well.
        uses_logits: True where the diagnostic logits join the image embedding.
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
            "and the diagnostic logits.",
        ),
        Mode(
            "linear", "Linear, frozen + logits", False, True, "linear",
            "As V-3, but with one linear map as the projector.",
        ),
    )
}  # fmt: skip

PROJECTORS: dict[str, str] = {
    "transformer": "rad3d.model.variants.projector:TransformerProjector",
    "linear": "rad3d.model.variants.projector:LinearProjector",
}


@dataclass(frozen=True)
class Precision:
    """A format in which the weights of a language model are held in memory.

    Attributes:
        id: on the command line and in provenance.
        linear_bytes: bytes per weight of the linear layers inside the model.
        other_bytes: bytes per other weight (embeddings, output layer, norms, biases).
        quantised: True where bitsandbytes is needed; such weights cannot be trained.
        summary: one sentence.
    """

    id: str
    linear_bytes: float
    other_bytes: int
    quantised: bool
    summary: str


NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""4 bits, an 8-bit scale for 64 weights, and a float32 scale for 256 of those (QLoRA's NF4 with
double quantisation, arXiv 2305.14314)."""

PRECISIONS: dict[str, Precision] = {
    row.id: row
    for row in (
        Precision("float32", 4, 4, False, "Exact; the reference."),
        Precision("bf16", 2, 2, False, "Half the memory; fast where the processor has it."),
        Precision("float16", 2, 2, False, "Half the memory, for GPUs without bf16."),
        Precision("8bit", 1, 2, True, "LLM.int8() of bitsandbytes; the rest in bf16."),
        Precision("4bit", NF4_BYTES, 2, True, "NF4 of bitsandbytes; the rest in bf16."),
    )
}


@dataclass(frozen=True)
class Architecture:
    """The sizes of a causal language model, as its published configuration has them.

    Attributes:
        family: transformers' model type, a key of ``CONFIGS`` in rad3d.model.llm.architectures.
        layers, width, heads, kv_heads: of the transformer; kv_heads are heads with keys of
            their own.
        inner: width of the feed-forward layers.
        vocabulary: number of tokens.
        context: longest sequence in tokens.
        tied: True where the output layer is the embedding table.
        gated: True where the feed-forward layers have a gate, a third matrix.
    """

    family: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    context: int
    tied: bool = True
    gated: bool = False

    @property
    def linear_parameters(self) -> int:
        """Weights in the linear layers inside, without biases: what quantisation shrinks."""
        attention = 2 * self.width**2 * (1 + self.kv_heads / self.heads)
        return self.layers * int(attention + (3 if self.gated else 2) * self.width * self.inner)


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model that can be prompted with a prefix.

    Attributes:
        id: used in variant ids.
        name: shown to people.
        source: directory below the models folder (shipped), hub id, or absolute path.
        parameters: total number of parameters, 0 where only the files know.
        shipped: True where the weights are in this repository.
        licence: of the weights.
        gated: True where the hub asks for an accepted licence and a token.
        revision: commit on the hub that is loaded; None is its main branch.
        architecture: sizes, None where only the files know.
        package: an optional Python package that its tokenizer needs.
    """

    id: str
    name: str
    source: str
    parameters: int
    shipped: bool = False
    licence: str = ""
    gated: bool = False
    revision: str | None = None
    architecture: Architecture | None = None
    package: str = ""

    @property
    def paper_advice(self) -> str:
        """``"fine-tune"`` below about 1B parameters, ``"freeze"`` from there on."""
        return "freeze" if self.parameters >= FREEZE_FROM_PARAMETERS else "fine-tune"

    def memory_bytes(self, precision: str) -> int:
        """Memory of the weights in a precision of :data:`PRECISIONS`, 0 where not known."""
        linear = self.architecture.linear_parameters if self.architecture else 0
        return weight_bytes(self.parameters, linear, precision) if self.architecture else 0


def weight_bytes(parameters: int, linear: int, precision: str) -> int:
    """Memory of weights: ``linear`` of them in linear layers, which quantisation shrinks."""
    row = lookup("precision", PRECISIONS, precision)
    return round(linear * row.linear_bytes + (parameters - linear) * row.other_bytes)


def _gpt2(layers: int, width: int, heads: int) -> Architecture:
    return Architecture("gpt2", layers, width, heads, heads, 4 * width, 50257, 1024)


def _biogpt(layers: int, width: int, heads: int, vocabulary: int, context: int) -> Architecture:
    return Architecture("biogpt", layers, width, heads, heads, 4 * width, vocabulary, context)


def _pythia(layers: int, width: int, heads: int) -> Architecture:
    return Architecture("gpt_neox", layers, width, heads, heads, 4 * width, 50304, 2048, tied=False)


def _llama(
    layers: int, width: int, heads: int, kv_heads: int, inner: int, vocabulary: int, context: int,
    tied: bool = True,
) -> Architecture:  # fmt: skip
    return Architecture(
        "llama", layers, width, heads, kv_heads, inner, vocabulary, context, tied, gated=True
    )


class _LanguageModels(dict[str, LanguageModel]):
    """The listed models; indexing also takes any other causal model, see :func:`language_model`."""

    def __missing__(self, name: str) -> LanguageModel:
        row = _unlisted(name)
        if row is None:
            raise KeyError(name)
        return row


LANGUAGE_MODELS: dict[str, LanguageModel] = _LanguageModels(
    (row.id, row)
    for row in (
        LanguageModel("phantom-s", "Phantom S", "llms/phantom-s", 0, True, "Apache-2.0"),
        LanguageModel("phantom-m", "Phantom M", "llms/phantom-m", 0, True, "Apache-2.0"),
        LanguageModel("phantom-l", "Phantom L", "llms/phantom-l", 0, True, "Apache-2.0"),
        LanguageModel(
            "distilgpt2", "DistilGPT2", "distilbert/distilgpt2", 81_912_576, licence="Apache-2.0",
            revision="2290a62682d06624634c1f46a6ad5be0f47f38aa", architecture=_gpt2(6, 768, 12),
        ),
        LanguageModel(
            "gpt2", "GPT-2", "openai-community/gpt2", 124_439_808, licence="MIT",
            revision="607a30d783dfa663caf39e06633721c8d4cfcd7e", architecture=_gpt2(12, 768, 12),
        ),
        LanguageModel(
            "smollm2-135m", "SmolLM2 135M", "HuggingFaceTB/SmolLM2-135M", 134_515_008,
            licence="Apache-2.0", revision="93efa2f097d58c2a74874c7e644dbc9b0cee75a2",
            architecture=_llama(30, 576, 9, 3, 1536, 49152, 8192),
        ),
        LanguageModel(
            "pythia-160m", "Pythia 160M", "EleutherAI/pythia-160m", 162_322_944,
            licence="Apache-2.0", revision="50f5173d932e8e61f858120bcb800b97af589f46",
            architecture=_pythia(12, 768, 12),
        ),
        LanguageModel(
            "biogpt", "BioGPT", "microsoft/biogpt", 346_763_264, licence="MIT",
            revision="eb0d815e95434dc9e3b78f464e52b899bee7d923",
            architecture=_biogpt(24, 1024, 16, 42384, 1024), package="sacremoses",
        ),
        LanguageModel(
            "gpt2-medium", "GPT-2 Medium", "openai-community/gpt2-medium", 354_823_168,
            licence="MIT", revision="6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
            architecture=_gpt2(24, 1024, 16),
        ),
        LanguageModel(
            "smollm2-360m", "SmolLM2 360M", "HuggingFaceTB/SmolLM2-360M", 361_821_120,
            licence="Apache-2.0", revision="f8027fd0eaeea54caa13c31d31b9fdc459c38b49",
            architecture=_llama(32, 960, 15, 5, 2560, 49152, 8192),
        ),
        LanguageModel(
            "pythia-410m", "Pythia 410M", "EleutherAI/pythia-410m", 405_334_016,
            licence="Apache-2.0", revision="9879c9b5f8bea9051dcb0e68dff21493d67e9d4f",
            architecture=_pythia(24, 1024, 16),
        ),
        LanguageModel(
            "gpt2-large", "GPT-2 Large", "openai-community/gpt2-large", 774_030_080, licence="MIT",
            revision="32b71b12589c2f8d625668d2335a01cac3249519", architecture=_gpt2(36, 1280, 20),
        ),
        LanguageModel(
            "pythia-1b", "Pythia 1B", "EleutherAI/pythia-1b", 1_011_781_632, licence="Apache-2.0",
            revision="f73d7dcc545c8bd326d8559c8ef84ffe92fea6b2",
            architecture=_pythia(16, 2048, 8),
        ),
        LanguageModel(
            "llama-3.2-1b", "LLaMA-3.2-1B", "meta-llama/Llama-3.2-1B", 1_235_814_400,
            licence="Llama 3.2 Community", gated=True,
            revision="4e20de362430cd3b72f300e6b0f18e50e7166e08",
            architecture=_llama(16, 2048, 32, 8, 8192, 128256, 131072),
        ),
        LanguageModel(
            "pythia-1.4b", "Pythia 1.4B", "EleutherAI/pythia-1.4b", 1_414_647_808,
            licence="Apache-2.0", revision="fedc38a16eea3bd36a96b906d78d11d2ce18ed79",
            architecture=_pythia(24, 2048, 16),
        ),
        LanguageModel(
            "gpt2-xl", "GPT-2 XL", "openai-community/gpt2-xl", 1_557_611_200, licence="MIT",
            revision="15ea56dee5df4983c59b2538573817e1667135e2", architecture=_gpt2(48, 1600, 25),
        ),
        LanguageModel(
            "biogpt-large", "BioGPT-Large", "microsoft/BioGPT-Large", 1_571_188_800, licence="MIT",
            revision="c6a5136a91c5e3150d9f05ab9d33927a3210a22e",
            architecture=_biogpt(48, 1600, 25, 57717, 2048), package="sacremoses",
        ),
        LanguageModel(
            "smollm2-1.7b", "SmolLM2 1.7B", "HuggingFaceTB/SmolLM2-1.7B", 1_711_376_384,
            licence="Apache-2.0", revision="effd688a12921b4cc83e3312b6feb579f70f9c71",
            architecture=_llama(24, 2048, 32, 32, 8192, 49152, 8192),
        ),
        LanguageModel(
            "llama-2-7b-chat", "LLaMA-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf", 6_738_415_616,
            licence="Llama 2 Community", gated=True,
            revision="f5db02db724555f92da89c216ac04704f23d4590",
            architecture=_llama(32, 4096, 32, 32, 11008, 32000, 4096, tied=False),
        ),
        LanguageModel(
            "deepseek-r1-8b", "DeepSeek-R1-Distill-LLaMA-8B",
            "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", 8_030_261_248, licence="MIT",
            revision="6a6f4aa4197940add57724a7707d069478df56b1",
            architecture=_llama(32, 4096, 32, 8, 14336, 128256, 131072, tied=False),
        ),
    )
)  # fmt: skip
"""The language models by size. Revisions are commits of the hub's main branches."""

_PATH_ID = "local--"


def language_model(name: str) -> LanguageModel:
    """A row of :data:`LANGUAGE_MODELS`, or one for any other causal model.

    Args:
        name: an id of the table, a hub id (``owner/name``), a local directory (beginning with
            ``/``, ``~`` or ``.``), or the id that this function gave for one of those, which has
            ``--`` in place of ``/`` so that it can be part of a variant id.

    Raises:
        UnknownName: none of these.
    """
    return lookup("language model", LANGUAGE_MODELS, name)


def _unlisted(name: str) -> LanguageModel | None:
    """The row of a model that is not in the table; None where the name cannot be one."""
    source = name
    # A folder beside, given by its name alone.
    beside = name not in ("", ".", "..") and "/" not in name and Path(name).exists()
    if beside or name.startswith(("/", "~", "./", "../")):
        source = str(Path(name).expanduser().resolve())
    elif name.startswith(_PATH_ID):
        source = "/" + name.removeprefix(_PATH_ID).replace("--", "/")
    elif "/" not in name and not name.startswith("-"):
        source = name.replace("--", "/", 1)
    listed = next((row for row in LANGUAGE_MODELS.values() if row.source == source), None)
    if listed:
        return listed
    if source.startswith("/"):
        plain = "--" not in source and ".." not in source
        return LanguageModel(_path_id(source), Path(source).name, source, 0) if plain else None
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", source) and ".." not in source:
        return LanguageModel(source.replace("/", "--"), source, source, 0)
    return None


def _path_id(path: str) -> str:
    return _PATH_ID + path.strip("/").replace("/", "--")


PHANTOMS = "synthetic phantoms"

DISCLAIMER = "Research demo, not a medical device; do not rely on its reports."
PHANTOMS_ONLY = f"The models learned from {PHANTOMS} only."


def disclaimer(phantoms_only: bool) -> str:
    """The disclaimer of the page and of every report; it says so if models know only phantoms."""
    return f"{DISCLAIMER} {PHANTOMS_ONLY}" if phantoms_only else DISCLAIMER


@dataclass(frozen=True)
class EncoderRow:
    """A CT encoder: where its class and weights are.

    Attributes:
        id: used in features and variants.
        name: shown to people.
        target: ``"module:attribute"`` of the class.
        source: directory below the models folder.
        shipped: True where the weights are in this repository.
        embedding_dim: D, the size of its embedding.
        trained_on: said to the person when a scan looks unlike it.
        licence: of the weights.
        get: the exact steps to the weights, where they do not ship.
        command: the last of them.
        head: where a head for labels can be had ready-made, if its weights lack one.
        files: what tells that it lies in its directory; the rest is checked when it is loaded.
    """

    id: str
    name: str
    target: str
    source: str
    shipped: bool
    embedding_dim: int
    trained_on: str
    licence: str = "Apache-2.0"
    get: str = "Train it with: rad3d demo build"
    command: str = "rad3d demo build"
    head: str = ""
    files: tuple[str, ...] = ("config.json",)


ENCODERS: dict[str, EncoderRow] = {
    row.id: row
    for row in (
        EncoderRow(
            "phantom-cnn",
            "Phantom CNN",
            "rad3d.model.encoders.phantom_cnn:ShippedEncoder",
            "encoders/phantom-cnn",
            True,
            256,
            PHANTOMS,
        ),
        EncoderRow(
            "ct-clip",
            "CT-CLIP",
            "rad3d.model.encoders.ctclip.encoder:CtClipEncoder",
            "encoders/ct-clip",
            False,
            512,
            "the chest CTs of CT-RATE",
            "CC-BY-NC-SA-4.0",
            "Accept the terms of the gated dataset ibrahimhamamci/CT-RATE on the Hugging Face Hub "
            "(for non-commercial use), log in with: hf auth login, then run: "
            "hf download ibrahimhamamci/CT-RATE models/CT-CLIP-Related/CT_LiPro_v2.pt "
            "--repo-type dataset --local-dir ct-rate, and: "
            "rad3d convert ct-rate/models/CT-CLIP-Related/CT_LiPro_v2.pt",
            "rad3d convert ct-rate/models/CT-CLIP-Related/CT_LiPro_v2.pt",
            head="Convert CT_LiPro_v2.pt, which holds the same encoder and a head.",
        ),
        EncoderRow(
            "colipri",
            "COLIPRI",
            "rad3d.model.encoders.colipri:ColipriEncoder",
            "encoders/colipri",
            False,
            768,
            "chest CTs with their reports",
            "MIT",
            'Run: pip install -e ".[colipri]", then: hf download microsoft/colipri '
            "model.safetensors --local-dir assets/models/encoders/colipri",
            "hf download microsoft/colipri model.safetensors "
            "--local-dir assets/models/encoders/colipri",
            files=("model.safetensors",),
        ),
    )
}

SHIPPED_ENCODER = "phantom-cnn"


def knows_only_phantoms(encoder_id: str) -> bool:
    """Whether an encoder learned from phantoms; False for one that is not in the table."""
    return encoder_id in ENCODERS and ENCODERS[encoder_id].trained_on == PHANTOMS


Row = TypeVar("Row")


def lookup(kind: str, table: Mapping[str, Row], name: str) -> Row:
    """The row called ``name``; raises :class:`UnknownName` with the known names."""
    try:
        return table[name]
    except KeyError:
        raise UnknownName(kind, name, list(table)) from None


def resolve(target: str) -> Any:
    """The object named ``"module:attribute"``."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def variant_id(llm: str, mode: str) -> str:
    """``"phantom-m", "v3" -> "phantom-m/v3"``."""
    return f"{llm}/{mode}"


def split_variant_id(variant: str) -> tuple[LanguageModel, Mode]:
    """The rows of a variant id, whose language model may also be a hub id or a path.

    ``"phantom-m/v3"``, ``"owner/name/v3"`` and ``"owner--name/v3"`` all work; raises
    :class:`UnknownName`.
    """
    llm, _, mode = variant.rpartition("/")
    return language_model(llm), lookup("adaptation mode", MODES, mode)
