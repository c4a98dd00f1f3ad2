"""Training of the encoder whose embedding is learned from reports.

Three runs follow one another. The trunk learns from parts of scans, drawn around findings, which
cell holds which finding: a nodule fills a few voxels of a million, and a part of a ninth costs a
ninth. Then trunk and heads learn from whole scans: cells, labels and details. Last, with the trunk
at rest, the read-out learns to tell which report belongs to which scan
(:mod:`rad3d.train.contrast`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rad3d.core.labels import CT_RATE
from rad3d.model.encoders.phantom_clip import (
    ClipConfig,
    ClipNetwork,
    token_places,
    waves,
)
from rad3d.model.encoders.phantom_cnn import TOKEN_STRIDE, ConvEncoder
from rad3d.train.attribute_targets import attribute_targets
from rad3d.train.clip_schedule import ClipTraining
from rad3d.train.loop import LoopConfig, Progress, fit, shared
from rad3d.train.phantoms import PhantomArrays
from rad3d.train.scanners import part

HARD = {"Lung nodule": 2.0, "Lymphadenopathy": 2.0}
"""Labels that weigh more in the losses; parts are drawn around them more often as well."""

PART_TOKENS = 16
"""Edge of a part of a scan, in tokens."""

AIMED = 0.8
"""Share of the parts that are drawn around a finding."""

SCALE, SHIFT_HU = 0.03, 12.0
"""Largest change of HU in every step; it commutes with the extremes of a block."""

EMPTY_WEIGHT = 60.0
"""Weight of all empty cells of a scan together, against one finding."""


Sample = dict[str, Tensor]


class Examples:
    """Batches of augmented parts of scans, or of whole scans, with their targets.

    Args:
        arrays: the phantoms, as planes.
        config: shape of the network.
    """

    def __init__(self, arrays: PhantomArrays, config: ClipConfig) -> None:
        self.arrays, self.grid = arrays, config.grid
        self.labels = torch.from_numpy(arrays.split.labels.astype(np.float32))
        pairs = [attribute_targets(truth) for truth in arrays.split.truths]
        self.target, self.known = (torch.from_numpy(np.stack(a)) for a in zip(*pairs, strict=True))
        self.tokens = tuple(n // TOKEN_STRIDE for n in self.grid.shape)
        self.weights = np.array([HARD.get(label, 1.0) for label in CT_RATE.names])

    def parts(self, step: int, size: int) -> Sample:
        """``size`` parts of scans with the cells of their findings."""
        return _stacked(self._part(np.random.default_rng([1, step, k])) for k in range(size))

    def whole(self, step: int, size: int, seed: int) -> Sample:
        """``size`` whole scans, each once in an epoch, with all targets."""
        n = self.arrays.split.n
        epoch, first = divmod(step * size, n)
        order = np.random.default_rng([seed, epoch, 2]).permutation(n)
        rows = np.take(order, range(first, first + size), mode="wrap")
        rngs = (np.random.default_rng([seed, step, k, 3]) for k in range(size))
        batch = _stacked(self._scan(int(i), rng) for i, rng in zip(rows, rngs, strict=True))
        targets = {"labels": self.labels, "target": self.target, "known": self.known}
        return batch | {name: values[rows] for name, values in targets.items()}

    def _part(self, rng: np.random.Generator) -> Sample:
        i = int(rng.integers(self.arrays.split.n))
        size = np.minimum(PART_TOKENS, self.tokens)
        start = self._start(self.arrays.cells[i], size, rng)
        sample = self._augmented(i, start, tuple(size), rng)
        jitter = rng.integers(-2, 3, 3)
        axes = [
            token_places(np.arange(s, s + n) + j, TOKEN_STRIDE * whole)
            for s, n, j, whole in zip(start, size, jitter, self.tokens, strict=True)
        ]
        return sample | {"places": waves(torch.stack(torch.meshgrid(*axes, indexing="ij")))}

    def _start(
        self, cells: npt.NDArray[Any], size: npt.NDArray[Any], rng: np.random.Generator
    ) -> npt.NDArray[Any]:
        last = np.array(self.tokens) - size
        there = np.flatnonzero(cells.any(axis=(1, 2, 3)))
        if not len(there) or rng.random() > AIMED:
            return rng.integers(0, last + 1)
        weights = self.weights[there]
        places = np.argwhere(cells[rng.choice(there, p=weights / weights.sum())])
        aim = places[rng.integers(len(places))]
        return np.clip(aim - rng.integers(0, size), 0, last)

    def _scan(self, i: int, rng: np.random.Generator) -> Sample:
        return self._augmented(i, rng.integers(-2, 3, 3), self.tokens, rng)

    def _augmented(
        self, i: int, start: npt.NDArray[Any], size: tuple[int, ...], rng: np.random.Generator
    ) -> Sample:
        factor = TOKEN_STRIDE // 2
        box = tuple(factor * n for n in size)
        planes = part(self.arrays.hu[i], factor * start, box, self.grid.pad_hu).astype(np.float32)
        planes *= rng.uniform(1 - SCALE, 1 + SCALE)
        planes += rng.uniform(-SHIFT_HU, SHIFT_HU)
        cells = part(self.arrays.cells[i], start, size, 0)
        return {
            "planes": torch.from_numpy(planes.clip(-1000, 1000).astype(np.int16)),
            "cells": torch.from_numpy(cells.astype(np.float32)),
        }


def _stacked(samples: Any) -> Sample:
    found = list(samples)
    return {name: torch.stack([s[name] for s in found]) for name in found[0]}


def train_trunk(
    arrays: PhantomArrays,
    config: ClipConfig,
    training: ClipTraining,
    run: Path,
    start: ConvEncoder | None = None,
    progress: Progress | None = None,
) -> tuple[ClipNetwork, dict[str, Any]]:
    """Train trunk and heads on a split, from the convolutions of a trained network if given.

    Returns:
        The network and the training facts.
    """
    torch.manual_seed(training.parts.seed)
    network = ClipNetwork(config)
    if start is not None:
        network.start_from(start)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    network.readout.requires_grad_(False)
    examples = Examples(arrays, config)
    emphasis = torch.from_numpy(examples.weights).float()
    known = {"network": config.to_dict(), "training": asdict(training)}

    def parts_loss(model: nn.Module, batch: Sample) -> dict[str, Tensor]:
        parts = cast(ClipNetwork, model)
        tokens, _ = parts.trunk(batch["planes"], batch["places"])
        return cell_losses(parts.heads.dense(tokens).float(), batch["cells"], emphasis)

    def whole_loss(model: nn.Module, batch: Sample) -> dict[str, Tensor]:
        parts = cast(ClipNetwork, model)
        logits, dense = parts.heads(parts.trunk(batch["planes"])[0])
        found = cell_losses(dense, batch["cells"], emphasis)
        labels, details = logits.tensor_split([len(CT_RATE)], dim=1)
        label = F.binary_cross_entropy_with_logits(labels, batch["labels"], emphasis)
        detail = F.binary_cross_entropy_with_logits(
            details, batch["target"], batch["known"], reduction="sum"
        ) / batch["known"].sum().clamp(min=1)
        total = found["loss"] + label + detail
        return found | {"loss": total, "label": label, "detail": detail}

    runs: tuple[tuple[str, LoopConfig, Callable[[int], Sample], Any], ...] = (
        ("parts", training.parts, lambda s: examples.parts(s, training.parts_batch), parts_loss),
        (
            "whole",
            training.whole,
            lambda s: examples.whole(s, training.whole_batch, training.whole.seed),
            whole_loss,
        ),
    )
    facts: dict[str, Any] = {"n_training_phantoms": arrays.split.n, "seconds": 0.0, "steps": 0}
    loops = [loop for _, loop, _, _ in runs]
    for i, (name, loop, batch, loss) in enumerate(runs):
        found = fit(
            network, batch, loss, loop, run / name,
            name=f"encoder, {name}", facts=known, progress=shared(progress, loops, i),
        )  # fmt: skip
        facts |= {k: v for k, v in found.items() if k not in ("seconds", "steps")}
        facts["seconds"] += found["seconds"]
        facts["steps"] += found["steps"]
    return network.eval(), facts


def cell_losses(dense: Tensor, cells: Tensor, emphasis: Tensor) -> dict[str, Tensor]:
    """Losses of (B, L, x, y, z) token logits against 0/1 cells.

    Every finding weighs the same however small it is, and the highest token of a label decides
    whether its finding is there at all.
    """
    dense, cells = dense.flatten(2), cells.flatten(2)
    losses = F.binary_cross_entropy_with_logits(dense, cells, reduction="none")
    count = cells.sum(dim=2)
    there = (count > 0).float() * emphasis
    found = (losses * cells).sum(dim=2) / count.clamp(min=1)
    false = (losses * (1 - cells)).mean(dim=2)
    cell = (found * there).sum() / there.sum().clamp(min=1) + EMPTY_WEIGHT * false.mean()
    seen = F.binary_cross_entropy_with_logits(dense.amax(dim=2), (count > 0).float(), emphasis)
    return {"loss": cell + seen, "cell": cell, "seen": seen}
