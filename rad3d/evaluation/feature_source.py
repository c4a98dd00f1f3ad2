"""What an encoder saw in every case of a sample set: from a file of features, or computed here.

Features are used only by the encoder whose weights made them; any other encodes the scans again,
and what it finds is kept below the runs folder. A store that a person names comes first, so that
its cases need no scans here; where its features were imported, the person's word counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from rad3d.core.errors import BadRequest, Rad3dError
from rad3d.core.ids import matched, scan_id
from rad3d.core.types import Volume
from rad3d.data.samples import Sample
from rad3d.features.encoder_features import encode, encoder_identity, load_features, logits_of
from rad3d.features.table import FeatureTable, Row, gathered, read_features, write_features
from rad3d.model.cache import ByteCache
from rad3d.model.encoders.head import HeadedEncoder, differs
from rad3d.model.engine import Engine
from rad3d.model.identity import EncoderIdentity
from rad3d.model.store import ModelStore

SAVE_EVERY = 20
"""Scans between two saves, so that an interrupted run loses little."""


class FeatureSource:
    """Features of sample sets: from a shipped file, from an earlier run, or by encoding the scans.

    Args:
        store: the encoders.
        shipped_dir: files that come with the project, called after their set.
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
        # One that keeps nothing beyond the scan it is at: thousands pass through.
        self._engine = Engine(store, ByteCache(0))
        self._tables = [(path, *load_features(path)) for path in given]
        self._rows_given: dict[str, dict[str, Row]] = {}

    def with_given(self, paths: Sequence[Path]) -> FeatureSource:
        """This source, with stores or files of features that a person named.

        Raises:
            BadRequest: there is none, or it is damaged.
        """
        return FeatureSource(self._store, self._shipped, self._kept, self._open, paths)

    @property
    def given(self) -> tuple[EncoderIdentity, ...]:
        """Whose the features are that a person named."""
        return tuple(identity for _, identity, _ in self._tables)

    def told(self, samples: Sequence[Sample], encoder_id: str) -> str:
        """How many of the samples have features that a person named; empty where nobody did."""
        if not self._tables:
            return ""
        rows = self._given_rows(samples, encoder_id)
        text = f"{len(rows)} of {len(samples)} have features given"
        doubt = ", imported: nothing proves whose they are"
        return text + (doubt if any(identity.is_imported for identity in self.given) else "")

    def check_given(self, encoder_ids: Sequence[str]) -> None:
        """Refuse features that a person named and none of these encoders can use."""
        for path, identity, _ in self._tables:
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
        """Which weights an encoder has; they are hashed once."""
        if encoder_id not in self._identities:
            self._identities[encoder_id] = encoder_identity(self._store, encoder_id)
        return self._identities[encoder_id]

    def features(self, set_id: str, samples: Sequence[Sample], encoder_id: str) -> FeatureTable:
        """What is known of these samples, in their order; :meth:`encode` makes it all of them."""
        rows, failures = self._known(set_id, samples, encoder_id)
        given = self._given_rows(samples, encoder_id)
        kept = {
            s.id: self._judged(encoder_id, rows[_key(s)], keep=False)
            for s in samples
            if s.id not in given and _key(s) in rows
        }
        found = {s.id: given.get(s.id) or kept.get(s.id) for s in samples}
        return gathered(
            {id_: row for id_, row in found.items() if row is not None},
            {
                s.id: failures[_key(s)]
                for s in samples
                if found[s.id] is None and _key(s) in failures
            },
        )

    def _given_rows(self, samples: Sequence[Sample], encoder_id: str) -> dict[str, Row]:
        """Id of a sample -> its features of this encoder among those that a person named."""
        if encoder_id not in self._rows_given:
            rows: dict[str, Row] = {}
            for _, identity, table in self._tables:
                if not differs(identity, self.identity(encoder_id)):
                    own = identity.is_imported
                    rows |= {
                        scan_id(name): self._judged(encoder_id, row, own)
                        for name, row in table.rows.items()
                    }
            self._rows_given[encoder_id] = rows
        known = self._rows_given[encoder_id]
        return {id_: known[k] for id_, k in matched([s.id for s in samples], known).items()}

    def _judged(self, encoder_id: str, row: Row, keep: bool) -> Row:
        """With the logits of the head that is here now, which may be newer than the features."""
        encoder = self._store.encoder(encoder_id)
        if row[1] is not None and (keep or not isinstance(encoder, HeadedEncoder)):
            return row
        return row[0], logits_of(encoder, row[0])

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
        given = self._given_rows(samples, encoder_id)
        unknown = (s for s in samples if s.id not in given)
        todo = [s for s in unknown if _key(s) not in rows and _key(s) not in failures]
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

    def fresh(self, samples: Sequence[Sample], encoder_id: str) -> FeatureTable:
        """Encode samples now, whatever is known of them; raises where a scan cannot be read."""
        return gathered({s.id: self._encode(s, encoder_id) for s in samples}, {})

    def _encode(self, sample: Sample, encoder_id: str) -> Row:
        volume = self._open(sample)
        volume.check_reportable()  # such a case is counted as one without a report
        return encode(self._engine, volume, encoder_id)

    def blank(self, encoder_id: str) -> Row:
        """Embedding and logits of a scan that holds nothing but air, made as of any other scan."""
        air = np.full((64, 64, 64), -1000, dtype=np.int16)
        empty = Volume.from_array(air, np.diag([5.0, 5.0, 5.0, 1.0]))
        return encode(self._engine, empty, encoder_id)

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
            if found := read_features(path, identity):
                rows |= found.rows
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
        found = gathered(rows, failures)
        write_features(
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


def _key(sample: Sample) -> str:
    """The id, and for a file its size and time, so that a changed scan is encoded again."""
    path = Path(sample.scan)
    if not path.is_absolute() or not path.is_file():  # none, or one that is rendered
        return sample.id
    stat = path.stat()
    return f"{sample.id}\0{stat.st_size}\0{stat.st_mtime_ns}"
