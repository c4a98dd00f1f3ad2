"""Tables of features: those of many scans in one small file.

A file of features is a safetensors file with ``embedding`` (N, D), ``logits`` (N, L) where the
encoder has a head, and, as its metadata, the L labels, the cases' ids, the encoder's id, the
SHA-256 of its weights and the id of its model grid. It is used only by the encoder with these
weights. Many thousand scans, encoded by several processes, go into a folder of such files. Both are
read as a store, :mod:`rad3d.features.shards`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rad3d.core.errors import BadRequest
from rad3d.core.file_kind import SAFETENSORS, UNKNOWN, what_is
from rad3d.core.files import write_whole
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.model.identity import EncoderIdentity

SCHEMA_ID = "rad3d-features/1"
FloatArray = npt.NDArray[np.floating[Any]]
Row = tuple[FloatArray, FloatArray | None]
"""(D,) embedding and (L,) logits of one scan; None where the encoder has no head."""


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of many scans.

    Attributes:
        ids: of the cases, in order.
        embedding: (N, D) float32.
        logits: (N, L) float32; None where the encoder has no head.
        failures: id -> why the scan could not be encoded; such a case has no row.
        label_set: the L labels.
    """

    ids: tuple[str, ...]
    embedding: FloatArray
    logits: FloatArray | None
    failures: Mapping[str, str] = field(default_factory=dict)
    label_set: LabelSet = CT_RATE

    def __post_init__(self) -> None:
        n = len(self.ids)
        shapes = [self.embedding.shape, *([] if self.logits is None else [self.logits.shape])]
        wrong = self.embedding.ndim != 2 or len(self.embedding) != n or len(set(self.ids)) != n
        if wrong or shapes[1:] not in ([], [(n, len(self.label_set))]):
            raise BadRequest(
                f"Features of {n} cases have the shapes {' and '.join(map(str, shapes))}.",
                code="bad_features",
            )

    @property
    def rows(self) -> dict[str, Row]:
        """Id -> embedding and logits, in order."""
        logits = [None] * len(self.ids) if self.logits is None else self.logits
        return dict(zip(self.ids, zip(self.embedding, logits, strict=True), strict=True))


def write_features(
    path: Path, table: FeatureTable, encoder: EncoderIdentity, half: bool = False
) -> None:
    """Write a file of features in one step.

    Args:
        path: ends with ``.safetensors``; its folder is made if need be.
        table: the features, and why others have none.
        encoder: whose they are.
        half: keep the embeddings as float16. Good for look-ups over thousands of cases; reports are
            written from float32, so that they are those of the app.
    """
    about = {"ids": json.dumps(table.ids), "failures": json.dumps(dict(table.failures))}
    write_tensors(path, table, {"schema": SCHEMA_ID, **about}, encoder, half)


def write_tensors(
    path: Path,
    table: FeatureTable,
    about: dict[str, str],
    encoder: EncoderIdentity,
    half: bool = False,
) -> None:
    """Write the arrays of a table as safetensors in one step: there is all of it, or none.

    Args:
        path: its folder is made if need be.
        table: the arrays.
        about: metadata beside the encoder's identity.
        encoder: whose they are.
        half: keep the embeddings as float16.
    """
    kept = np.float16 if half else np.float32
    tensors: dict[str, FloatArray] = {"embedding": np.ascontiguousarray(table.embedding, kept)}
    if table.logits is not None:
        tensors["logits"] = np.ascontiguousarray(table.logits, np.float32)
        about = {**about, "label_set": json.dumps(table.label_set.to_plain())}
    whose = {"encoder": encoder.id, "encoder_sha256": encoder.sha256}
    whose["preprocessing"] = encoder.preprocessing
    write_whole(path, save(tensors, metadata={**about, **whose}))


def read_about(path: Path, schema: str) -> tuple[EncoderIdentity, dict[str, str]]:
    """Identity of the encoder in a file of :func:`write_tensors`, and the file's metadata.

    Raises:
        BadRequest: the file is damaged, or of another schema.
    """
    with plainly(path), safe_open(path, framework="numpy") as file:
        about = file.metadata() or {}
        if about.get("schema") != schema:
            raise ValueError("another schema")
        whose = (about["encoder"], about["encoder_sha256"], about["preprocessing"])
        return EncoderIdentity(*whose), about


def read_tensors(path: Path, ids: tuple[str, ...]) -> FeatureTable:
    """The arrays that :func:`write_tensors` wrote, as rows of these ids, in float32.

    Raises:
        BadRequest: the file is damaged, or has another number of rows.
    """
    with plainly(path), safe_open(path, framework="numpy") as file:
        names = file.keys()
        arrays = {name: file.get_tensor(name).astype(np.float32) for name in names}
        labels = json.loads((file.metadata() or {}).get("label_set", "null"))
        return FeatureTable(
            ids, arrays["embedding"], arrays.get("logits"), label_set=LabelSet.from_plain(labels)
        )


@contextmanager
def plainly(path: Path) -> Iterator[None]:
    """One sentence for everything that a damaged file can raise."""
    try:
        yield
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, OSError) as error:
        kind = what_is(path) if path.is_file() else UNKNOWN
        what = "damaged, or" if kind in (UNKNOWN, SAFETENSORS) else f"{kind.what}, and"
        raise BadRequest(
            f"{path.name} is {what} no file of features.",
            "Give another; one that an earlier run has kept can be removed.",
            code="bad_features",
        ) from error


def gathered(
    rows: Mapping[str, Row], failures: Mapping[str, str], label_set: LabelSet = CT_RATE
) -> FeatureTable:
    """The table of these rows, in their order; logits only where every row has those of the set."""
    if not rows:
        empty = np.empty((0, 0), np.float32), np.empty((0, len(label_set)), np.float32)
        return FeatureTable((), *empty, dict(failures), label_set)
    embedding = np.stack([row[0] for row in rows.values()]).astype(np.float32)
    n = len(label_set)
    with_logits = [row[1] for row in rows.values() if row[1] is not None and len(row[1]) == n]
    logits = np.stack(with_logits).astype(np.float32) if len(with_logits) == len(rows) else None
    return FeatureTable(tuple(rows), embedding, logits, dict(failures), label_set)
