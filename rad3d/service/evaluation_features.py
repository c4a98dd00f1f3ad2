"""What an encoder saw in every case of a sample set, computed once and kept in one small file.

A file of features is a safetensors file with ``embedding`` (N, D) and ``logits`` (N, 18) and, as
its metadata, the cases' ids, the encoder's id, the SHA-256 of its weights and the id of its model
grid. It is used only by the encoder with these weights; any other encodes the scans again, and what
it finds is kept below the runs folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from rad3d.errors import BadRequest, Rad3dError
from rad3d.eval.samples import Sample
from rad3d.labels import N_LABELS
from rad3d.model.cache import ByteCache
from rad3d.model.engine import Engine
from rad3d.model.store import ModelStore
from rad3d.registry import ENCODERS, lookup
from rad3d.types import Volume

SCHEMA_ID = "rad3d-features/1"
SAVE_EVERY = 20
"""Scans between two saves, so that an interrupted run loses little."""

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
class SetFeatures:
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


def write_set_features(
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
    found = SetFeatures(tuple(ids), np.asarray(embedding), np.asarray(logits), failures or {})
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


def read_set_features(path: Path, encoder: EncoderIdentity) -> SetFeatures | None:
    """The features in a file; None where there is no file, or one of another encoder.

    Raises:
        BadRequest: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            if about.get("schema") != SCHEMA_ID:
                raise BadRequest(f"{path.name} is no file of features.", code="bad_features")
            kept = EncoderIdentity(
                about["encoder"], about["encoder_sha256"], about["preprocessing"]
            )
            if kept != encoder:
                return None
            return SetFeatures(
                tuple(json.loads(about["ids"])),
                file.get_tensor("embedding").astype(np.float32),
                file.get_tensor("logits").astype(np.float32),
                json.loads(about["failures"]),
            )
    except (SafetensorError, KeyError, ValueError) as error:
        raise BadRequest(
            f"The features in {path.name} cannot be read.", "Remove the file.", code="bad_features"
        ) from error


