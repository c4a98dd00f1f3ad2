"""Brings features that were made elsewhere into a store.

What they were made with is what a person says, and is recorded as that: the hash of the weights is
not known. So they are used only where somebody names the store.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import BadRequest
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.lookup import lookup
from rad3d.features.extract import Summary
from rad3d.features.foreign import SUFFIXES, case_of, read_foreign
from rad3d.features.scans import files_below
from rad3d.features.shard_writer import ShardWriter
from rad3d.features.shards import Case, Failed, FeatureStore, SourceFile
from rad3d.features.table import FloatArray, Row
from rad3d.model.identity import IMPORTED, EncoderIdentity

SHARD_SIZE = 1024


def imported_identity(encoder_id: str) -> EncoderIdentity:
    """Features of an encoder's kind, of weights that nobody knows."""
    return EncoderIdentity(lookup("encoder", ENCODERS, encoder_id).id, IMPORTED, "")


def import_features(
    store: FeatureStore,
    paths: Sequence[Path],
    logits: Mapping[str, FloatArray] | None = None,
    label_set: LabelSet = CT_RATE,
) -> Summary:
    """Add features from files.

    Args:
        store: of :func:`imported_identity`.
        paths: ``.npz`` files of many scans, files of one scan, and folders of such files.
        logits: id -> (L,) logits, where they come from elsewhere.
        label_set: the L labels of the logits.

    Raises:
        BadRequest: there is no such path, or a scan is there twice. A file that cannot be used is
            a failure of the scan that it is called after.
    """
    began = time.monotonic()
    dimensions = ENCODERS[store.identity.id].embedding_dim
    writer = ShardWriter(
        store, SHARD_SIZE, facts={"imported": "as stated by hand"}, label_set=label_set
    )
    summary = Summary()
    ids: set[str] = set()
    for path in _files(paths):
        for id_, row in _rows(path, dimensions, logits, label_set).items():
            if id_ in ids:
                raise BadRequest(
                    f"{id_} is there twice, the second time in {path.name}.",
                    "Import each scan once.",
                    code="duplicate_names",
                )
            ids.add(id_)
            summary += Summary(scans=1) + _added(writer, store, id_, row, SourceFile.of(path))
    writer.flush()
    return summary + Summary(seconds=time.monotonic() - began)


def _rows(
    path: Path, dimensions: int, logits: Mapping[str, FloatArray] | None, label_set: LabelSet
) -> dict[str, Row | BadRequest]:
    """Id -> what the file holds of it, or what is wrong with that."""
    try:
        rows = read_foreign(path, dimensions, label_set).rows
    except BadRequest as error:
        return {case_of(path): error}
    if logits is not None:
        rows = {id_: row._replace(logits=logits.get(id_)) for id_, row in rows.items()}
    return {id_: _problem(row, logits is not None) or row for id_, row in rows.items()}


def _problem(row: Row, needs_logits: bool) -> BadRequest | None:
    if needs_logits and row.logits is None:
        return BadRequest("It is not in the table of logits.", code="no_logits")
    if not all(np.isfinite(numbers).all() for numbers in row if numbers is not None):
        text = "Its features hold something that is no number (NaN)."
        return BadRequest(text, code="not_finite")
    return None


def _added(
    writer: ShardWriter, store: FeatureStore, id_: str, row: Row | BadRequest, file: SourceFile
) -> Summary:
    if isinstance(row, BadRequest):
        writer.fail(id_, Failed(row.problem, row.code, file))
        return Summary(failed=Counter([row.code]))
    case = Case(_content(row), file)
    if store.cases.get(id_) == case:
        return Summary(skipped=1)
    is_new = not writer.holds(case.content)
    writer.add(id_, case, row if is_new else None)
    return Summary(encoded=int(is_new), known=int(not is_new))


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            files = sorted(files_below(path, SUFFIXES))
            if not files:
                raise BadRequest(
                    f"{path} holds no features.",
                    f"Files of features end with {', '.join(SUFFIXES)}.",
                    code="no_file",
                )
            yield from files
        elif path.is_file() and path.suffix in SUFFIXES:
            yield path
        else:
            what = "is no file of features" if path.is_file() else "does not exist"
            raise BadRequest(
                f"{path} {what}.",
                f"Files of features end with {', '.join(SUFFIXES)}.",
                code="no_file",
            )


def _content(row: Row) -> str:
    """Stands for the scan's hash, which is not known: equal features are one row."""
    digest = hashlib.sha256()
    for numbers in row:
        if numbers is not None:
            digest.update(np.ascontiguousarray(numbers, np.float32).tobytes())
    return f"{IMPORTED}:{digest.hexdigest()}"
