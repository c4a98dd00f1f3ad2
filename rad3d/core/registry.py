"""The tables: language models, adaptation modes, encoders. One row adds one thing.

Pickers, command-line choices and tests follow from these tables. No torch here: classes are
named as ``"module:attribute"`` and resolved by :func:`resolve` when they are needed.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rad3d.core.errors import UnknownName
from rad3d.core.words import joined

FREEZE_FROM_PARAMETERS = 1_000_000_000
"""The paper's rule: below about 1B parameters fine-tune the LLM, from there freeze it."""


KNOWN = {
    "image": "the image embedding",
    "logits": "the diagnostic logits",
    "tokens": "visual tokens",
    "findings": "the classifier's findings with their places",
}
"""What a mode may read -> its name."""

TRAINED = {
    "projector": "the projector",
    "soft tokens": "soft tokens",
    "llm": "the language model",
    "lora": "low-rank adapters",
    "dora": "low-rank adapters of direction and a magnitude",
}
"""What a mode may train -> its name."""


@dataclass(frozen=True)
class Mode:
    """An adaptation mode: what is trained, and what the language model is given.

    Attributes:
        id: used in variant ids, such as ``phantom-m/v3``.
        name: shown to people; its first word is a short name.
        reads: what the prefix is made from, keys of :data:`KNOWN`.
        trains: what is trained, keys of :data:`TRAINED`.
        projector: a key of :data:`PROJECTORS`.
        summary: one sentence.
        words: True where the findings stand as words in front of the report.
        prefix_length: soft tokens; for each label where ``projector`` is ``"slots"``. The number
            of visual tokens is that of the features.
    """

    id: str
    name: str
    reads: tuple[str, ...]
    trains: tuple[str, ...]
    projector: str
    summary: str
    words: bool = False
    prefix_length: int = 10

    @property
    def trains_llm(self) -> bool:
        """True where the language model's own weights are trained as well."""
        return "llm" in self.trains

    @property
    def adapter(self) -> str:
        """``"lora"`` or ``"dora"`` where adapters of the language model are trained, or empty."""
        return next((part for part in self.trains if part in ("lora", "dora")), "")

    @property
    def uses_logits(self) -> bool:
        """True where the diagnostic logits join the image embedding."""
        return "logits" in self.reads

    @property
    def reads_prior(self) -> bool:
        """True where what the classifier says is read, as logits or as findings."""
        return self.uses_logits or "findings" in self.reads

    @property
    def is_published(self) -> bool:
        """True for the paper's own modes, whose projectors other code saves as well."""
        return self.id in ("v1", "v2", "v3", "linear")

    @property
    def explained(self) -> str:
        """What it knows and what it trains, in a line."""
        known = joined([KNOWN[part] for part in self.reads])
        trained = joined([TRAINED[part] for part in self.trains]) or "nothing"
        return f"Knows {known}; trains {trained}."


MODES: dict[str, Mode] = {
    mode.id: mode
    for mode in (
        Mode(
            "v1", "V-1 fine-tuned", ("image",), ("projector", "llm"), "transformer",
            "The language model is fine-tuned together with the projector; "
            "the prefix is made from the image embedding.",
        ),
        Mode(
            "v2", "V-2 frozen", ("image",), ("projector",), "transformer",
            "The language model stays frozen; the prefix is made from the image embedding.",
        ),
        Mode(
            "v3", "V-3 frozen + logits (RAD3D-Prefix)", ("image", "logits"), ("projector",),
            "transformer",
            "The language model stays frozen; the prefix is made from the image embedding "
            "and the diagnostic logits.",
        ),
        Mode(
            "linear", "Linear, frozen + logits", ("image", "logits"), ("projector",), "linear",
            "As V-3, but with one linear map as the projector.",
        ),
        Mode(
            "r2gengpt", "R2GenGPT, frozen", ("tokens",), ("projector",), "tokens",
            "The paper's baseline: one linear map of the encoder's visual tokens.",
            prefix_length=64,
        ),
        Mode(
            "lora", "LoRA + logits", ("image", "logits"), ("projector", "lora"), "transformer",
            "As V-3, with low-rank adapters in every layer of the language model.",
        ),
        Mode(
            "dora", "DoRA + logits", ("image", "logits"), ("projector", "dora"), "transformer",
            "As LoRA, with the magnitude of each weight trained apart from its direction.",
        ),
        Mode(
            "slots", "Slots, frozen", ("findings",), ("projector",), "slots",
            "Two soft tokens for each label, which start as the words for its finding.",
            prefix_length=2,
        ),
        Mode(
            "words", "Words, frozen", ("findings",), ("soft tokens",), "soft",
            "The findings stand as words in front of the report, after a few soft tokens.",
            words=True,
        ),
        Mode(
            "text", "Text, untrained", ("findings",), (), "soft",
            "The findings stand as words in front of the report, and nothing is trained.",
            words=True, prefix_length=0,
        ),
    )
}  # fmt: skip

