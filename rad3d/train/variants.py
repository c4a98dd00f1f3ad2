"""Training of variants on cached features: the step that the paper's study compares.

Works for any language model of the registry: the features and reports come in, a variant directory
goes out. The shipped variants and a user's own run through the same function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rad3d.model.language import LanguageBundle
from rad3d.model.reporter import PrefixReporter
from rad3d.model.variant import VariantConfig
from rad3d.train.loop import LoopConfig, Progress, fit, prefer_eager_attention

Float = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class VariantTraining:
    """How the variants of one base model are trained.

    Attributes:
        loop: schedule with a frozen language model.
        tuned_loop: schedule of V-1, which trains the language model as well.
        batch_size: pairs per step.
        views: augmented copies of each scan, the scan itself included.
        layers: transformer layers of the projector.
        noise: standard deviation of noise added to the embedding and logits, relative to their
            spread over the training set.
    """

    loop: LoopConfig
    tuned_loop: LoopConfig
    batch_size: int = 16
    views: int = 2
    layers: int = 2
    noise: float = 0.1


@dataclass(frozen=True)
class PairedFeatures:
    """Encoded scans with their reports.

    Attributes:
        pooled: (N, V, D) embeddings, V views of each scan.
        logits: (N, V, 18).
        reports: for each scan one or more wordings of its report.
    """

    pooled: Float
    logits: Float
    reports: Sequence[Sequence[str]]

    def __len__(self) -> int:
        return len(self.reports)


def train_variant(
    config: VariantConfig,
    language: LanguageBundle,
    data: PairedFeatures,
    training: VariantTraining,
    run: Path,
    output: Path,
    progress: Progress | None = None,
) -> VariantConfig:
    """Train one variant and save it.

    Args:
        config: which one; sizes of the projector included.
        language: its language model, freshly loaded in float32; V-1 trains it in place.
        data: the paired set.
        training: schedule.
        run: directory of the run (checkpoint, log, configuration).
        output: receives the variant, self-describing.
        progress: receives a line now and then.

    Returns:
        The configuration as saved, with hashes and training facts.
    """
    loop = training.tuned_loop if config.mode_row.trains_llm else training.loop
    torch.manual_seed(loop.seed)
    prefer_eager_attention(language.model)
    reporter = PrefixReporter(config, language)
    if config.standardised:
        reporter.scaling.fit(
            torch.from_numpy(data.pooled[:, 0]).float(),
            torch.from_numpy(data.logits[:, 0]).float() if config.logits_dim else None,
        )
    facts = fit(
        reporter,
        _batches(reporter, data, training, loop),
        _loss,
        loop,
        run,
        name=config.id,
        facts={"variant": asdict(config), "training": asdict(training), "pairs": len(data)},
        progress=progress,
    )
    return reporter.save_pretrained(output, training=facts | {"pairs": len(data)})


def _loss(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    return {"loss": model(batch["latent"], batch["logits"], batch["input_ids"], batch["labels"])}


CHUNK = 8
"""Batches drawn together and sorted by length, so that little of a batch is padding."""


def _batches(
    reporter: PrefixReporter, data: PairedFeatures, training: VariantTraining, loop: LoopConfig
) -> Callable[[int], dict[str, Any]]:
    """Step -> batch: a random view and wording of each scan, in a new order every epoch."""
    ids = [[reporter.report_ids(text) for text in wordings] for wordings in data.reports]
    spread = data.pooled[:, 0].std(axis=0), data.logits[:, 0].std(axis=0)

    @lru_cache(maxsize=1)
    def chunk(number: int) -> list[tuple[int, list[int]]]:
        """(scan, report) of the batches of a chunk, the batches in random order."""
        rng = np.random.default_rng([loop.seed, number, 2])
        size = CHUNK * training.batch_size
        epoch, position = divmod(number * size, len(data))
        order = np.random.default_rng([loop.seed, epoch, 1]).permutation(len(data))
        rows = np.take(order, range(position, position + size), mode="wrap")
        pairs = [(int(i), ids[i][int(rng.integers(len(ids[i])))]) for i in rows]
        pairs.sort(key=lambda pair: len(pair[1]))
        starts = rng.permutation(CHUNK) * training.batch_size
        return [pair for s in starts for pair in pairs[s : s + training.batch_size]]

    def batch(step: int) -> dict[str, Any]:
        rng = np.random.default_rng([loop.seed, step])
        start = step % CHUNK * training.batch_size
        pairs = chunk(step // CHUNK)[start : start + training.batch_size]
        rows = [row for row, _ in pairs]
        views = rng.integers(0, data.pooled.shape[1], len(rows))
        latent, logits = data.pooled[rows, views], data.logits[rows, views]
        latent = latent + training.noise * spread[0] * rng.standard_normal(latent.shape)
        logits = logits + training.noise * spread[1] * rng.standard_normal(logits.shape)
        input_ids, labels = reporter.collate([report for _, report in pairs])
        return {
            "latent": torch.from_numpy(latent).float(),
            "logits": torch.from_numpy(logits).float() if reporter.config.logits_dim else None,
            "input_ids": input_ids,
            "labels": labels,
        }

    return batch
