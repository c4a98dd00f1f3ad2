"""Training of variants on cached features: the step that the paper's study compares.

Works for any language model of the registry: the features and reports come in, a variant directory
goes out. The shipped variants and a user's own run through the same function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor, nn

from rad3d.core.details import finding_bits
from rad3d.core.files import file_sha256
from rad3d.core.modes import Mode
from rad3d.model.llm.language import LanguageBundle, recompute_layers
from rad3d.model.variants.reporter import IGNORED, PrefixReporter
from rad3d.model.variants.variant import VariantConfig
from rad3d.train.loop import LoopConfig, Progress, fit, prefer_eager_attention
from rad3d.train.pairs import PairedFeatures, TrainingData
from rad3d.train.rundir import CONFIG_FILE
from rad3d.train.targets import Target, TargetOptions, Targets

TokenIds = Sequence[Sequence[Sequence[int]]]
"""The token ids of each wording of each scan's report."""


@dataclass(frozen=True)
class VariantTraining:
    """Hyperparameters for the variants of one base model.

    Attributes:
        loop: schedule with a frozen language model.
        tuned_loop: schedule of V-1, which trains the language model as well.
        epochs: times that every pair is seen, from which the steps follow; 0 leaves the steps of
            the schedules.
        batch_size: pairs in a batch; a step has ``accumulate`` batches in every process.
        views: augmented copies of each scan, the scan itself included.
        layers: transformer layers of the projector.
        noise: standard deviation of noise added to the embedding and logits, relative to their
            spread over the training set.
        standardised: embedding and logits are standardised with the statistics of the training
            set; False is the paper's plain concatenation.
        latent_weight, logits_weight: factors of embedding and logits after that.
        llm_precision: of the frozen language model, a key of
            :data:`rad3d.core.language_models.PRECISIONS`, or ``"auto"``; V-1 always trains float32
            weights.
        prefix_length: see :class:`rad3d.core.modes.Mode`; None is that of the mode.
        prefix_scale, adapter_rank: of :class:`VariantConfig`.
        target: what is learned.
        checkpointing: the activations of the language model's layers are computed again in the
            backward pass instead of being kept.
    """

    loop: LoopConfig
    tuned_loop: LoopConfig
    epochs: float = 0
    batch_size: int = 16
    views: int = 2
    layers: int = 2
    noise: float = 0.1
    standardised: bool = True
    latent_weight: float = 1.0
    logits_weight: float = 1.0
    llm_precision: str = "float32"
    prefix_length: int | None = None
    prefix_scale: str = "published"
    adapter_rank: int = 16
    target: TargetOptions = field(default_factory=TargetOptions)
    checkpointing: bool = False

    def schedule(self, mode: Mode) -> LoopConfig:
        """The loop of an adaptation mode; of no steps where nothing is trained."""
        loop = self.tuned_loop if mode.trains_llm else self.loop
        return loop if mode.trains else replace(loop, steps=0)

    def resolved(self, pairs: int, processes: int = 1) -> VariantTraining:
        """The same with the steps that the epochs take."""
        if not self.epochs:
            return self
        return replace(
            self,
            epochs=0,
            loop=self._with_steps(self.loop, pairs, processes),
            tuned_loop=self._with_steps(self.tuned_loop, pairs, processes),
        )

    def _with_steps(self, loop: LoopConfig, pairs: int, processes: int) -> LoopConfig:
        together = self.batch_size * loop.accumulate * processes
        steps = max(math.ceil(self.epochs * pairs / together), 1)
        return replace(loop, steps=steps, warmup=min(loop.warmup, steps // 4))


def train_variant(
    config: VariantConfig,
    language: LanguageBundle,
    data: TrainingData,
    training: VariantTraining,
    run: Path,
    output: Path,
    *,
    device: str = "auto",
    progress: Progress | None = None,
) -> VariantConfig:
    """Train one variant and save it.

    Args:
        config: which one; sizes of the projector included.
        language: its language model, freshly loaded; V-1 trains it in place.
        data: the pairs.
        training: schedule, with its steps resolved.
        run: directory of the run (checkpoint, log, configuration).
        output: receives the variant, self-describing.
        device: where the language model is.
        progress: receives a line now and then.

    Returns:
        The configuration as saved, with hashes and training facts.
    """
    loop = training.schedule(config.mode_row)
    torch.manual_seed(loop.seed)
    prefer_eager_attention(language.model)
    if training.checkpointing:
        recompute_layers(language)
    reporter = PrefixReporter(config, language)
    train = data.train
    if config.standardised:
        reporter.scaling.fit(
            torch.from_numpy(train.pooled[:, 0]).float(),
            torch.from_numpy(train.logits[:, 0]).float() if train.logits is not None else None,
        )
    facts = fit(
        reporter,
        _batches(reporter, train, training, loop),
        _loss,
        loop,
        run,
        name=config.id,
        facts={"variant": asdict(config), "training": asdict(training), "data": data.facts()},
        device=device,
        weigh=_tokens,
        held_out=_held_out(reporter, data.held_out, training),
        progress=progress,
    )
    facts |= data.facts() | {"llm_precision": language.precision, "seed": loop.seed}
    facts["run"] = file_sha256(run / CONFIG_FILE)
    process = PartialState()
    if process.is_main_process:
        config = reporter.save_pretrained(output, training=facts)
    process.wait_for_everyone()
    return config


def token_ids(language: LanguageBundle, prompt: str, data: PairedFeatures) -> TokenIds:
    """The reports as the language model reads them."""
    return [[language.report_tokens(prompt, text) for text in texts] for texts in data.reports]


def _loss(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    return {"loss": model(**batch)}


def _tokens(batch: dict[str, Any]) -> float:
    """The number of tokens in the mean loss of a batch, or the sum of their weights."""
    if (weights := batch.get("weights")) is not None:
        return float(weights.sum())
    return float((batch["labels"] != IGNORED).sum())


def _held_out(
    reporter: PrefixReporter, data: PairedFeatures | None, training: VariantTraining
) -> list[dict[str, Any]]:
    """Batches of similar length: every scan as it is, with its first wording."""
    if data is None:
        return []
    targets = Targets(reporter, data, replace(training.target, mixing=0.0), 0)
    known = [targets.of(row, 0, row) for row in range(len(data))]
    order = sorted(range(len(known)), key=lambda i: known[i].length)
    starts = range(0, len(order), training.batch_size)
    batches = (order[start : start + training.batch_size] for start in starts)
    return [
        _batch(
            reporter,
            [None if v is None else v[rows, 0] for v in (data.pooled, data.logits, data.tokens)],
            [known[i] for i in rows],
        )
        for rows in batches
    ]


def _batch(
    reporter: PrefixReporter, features: Sequence[Any], targets: Sequence[Target]
) -> dict[str, Any]:
    """The arguments of the loss: embedding, logits and tokens of the scans, and their targets."""
    row = reporter.config.mode_row
    contexts = [reporter.context(target.findings) for target in targets] if row.words else ()
    input_ids, labels = reporter.collate([target.ids for target in targets], contexts)
    latent, logits, tokens = (None if v is None else torch.from_numpy(v).float() for v in features)
    batch: dict[str, Any] = {
        "latent": latent,
        "logits": logits if row.uses_logits else None,
        "input_ids": input_ids,
        "labels": labels,
    }
    if "tokens" in row.reads:
        batch["tokens"] = tokens
    if "findings" in row.reads:
        labels_read = reporter.config.label_set
        bits = np.stack([finding_bits(target.findings, labels_read) for target in targets])
        batch["bits"] = torch.from_numpy(bits)
    if any(target.weights is not None for target in targets):
        weights = torch.zeros(labels.shape)
        weights[labels != IGNORED] = torch.from_numpy(
            np.concatenate([target.weights for target in targets if target.weights is not None])
        )
        batch["weights"] = weights
    return batch


CHUNK = 8
"""Batches drawn together and sorted by length, so that little of a batch is padding."""


def _batches(
    reporter: PrefixReporter, data: PairedFeatures, training: VariantTraining, loop: LoopConfig
) -> Callable[[int], dict[str, Any]]:
    """Number -> batch: a random view and wording of each scan, each scan once in every epoch."""
    targets = Targets(reporter, data, training.target, loop.seed)

    @lru_cache(maxsize=2)
    def order(epoch: int) -> Any:
        return np.random.default_rng([loop.seed, epoch, 1]).permutation(len(data))

    @lru_cache(maxsize=1)
    def chunk(number: int) -> list[tuple[int, Target]]:
        """(scan, target) of the batches of a chunk, the batches in random order."""
        rng = np.random.default_rng([loop.seed, number, 2])
        size = CHUNK * training.batch_size
        examples = range(number * size, (number + 1) * size)
        places = (divmod(i, len(data)) for i in examples)
        rows = [int(order(epoch)[position]) for epoch, position in places]
        pairs = [
            (row, targets.of(row, int(rng.integers(len(data.reports[row]))), example))
            for row, example in zip(rows, examples, strict=True)
        ]
        pairs.sort(key=lambda pair: pair[1].length)
        starts = rng.permutation(CHUNK) * training.batch_size
        return [pair for s in starts for pair in pairs[s : s + training.batch_size]]

    def batch(number: int) -> dict[str, Any]:
        rng = np.random.default_rng([loop.seed, number])
        start = number % CHUNK * training.batch_size
        pairs = chunk(number // CHUNK)[start : start + training.batch_size]
        rows = [row for row, _ in pairs]
        views = rng.integers(0, data.pooled.shape[1], len(rows))
        features = [
            None if values is None else _noisy(values, values[rows, views], training.noise, rng)
            for values in (data.pooled, data.logits, data.tokens)
        ]
        return _batch(reporter, features, [target for _, target in pairs])

    return batch


def _noisy(all_: Any, picked: Any, noise: float, rng: np.random.Generator) -> Any:
    """Add noise relative to the spread over the training set."""
    if not noise:
        return picked
    return picked + noise * all_[:, 0].std(axis=0) * rng.standard_normal(picked.shape)