class FeatureSource:
    """Features of sample sets: from a shipped file, from an earlier run, or by encoding the scans.

    Args:
        store: the encoders.
        shipped_dir: files that come with the project, called after their set.
        kept_dir: receives what is computed here.
        open_scan: a sample -> its volume; raises Rad3dError where that cannot be.
    """

    def __init__(
        self,
        store: ModelStore,
        shipped_dir: Path,
        kept_dir: Path,
        open_scan: Callable[[Sample], Volume],
    ) -> None:
        self._store = store
        self._shipped, self._kept = shipped_dir, kept_dir
        self._open = open_scan
        self._identities: dict[str, EncoderIdentity] = {}
        # One that keeps nothing beyond the scan it is at: thousands pass through.
        self._engine = Engine(store, ByteCache(0))

    def identity(self, encoder_id: str) -> EncoderIdentity:
        """Which weights an encoder has; they are hashed once."""
        if encoder_id not in self._identities:
            self._identities[encoder_id] = encoder_identity(self._store, encoder_id)
        return self._identities[encoder_id]

    def features(self, set_id: str, samples: Sequence[Sample], encoder_id: str) -> SetFeatures:
        """What is known of these samples, in their order; :meth:`encode` makes it all of them."""
        rows, failures = self._known(set_id, samples, encoder_id)
        return _gathered(
            {s.id: rows[_key(s)] for s in samples if _key(s) in rows},
            {s.id: failures[_key(s)] for s in samples if _key(s) in failures},
        )

    def missing(self, set_id: str, samples: Sequence[Sample], encoder_id: str) -> int:
        """How many of the samples would have to be encoded."""
        found = self.features(set_id, samples, encoder_id)
        return len(samples) - len(found.ids) - len(found.failures)

    def encode(self, set_id: str, samples: Sequence[Sample], encoder_id: str) -> Iterator[int]:
        """Encode what has not been encoded; yields how many scans are done after each.

        A scan that cannot be read is remembered with the reason. Closing the iterator keeps what
        is done.
        """
        rows, failures = self._known(set_id, samples, encoder_id)
        todo = [s for s in samples if _key(s) not in rows and _key(s) not in failures]
        saved = done = 0
        try:
            for sample in todo:
                try:
                    rows[_key(sample)] = self._encode(sample, encoder_id)
                except Rad3dError as error:
                    failures[_key(sample)] = error.problem
                done += 1
                if done - saved == SAVE_EVERY:
                    self._save(set_id, samples, encoder_id, rows, failures)
                    saved = done
                yield done
        finally:
            if done > saved:
                self._save(set_id, samples, encoder_id, rows, failures)

    def fresh(self, samples: Sequence[Sample], encoder_id: str) -> SetFeatures:
        """Encode samples now, whatever is known of them; raises where a scan cannot be read."""
        return _gathered({s.id: self._encode(s, encoder_id) for s in samples}, {})

    def _encode(self, sample: Sample, encoder_id: str) -> Row:
        features = self._engine.features(self._open(sample), encoder_id)
        return features.pooled, self._engine.diagnose(features).logits

    def blank(self, encoder_id: str) -> Row:
        """Embedding and logits of a scan that holds nothing but air, made as of any other scan."""
        air = np.full((64, 64, 64), -1000, dtype=np.int16)
        features = self._engine.features(
            Volume.from_array(air, np.diag([5.0, 5.0, 5.0, 1.0])), encoder_id
        )
        return features.pooled, self._engine.diagnose(features).logits

    def _known(
        self, set_id: str, samples: Sequence[Sample], encoder_id: str
    ) -> tuple[dict[str, Row], dict[str, str]]:
        """Rows and failures of the shipped file and of earlier runs."""
        identity = self.identity(encoder_id)
        rows: dict[str, Row] = {}
        failures: dict[str, str] = {}
        for path in (
            self._shipped / f"{set_id}.safetensors",
            self._path(set_id, samples, encoder_id),
        ):
            if found := read_set_features(path, identity):
                pairs = zip(found.embedding, found.logits, strict=True)
                rows |= dict(zip(found.ids, pairs, strict=True))
                failures |= found.failures
        return rows, failures

    def _save(
        self,
        set_id: str,
        samples: Sequence[Sample],
        encoder_id: str,
        rows: Mapping[str, Row],
        failures: Mapping[str, str],
    ) -> None:
        found = _gathered(rows, failures)
        write_set_features(
            self._path(set_id, samples, encoder_id),
            ids=found.ids,
            embedding=found.embedding,
            logits=found.logits,
            encoder=self.identity(encoder_id),
            failures=failures,
        )

    def _path(self, set_id: str, samples: Sequence[Sample], encoder_id: str) -> Path:
        """Named by the set, where its scans lie, and the encoder's weights."""
        place = Path(samples[0].scan).parent if samples else ""
        key = f"{self.identity(encoder_id).sha256}\0{place}"
        name = f"{set_id}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        return self._kept / f"{name}.safetensors"


def _gathered(rows: Mapping[str, Row], failures: Mapping[str, str]) -> SetFeatures:
    if not rows:
        empty = np.empty((0, 0), np.float32), np.empty((0, N_LABELS), np.float32)
        return SetFeatures((), *empty, dict(failures))
    embedding = np.stack([row[0] for row in rows.values()]).astype(np.float32)
    logits = np.stack([row[1] for row in rows.values()]).astype(np.float32)
    return SetFeatures(tuple(rows), embedding, logits, dict(failures))


def _key(sample: Sample) -> str:
    """The id, and for a file its size and time, so that a changed scan is encoded again."""
    path = Path(sample.scan)
    if not path.is_absolute() or not path.is_file():  # none, or one that is rendered
        return sample.id
    stat = path.stat()
    return f"{sample.id}\0{stat.st_size}\0{stat.st_mtime_ns}"
