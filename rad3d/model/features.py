"""Tables of features: what an encoder saw in many scans, kept in one small file.

A file of features is a safetensors file with ``embedding`` (N, D) and ``logits`` (N, 18) and, as
its metadata, the cases' ids, the encoder's id, the SHA-256 of its weights and the id of its model
grid. It is used only by the encoder with these weights.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from rad3d.errors import BadRequest
from rad3d.labels import N_LABELS
from rad3d.model.store import ModelStore
from rad3d.registry import ENCODERS, lookup

SCHEMA_ID = "rad3d-features/1"

FloatArray = npt.NDArray[np.floating[Any]]
Row = tuple[FloatArray, FloatArray]
"""(D,) embedding and (18,) logits of one scan."""


@dataclass(frozen=True)
class EncoderIdentity:
    """Which weights saw the scans: features of other weights are of no use."""

    id: str
    sha256: str
    preprocessing: str


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """What an encoder saw.

    Attributes:
        ids: of the cases, in order.
        embedding: (N, D) float32.
        logits: (N, 18) float32.
        failures: id -> why the scan could not be encoded; such a case has no row.
    """

    ids: tuple[str, ...]
    embedding: FloatArray
    logits: FloatArray
    failures: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.ids)
        wrong = self.embedding.ndim != 2 or len(self.embedding) != n
        if wrong or self.logits.shape != (n, N_LABELS) or len(set(self.ids)) != n:
            raise BadRequest(
                f"Features of {n} cases have the shapes {self.embedding.shape} and "
                f"{self.logits.shape}.",
                code="bad_features",
            )


def encoder_identity(store: ModelStore, encoder_id: str) -> EncoderIdentity:
    """Id, weights and grid of an encoder; raises MissingWeights where it is not here."""
    folder = store.models_dir / lookup("encoder", ENCODERS, encoder_id).source
    weights = sorted(folder.glob("*.safetensors"))
    digest = hashlib.sha256()
    for path in weights:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return EncoderIdentity(encoder_id, digest.hexdigest(), store.encoder(encoder_id).grid.id)


def write_features(
    path: Path,
    *,
    ids: Sequence[str],
    embedding: FloatArray,
    logits: FloatArray,
    encoder: EncoderIdentity,
    failures: Mapping[str, str] | None = None,
    half: bool = False,
) -> None:
    """Write a file of features in one step.

    Args:
        path: ends with ``.safetensors``; its folder is made if need be.
        ids: of the cases, such as ``"in-030000"``.
        embedding: (N, D).
        logits: (N, 18).
        encoder: whose they are.
        failures: id -> why a scan has no row.
        half: keep the embeddings as float16. Good for look-ups over thousands of cases; reports are
            written from float32, so that they are those of the app.
    """
    found = FeatureTable(tuple(ids), np.asarray(embedding), np.asarray(logits), failures or {})
    tensors = {
        "embedding": np.ascontiguousarray(found.embedding, np.float16 if half else np.float32),
        "logits": np.ascontiguousarray(found.logits, np.float32),
    }
    about = {
        "schema": SCHEMA_ID,
        "encoder": encoder.id,
        "encoder_sha256": encoder.sha256,
        "preprocessing": encoder.preprocessing,
        "ids": json.dumps(found.ids),
        "failures": json.dumps(dict(found.failures)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    save_file(tensors, part, metadata=about)
    os.replace(part, path)


def load_features(path: Path) -> tuple[EncoderIdentity, FeatureTable]:
    """A file of features and whose they are.

    Raises:
        BadRequest: there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise BadRequest(f"There is no file {path}.", "Check the path.", code="no_file")
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            if about.get("schema") != SCHEMA_ID:
                raise BadRequest(f"{path.name} is no file of features.", code="bad_features")
            identity = EncoderIdentity(
                about["encoder"], about["encoder_sha256"], about["preprocessing"]
            )
            table = FeatureTable(
                tuple(json.loads(about["ids"])),
                file.get_tensor("embedding").astype(np.float32),
                file.get_tensor("logits").astype(np.float32),
                json.loads(about["failures"]),
            )
    except (SafetensorError, KeyError, ValueError) as error:
        raise BadRequest(
            f"The features in {path.name} cannot be read.", "Remove the file.", code="bad_features"
        ) from error
    return identity, table


def read_features(path: Path, encoder: EncoderIdentity) -> FeatureTable | None:
    """The features in a file; None where there is no file, or one of another encoder.

    Raises:
        BadRequest: the file is damaged.
    """
    if not path.is_file():
        return None
    identity, table = load_features(path)
    return table if identity == encoder else None


def gathered(rows: Mapping[str, Row], failures: Mapping[str, str]) -> FeatureTable:
    """The table of these rows, in their order."""
    if not rows:
        empty = np.empty((0, 0), np.float32), np.empty((0, N_LABELS), np.float32)
        return FeatureTable((), *empty, dict(failures))
    embedding = np.stack([row[0] for row in rows.values()]).astype(np.float32)
    logits = np.stack([row[1] for row in rows.values()]).astype(np.float32)
    return FeatureTable(tuple(rows), embedding, logits, dict(failures))
