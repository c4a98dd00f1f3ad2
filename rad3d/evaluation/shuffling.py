"""Every case with the report of another one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rad3d.data.samples import PredictionSet


def shuffled(predictions: PredictionSet, name: str, seed: int) -> PredictionSet:
    """Give every case the prediction of another case; none keeps its own."""
    rows = predictions.predictions
    order = derangement(len(rows), seed)
    moved = tuple(
        replace(rows[source], id=case.id, seconds=None)
        for case, source in zip(rows, order, strict=True)
    )
    facts = {**predictions.facts, "control": "image-shuffled", "shuffle_seed": seed}
    return PredictionSet(name, predictions.sample_set, moved, facts)


def derangement(n: int, seed: int) -> list[int]:
    """Return a permutation of ``n`` places without fixed points, for ``n`` of 2 or more."""
    order = np.random.default_rng(seed).permutation(n)
    moved = np.empty(n, dtype=np.int64)
    moved[order] = np.roll(order, 1)
    return [int(place) for place in moved]
