"""An evaluation on tiny random models and made-up features: no scan is rendered or encoded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from tiny_models import LATENT_DIM, CountingEncoder, FakeEncoderStore, save_shipped

from rad3d.core.settings import Settings
from rad3d.core.types import GenerationOptions
from rad3d.data.sample_sets import PHANTOM_SPLITS
from rad3d.data.spec import SetSpec
from rad3d.evaluation.evaluations import Evaluations
from rad3d.evaluation.run_types import EvaluationEvent, EvaluationRequest, EvaluationRun
from rad3d.evaluation.system_names import CONTROLS
from rad3d.features.encoder_features import encoder_identity
from rad3d.features.table import FeatureTable, write_features
from rad3d.service.service import Service

TRAINING_N = 40
TEST_N = 6

V3, V2 = "phantom-s/v3", "phantom-s/v2"
OPTIONS = GenerationOptions(max_new_tokens=40)
REQUEST = EvaluationRequest(
    sets=(SetSpec("phantom-in"), SetSpec("phantom-out")),
    variants=(V3, V2),
    controls=tuple(CONTROLS),
    metrics=("f1_macro", "crg", "factuality"),
    options=OPTIONS,
    limit=TEST_N,
    draws=50,
)
SMALL = replace(REQUEST, sets=(SetSpec("phantom-in"),), variants=(V3,), controls=())


def embeddings(labels: np.ndarray, seed: int) -> np.ndarray:
    """(N, 32) embeddings from which :class:`CountingEncoder` reads the labels without an error."""
    rng = np.random.default_rng(seed)
    noise = rng.uniform(0.4, 1.0, (len(labels), LATENT_DIM)).astype(np.float32)
    signs = np.where(rng.random(noise.shape) < 0.5, -1, 1)
    signs[:, : labels.shape[1]] = 2 * labels - 1
    return noise * signs


def write_study_features(directory: Path, store: FakeEncoderStore) -> None:
    """Files of features for both shipped sets and the training split."""
    identity = encoder_identity(store, "phantom-cnn")
    sizes = {"phantom-in": TEST_N, "phantom-out": TEST_N, "phantom-train": TRAINING_N}
    for seed, (name, n) in enumerate(sizes.items()):
        samples = PHANTOM_SPLITS[name].sample_set(n).samples
        embedding = embeddings(np.array([sample.labels for sample in samples]), seed)
        write_features(
            directory / f"{name}.safetensors",
            FeatureTable(tuple(s.id for s in samples), embedding, embedding[:, :18] * 4),
            identity,
        )


def small_evaluations(folder: Path, host: str = "") -> Evaluations:
    """Evaluations on tiny variants of phantom-s, with everything below ``folder``.

    Args:
        folder: of models, features and runs.
        host: where an app for others listens; empty is a terminal of this machine.
    """
    models = folder / "models"
    if not models.is_dir():
        save_shipped(models)
    settings = Settings(
        models_dir=models, runs_dir=folder / "runs", work_dir=folder / "work",
        host=host or "127.0.0.1",
    )  # fmt: skip
    store = FakeEncoderStore(settings, CountingEncoder())
    write_study_features(folder / "study" / "features", store)
    service = Service(settings, store, samples_dir=folder / "none")
    return Evaluations(service, settings, study_dir=folder / "study", trusted=not host)


def finished(events: Iterator[EvaluationEvent]) -> EvaluationRun:
    """Follow a run to its end."""
    last = list(events)[-1]
    assert last.run is not None
    return last.run


def texts(run: EvaluationRun, system: str, sample_set: str = "phantom-in") -> list[str]:
    """The reports of a system."""
    return [p.text for p in run.predictions[system, sample_set].predictions]


def predictions_file(folder: Path, name: str, rows: list[dict[str, str]]) -> Path:
    """A file of JSON lines."""
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
