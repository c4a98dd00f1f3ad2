"""The language models, shipped, published or anybody's, and the precisions of their weights."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rad3d.core.lookup import lookup

FREEZE_FROM_PARAMETERS = 1_000_000_000
"""The paper's rule: below about 1B parameters fine-tune the LLM, from there freeze it."""


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
        source: directory below the models folder (shipped, or a folder of one's own), hub id, or
            absolute path.
        parameters: total number of parameters, 0 where only the files know.
        shipped: True where the weights are in this repository.
        licence: of the weights.
        gated: True where the hub asks for an accepted licence and a token.
        revision: commit on the hub that is loaded; None is its main branch.
        linear_parameters: weights in the linear layers inside, without biases and output layer.
        config: what the published ``config.json`` says about sizes; empty where only the files
            know.
        package: an optional Python package that its tokenizer needs.
        weights_package: a Python package, with its version, that holds the weights as GGUF.
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
    weights_package: str = ""

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

LOCAL = "local--"
"""Begins the id of a language model in a folder, before the folder's name."""

LLMS_DIR = "llms"
"""Holds language models in the models folder, each in a folder of its name."""


def language_model(name: str) -> LanguageModel:
    """A row of :data:`LANGUAGE_MODELS`, or one for any other causal model.

    Args:
        name: an id of the table, a hub id (``owner/name``), a local directory (beginning with
            ``/``, ``~`` or ``.``), or the id that this function gave for one of those: that of a
            hub model has ``--`` in place of ``/``, so that it can be part of a variant id, and that
            of a directory is ``local--`` and its name, which is looked for in ``llms`` of the
            models folder.

    Raises:
        UnknownName: none of these.
    """
    return lookup("language model", LANGUAGE_MODELS, name)


def _unlisted(name: str) -> LanguageModel | None:
    """The row of a model that is not in the table; None where the name cannot be one."""
    # A folder beside, given by its name alone.
    beside = name not in ("", ".", "..") and "/" not in name and Path(name).exists()
    if beside or name.startswith(("/", "~", "./", "../")):
        path = Path(name).expanduser().resolve()
        short = folder_name(path.name)
        return LanguageModel(LOCAL + short, short, str(path), 0) if short else None
    if name.startswith(LOCAL):
        short = name.removeprefix(LOCAL)
        return LanguageModel(name, short, f"{LLMS_DIR}/{short}", 0) if _is_plain(short) else None
    source = name.replace("--", "/", 1) if not name.startswith("-") else name
    listed = next((row for row in LANGUAGE_MODELS.values() if row.source == source), None)
    if listed:
        return listed
    owner, _, short = source.partition("/")
    if _is_plain(owner) and _is_plain(short):
        return LanguageModel(source.replace("/", "--"), source, source, 0)
    return None


def folder_name(name: str) -> str:
    """``"Gemma 3 270m" -> "gemma-3-270m"``: fit for a folder and for an id; may be empty."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")


def _is_plain(name: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*", name)) and ".." not in name
