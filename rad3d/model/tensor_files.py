"""Files of named tensors that somebody else made: opened without running any code in them."""

from __future__ import annotations

import hashlib
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rad3d.errors import BadRequest

DAMAGE = (
    pickle.UnpicklingError, SafetensorError, zipfile.BadZipFile, zlib.error, struct.error,
    EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError,
    MemoryError,
)  # fmt: skip
"""What the readers of torch, numpy and safetensors raise on files with changed bytes; found by
changing bytes. Besides, mapping such a file into memory may give an OSError."""

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def open_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of torch's, memory-mapped where it allows it.

    Raises:
        BadRequest: there is no such file, or it holds anything but named tensors.
        PermissionError: it may not be read.
    """
    if not path.is_file():
        raise BadRequest(f"There is no file {path}.", "Check the path.", code="no_file")
    try:
        plain = path.suffix.lower() == ".safetensors"
        state: Any = load_file(path) if plain else torch_file(path, mmap=True)
    except PermissionError:
        raise
    except (*DAMAGE, OSError) as error:
        raise BadRequest(
            f"{path.name} cannot be read as a checkpoint: it is damaged, cut short, or holds more "
            "than tensors (which is refused, because such a file can run code).",
            "Download it again.",
            code="bad_checkpoint",
        ) from error
    named = isinstance(state, Mapping) and all(isinstance(key, str) for key in state)
    strange = [k for k, v in state.items() if not isinstance(v, Tensor)] if named else ["contents"]
    if strange:
        raise BadRequest(
            f"{path.name} is not a plain table of tensors (found: {', '.join(strange[:5])}).",
            "Give the published file, or a file with the state dict inside it alone.",
            code="bad_checkpoint",
        )
    return dict(state)


def torch_file(path: Path, mmap: bool = False) -> Any:
    """What ``torch.save`` wrote, if it is tensors and plain containers; raises :data:`DAMAGE`.

    Args:
        path: of the file.
        mmap: leave the tensors in the file where its format allows it (torch's since 1.6).
    """
    mapped = mmap and zipfile.is_zipfile(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch asks to report pickles that it cannot read
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def without_numbers(tensors: Mapping[str, Tensor]) -> list[str]:
    """Which tensors do not hold finite floating-point numbers, and what they hold instead.

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


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read piece by piece."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(2**22):
            digest.update(piece)
    return digest.hexdigest()