PROJECTORS: dict[str, str] = {
    "transformer": "rad3d.model.variants.projector:TransformerProjector",
    "linear": "rad3d.model.variants.projector:LinearProjector",
    "tokens": "rad3d.model.variants.projector:TokenProjector",
    "slots": "rad3d.model.variants.word_projectors:SlotProjector",
    "soft": "rad3d.model.variants.word_projectors:SoftProjector",
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
        linear_parameters: weights in the linear layers inside, without biases and output layer.
        config: what the published ``config.json`` says about sizes; empty where only the files
            know.
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
    linear_parameters: int = 0
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    package: str = ""

    @property
    def paper_advice(self) -> str:
        """``"fine-tune"`` below about 1B parameters, ``"freeze"`` from there on."""
        return "freeze" if self.parameters >= FREEZE_FROM_PARAMETERS else "fine-tune"

    def memory_bytes(self, precision: str) -> int:
        """Memory of the weights in a precision of :data:`PRECISIONS`, 0 where not known."""
        return weight_bytes(self.parameters, self.linear_parameters, precision)


def weight_bytes(parameters: int, linear: int, precision: str) -> int:
    """Memory of weights: ``linear`` of them in linear layers, which quantisation shrinks."""
    row = lookup("precision", PRECISIONS, precision)
    return round(linear * row.linear_bytes + (parameters - linear) * row.other_bytes)


class _LanguageModels(dict[str, LanguageModel]):
    """The listed models; indexing also takes any other causal model, see :func:`language_model`."""

    def __missing__(self, name: str) -> LanguageModel:
        row = _unlisted(name)
        if row is None:
            raise KeyError(name)
        return row


_PUBLISHED = Path(__file__).with_name("language_models.json")
"""Rows of the published models. Revisions are commits of the hub's main branches."""

LANGUAGE_MODELS: dict[str, LanguageModel] = _LanguageModels(
    (row.id, row)
    for row in (
        LanguageModel("phantom-s", "Phantom S", "llms/phantom-s", 0, True, "Apache-2.0"),
        LanguageModel("phantom-m", "Phantom M", "llms/phantom-m", 0, True, "Apache-2.0"),
        LanguageModel("phantom-l", "Phantom L", "llms/phantom-l", 0, True, "Apache-2.0"),
        *(LanguageModel(**row) for row in json.loads(_PUBLISHED.read_text(encoding="utf-8"))),
    )
)
"""The shipped language models, and the published ones by size."""

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
            "phantom-clip",
            "Phantom CLIP",
            "rad3d.model.encoders.phantom_clip:ClipEncoder",
            "encoders/phantom-clip",
            False,
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


def variant_id(llm: str, mode: str, tag: str = "") -> str:
    """``"phantom-m", "v3" -> "phantom-m/v3"``, and with a tag ``"phantom-m/v3.p400"``."""
    return f"{llm}/{mode}.{tag}" if tag else f"{llm}/{mode}"


def variant_tag(variant: str) -> str:
    """``"phantom-m/v3.p400" -> "p400"``; empty where there is none."""
    return variant.rpartition("/")[2].partition(".")[2]


def split_variant_id(variant: str) -> tuple[LanguageModel, Mode]:
    """The rows of a variant id, whose language model may also be a hub id or a path.

    ``"phantom-m/v3"``, ``"owner/name/v3"`` and ``"owner--name/v3"`` all work; raises
    :class:`UnknownName`.
    """
    llm, _, mode = variant.rpartition("/")
    return language_model(llm), lookup("adaptation mode", MODES, mode.partition(".")[0])
