"""Trains the cells of a study on stored features of the training phantoms; resumable.

No scan is rendered where the features are stored. A tenth of a cell's pairs is held out, and the
best weights on these are kept, so that few pairs are not learned by heart. The variants lie in a
models folder of the study, which shares encoders and language models with the one in use.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rad3d.core.errors import BadRequest, Rad3dError
from rad3d.core.modes import MODES
from rad3d.core.settings import Settings
from rad3d.core.variant_ids import variant_tag
from rad3d.data.sample_sets import TRAINING
from rad3d.evaluation.feature_source import FeatureSource
from rad3d.evaluation.study_plan import Cell
from rad3d.model.encoders.head import head_sha256
from rad3d.model.store import ModelStore
from rad3d.model.variants.variant import VariantConfig, variant_directory
from rad3d.synthetic.phantom.cohort import seed_of
from rad3d.synthetic.truth import draw_truth
from rad3d.train.demo_build import phantom_reports
from rad3d.train.demo_plan import FULL
from rad3d.train.loop import LoopConfig, Progress
from rad3d.train.pairs import PairedFeatures, TrainingData, hold_out
from rad3d.train.single import Place, train_single
from rad3d.train.variant_training import VariantTraining

HELD_OUT_SHARE = 0.1
VALIDATIONS = 16
"""How often the held-out pairs are measured on the way."""

SHARED = ("encoders", "llms")
"""Folders of models that the study's variants use and do not change."""


@dataclass(frozen=True)
class StudyTraining:
    """Trains cells.

    Attributes:
        folder: of the study: models and training runs.
        models_dir: of the models in use.
        features: encode the training phantoms, where they are not stored.
        steps: of every training; 0 is the language model's own schedule.
    """

    folder: Path
    models_dir: Path
    features: FeatureSource
    steps: int = 0

    @property
    def own_models(self) -> Path:
        """The models folder of the study."""
        return self.folder / "models"

    def prepare(self) -> None:
        """Make the models folder of the study."""
        self.own_models.mkdir(parents=True, exist_ok=True)
        for name in SHARED:
            link = self.own_models / name
            if not link.exists():
                link.symlink_to((self.models_dir / name).resolve(), target_is_directory=True)

    def schedule(self, cell: Cell) -> VariantTraining:
        """The schedule of a cell: that of the shipped variants, with its own seed and no views."""
        if cell.llm not in FULL.variants:
            raise BadRequest(
                f"There is no schedule for {cell.llm}.",
                f"Choose among {', '.join(FULL.variants)}.",
                code="bad_option",
            )
        training = FULL.schedule(cell.llm, cell.mode)

        def changed(loop: LoopConfig) -> LoopConfig:
            steps = self.steps or loop.steps
            every = max(steps // VALIDATIONS, 1)
            warmup = min(loop.warmup, steps // 4)
            return replace(loop, steps=steps, seed=cell.seed, validate_every=every, warmup=warmup)

        return replace(
            training, views=1, loop=changed(training.loop), tuned_loop=changed(training.tuned_loop)
        )

    def trained(self, cell: Cell) -> VariantConfig | None:
        """The variant of a cell where it has been trained by this schedule."""
        try:
            config = VariantConfig.read(variant_directory(self.own_models, cell.variant))
        except (Rad3dError, ValueError, TypeError):
            return None
        loop = self.schedule(cell).schedule(config.mode_row)
        same = config.training.get("steps") == loop.steps
        return config if same and config.pairs == cell.pairs else None

    def train(self, cell: Cell, progress: Progress) -> Path:
        """Train a cell, or go on where it was stopped; returns the folder of its variant."""
        place = Place(
            self.own_models,
            self.folder / "train" / cell.variant.replace("/", "-"),
            replace=True,
            tag=variant_tag(cell.variant),
        )
        return train_single(
            self._data(cell), cell.llm, cell.mode, self.schedule(cell), place, progress
        )

    def _data(self, cell: Cell) -> TrainingData:
        """The pairs of a cell, drawn by its seed; every mode learns from the same ones."""
        samples = TRAINING.scans()
        for _ in self.features.encode(TRAINING.id, samples, cell.encoder):
            pass
        table = self.features.features(TRAINING.id, samples, cell.encoder)
        rows = drawn(len(table.ids), cell)
        truths = [draw_truth(seed_of(table.ids[row]), TRAINING.domain) for row in rows]
        taken = PairedFeatures(
            table.embedding[rows, None],
            None if table.logits is None else table.logits[rows, None],
            phantom_reports(truths),
            [table.ids[row] for row in rows],
            self.features.identity(cell.encoder),
            head_sha256(cell.encoder, self.own_models),
            tokens=None if table.tokens is None else table.tokens[rows, None],
            details=None if table.details is None else table.details[rows, None],
        )
        if "findings" in MODES[cell.mode].reads:
            models = ModelStore(Settings(models_dir=self.own_models))
            taken = taken.diagnosed(models.encoder(cell.encoder))
        learned, held = hold_out(taken, HELD_OUT_SHARE, cell.seed)
        source = {"phantoms": TRAINING.id, "study": cell.variant}
        return TrainingData(taken.take(learned), taken.take(held), source)


def drawn(available: int, cell: Cell) -> list[int]:
    """The rows of a cell's pairs among those available; of fewer pairs, some of the same."""
    order = np.random.default_rng([cell.seed, 7]).permutation(available)
    return [int(row) for row in order[: cell.pairs]]
