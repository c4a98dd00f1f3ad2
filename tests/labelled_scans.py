"""Scans whose labels an embedding tells, and tables of them, for the tests of heads."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from tiny_models import GRID, LATENT_DIM

from rad3d.core.labels import LABELS, N_LABELS
from rad3d.model.identity import EncoderIdentity
from rad3d.train.heads import HeadOptions
from rad3d.train.labelled import Labelled

QUICK = HeadOptions(folds=2, resamples=20)
OWN_LABELS: dict[str, Any] = {
    "id": "ward-7",
    "name": "Ward 7",
    "labels": [
        "Pleural effusion",
        {"name": "PE", "finding": "Pulmonary embolism", "columns": ["pe_positive"]},
        {"name": "Pneumothorax", "terms": ["pneumothora*"]},
        {"name": "Mass", "short": "M", "terms": ["mass", "soft-tissue lesion"]},
    ],
}
"""A label set of one's own, as in a file; every label can be read from a report."""

IDENTITY = EncoderIdentity("phantom-cnn", "0" * 64, GRID.id)


def separable(n: int = 400, scans: int = 1, dim: int = LATENT_DIM, noise: float = 0.3) -> Labelled:
    """Scans whose label j is present where direction j of the embedding is large."""
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(n, dim))
    directions = np.linalg.qr(rng.normal(size=(dim, N_LABELS)))[0]
    signal = embedding @ directions
    labels = (signal + noise * rng.normal(size=signal.shape) > 0.5).astype(np.int64)
    patients = tuple(f"p{i // scans}" for i in range(n))
    return Labelled("labels.csv", patients, embedding, None, labels)


def table(path: Path, rows: list[list[Any]], header: tuple[str, ...] = ("id",)) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([[*header, *LABELS], *rows])
    return path
