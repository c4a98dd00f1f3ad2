"""Tables of features: those of many scans in one small file.

A file of features is a safetensors file with ``embedding`` (N, D), ``logits`` (N, L) where the
encoder has a head, ``details`` (N, A) and ``tokens`` (N, T, C) where they are kept, and, as its
metadata, the L labels, the cases' ids, the encoder's id, the SHA-256 of its weights and the id of
its model grid. It is used only by the encoder with these weights. Many thousand scans, encoded by
several processes, go into a folder of such files. Both are read as a store,
:mod:`rad3d.features.shards`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rad3d.core.errors import BadRequest
from rad3d.core.file_kind import SAFETENSORS, UNKNOWN, what_is
from rad3d.core.files import write_whole
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.types import FloatArray
from rad3d.model.identity import EncoderIdentity

SCHEMA_ID = "rad3d-features/1"


class Row(NamedTuple):
    """What an encoder saw in one scan.

    Attributes:
        embedding: (D,).
        logits: (L,) of the labels; None where the encoder has no head.
        details: (A,) raw logits of their attributes, where a head reads them from the tokens.
        tokens: (T, C) visual tokens, where they are kept.
    """

    embedding: FloatArray
    logits: FloatArray | None = None
    details: FloatArray | None = None
    tokens: FloatArray | None = None

    @property
    def readings(self) -> FloatArray | None:
        """(L + A,) what :meth:`LoadedEncoder.diagnose` takes beside the embedding."""
        if self.logits is None or self.details is None:
            return None
        return np.concatenate((self.logits, self.details))


OPTIONAL = Row._fields[1:]
"""Arrays that not every encoder gives."""


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of many scans.

    Attributes:
        ids: of the cases, in order.
        embedding: (N, D) float32.
        logits: (N, L) float32; None where the encoder has no head.
        failures: id -> why the scan could not be encoded; such a case has no row.
        label_set: the L labels.
        details: (N, A) float32, and tokens (N, T, C) float32, see :class:`Row`.
    """

    ids: tuple[str, ...]
    embedding: FloatArray
    logits: FloatArray | None
    failures: Mapping[str, str] = field(default_factory=dict)
    label_set: LabelSet = CT_RATE
    details: FloatArray | None = None
    tokens: FloatArray | None = None

    def __post_init__(self) -> None:
        n = len(self.ids)
        shapes = [self.embedding.shape, *(array.shape for array in self.optional.values())]
        wrong = self.embedding.ndim != 2 or len(set(self.ids)) != n
        wrong |= self.logits is not None and self.logits.shape != (n, len(self.label_set))
        if wrong or any(shape[0] != n for shape in shapes):
            raise BadRequest(
                f"Features of {n} cases have the shapes {' and '.join(map(str, shapes))}.",
                code="bad_features",
            )

    @property
    def optional(self) -> dict[str, FloatArray]:
        """The arrays beside the embedding that there are, by name."""
        arrays = {name: getattr(self, name) for name in OPTIONAL}
        return {name: array for name, array in arrays.items() if array is not None}

    @property
    def rows(self) -> dict[str, Row]:
        """Id -> what was seen, in order."""
        arrays = self.optional
        return {
            id_: Row(self.embedding[i], **{name: array[i] for name, array in arrays.items()})
            for i, id_ in enumerate(self.ids)
        }


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
        half: keep embeddings and tokens as float16.
    """
    kept = np.float16 if half else np.float32
    tensors: dict[str, FloatArray] = {"embedding": np.ascontiguousarray(table.embedding, kept)}
    for name, array in table.optional.items():
        narrow = half and name == "tokens"
        tensors[name] = np.ascontiguousarray(array, np.float16 if narrow else np.float32)
    if table.logits is not None:
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
        embedding, logits = arrays["embedding"], arrays.get("logits")
        rest = (LabelSet.from_plain(labels), arrays.get("details"), arrays.get("tokens"))
        return FeatureTable(ids, embedding, logits, {}, *rest)


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
    """The table of these rows, in their order; of the rest only what every row has.

    Logits count where they are of the set.
    """
    n = len(label_set)
    if not rows:
        empty = np.empty((0, 0), np.float32), np.empty((0, n), np.float32)
        return FeatureTable((), *empty, dict(failures), label_set)
    columns = dict(zip(Row._fields, zip(*rows.values(), strict=True), strict=True))
    embedding = np.stack(columns.pop("embedding"), dtype=np.float32)
    if any(logits is None or len(logits) != n for logits in columns["logits"]):
        del columns["logits"]
    optional = {
        name: np.stack(column, dtype=np.float32)
        for name, column in columns.items()
        if all(value is not None for value in column)
    }
    logits = optional.pop("logits", None)
    return FeatureTable(tuple(rows), embedding, logits, dict(failures), label_set, **optional)
