"""Pairs from files: features that an encoder made, and reports of a table or a data set."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import BadRequest
from rad3d.core.ids import matched, scan_id
from rad3d.core.lookup import lookup
from rad3d.core.settings import Settings
from rad3d.data.layouts import patient_of
from rad3d.data.predictions import Columns, read_entries
from rad3d.data.sample_sets import LAYOUTS, PHANTOM_SPLITS, data_set, load_set
from rad3d.data.samples import SampleSet
from rad3d.features.encoder_features import encoder_identity
from rad3d.features.shards import FeatureStore
from rad3d.features.table import FeatureTable
from rad3d.model.encoders.head import Head, differs
from rad3d.model.identity import EncoderIdentity
from rad3d.model.store import ModelStore
from rad3d.train.pairs import PairedFeatures, TrainingData, hold_out, told

PLAIN = Columns(reference=())
"""The usual columns of a table or data set."""


@dataclass(frozen=True)
class FileSource:
    """The files from which pairs are read.

    Attributes:
        features: file or store of features.
        reports: a table (CSV, TSV or JSON lines), or a data set such as ``ct-rate:DIR``.
        columns: of the tables; without a reference that is ``report``, or ``reference`` in a data
            set, which the evaluation reads as well. Without a patient, CT-RATE's names say whose a
            scan is, and any other is of a patient of its own.
        held_out_features: of scans that are not learned from; None is ``features``.
        held_out_reports: of those; empty holds out a share of the patients instead.
        share: of the patients that are held out; 0 holds out nobody.
        seed: which patients.
        models_dir: holds the encoder, whose fitted head gives the logits where there is one.
        diagnosed: what the classifier says of each scan is needed; the encoder must be here.
    """

    features: Path
    reports: str
    columns: Columns = PLAIN
    held_out_features: Path | None = None
    held_out_reports: str = ""
    share: float = 0.05
    seed: int = 0
    models_dir: Path | None = None
    diagnosed: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise BadRequest("--validation-share is from 0 to below 1.", code="bad_option")
        if self.held_out_features and not self.held_out_reports:
            raise BadRequest(
                "Features to hold out need their reports.",
                "Add --validation-reports.",
                code="bad_option",
            )

    def read(self) -> TrainingData:
        """The pairs; raises BadRequest where there is none."""
        facts: dict[str, Any] = {"features": self.features.name, "reports": _named(self.reports)}
        known = read_reports(self.reports, self.columns, "train")
        data = self._pairs(self.features, known)
        if known.notes:
            facts["notes"] = list(known.notes)
        if not self.held_out_reports:
            if not self.share:
                return TrainingData(data, None, facts)
            learned, held = hold_out(data, self.share, self.seed)
            facts |= {"held_out_share": self.share, "held_out_seed": self.seed}
            return TrainingData(data.take(learned), replace(data.take(held), dropped={}), facts)
        other = self.held_out_features
        facts["held_out_reports"] = _named(self.held_out_reports)
        reports = read_reports(self.held_out_reports, self.columns, "valid")
        held_out = self._pairs(other or self.features, reports)
        return TrainingData(data, held_out, facts)

    def _pairs(self, path: Path, reports: SampleSet) -> PairedFeatures:
        """Pairs of features and reports, with the logits of the head that was fitted here."""
        store = FeatureStore.open(path)
        encoder, table = store.identity, store.table()
        row = lookup("encoder", ENCODERS, encoder.id)
        head = Head.read(self.models_dir / row.source) if self.models_dir else None
        if head is not None and head.weight is not None:
            _require_same(head.encoder, encoder, path)
        logits = head.logits(table.embedding) if head else None
        if head is None or logits is None:
            found = pair(encoder, table, reports)
        else:
            table = replace(table, logits=logits.astype(np.float32), label_set=head.label_set)
            found = pair(encoder, table, reports, head.sha256)
        if not self.diagnosed or self.models_dir is None:
            return found
        models = ModelStore(Settings(models_dir=self.models_dir))
        _require_same(encoder_identity(models, encoder.id), encoder, path)
        return found.diagnosed(models.encoder(encoder.id))


def read_reports(text: str, columns: Columns, split: str) -> SampleSet:
    """Reports of a table or data set; rows of one id in a table are wordings of one report.

    Args:
        text: path, or a data set such as ``ct-rate:DIR`` or ``phantom-train``.
        columns: of a table or of a folder of one's own.
        split: of a data set that has some and names none, ``"train"`` or ``"valid"``.

    Raises:
        BadRequest: there is no such file, or it is none of its kind.
        UnknownName: a column is missing.
    """
    if text in PHANTOM_SPLITS:
        row = PHANTOM_SPLITS[text]
        return row.sample_set(row.n)
    if spec := data_set(text):
        split = split if LAYOUTS[spec.source].is_split else ""
        named = replace(columns, reference=columns.reference or "reference")
        wanted = replace(spec, split=spec.split or split, columns=named)
        return load_set(wanted, labelled=False)[0]
    path = Path(text)
    if not path.is_file():
        raise BadRequest(
            f"{text} is a folder." if path.is_dir() else f"There is no file {text}.",
            f"Give a table, or a data set as {', '.join(f'{name}:DIR' for name in LAYOUTS)}.",
            code="no_file",
        )
    columns = replace(columns, reference=columns.reference or ("report",), wordings=True)
    entries = read_entries(path, columns)
    return SampleSet(
        "reports", path.name, entries.samples(columns), dropped=entries.dropped, notes=entries.notes
    )


def pair(
    encoder: EncoderIdentity, table: FeatureTable, reports: SampleSet, head_sha256: str = ""
) -> PairedFeatures:
    """Match features and reports by id, see :func:`rad3d.core.ids.matched`.

    Every report and every scan without a partner is counted among the dropped.
    """
    dropped = Counter(f"rows {row.reason}" for row in reports.dropped)
    known = {sample.id: sample for sample in reports.samples}
    failed = {scan_id(id_) for id_ in table.failures} - {scan_id(id_) for id_ in table.ids}
    numbers = [part for part in (table.embedding, table.logits) if part is not None]
    rows: dict[str, int] = {}
    for row, name in enumerate(table.ids):
        id_ = scan_id(name)
        if id_ in rows:
            dropped["scans with an id that was there before"] += 1
        elif not all(np.isfinite(part[row]).all() for part in numbers):
            dropped["scans with features that are no numbers"] += 1
        else:
            rows[id_] = row
    place = matched(known, [*rows, *failed])
    ids = [id_ for id_ in known if place.get(id_) in rows]
    dropped["scans without a report"] = len(rows) - len(ids)
    unseen = sum(place.get(id_) in failed for id_ in known)
    dropped["reports whose scan could not be encoded"] = unseen
    dropped["reports without features"] = len(known) - len(ids) - unseen
    if rows and not ids:
        raise BadRequest(
            f"No pair of features and report is left; {told(+dropped)}.",
            f"They meet by their ids: the first scan is {next(iter(rows))!r}, and the first report "
            f"{next(iter(known))!r}.",
            code="no_pairs",
        )
    picked = [rows[place[id_]] for id_ in ids]
    return PairedFeatures(
        pooled=table.embedding[picked][:, None],
        logits=None if table.logits is None else table.logits[picked][:, None],
        reports=[[known[id_].reference, *known[id_].wordings] for id_ in ids],
        patients=[known[id_].patient or patient_of(id_) for id_ in ids],
        encoder=encoder,
        head_sha256=head_sha256,
        dropped=+dropped,
        label_set=table.label_set,
        tokens=None if table.tokens is None else table.tokens[picked][:, None],
        details=None if table.details is None else table.details[picked][:, None],
    )


def _require_same(fitted: EncoderIdentity, encoder: EncoderIdentity, path: Path) -> None:
    """Refuse features whose logits would come from the head of other weights."""
    if differs(fitted, encoder):
        raise BadRequest(
            f"The features in {path.name} are of other weights of {encoder.id}, or of another "
            "model grid, than the encoder or head that is here.",
            "Compute them again with the encoder that is here.",
            code="other_encoder",
        )


def _named(text: str) -> str:
    """Return a file's name without the folders above it, which stay private."""
    spec = data_set(text)
    return f"{spec.source}:{Path(spec.path).name}" if spec else Path(text).name
