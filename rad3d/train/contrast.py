"""Contrast of scans with reports: what the embedding of the second encoder is learned from.

As in CT-CLIP (arXiv 2403.17834) and CLIP: which of a batch of scans and of a batch of reports
belong together? The trunk is at rest, so its cells are made once and a batch can be large. The
tower that reads the reports is small (Kim 2014) and thrown away afterwards.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rad3d.core.findings import Truth
from rad3d.core.types import FloatArray
from rad3d.model.encoders.phantom_clip import Readout
from rad3d.synthetic.grammar import write_report
from rad3d.train.loop import LoopConfig, Progress, fit

WORDINGS = 6
"""Reports written about each scan; an epoch sees one of them."""

MAX_WORDS = 192

DROPPED = 0.2
"""Share of the cells that are hidden in training."""

_WORD = re.compile(r"[a-z]+|\d+|[.,]")


class Words:
    """Numbers for the words of some texts; 0 is padding, 1 a word that is not among them."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = Counter(word for text in texts for word in _words(text))
        self.index = {word: i for i, word in enumerate(sorted(counts), start=2)}

    def __len__(self) -> int:
        return len(self.index) + 2

    def numbers(self, texts: Sequence[str]) -> Tensor:
        """(N, :data:`MAX_WORDS`) int64; later words are cut off."""
        rows = torch.zeros(len(texts), MAX_WORDS, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            found = [self.index.get(word, 1) for word in _words(text)][:MAX_WORDS]
            row[: len(found)] = torch.tensor(found, dtype=torch.int64)
        return rows


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


class TextTower(nn.Module):
    """A report as the strongest response to each of some hundred patterns of words.

    Args:
        words: size of the vocabulary.
        dim: of the embedding.
    """

    def __init__(self, words: int, dim: int, width: int = 96, patterns: int = 512) -> None:
        super().__init__()
        self.table = nn.Embedding(words, width, padding_idx=0)
        self.wide = nn.Conv1d(width, patterns // 2, 7, padding=3)
        self.narrow = nn.Conv1d(width, patterns // 2, 3, padding=1)
        self.embed = nn.Sequential(nn.Linear(patterns, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, words: Tensor) -> Tensor:
        """(B, T) -> (B, D)."""
        x = self.table(words).transpose(1, 2)
        found = torch.cat((self.wide(x), self.narrow(x)), dim=1)
        return self.embed(F.relu(found).amax(dim=2))


class Contrast(nn.Module):
    """Read-out and text tower with the temperature of their loss."""

    def __init__(self, readout: Readout, words: int, dim: int) -> None:
        super().__init__()
        self.readout = readout
        self.text = TextTower(words, dim)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, cells: Tensor, words: Tensor) -> Tensor:
        """(B, S, C) and (B, T) -> (B, B) logits; scan i and report i belong together."""
        z = F.normalize(self.readout(cells).float(), dim=1)
        t = F.normalize(self.text(words).float(), dim=1)
        return self.scale.clamp(max=math.log(100.0)).exp() * z @ t.T


def contrast_loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cross-entropy of the right report for each scan, and the right scan for each report."""
    logits = model(batch["cells"], batch["words"])
    right = torch.arange(len(logits), device=logits.device)
    loss = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    return {"loss": loss, "matched": (logits.argmax(dim=1) == right).float().mean()}


def train_readout(
    readout: Readout,
    cells: FloatArray,
    truths: Sequence[Truth],
    dim: int,
    batch_size: int,
    loop: LoopConfig,
    run: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a read-out in place on the cells of scans and reports written about them.

    Args:
        readout: of the network; nothing else of it is touched.
        cells: (N, S, C) of :func:`rad3d.model.encoders.phantom_clip.readout_cells`, any float type.
        truths: of the same scans, for their reports.
        dim: of the embedding.
        batch_size: scans and reports in a batch.
        loop: the schedule.
        run: directory of the run.
        progress: receives lines.
    """
    reports = [
        [write_report(truth, seed=truth.seed + 2_000_003 * (k + 1)).text for truth in truths]
        for k in range(WORDINGS)
    ]
    words = Words([text for texts in reports for text in texts])
    numbers = torch.stack([words.numbers(texts) for texts in reports])
    torch.manual_seed(loop.seed)
    model = Contrast(readout.requires_grad_(True), len(words), dim)
    size = min(batch_size, len(truths))

    def batch(step: int) -> dict[str, Tensor]:
        epoch, position = divmod(step * size, len(truths))
        order = np.random.default_rng([loop.seed, epoch, 4]).permutation(len(truths))
        rows = np.take(order, range(position, position + size), mode="wrap")
        rng = np.random.default_rng([loop.seed, step, 5])
        seen = torch.from_numpy(np.asarray(cells[rows], np.float32))
        shown = torch.from_numpy(rng.random(seen.shape[:2]) >= DROPPED)
        wording = torch.from_numpy(rng.integers(0, WORDINGS, size))
        return {
            "cells": seen * shown[..., None],
            "words": numbers[wording, torch.from_numpy(rows)],
        }

    return fit(
        model, batch, contrast_loss, loop, run, name="encoder, contrast",
        facts={"scans": len(truths), "words": len(words)}, progress=progress,
    )  # fmt: skip
