"""The work behind ``rad3d eval features``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from rad3d.commands import say
from rad3d.commands.eval_study import open_evaluations
from rad3d.core.registry import SHIPPED_ENCODER
from rad3d.core.settings import Settings

if TYPE_CHECKING:
    from rad3d.data.sample_sets import PhantomSplit
    from rad3d.evaluation.service import Evaluations
    from rad3d.features.table import FeatureTable

PROOFS = 2
"""Cases that are encoded again before the features of a build are believed."""

TOLERANCE = 0.02
"""Largest difference of a component: a build sees voxels rounded to whole HU."""


def run(args: argparse.Namespace) -> int:
    """Write one file for each set and print its path."""
    from rad3d.data.sample_sets import PHANTOM_SPLITS
    from rad3d.evaluation.service import STUDY_DIR
    from rad3d.features.table import write_features

    settings = Settings.from_env()
    evaluations = open_evaluations()
    directory = args.out or STUDY_DIR / "features"
    built = dict(_built(settings))
    for row in PHANTOM_SPLITS.values():
        found = built.get(row.id)
        if found is None or not _is_proven(evaluations, row, found):
            say(f"{row.id}: encoding {row.n} scans")
            found = _encoded(evaluations, row)
        path = directory / f"{row.id}.safetensors"
        write_features(
            path,
            ids=found.ids,
            embedding=found.embedding,
            logits=found.logits,
            encoder=evaluations.feature_source.identity(SHIPPED_ENCODER),
            half=row.split != "test",
        )
        say(f"{row.id}: {len(found.ids)} cases")
        print(path)
    return 0


def _built(settings: Settings) -> Iterator[tuple[str, FeatureTable]]:
    """The features of the demo build, where it was run here: set id -> features."""
    from rad3d.data.sample_sets import PHANTOM_SPLITS
    from rad3d.features.table import FeatureTable
    from rad3d.train.demo_plan import FULL

    rows = {(row.domain, row.first): row for row in PHANTOM_SPLITS.values()}
    for split in FULL.splits:
        row = rows.get((split.domain, split.first))
        path = settings.runs_dir / FULL.name / "features" / f"{split.name}.npz"
        if row is None or not path.is_file():
            continue
        with np.load(path) as file:
            embedding, logits = file["pooled"][:, 0], file["logits"][:, 0]
        ids = tuple(sample.id for sample in row.scans()[: len(embedding)])
        yield row.id, FeatureTable(ids, embedding[: len(ids)], logits[: len(ids)])


def _is_proven(evaluations: Evaluations, row: PhantomSplit, found: FeatureTable) -> bool:
    """Whether the first cases, encoded now, look the same."""
    samples = row.scans()[:PROOFS]
    seen = evaluations.feature_source.fresh(samples, SHIPPED_ENCODER)
    ours = found.embedding[:PROOFS]
    same = seen.embedding.shape == ours.shape and np.abs(seen.embedding - ours).max() < TOLERANCE
    if not same:
        say(f"{row.id}: the features of the build are of another encoder")
    return bool(same)


def _encoded(evaluations: Evaluations, row: PhantomSplit) -> FeatureTable:
    samples = row.scans()
    for done in evaluations.feature_source.encode(row.id, samples, SHIPPED_ENCODER):
        if done % 20 == 0:
            say(f"{row.id}: {done} scans encoded")
    return evaluations.feature_source.features(row.id, samples, SHIPPED_ENCODER)
