"""``rad3d demo build``: everything that ships, from seeds alone, resumable at every stage."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from rad3d.core.encoders import ENCODERS, SHIPPED_ENCODER
from rad3d.core.errors import BadRequest
from rad3d.core.findings import Truth
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.modes import MODES
from rad3d.core.settings import Settings
from rad3d.core.variant_ids import variant_id
from rad3d.features.encoder_features import encoder_identity
from rad3d.model.encoders.head import HEAD_DIR, HEAD_FILE
from rad3d.model.encoders.noise import FILE as NOISE_FILE
from rad3d.model.encoders.noise import write_reference
from rad3d.model.encoders.phantom_cnn import ConvEncoder, ShippedEncoder
from rad3d.model.identity import EncoderIdentity, weights_sha256
from rad3d.model.store import ModelStore
from rad3d.model.variants.variant import variant_directory
from rad3d.synthetic.grammar import write_report
from rad3d.train.clip_build import ClipBuild
from rad3d.train.demo_plan import FULL, QUICK, DemoPlan
from rad3d.train.encoder_training import encode_arrays, finish_encoder, train_encoder
from rad3d.train.fit_noise import noise_reference
from rad3d.train.fit_prior import fit_prior
from rad3d.train.loop import Progress
from rad3d.train.pairs import PairedFeatures, TrainingData
from rad3d.train.phantoms import PhantomArrays, Split, build_split
from rad3d.train.pretrain import build_tokenizer, pretrain
from rad3d.train.single import Place, train_single
from rad3d.train.stage import PHANTOM_SECONDS, Stage

WORDINGS = 3
"""Reports written about each paired scan; the variants see one of them at a time."""


ENCODER_STEP_SECONDS = 0.95
FEATURES_SECONDS = 0.1
EXAMPLE_SECONDS = 0.006
PARAMETER_SECONDS = 1.3e-8
READING_EXAMPLES = 700
"""Cost of testing a language model on reports, in training examples."""


class DemoBuild:
    """The stages of a plan and where their files go.

    Args:
        plan: what to make.
        models_dir: receives encoder, language models and variants.
        runs_dir: receives phantoms, features, checkpoints and logs.
        jobs: worker processes for phantoms.
        progress: receives a line at every step worth seeing, and how much of the work is done.
    """

    def __init__(
        self, plan: DemoPlan, models_dir: Path, runs_dir: Path, jobs: int, progress: Progress
    ) -> None:
        self.plan = plan
        self.models_dir = models_dir
        self.run_dir = runs_dir / plan.name
        self.jobs = jobs
        self._tell = progress
        self._clip = ClipBuild(
            plan, models_dir, self.run_dir, jobs, self.progress, lambda: self._network()[0]
        )
        self._begun, self._share = 0.0, 1.0  # of the work: before the stage at hand, and in it

    @cached_property
    def encoder_dir(self) -> Path:
        """The directory of the shipped encoder."""
        return self.models_dir / ENCODERS[SHIPPED_ENCODER].source

    def stages(self) -> Iterator[Stage]:
        """All stages in order."""
        for split in self.plan.splits:
            state = self.run_dir / "phantoms" / f"{split.name}.json"
            yield Stage(
                f"phantoms:{split.name}",
                partial(self._has_phantoms, split, state),
                partial(self._phantoms, split),
                split.n * PHANTOM_SECONDS / self.jobs / 60,
            )
        yield Stage(
            "encoder",
            lambda: self._network_file.is_file() or self._is_calibrated(),
            self._train_encoder,
            self.plan.encoder_training.steps * ENCODER_STEP_SECONDS / 60,
        )
        for split in self.plan.splits[1:]:  # what the encoder learned from needs no features
            yield Stage(
                f"features:{split.name}",
                self._features_file(split).is_file,
                partial(self._features, split),
                split.n * self._views(split) * FEATURES_SECONDS / 60,
            )
        yield Stage("calibration", self._is_calibrated, self._calibrate, 0.2)
        yield Stage(
            "prior", (self.encoder_dir / HEAD_DIR / HEAD_FILE).is_file, self._learn_prior, 0.5
        )
        rendered = self.plan.noise_split.n + self.plan.calibration_split.n
        yield Stage(
            "noise",
            (self.encoder_dir / NOISE_FILE).is_file,
            self._learn_noise,
            rendered * PHANTOM_SECONDS / self.jobs / 60,
        )
        yield from self._clip.stages()
        tokenizer = self.run_dir / "tokenizer"
        yield Stage(
            "tokenizer",
            (tokenizer / "tokenizer.json").is_file,
            partial(build_tokenizer, tokenizer),
            0.5,
        )
        for llm, config in self.plan.language_models.items():
            yield Stage(
                f"llm:{llm}",
                (self._llm_dir(llm) / "training.json").is_file,
                partial(self._pretrain, llm),
                (config.loop.steps * config.batch_size + READING_EXAMPLES)
                * self._example_seconds(llm)
                / 60,
            )
        for llm, mode in itertools.product(self.plan.variants, MODES):
            directory = variant_directory(self.models_dir, variant_id(llm, mode))
            training = self.plan.schedule(llm, mode)
            yield Stage(
                f"variant:{variant_id(llm, mode)}",
                (directory / "variant.json").is_file,
                partial(self._train_variant, llm, mode),
                training.loop.steps * training.batch_size * self._example_seconds(llm) / 60,
            )

    def _example_seconds(self, llm: str) -> float:
        """Seconds of training per example, from the size of the language model's layers."""
        shipped = self.plan.language_models.get(llm)
        size = shipped.shape.parameters if shipped else LANGUAGE_MODELS[llm].parameters
        return EXAMPLE_SECONDS + PARAMETER_SECONDS * size

    def run(self, only: str | None = None) -> None:
        """Run the stages that are not done, or only those whose name starts with ``only``."""
        wanted = [s for s in self.stages() if only is None or s.name.startswith(only)]
        minutes = sum(stage.minutes for stage in wanted if not stage.done())
        self._begun, self._share = 0.0 if minutes else 1.0, 0.0
        if minutes:
            self.progress(f"this takes about {math.ceil(minutes)} min on two cores", 0.0)
        for stage in wanted:
            if stage.done():
                self.progress(f"{stage.name}: already there", 0.0)
                continue
            began, self._share = time.perf_counter(), stage.minutes / minutes
            stage.run()
            spent = time.perf_counter() - began
            self._begun, self._share = self._begun + self._share, 0.0
            self.progress(f"{stage.name}: done in {spent:.0f} s", 0.0)

    def progress(self, text: str, fraction: float) -> None:
        """Tell a line; ``fraction`` is of the stage at hand."""
        self._tell(text, self._begun + self._share * fraction)

    # Phantoms and encoder

    def _phantoms(self, split: Split) -> PhantomArrays:
        return build_split(
            split, self.plan.encoder.grid, self.run_dir / "phantoms", self.jobs, self.progress
        )

    @property
    def _network_file(self) -> Path:
        return self.run_dir / "encoder" / "network.pt"

    def _train_encoder(self) -> None:
        network, facts = train_encoder(
            self._phantoms(self.plan.encoder_split),
            self.plan.encoder,
            self.plan.encoder_training,
            self.run_dir / "encoder",
            self.progress,
        )
        torch.save({"network": network.state_dict(), "facts": facts}, self._network_file)

    def _has_phantoms(self, split: Split, state: Path) -> bool:
        """Return whether a split is complete, or no longer needed because the encoder exists."""
        spent = split == self.plan.encoder_split and self._is_calibrated()
        return spent or _is_complete(state, split.n)

    def _is_calibrated(self) -> bool:
        return (self.encoder_dir / "config.json").is_file()

    def _network(self) -> tuple[ConvEncoder, dict[str, Any]]:
        if not self._network_file.is_file():  # a shipped encoder, trained elsewhere
            return ShippedEncoder.from_pretrained(self.encoder_dir).network, {}
        saved = torch.load(self._network_file, weights_only=True)
        network = ConvEncoder(self.plan.encoder)
        network.load_state_dict(saved["network"])
        return network.eval(), saved["facts"]

    def _views(self, split: Split) -> int:
        """The number of encodings of each scan; training scans of variants are also augmented."""
        paired = split == self.plan.paired_split
        return max(t.views for t in self.plan.variants.values()) if paired else 1

    def _features_file(self, split: Split) -> Path:
        return self.run_dir / "features" / f"{split.name}.npz"

    def _features(self, split: Split) -> None:
        views = self._views(split)
        features = encode_arrays(
            self._network()[0],
            self._phantoms(split),
            views,
            self.plan.encoder_training if views > 1 else None,
            self.progress,
        )
        path = self._features_file(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **features)  # type: ignore[arg-type]

    def features(self, split: Split) -> dict[str, Any]:
        """The features of a split, made by its stage."""
        with np.load(self._features_file(split)) as file:
            return {name: file[name] for name in file.files}

    def _calibrate(self) -> None:
        network, facts = self._network()
        split = self.plan.calibration_split
        encoder = finish_encoder(
            SHIPPED_ENCODER,
            network,
            self.features(self.plan.paired_split),
            self.features(split),
            split.labels.astype(np.float64),
            split.name,
        )
        encoder.save_pretrained(self.encoder_dir, facts)

    def _learn_prior(self) -> None:
        """What the embedding says of labels and of where each finding is."""
        split, encoder = self.plan.paired_split, ShippedEncoder.from_pretrained(self.encoder_dir)
        features = self.features(split)
        identity = EncoderIdentity(encoder.id, weights_sha256(self.encoder_dir), encoder.grid.id)
        head = fit_prior(
            identity,
            encoder.calibration,
            features["pooled"][:, 0],
            features["logits"][:, 0],
            split.truths,
            max(split.n // 8, 1),
            split.name,
        )
        head.save(self.encoder_dir)

    def _learn_noise(self) -> None:
        fitted, held_out = self.plan.noise_split, self.plan.calibration_split
        reference, facts = noise_reference(fitted, held_out, self.jobs, self.progress)
        write_reference(self.encoder_dir, reference, facts)

    # Language models and variants

    def _llm_dir(self, llm: str) -> Path:
        return self.models_dir / LANGUAGE_MODELS[llm].source

    def _pretrain(self, llm: str) -> None:
        from transformers import AutoTokenizer

        pretrain(
            self.plan.language_models[llm],
            AutoTokenizer.from_pretrained(self.run_dir / "tokenizer"),
            self.run_dir / "llms" / llm,
            self._llm_dir(llm),
            llm,
            self.progress,
        )

    def _train_variant(self, llm: str, mode: str) -> None:
        run = self.run_dir / "variants" / f"{llm}-{mode}"
        place = Place(self.models_dir, run)
        training = self.plan.schedule(llm, mode)
        train_single(self.pairs(mode), llm, mode, training, place, self.progress)

    def pairs(self, mode: str) -> TrainingData:
        """The paired phantoms, from the features that their stage made, with what a mode reads."""
        split = self.plan.paired_split
        features = self.features(split)
        store = ModelStore(Settings(models_dir=self.models_dir))
        pairs = PairedFeatures(
            features["pooled"],
            features["logits"],
            phantom_reports(split.truths),
            [f"{split.domain}-{truth.seed:06d}" for truth in split.truths],
            encoder_identity(store, SHIPPED_ENCODER),
            tokens=features.get("tokens"),
        )
        if "findings" in MODES[mode].reads:
            pairs = pairs.diagnosed(store.encoder(SHIPPED_ENCODER))
        return TrainingData(pairs, source={"phantoms": split.name, "plan": self.plan.name})

    def prepared(self, llm: str, mode: str) -> TrainingData:
        """The paired phantoms and, where the plan makes it, the language model.

        Raises:
            BadRequest: something is to be made, and this is one of several processes.
        """
        wanted = [f"features:{self.plan.paired_split.name}", "prior"]
        wanted += [f"llm:{llm}"] if llm in self.plan.language_models else []
        done = {stage.name: stage.done for stage in self.stages()}
        if PartialState().num_processes > 1 and not all(done[name]() for name in wanted):
            raise BadRequest(
                "The phantoms, their features or the language model are not made yet, which one "
                "process does.",
                "Run rad3d train without accelerate launch first.",
                code="not_made",
            )
        for name in wanted:
            for each in _needed(name, self.plan, done):
                self.run(only=each)
        return self.pairs(mode)


def phantom_reports(truths: Sequence[Truth]) -> list[list[str]]:
    """The reports about phantoms, in several wordings of each."""
    return [
        [write_report(truth, seed=truth.seed + 1_000_003 * k).text for k in range(WORDINGS)]
        for truth in truths
    ]


def _needed(name: str, plan: DemoPlan, done: dict[str, Callable[[], bool]]) -> Iterator[str]:
    """The stages to run for ``name``, itself last; what is done needs nothing."""
    if not done[name]():
        for earlier in _inputs(name, plan):
            yield from _needed(earlier, plan, done)
        yield name


def _inputs(name: str, plan: DemoPlan) -> tuple[str, ...]:
    """The stages whose output a stage reads."""
    kind, _, what = name.partition(":")
    paired = f"features:{plan.paired_split.name}"
    inputs: dict[str, tuple[str, ...]] = {
        "encoder": (f"phantoms:{plan.encoder_split.name}",),
        "features": ("encoder", f"phantoms:{what}"),
        "calibration": (paired, f"features:{plan.calibration_split.name}"),
        "prior": ("calibration", paired),
        "llm": ("tokenizer",),
    }
    return inputs.get(kind, ())


def _is_complete(state: Path, n: int) -> bool:
    return state.is_file() and json.loads(state.read_text())["done"] == n


def build_demo(
    models_dir: Path,
    runs_dir: Path,
    *,
    quick: bool = False,
    only: str | None = None,
    jobs: int,
    threads: int = 0,
    progress: Progress,
) -> DemoBuild:
    """Train everything that ships, or go on where an earlier run stopped.

    Args:
        models_dir: receives the models.
        runs_dir: receives phantoms, features and checkpoints; about 16 GB for the full build.
        quick: tiny schedules that prove the path; the models are not worth using.
        only: a stage name or its beginning, such as ``"llm:"``.
        jobs: worker processes for phantoms.
        threads: torch threads; 0 leaves torch's choice.
        progress: receives lines.
    """
    if threads:
        torch.set_num_threads(threads)
    plan = QUICK if quick else FULL
    build = DemoBuild(plan, models_dir, runs_dir, jobs, progress)
    build.run(only)
    return build
