"""Folders of language models as they lie on people's disks, and what is wrong with some of them."""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

from rad3d.core import file_kind as foreign
from rad3d.core.errors import BadRequest, CorruptWeights, MissingWeights
from rad3d.core.file_kind import EMPTY, GGUF, INDEX, PAGE, POINTER, what_is

SAFETENSORS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
PICKLED = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin")
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")

ADAPTER_CONFIG = "adapter_config.json"
ADAPTERS = (ADAPTER_CONFIG, "adapter_model.safetensors", "adapter_model.bin")
MERGE = "Merge it into its base (merge_and_unload and save_pretrained of peft), and give that"

WEIGHTS = (foreign.SAFETENSORS, foreign.TORCH, foreign.PICKLE, foreign.UNKNOWN)
STAND_INS = (EMPTY, POINTER, PAGE)
SMALL = ("*.json", "*.model", "*.txt")


def is_complete(folder: Path) -> bool:
    """True where a directory has a configuration and every weight file."""
    if not (folder / "config.json").is_file():
        return False
    for name in INDICES:
        if (folder / name).is_file():
            try:
                shards = set(json.loads((folder / name).read_text())["weight_map"].values())
            except (ValueError, KeyError, AttributeError):
                return False
            return all((folder / str(shard)).is_file() for shard in shards)
    return bool(weight_files(folder))


def weight_files(folder: Path) -> list[Path]:
    """Its safetensors files, or else the older ones."""
    files = sorted(path for path in folder.glob("*") if path.is_file())
    return [p for p in files if SAFETENSORS.fullmatch(p.name)] or [
        p for p in files if PICKLED.fullmatch(p.name)
    ]


def check_folder(source: str, folder: Path, weights: bool = True) -> None:
    """Refuse a folder that transformers would misread, or read with a sentence of its own.

    Args:
        source: what messages call the model.
        folder: holds a config.json.
        weights: look at the files of weights too.

    Raises:
        BadRequest: an adapter lies beside the weights, which are not the same without it.
        CorruptWeights: a file is empty, a pointer or a web page, or holds no weights.
        MissingWeights: files that an index lists are not there.
    """
    if adapters := [name for name in ADAPTERS if (folder / name).is_file()]:
        raise BadRequest(
            f"A PEFT adapter ({adapters[0]}) lies beside the weights of {source}; without it the "
            "model is another one.",
            f"{MERGE}; or, to use the base as it is, move the adapter out of the folder.",
            code="adapter",
        )
    files = [path for pattern in SMALL for path in sorted(folder.glob(pattern)) if path.is_file()]
    for path in (*files, *(weight_files(folder) if weights else ())):
        kind = what_is(path)
        may_be_empty = path.suffix == ".txt"
        if (kind in STAND_INS and not (may_be_empty and kind is EMPTY)) or (
            path not in files and kind not in WEIGHTS
        ):
            raise CorruptWeights(
                f"{path.name} of the language model {source} is {kind.what}.",
                kind.remedy,
                code=kind.id,
            )
    if weights:
        _check_index(source, folder)
        if not weight_files(folder):
            raise no_model(source, folder)


def _check_index(source: str, folder: Path) -> None:
    for name in INDICES:
        if not (folder / name).is_file():
            continue
        weight_map = _json(folder / name).get("weight_map")
        shards = sorted(set(map(str, weight_map.values()))) if isinstance(weight_map, dict) else []
        gone = [shard for shard in shards if not (folder / shard).is_file()]
        if gone:
            raise MissingWeights(
                f"{len(gone)} of the {len(shards)} files of weights of {source} are not there, "
                f"such as {gone[0]}.",
                "Download them into the same folder.",
                code="missing_weights",
            )


def no_model(source: str, place: Path) -> MissingWeights:
    """The error for a path that holds no language model, with what it holds instead."""
    kind = what_is(place) if place.is_file() else None
    if kind is INDEX or (
        kind and kind is not GGUF and place.parent.joinpath("config.json").is_file()
    ):
        return _missing(f"{source} is a file.", "Give the folder that it lies in.")
    if kind is GGUF:
        return _missing(f"{source} is {GGUF.what}.", _gguf_remedy(place))
    if kind:
        remedy = kind.remedy or "Give a folder with config.json, tokenizer and weights."
        return _missing(f"{source} is no language model: it is {kind.what}.", remedy)
    if not place.is_dir():
        return _missing(f"There is no language model in {source}.", "Check the path.")
    if (place / ADAPTER_CONFIG).is_file():
        base = _json(place / ADAPTER_CONFIG).get("base_model_name_or_path") or "its base"
        problem = f"{source} holds a PEFT adapter, and not the model that it changes ({base})."
        return _missing(problem, f"{MERGE}.")
    if found := sorted(place.glob("*.gguf")):
        return _missing(f"{source} holds {GGUF.what}.", _gguf_remedy(found[0]))
    if any(place.glob("consolidated*.pth")):
        problem = f"The weights in {source} are in Meta's own format."
        return _missing(problem, "Give the repository with config.json and safetensors files.")
    inner = [
        path for pattern in ("*", "snapshots/*") for path in place.glob(f"{pattern}/config.json")
    ]
    if inner:
        return _missing(f"{source} itself holds no config.json.", f"Give {inner[0].parent}.")
    if weight_files(place):
        remedy = "Copy config.json and the tokenizer's files beside the weights."
        return _missing(f"There is no config.json in {source}.", remedy)
    return _missing(f"There are no weights in {source}.", "Check the path.")


def _gguf_remedy(file: Path) -> str:
    return f"Make a folder of it with: rad3d convert --gguf {file}"


def _missing(problem: str, remedy: str) -> MissingWeights:
    return MissingWeights(problem, remedy, code="missing_weights")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def parameter_count(path: Path) -> int:
    """Number of parameters in a safetensors file, read from its header; scaling buffers apart."""
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, 2**26)))
    except (OSError, struct.error, ValueError):
        return 0  # an unreadable file is reported when the model is loaded
    return sum(
        math.prod(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__" and not name.startswith("scaling.")
    )
