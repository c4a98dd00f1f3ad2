"""The plan of ``rad3d demo build``: sizes, splits, seeds and schedules in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rad3d.model.encoders.phantom_clip import ClipConfig
from rad3d.model.encoders.phantom_cnn import ConvEncoderConfig
from rad3d.train.clip_schedule import ClipTraining
from rad3d.train.encoder_training import EncoderTraining
from rad3d.train.loop import LoopConfig
from rad3d.train.phantoms import Split
from rad3d.train.pretrain import LanguageModelShape, PretrainConfig
from rad3d.train.targets import TargetOptions
from rad3d.train.variant_training import VariantTraining

READERS = {"slots": 500, "words": 100, "text": 0}
"""Modes that read findings -> steps until they say what they read."""

SAYING_FINDINGS = TargetOptions(
    "findings", "canonical", mixing=0.35, other_weight=0.25, impressions=0.3
)


@dataclass(frozen=True)
class DemoPlan:
    """Everything the shipped models are made from.

    Attributes:
        name: of the run directory.
        encoder_split: phantoms the encoder learns from.
        paired_split: phantoms with reports that the variants learn from; none is in
            ``encoder_split``.
        calibration_split: for calibration, thresholds and novelty.
        noise_split: whose noise is learned, rendered anew.
        test_splits: held out, in and out of domain.
        encoder, encoder_training: shape and schedule of the encoder.
        clip_split: phantoms that the second encoder learns from, on its own grid.
        clip, clip_training: shape and schedules of the second encoder.
        language_models: shipped language model id -> pretraining.
        variants: shipped language model id -> schedule of its variants.
    """

    name: str
    encoder_split: Split
    paired_split: Split
    calibration_split: Split
    noise_split: Split
    test_splits: tuple[Split, ...]
    encoder: ConvEncoderConfig
    encoder_training: EncoderTraining
    clip_split: Split
    clip: ClipConfig
    clip_training: ClipTraining
    language_models: dict[str, PretrainConfig]
    variants: dict[str, VariantTraining]

    def schedule(self, llm: str, mode: str) -> VariantTraining:
        """How a variant of a shipped language model is trained.

        Modes that read findings learn to say them, which takes fewer steps; dev/LOG.md has what
        each part of that is worth.
        """
        training = self.variants[llm]
        if mode not in READERS:
            return training
        steps = min(READERS[mode], training.loop.steps)
        loop = replace(
            training.loop,
            steps=steps,
            learning_rate=3e-3,
            warmup=min(40, steps // 5),
            muon_rate=0.0,
            precision="no",
        )
        return replace(training, loop=loop, views=1, noise=0.0, target=SAYING_FINDINGS)

    @property
    def splits(self) -> tuple[Split, ...]:
        """All splits, in the order in which they are made."""
        return (self.encoder_split, self.paired_split, self.calibration_split, *self.test_splits)


def _variants(steps: int, rate: float, tuned_rate: float) -> VariantTraining:
    loop = LoopConfig(steps, rate, warmup=40, muon_rate=0.01)
    return VariantTraining(loop, replace(loop, learning_rate=tuned_rate))


FULL = DemoPlan(
    name="demo",
    encoder_split=Split("encoder", "in", 0, 2400),
    paired_split=Split("paired", "in", 10_000, 1600),
    calibration_split=Split("calibration", "in", 20_000, 250),
    noise_split=Split("noise", "in", 10_000, 300),
    test_splits=(Split("test-in", "in", 30_000, 200), Split("test-out", "out", 40_000, 200)),
    encoder=ConvEncoderConfig(),
    encoder_training=EncoderTraining(
        (LoopConfig(2000, 3e-3, warmup=100), LoopConfig(450, 1e-3, warmup=20, seed=1))
    ),
    clip_split=Split("clip", "in", 0, 2400, wide=True),
    clip=ClipConfig(),
    clip_training=ClipTraining(
        parts=LoopConfig(800, 1.5e-3, warmup=30),
        whole=LoopConfig(500, 1e-3, warmup=15, seed=1),
        contrast=LoopConfig(800, 1e-3, warmup=50, precision="no", weight_decay=0.1),
    ),
    language_models={
        "phantom-s": PretrainConfig(
            LanguageModelShape(128, 3, 4, 344),
            LoopConfig(1500, 3e-3, muon_rate=0.02),
            batch_size=32,
        ),
        "phantom-m": PretrainConfig(
            LanguageModelShape(192, 4, 6, 512),
            LoopConfig(900, 2.5e-3, muon_rate=0.02),
            batch_size=32,
        ),
        "phantom-l": PretrainConfig(
            LanguageModelShape(320, 4, 8, 856),
            LoopConfig(550, 2e-3, muon_rate=0.02),
            batch_size=32,
        ),
    },
    variants={
        "phantom-s": _variants(800, 1e-3, 5e-4),
        "phantom-m": _variants(700, 1e-3, 5e-4),
        "phantom-l": _variants(600, 8e-4, 4e-4),
    },
)


def _shorter(loop: LoopConfig, steps: int) -> LoopConfig:
    return replace(loop, steps=steps, warmup=min(loop.warmup, steps // 4))


QUICK = replace(
    FULL,
    name="demo-quick",
    encoder_split=Split("encoder", "in", 0, 120),
    paired_split=Split("paired", "in", 10_000, 60),
    calibration_split=Split("calibration", "in", 20_000, 60),
    noise_split=Split("noise", "in", 10_000, 60),
    test_splits=(Split("test-in", "in", 30_000, 24), Split("test-out", "out", 40_000, 24)),
    encoder_training=replace(
        FULL.encoder_training, loops=(_shorter(FULL.encoder_training.loops[0], 60),)
    ),
    clip_split=replace(FULL.clip_split, n=40),
    clip_training=replace(
        FULL.clip_training,
        parts=_shorter(FULL.clip_training.parts, 8),
        whole=_shorter(FULL.clip_training.whole, 6),
        contrast=_shorter(FULL.clip_training.contrast, 20),
    ),
    language_models={
        name: replace(config, loop=_shorter(config.loop, 60), batch_size=16)
        for name, config in FULL.language_models.items()
    },
    variants={
        name: replace(
            training,
            loop=_shorter(training.loop, 20),
            tuned_loop=_shorter(training.tuned_loop, 20),
            batch_size=8,
            views=1,
        )
        for name, training in FULL.variants.items()
    },
)
"""Proves every stage in about 10 minutes on two cores; its models are not worth using."""
