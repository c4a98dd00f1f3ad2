"""Training of the shipped encoder and its head; its calibration and novelty reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rad3d.core.details import attribute_names
from rad3d.core.types import FloatArray
from rad3d.model.encoders.base import visual_tokens
from rad3d.model.encoders.calibration import novelty_vector
from rad3d.model.encoders.phantom_cnn import (
    TOKEN_STRIDE,
    ConvEncoder,
    ConvEncoderConfig,
    ShippedEncoder,
)
from rad3d.train.attribute_targets import attribute_targets
from rad3d.train.fit_calibration import calibrate, novelty_reference
from rad3d.train.loop import LoopConfig, Progress, fit, shared
from rad3d.train.phantoms import PhantomArrays


@dataclass(frozen=True)
class EncoderTraining:
    """Hyperparameters of the encoder's training.

    Attributes:
        loops: schedules that follow one another, each with a warm-up of its own (warm restarts,
            Loshchilov and Hutter 2017).
        batch_size: phantoms per step.
        dense_weight: weight of the per-token loss.
        attribute_weight: weight of the attribute loss.
        noise_hu: largest added noise (standard deviation).
    """

    loops: tuple[LoopConfig, ...]
    batch_size: int = 8
    dense_weight: float = 1.0
    attribute_weight: float = 1.0
    noise_hu: float = 40.0

    @property
    def steps(self) -> int:
        """The number of steps of all schedules together."""
        return sum(loop.steps for loop in self.loops)


class _Supervised(nn.Module):
    """The network with the attribute head that only training uses."""

    def __init__(self, network: ConvEncoder) -> None:
        super().__init__()
        self.network = network
        self.attributes = nn.Linear(network.config.embedding_dim, len(attribute_names()))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        embedding, logits, dense = self.network(x)
        return logits, dense, self.attributes(embedding)


def _loss(config: EncoderTraining) -> Callable[[nn.Module, Any], dict[str, Tensor]]:
    def loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logits, dense, attributes = model(batch["x"])
        label = F.binary_cross_entropy_with_logits(logits.float(), batch["labels"])
        cell = _cell_loss(dense.float(), batch["cells"])
        seen = F.binary_cross_entropy_with_logits(
            dense.float().flatten(2).amax(dim=2), batch["labels"]
        )
        bits = F.binary_cross_entropy_with_logits(
            attributes.float(), batch["target"], weight=batch["known"], reduction="sum"
        ) / batch["known"].sum().clamp(min=1)
        total = label + seen + config.dense_weight * cell + config.attribute_weight * bits
        return {"loss": total, "label": label, "seen": seen, "cell": cell, "attribute": bits}

    return loss


def _cell_loss(dense: Tensor, cells: Tensor) -> Tensor:
    """Cross-entropy per token cell in which every finding weighs the same, however small it is.

    (B, 18, x, y, z) logits and 0/1 cells. A false cell weighs 1/200 of a whole finding.
    """
    losses = F.binary_cross_entropy_with_logits(dense, cells, reduction="none").flatten(2)
    cells = cells.flatten(2)
    count = cells.sum(dim=2)
    positive = (losses * cells).sum(dim=2) / count.clamp(min=1)
    false = (losses * (1 - cells)).sum(dim=2) / 200
    return positive.sum() / (count > 0).sum().clamp(min=1) + false.mean()


@lru_cache(maxsize=1)
def _noise() -> FloatArray:
    """Unit noise to cut pieces from; drawing fresh noise for every scan costs more than a step."""
    return np.random.default_rng(5).standard_normal(8_000_000, dtype=np.float32)


def augment(
    hu: FloatArray, cells: FloatArray, rng: np.random.Generator, config: EncoderTraining
) -> tuple[FloatArray, FloatArray]:
    """A shifted, slightly rescaled and noisier copy of a scan.

    Args:
        hu: (X, Y, Z) in HU.
        cells: (18, x, y, z), which findings lie in which token's cell.
        rng: decides everything.
        config: how far.

    Returns:
        Values in [-1, 1], and the cells shifted by whole tokens; the rest of the shift, at most
        one voxel, is left alone.
    """
    whole = rng.integers(-1, 2, 3)
    shift = TOKEN_STRIDE * whole + rng.integers(-1, 2, 3)
    values = _shifted(hu, shift, -1000).astype(np.float32)
    values *= rng.uniform(0.97, 1.03)
    values += rng.normal(0, 8)
    start = int(rng.integers(0, _noise().size - hu.size))
    noise = _noise()[start : start + hu.size].reshape(hu.shape)
    values += noise * np.float32(rng.uniform(0, config.noise_hu))
    np.clip(values, -1000, 1000, out=values)
    values /= 1000
    return values, np.stack([_shifted(c, whole, 0) for c in cells])


def _shifted(values: FloatArray, shift: npt.NDArray[np.integer[Any]], fill: float) -> FloatArray:
    """(X, Y, Z) moved by whole voxels; ``fill`` comes in from outside."""
    moved = np.full_like(values, fill)
    pairs = list(zip(shift, values.shape, strict=True))
    source = tuple(slice(max(0, -s), n - max(0, s)) for s, n in pairs)
    target = tuple(slice(max(0, s), n - max(0, -s)) for s, n in pairs)
    moved[target] = values[source]
    return moved


def train_encoder(
    arrays: PhantomArrays,
    config: ConvEncoderConfig,
    training: EncoderTraining,
    run: Path,
    progress: Progress | None = None,
) -> tuple[ConvEncoder, dict[str, Any]]:
    """Train on a split; returns the network and the training facts."""
    torch.manual_seed(training.loops[0].seed)
    model = _Supervised(ConvEncoder(config))
    model.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    labels = arrays.split.labels.astype(np.float32)
    targets, known = (
        np.stack(a) for a in zip(*(attribute_targets(t) for t in arrays.split.truths), strict=True)
    )

    def batch(seed: int, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        epoch, position = divmod(step * training.batch_size, arrays.split.n)
        order = np.random.default_rng([seed, epoch, 1]).permutation(arrays.split.n)
        rows = np.take(order, range(position, position + training.batch_size), mode="wrap")
        pairs = [augment(arrays.hu[i], arrays.cells[i], rng, training) for i in rows]
        x, cells = (np.stack(part) for part in zip(*pairs, strict=True))
        return {
            "x": torch.from_numpy(x)[:, None],
            "cells": torch.from_numpy(cells.astype(np.float32)),
            "labels": torch.from_numpy(labels[rows]),
            "target": torch.from_numpy(targets[rows]),
            "known": torch.from_numpy(known[rows]),
        }

    facts: dict[str, Any] = {"n_training_phantoms": arrays.split.n, "seconds": 0.0, "steps": 0}
    for i, loop in enumerate(training.loops):
        results = fit(
            model,
            partial(batch, loop.seed),
            _loss(training),
            loop,
            run / f"part-{i + 1}",
            name=f"encoder, part {i + 1} of {len(training.loops)}",
            facts={"network": config.to_dict(), "training": asdict(training)},
            progress=shared(progress, training.loops, i),
        )
        facts |= {k: v for k, v in results.items() if k not in ("seconds", "steps")}
        facts["seconds"] += results["seconds"]
        facts["steps"] += results["steps"]
    model.network.eval()
    return model.network, facts


@torch.inference_mode()
def encode_arrays(
    network: ConvEncoder,
    arrays: PhantomArrays,
    views: int = 1,
    training: EncoderTraining | None = None,
    progress: Progress | None = None,
) -> dict[str, FloatArray]:
    """Embeddings, logits and novelty vectors of a split.

    Args:
        network: trained, in evaluation mode.
        arrays: N phantoms on the model grid.
        views: the first view is the scan as it is; further ones are augmented copies.
        training: the augmentation for further views.
        progress: receives a line now and then.

    Returns:
        ``pooled`` (N, V, D), ``logits`` (N, V, 18), ``novelty`` (N, 2C) of the first view, and
        ``tokens`` (N, V, T, C).
    """
    pooled, logits, novelty, visual = [], [], [], []
    for i in range(arrays.split.n):
        rng = np.random.default_rng([arrays.split.first + i, 3])
        copies = [arrays.hu[i].astype(np.float32) / 1000]
        if training is not None:
            copies += [
                augment(arrays.hu[i], arrays.cells[i], rng, training)[0] for _ in range(views - 1)
            ]
        tokens, context = network.tokens(torch.from_numpy(np.stack(copies))[:, None])
        z, _ = network.pool(tokens, context)
        pooled.append(z.numpy())
        logits.append(network.head(z).numpy())
        novelty.append(novelty_vector(tokens[0].numpy()))
        visual.append(np.stack([visual_tokens(grid) for grid in tokens.numpy()]))
        if progress is not None and (i + 1) % 100 == 0:
            progress(
                f"features {arrays.split.name}: {i + 1}/{arrays.split.n}", (i + 1) / arrays.split.n
            )
    return {
        "pooled": np.stack(pooled),
        "logits": np.stack(logits),
        "novelty": np.stack(novelty),
        "tokens": np.stack(visual),
    }


def finish_encoder(
    encoder_id: str,
    network: ConvEncoder,
    training: dict[str, FloatArray],
    calibration: dict[str, FloatArray],
    labels: FloatArray,
    split: str,
) -> ShippedEncoder:
    """Calibrate on the features of a held-out split and put the shipped encoder together."""
    return ShippedEncoder(
        encoder_id,
        network,
        calibrate(calibration["logits"][:, 0], labels, split),
        novelty_reference(training["novelty"], calibration["novelty"]),
    )
