"""From a published checkpoint to the tensors that image inference reads, and back to disk.

Files are opened with ``weights_only=True`` and memory-mapped. Each key is read, known and not
needed, of the text encoder, or refused: nothing is dropped without a name.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rad3d.errors import BadRequest, CorruptWeights, MissingWeights
from rad3d.model.ctclip.config import VIT, CtClipConfig, Shape, read_shapes, unread_shapes
from rad3d.model.ctclip.network import CtClip

PREFIXES = ("module.", "trained_model.")
"""Put in front of every key by DataParallel and by the LiPro classifier."""

TEXT = "text_transformer."
VARYING = (f"{VIT}vq._codebook.embed_avg", f"{VIT}vq._codebook.initted")
"""Their presence or shape depends on the version of vector_quantize_pytorch."""

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


def open_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.pt`` or ``.safetensors`` file, memory-mapped where the file allows it.

    Raises:
        BadRequest: there is no such file, or it holds anything but named tensors.
    """
    if not path.is_file():
        raise BadRequest(f"There is no file {path}.", "Check the path.", code="no_file")
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise BadRequest(
            f"{path.name} cannot be read as a checkpoint: it is damaged, cut short, or holds more "
            "than tensors (which is refused, because such a file can run code).",
            "Download it again.",
            code="bad_checkpoint",
        ) from error
    return _named_tensors(state, path.name)


def _named_tensors(state: Any, name: str) -> dict[str, Tensor]:
    named = isinstance(state, Mapping) and all(isinstance(key, str) for key in state)
    strange = [k for k, v in state.items() if not isinstance(v, Tensor)] if named else ["contents"]
    if strange:
        raise BadRequest(
            f"{name} is not a plain table of tensors (found: {', '.join(strange[:5])}).",
            "Give the published file, or the state dict inside it.",
            code="bad_checkpoint",
        )
    return dict(state)


def without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys without ``module.`` and ``trained_model.``; two that become one are refused."""
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        short = key
        for prefix in PREFIXES:
            short = short.removeprefix(prefix)
        if short in plain:
            raise BadRequest(f"The checkpoint holds {short} twice.", code="bad_checkpoint")
        plain[short] = value
    return plain


def sort_checkpoint(
    state: Mapping[str, Tensor], config: CtClipConfig | None = None, **known: Any
) -> Checkpoint:
    """Decide about every tensor of a checkpoint.

    Args:
        state: with or without prefixes.
        config: sizes; told by the tensors unless given.
        **known: sizes for :meth:`CtClipConfig.from_state`.

    Raises:
        BadRequest: a tensor is missing, unknown, or has another shape than its neighbours say; or
            the codebook is marked as not yet in use.
    """
    plain = without_prefixes(state)
    config = config or CtClipConfig.from_state(plain, **known)
    needed, spare = read_shapes(config), unread_shapes(config)
    text = tuple(k for k in plain if k.startswith(TEXT))
    unread = tuple(k for k in plain if k in spare or k in VARYING)
    unexpected = sorted(set(plain) - set(needed) - set(text) - set(unread))
    missing = sorted(set(needed) - set(plain))
    shaped = [k for k, s in {**needed, **spare}.items() if k in plain and not _fits(plain[k], s)]
    for problem, keys in (
        ("lacks", missing),
        ("holds unexpected tensors:", unexpected),
        ("holds tensors of unexpected shapes:", shaped),
    ):
        if keys:
            raise BadRequest(
                f"The checkpoint {problem} {_some(keys)}.",
                "It is not a CT-CLIP or LiPro checkpoint of these sizes.",
                code="not_ctclip",
            )
    _check_codebook(plain)
    return Checkpoint(config, {k: plain[k] for k in needed}, unread, text)


def _fits(tensor: Tensor, shape: Shape) -> bool:
    return tensor.ndim == len(shape) and all(
        wanted is None or size == wanted for size, wanted in zip(tensor.shape, shape, strict=True)
    )


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return ", ".join(keys[:5]) + more


def _check_codebook(state: Mapping[str, Tensor]) -> None:
    flag = state.get(f"{VIT}vq._codebook.initted")
    if flag is not None and not flag.is_meta and not bool(flag.all()):
        raise BadRequest(
            "The checkpoint's codebook is marked as not yet in use: the published code would make "
            "a new one from the first scan it saw.",
            "Give a checkpoint that was saved after training.",
            code="no_codebook",
        )


def build(config: CtClipConfig, tensors: Mapping[str, Tensor]) -> CtClip:
    """The network with these tensors, in place where they need no padding; strict."""
    with torch.device("meta"):
        network = CtClip(config)
    network.load_state_dict(dict(tensors), strict=True, assign=True)
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
    """
    directory.mkdir(parents=True, exist_ok=True)
    weights = directory / WEIGHTS_FILE
    partial = weights.with_suffix(".partial")
    tensors = {k: v.detach().to(torch.float32).contiguous() for k, v in checkpoint.read.items()}
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.replace(weights)
    written = {
        **config,
        "network": checkpoint.config.to_dict(),
        "elements": checkpoint.elements,
        "sha256": file_sha256(weights),
    }
    (directory / CONFIG_FILE).write_text(json.dumps(written, indent=2) + "\n")
    return written


def load_network(directory: Path, remedy: str) -> tuple[CtClip, dict[str, Any]]:
    """Read what :func:`save_network` wrote; the weights stay memory-mapped.

    Args:
        directory: of the encoder.
        remedy: how to get the weights, for the error messages.

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
        config = json.loads((directory / CONFIG_FILE).read_text())
        if file_sha256(weights) != config["sha256"]:
            raise corrupt
        network = build(CtClipConfig.from_dict(config["network"]), load_file(weights))
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise corrupt from error
    return network, config


def file_sha256(path: Path, note: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file, read piece by piece; ``note`` is told the bytes done."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while piece := stream.read(2**22):
            digest.update(piece)
            done += len(piece)
            if note:
                note(done)
    return digest.hexdigest()
