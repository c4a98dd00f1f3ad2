"""Convert a published checkpoint to the tensors that image inference reads, and store them.

Files are opened with ``weights_only=True`` and memory-mapped. Each key is read, known and not
needed, of the text encoder, or refused: nothing is dropped without a name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rad3d.core.errors import BadRequest, CorruptWeights, MissingWeights, some
from rad3d.core.files import FullDiskTold, file_sha256, readable_like, write_whole
from rad3d.model.encoders.ctclip.config import CtClipConfig
from rad3d.model.encoders.ctclip.layout import (
    GET,
    UNREAD,
    VIT,
    read_shapes,
    told_config,
)
from rad3d.model.encoders.ctclip.network import CtClip
from rad3d.model.tensor_files import DAMAGE, without_numbers, without_wrappers
from rad3d.volume.grid import GridSpec

TEXT = "text_transformer."
INITTED = f"{VIT}vq._codebook.initted"

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint, sorted.

    Attributes:
        config: its sizes.
        read: the tensors that image inference reads, without prefixes.
        unread: names of known tensors that it does not read.
        text: names of the text encoder's tensors.
    """

    config: CtClipConfig
    read: dict[str, Tensor]
    unread: tuple[str, ...]
    text: tuple[str, ...]

    @property
    def elements(self) -> int:
        """Numbers that are read."""
        return sum(tensor.numel() for tensor in self.read.values())


def sort_checkpoint(
    state: Mapping[str, Tensor], config: CtClipConfig | None = None, **known: Any
) -> Checkpoint:
    """Decide about every tensor of a checkpoint.

    Args:
        state: with or without prefixes.
        config: sizes; told by the tensors unless given.
        **known: sizes that the tensors do not tell, for :func:`told_config`.

    Raises:
        BadRequest: a tensor is missing, unknown, or has another shape than its neighbours say; or
            the codebook is marked as not yet in use.
    """
    plain, averages = without_wrappers(state)
    config = config or told_config(plain, **known)
    needed = read_shapes(config)
    text = tuple(k for k in plain if k.startswith(TEXT))
    unread = tuple(k for k in plain if UNREAD.fullmatch(k))
    misshapen = [k for k, shape in needed.items() if k in plain and plain[k].shape != shape]
    misshapen += [k for k in unread if k.endswith(".null_kv") and plain[k].numel()]  # would be read
    problems = {
        "lacks": sorted(set(needed) - set(plain)),
        "holds unexpected tensors:": sorted(set(plain) - set(needed) - set(text) - set(unread)),
        "holds tensors of unexpected shapes:": [
            f"{k} of {tuple(plain[k].shape)}" for k in misshapen
        ],
        "holds no plain numbers in": without_numbers({k: plain[k] for k in needed if k in plain}),
    }
    if any(problems.values()):
        summary = "; it ".join(f"{what} {some(keys, 5)}" for what, keys in problems.items() if keys)
        raise BadRequest(f"The checkpoint {summary}.", GET, code="not_ctclip")
    _check_codebook(plain)
    return Checkpoint(config, {k: plain[k] for k in needed}, (*unread, *averages), text)


def _check_codebook(state: Mapping[str, Tensor]) -> None:
    flag = state.get(INITTED)
    if flag is not None and not flag.is_meta and not bool(flag.all()):
        raise BadRequest(
            "The checkpoint's codebook is marked as not yet in use: the published code would make "
            "a new one from the first scan it saw.",
            "Give a checkpoint that was saved after training.",
            code="no_codebook",
        )


def build(config: CtClipConfig, tensors: Mapping[str, Tensor]) -> CtClip:
    """The network in float32, strict; tensors stay where they are unless they need padding."""
    with torch.device("meta"):
        network = CtClip(config)
    floats = {key: tensor.to(torch.float32) for key, tensor in tensors.items()}
    network.load_state_dict(floats, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def save_network(
    directory: Path, checkpoint: Checkpoint, config: Mapping[str, Any]
) -> dict[str, Any]:
    """Write ``model.safetensors`` (float32) and ``config.json`` with its hash.

    Args:
        directory: created if need be.
        checkpoint: what was sorted.
        config: further entries of ``config.json``.

    Returns:
        The configuration as written.

    Raises:
        DiskFull: there is no room; what was there before still is.
    """
    directory.mkdir(parents=True, exist_ok=True)
    weights = directory / WEIGHTS_FILE
    partial = weights.with_suffix(".partial")
    tensors = {k: v.detach().to(torch.float32).contiguous() for k, v in checkpoint.read.items()}
    try:
        with FullDiskTold():
            save_file(tensors, partial, metadata={"format": "pt"})
        partial.replace(weights)
    finally:
        partial.unlink(missing_ok=True)
    written = {
        **config,
        "network": checkpoint.config.to_dict(),
        "elements": checkpoint.elements,
        "sha256": file_sha256(weights),
    }
    write_whole(directory / CONFIG_FILE, f"{json.dumps(written, indent=2)}\n".encode())
    readable_like(directory / CONFIG_FILE, weights)
    return written


def load_network(directory: Path, remedy: str) -> tuple[CtClip, GridSpec, str]:
    """Read what :func:`save_network` wrote; the weights stay memory-mapped.

    Args:
        directory: of the encoder.
        remedy: how to get the weights, for the error messages.

    Returns:
        The network, its model grid, and the precision of its linear maps.

    Raises:
        MissingWeights: a file is absent.
        CorruptWeights: the weights do not match the recorded hash or sizes.
    """
    weights = directory / WEIGHTS_FILE
    if not (weights.is_file() and (directory / CONFIG_FILE).is_file()):
        raise MissingWeights(
            f"The encoder {directory.name} has no weights here.", remedy, code="missing_weights"
        )
    corrupt = CorruptWeights(
        f"{directory.name}/{weights.name} does not match its recorded hash or sizes.",
        "Convert the published checkpoint again with: rad3d convert",
        code="corrupt_weights",
    )
    try:
        written = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        config = CtClipConfig.from_dict(written["network"])
        grid = GridSpec.from_dict(written["grid"])
        fits = grid.shape == (*config.image_hw, config.frames)
        if file_sha256(weights) != written["sha256"] or not fits:
            raise corrupt
        return build(config, load_file(weights)), grid, written.get("precision", "float32")
    except (*DAMAGE, BadRequest) as error:
        raise corrupt from error
