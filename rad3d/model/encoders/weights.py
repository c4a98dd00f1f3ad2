"""The folder of a shipped encoder: ``config.json`` beside ``model.safetensors``, with its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rad3d.core.errors import CorruptWeights, MissingWeights
from rad3d.core.files import readable_like
from rad3d.core.types import FloatArray
from rad3d.model.encoders.calibration import Calibration, NoveltyReference


def write_weights(
    directory: Path,
    network: torch.nn.Module,
    calibration: Calibration,
    reference: NoveltyReference | None,
    config: Mapping[str, Any],
    more: Mapping[str, FloatArray] | None = None,
) -> None:
    """Write network, calibration, novelty reference and further arrays in float32."""
    directory.mkdir(parents=True, exist_ok=True)
    arrays = {
        "calibration.slope": calibration.slope,
        "calibration.offset": calibration.offset,
        "calibration.threshold": calibration.threshold,
        **(more or {}),
    }
    if reference:
        arrays |= {
            "novelty.mean": reference.mean,
            "novelty.whitening": reference.whitening,
            "novelty.quantiles": reference.quantiles,
        }
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {k: torch.as_tensor(v, dtype=torch.float32) for k, v in arrays.items()}
    weights = directory / "model.safetensors"
    save_file({k: v.contiguous() for k, v in tensors.items()}, weights)
    about = {
        **config,
        "calibration_split": calibration.split,
        "novelty_limit": reference.limit if reference else None,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    described = directory / "config.json"
    described.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    readable_like(described, weights)


def read_weights(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and the tensors that :func:`write_weights` wrote.

    Raises:
        MissingWeights: a file is absent.
        CorruptWeights: the weights do not match the recorded hash.
    """
    config_path, weights = directory / "config.json", directory / "model.safetensors"
    if not (config_path.is_file() and weights.is_file()):
        raise MissingWeights(
            f"The encoder in {directory.name} has no trained weights.",
            "Train it with: rad3d demo build",
            code="missing_weights",
        )
    config: dict[str, Any] = json.loads(config_path.read_text(encoding="utf-8"))
    if hashlib.sha256(weights.read_bytes()).hexdigest() != config["sha256"]:
        raise CorruptWeights(
            f"{weights.parent.name}/{weights.name} does not match its recorded hash.",
            "Restore the file from the repository or train it again with: rad3d demo build",
            code="corrupt_weights",
        )
    return config, load_file(weights)


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def arrays_below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, FloatArray]:
    """As :func:`below`, as float64 arrays."""
    return {k: np.asarray(v.double().numpy()) for k, v in below(tensors, prefix).items()}


def read_calibration(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[Calibration, NoveltyReference | None]:
    """Calibration and novelty reference; the latter is None where there is none."""
    calibration = Calibration(
        **arrays_below(tensors, "calibration."), split=config["calibration_split"]
    )
    novelty = arrays_below(tensors, "novelty.")
    limit = config["novelty_limit"]
    return calibration, NoveltyReference(**novelty, limit=limit) if novelty else None
