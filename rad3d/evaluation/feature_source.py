"""Features of every case of a sample set, read from a file of features or computed here.

Features are used only by the encoder whose weights made them; any other encodes the scans again,
and what it finds is kept in a store below the runs folder. A store that a person names comes first,
so that its cases need no scans here; where its features were imported, the person's word counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from rad3d.core.encoders import SHIPPED_ENCODER
from rad3d.core.errors import BadRequest
from rad3d.core.ids import matched, scan_id
from rad3d.core.labels import LabelSet
from rad3d.core.types import Volume
from rad3d.data.samples import Sample
from rad3d.features.encoder_features import encode, encoder_identity, logits_of
from rad3d.features.extract import FeatureWork, file_of
from rad3d.features.scans import Scan
from rad3d.features.shards import STORE_FILE, FeatureStore
from rad3d.features.table import FeatureTable, Row, gathered
from rad3d.model.cache import ByteCache
from rad3d.model.encoders.head import HeadedEncoder, differs
from rad3d.model.engine import Engine
from rad3d.model.identity import EncoderIdentity
from rad3d.model.store import ModelStore

SAVE_EVERY = 20
"""Scans between two saves, so that an interrupted run loses little."""


def shipped_name(set_id: str, encoder_id: str) -> str:
    """Return the name of the file with what an encoder sees in a set that ships."""
    return f"{set_id}{'' if encoder_id == SHIPPED_ENCODER else f'.{encoder_id}'}.safetensors"


class FeatureSource:
    """Finds features in a shipped file or an earlier run, and encodes the scans that remain.

    Args:
        store: the encoders.
        shipped_dir: files that come with the project, see :func:`shipped_name`.
        kept_dir: receives what is computed here.
        open_scan: a sample -> its volume; raises Rad3dError where that cannot be.
        given: stores or files of features that a person named, see :meth:`with_given`.
    """

    def __init__(
        self,
        store: ModelStore,
        shipped_dir: Path,
        kept_dir: Path,
        open_scan: Callable[[Sample], Volume],
        given: Sequence[Path] = (),
    ) -> None:
        self._store = store
        self._shipped, self._kept = shipped_dir, kept_dir
        self._open = open_scan
        self._identities: dict[str, EncoderIdentity] = {}
        self._stores = [FeatureStore.open(path) for path in given]
        self._rows_given: dict[str, dict[str, Row]] = {}
        self._sets_given: dict[str, LabelSet] = {}

    def with_given(self, paths: Sequence[Path]) -> FeatureSource:
        """Return this source with stores or files of features that a person named.

        Raises:
            BadRequest: there is none, or it is damaged.
        """
        return FeatureSource(self._store, self._shipped, self._kept, self._open, paths)

    @property
    def given(self) -> tuple[EncoderIdentity, ...]:
        """The encoders of the features that a person named."""
        return tuple(store.identity for store in self._stores)

    def told(self, samples: Sequence[Sample], encoder_id: str) -> str:
        """Say how many samples have features that a person named; empty if none were named."""
        if not self._stores:
            return ""
        rows = self._given_rows(samples, encoder_id)
        text = f"{len(rows)} of {len(samples)} have features given"
        doubt = ", imported: nothing proves whose they are"
        return text + (doubt if any(identity.is_imported for identity in self.given) else "")

    def check_given(self, encoder_ids: Sequence[str]) -> None:
        """Refuse named features that none of these encoders can use."""
        for path, identity in ((store.path, store.identity) for store in self._stores):
            if all(differs(identity, self.identity(id_)) for id_ in encoder_ids):
                raise BadRequest(
                    f"The features in {path.name} are of {identity.id} (weights "
                    f"{identity.sha256[:12]}), and what was chosen listens to "
                    f"{', '.join(encoder_ids) or 'no encoder'}"
                    + (" with other weights." if identity.id in encoder_ids else "."),
                    "Leave out --features, or compute them with the encoder that is used.",
                    code="other_encoder",
                )

    def identity(self, encoder_id: str) -> EncoderIdentity:
        """Return which weights an encoder has; they are hashed once."""
        if encoder_id not in self._identities:
            self._identities[encoder_id] = encoder_identity(self._store, encoder_id)
        return self._identities[encoder_id]

    def features(self, set_id: str, samples: Sequence[Sample], encoder_id: str) -> FeatureTable:
        """Return the known features of these samples, in order; :meth:`encode` adds the rest."""
        rows: dict[str, Row] = {}
        failures: dict[str, str] = {}
        given = self._given_rows(samples, encoder_id)
        files = {s.id: file_of(Path(s.scan)) for s in samples if s.id not in given}
        for store in self._own_stores(set_id, samples, encoder_id):
            table = store.table(id_ for id_, file in files.items() if store.state(id_, file))
            rows |= table.rows
            failures |= table.failures
        rows = {id_: self._judged(encoder_id, row, keep=False) for id_, row in rows.items()} | given
        return gathered(
            {s.id: rows[s.id] for s in samples if s.id in rows},
            {s.id: failures[s.id] for s in samples if s.id in failures and s.id not in rows},
            self._sets_given.get(encoder_id) or self._store.encoder(encoder_id).label_set,
        )

    def _given_rows(self, samples: Sequence[Sample], encoder_id: str) -> dict[str, Row]:
        """Map sample ids to their features of this encoder among the named ones."""
        if encoder_id not in self._rows_given:
            rows: dict[str, Row] = {}
            for store in self._stores:
                if not differs(store.identity, self.identity(encoder_id)):
                    table, own = store.table(), store.identity.is_imported
                    if own and table.logits is not None:
                        self._sets_given.setdefault(encoder_id, table.label_set)
                    rows |= {
                        scan_id(name): self._judged(encoder_id, row, own)
                        for name, row in table.rows.items()
                    }
            self._rows_given[encoder_id] = rows
        known = self._rows_given[encoder_id]
        return {id_: known[k] for id_, k in matched([s.id for s in samples], known).items()}

    def _judged(self, encoder_id: str, row: Row, keep: bool) -> Row:
        """Replace the logits by those of the installed head, which may be newer."""
        encoder = self._store.encoder(encoder_id)
        fitted = isinstance(encoder, HeadedEncoder) and encoder.head.weight is not None
        if row.logits is not None and (keep or not fitted):
            return row
        return row._replace(logits=logits_of(encoder, row.embedding, row.readings))

    def missing(self, set_id: str, samples: Sequence[Sample], encoder_id: str) -> int:
        """Count the samples that still have to be encoded."""
        table = self.features(set_id, samples, encoder_id)
        return len(samples) - len(table.ids) - len(table.failures)

    def encode(self, set_id: str, samples: Sequence[Sample], encoder_id: str) -> Iterator[int]:
        """Encode the remaining scans; yields after each how many are done.

        A scan that cannot be read is remembered with the reason. Closing the iterator keeps what
        is done.
        """
        table = self.features(set_id, samples, encoder_id)
        known = {*table.ids, *table.failures}
        todo = {s.id: s for s in samples if s.id not in known}
        if not todo:
            return

        def read(_: Path, id_: str, __: object) -> Volume:
            volume = self._open(todo[id_])
            volume.check_reportable()  # such a case is counted as one without a report
            return volume

        store = FeatureStore.create(
            self._path(set_id, samples, encoder_id), self.identity(encoder_id)
        )
        scans = [Scan(s.id, Path(s.scan)) for s in todo.values()]
        work = FeatureWork(self._store, encoder_id, store, scans, read, tokens=True)
        with closing(work.run(SAVE_EVERY, stop_after=0)) as steps:
            for step in steps:
                yield step.done

    def blank(self, encoder_id: str) -> Row:
        """Return embedding and logits of a scan that holds nothing but air."""
        air = np.full((64, 64, 64), -1000, dtype=np.int16)
        empty = Volume.from_array(air, np.diag([5.0, 5.0, 5.0, 1.0]))
        return encode(Engine(self._store, ByteCache(0)), empty, encoder_id, with_tokens=True)

    def _own_stores(
        self, set_id: str, samples: Sequence[Sample], encoder_id: str
    ) -> Iterator[FeatureStore]:
        """Return the shipped file and the files of earlier runs that fit the encoder's weights."""
        kept = self._path(set_id, samples, encoder_id)
        for path in (self._shipped / shipped_name(set_id, encoder_id), kept):
            if path.is_file() or (path / STORE_FILE).is_file():
                store = FeatureStore.open(path)
                if store.identity == self.identity(encoder_id):
                    yield store

    def _path(self, set_id: str, samples: Sequence[Sample], encoder_id: str) -> Path:
        """Return a file name made of set, place of the scans, weights and model grid."""
        place = Path(samples[0].scan).parent if samples else ""
        identity = self.identity(encoder_id)
        key = f"{identity.sha256}\0{identity.preprocessing}\0{place}"
        return self._kept / f"{set_id}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
