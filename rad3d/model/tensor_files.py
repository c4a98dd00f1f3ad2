"""Files of named tensors that somebody else made: opened without running any code in them."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rad3d.core.errors import BadRequest, some
from rad3d.core.file_kind import PICKLE, SAFETENSORS, TORCH, UNKNOWN, what_is
from rad3d.core.files import existing_file

DAMAGE = (
    pickle.UnpicklingError, SafetensorError, zipfile.BadZipFile, zlib.error, struct.error,
    EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError,
    MemoryError,
)  # fmt: skip
"""Errors that the readers of torch, numpy and safetensors raise on damaged files, found by changing
bytes. Mapping such a file into memory may also give an OSError."""

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


WHOLE = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights")
"""Keys under which checkpoints of Lightning, DeepSpeed and others keep the state dict."""

WRAPPERS = frozenset((
    "module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module", "model", "net", "network",
    "online_model", "trained_model", "state_dict",
))  # fmt: skip
"""Words that wrappers put before every key; ``trained_model`` is of the LiPro classifier."""

INSIDE = re.compile(
    r"(?<=\.)(?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
"""The same where a part alone was wrapped."""

AVERAGES = frozenset(["ema", "ema_model", "model_ema", "averaged_model", "ema_network"])
"""Words before a second copy of the keys, the moving average of the weights."""

COUNTERS = frozenset(["n_averaged", "initted", "step", "decay", "num_updates"])
"""Single numbers that stand beside such a copy."""


def open_tensors(path: Path, tell: Callable[[str], None] = lambda text: None) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of torch's, memory-mapped where it allows it.

    Of a training checkpoint that holds plain containers besides, the state dict.

    Args:
        path: of the file.
        tell: told which part was taken, and what was left.

    Raises:
        BadRequest: there is no such file, or it holds anything but named tensors.
        PermissionError: it may not be read.
    """
    if path.is_dir():
        raise BadRequest(f"{path} is a folder.", "Give the file in it.", code="no_file")
    kind = what_is(existing_file(path))
    if kind not in (SAFETENSORS, TORCH, PICKLE, UNKNOWN):
        remedy = kind.remedy or "Give a .safetensors or .pt file."
        raise BadRequest(f"{path.name} is no checkpoint: it is {kind.what}.", remedy, kind.id)
    plain = kind is SAFETENSORS or (kind is UNKNOWN and path.suffix.lower() == ".safetensors")
    try:
        state: Any = load_file(path) if plain else torch_file(path, mmap=True)
    except PermissionError:
        raise
    except (*DAMAGE, OSError) as error:
        raise BadRequest(
            f"{path.name} cannot be read as a checkpoint: it is damaged, cut short, or holds more "
            "than tensors (which is refused, because such a file can run code).",
            "Download it again; of a training run of your own, save the state dict alone.",
            code="bad_checkpoint",
        ) from error
    return _state_dict(state, path, tell)


def _state_dict(state: Any, path: Path, tell: Callable[[str], None]) -> dict[str, Tensor]:
    """The table of tensors that a file is, or that stands in it under one of the usual names."""
    if _is_table(state):
        return dict(state)
    inside = {k: v for k, v in state.items() if v and _is_table(v)} if _is_named(state) else {}
    name = next((each for each in (*WHOLE, *inside) if each in inside), "")
    if not name or (name not in WHOLE and len(inside) > 1):
        strange = (
            [k for k, v in state.items() if not isinstance(v, Tensor)]
            if (_is_named(state))
            else ["contents"]
        )
        raise BadRequest(
            f"{path.name} is not a plain table of tensors (found: {some(strange, 5)}).",
            "Give the published file, or a file with the state dict inside it alone.",
            code="bad_checkpoint",
        )
    left = [key for key in state if key != name]
    tell(f"Read {name} of {path.name}" + (f"; left out: {some(left, 8)}." if left else "."))
    return dict(inside[name])


def _is_named(state: Any) -> bool:
    return isinstance(state, Mapping) and all(isinstance(key, str) for key in state)


def _is_table(state: Any) -> bool:
    return _is_named(state) and all(isinstance(value, Tensor) for value in state.values())


def without_wrappers(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Keys as the network itself names them, and those of moving averages, which are left out.

    torch.compile, DataParallel, Lightning and others put words before every key, or before those
    of a part; any other word that all keys begin with is taken for one. Where a file holds the
    moving average of the weights alone, it is taken.

    Raises:
        BadRequest: two keys become one.
    """
    plain: dict[str, Tensor] = {}
    averages: dict[str, Tensor] = {}
    left: list[str] = []
    for key, value in state.items():
        words = INSIDE.sub("", key).split(".")
        start = next(
            (i for i, w in enumerate(words[:-1]) if w not in WRAPPERS | AVERAGES), len(words) - 1
        )
        short = ".".join(words[start:])
        averaged = bool(AVERAGES & set(words[:start]))
        if short in (averages if averaged else plain):
            raise BadRequest(
                f"The checkpoint holds {short} twice, with and without a prefix.",
                "Give the published file.",
                code="bad_checkpoint",
            )
        (averages if averaged else plain)[short] = value
        left += [key] if averaged else []
    counters = {key for key in plain if key in COUNTERS and plain[key].numel() == 1}
    if averages and set(plain) <= counters:
        return averages, ()
    if averages or "n_averaged" in counters:
        plain = {key: value for key, value in plain.items() if key not in counters}
        left += sorted(counters)
    while len(plain) > 2 and len({key.partition(".")[0] for key in plain}) == 1:
        if not all("." in key for key in plain):
            break
        plain = {key.partition(".")[2]: value for key, value in plain.items()}
    return plain, tuple(left)


def torch_file(path: Path, mmap: bool = False) -> Any:
    """Read a ``torch.save`` file of tensors and plain containers; raises :data:`DAMAGE`.

    Args:
        path: of the file.
        mmap: leave the tensors in the file where its format allows it (torch's since 1.6).
    """
    mapped = mmap and zipfile.is_zipfile(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch asks to report pickles that it cannot read
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def without_numbers(tensors: Mapping[str, Tensor]) -> list[str]:
    """The tensors that hold anything but finite floating-point numbers, and what that is.

    Whole numbers would need a scale that is not in the file. Values of meta tensors are not known.
    """
    found = []
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            found.append(f"{name} of {tensor.dtype}")
        elif not _finite(tensor):
            found.append(f"{name} (infinite, or not a number)")
    return found


def _finite(tensor: Tensor) -> bool:
    if tensor.is_meta or not tensor.numel():
        return True
    # The extremes take no memory, unlike a mask of the 151 million numbers of CT-CLIP's largest.
    return all(bool(end.isfinite()) for end in torch.aminmax(tensor.detach()))
