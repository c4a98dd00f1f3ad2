"""Pairs from files: features that an encoder made, and a table of reports or CT-RATE's folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rad3d.core.errors import BadRequest
from rad3d.core.ids import matched, repeated, scan_id
from rad3d.core.registry import ENCODERS, lookup
from rad3d.core.tables import cell_text
from rad3d.data.layouts import patient_of, read_ct_rate
from rad3d.data.predictions import Columns, read_rows, report_of
from rad3d.features.shards import FeatureStore
from rad3d.features.table import FeatureTable
from rad3d.model.encoders.head import Head, differs
from rad3d.model.identity import EncoderIdentity
from rad3d.train.pairs import PairedFeatures, TrainingData, hold_out, told

CT_RATE = "ct-rate:"
"""Begins the name of a folder of CT-RATE, as it was downloaded."""


@dataclass(frozen=True)
class ReportColumns:
    """The meaning of the columns of a table of reports.

    Attributes:
        id: the scan's id or file name.
        report: columns of the report, in order; ``HEADING=COLUMN`` puts ``HEADING: `` before it.
        patient: whose scan it is; empty reads it from CT-RATE's names, and else takes each scan
            for a patient of its own.
    """

    id: str = "id"
    report: tuple[str, ...] = ("report",)
    patient: str = ""

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """Heading, which may be empty, and column of each part of a report."""
        split = (each.rpartition("=") for each in self.report)
        return tuple((heading.strip(), column) for heading, _, column in split)

    def text(self, cells: Mapping[str, Any]) -> str:
        """The report of a row; empty where its cells hold none."""
        parts = ((heading, report_of(cells[column])) for heading, column in self.parts)
        return "\n".join(f"{head}: {text}" if head else text for head, text in parts if text)


@dataclass(frozen=True)
class Reports:
    """Reports by the id of their scan.

    Attributes:
        texts: id -> report.
        patients: id -> patient.
        dropped: reason -> rows that hold no report of a scan.
        notes: what a person should know of how they were read.
    """

    texts: Mapping[str, str]
    patients: Mapping[str, str]
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileSource:
    """The files from which pairs are read.

    Attributes:
        features: file or store of features.
        reports: a table (CSV, TSV or JSON lines), or ``ct-rate:DIR``.
        columns: of the tables.
        held_out_features: of scans that are not learned from; None is ``features``.
        held_out_reports: of those; empty holds out a share of the patients instead.
        share: of the patients that are held out; 0 holds out nobody.
        seed: which patients.
        models_dir: holds the encoder, whose fitted head gives the logits where there is one.
    """

    features: Path
    reports: str
    columns: ReportColumns = ReportColumns()
    held_out_features: Path | None = None
    held_out_reports: str = ""
    share: float = 0.05
    seed: int = 0
    models_dir: Path | None = None

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

    def _pairs(self, path: Path, reports: Reports) -> PairedFeatures:
        """Pairs of features and reports, with the logits of the head that was fitted here."""
        store = FeatureStore.open(path)
        encoder, table = store.identity, store.table()
        row = lookup("encoder", ENCODERS, encoder.id)
        head = Head.read(self.models_dir / row.source) if self.models_dir else None
        if head is not None and head.weight is not None:
            _require_same(head.encoder, encoder, path)
        logits = head.logits(table.embedding) if head else None
        if head is None or logits is None:
            return pair(encoder, table, reports)
        return pair(encoder, replace(table, logits=logits.astype(np.float32)), reports, head.sha256)


def read_reports(spec: str, columns: ReportColumns, split: str) -> Reports:
    """Reports of a table, or of a split of CT-RATE.

    Args:
        spec: path, or ``ct-rate:DIR``.
        columns: of a table.
        split: of CT-RATE, ``"train"`` or ``"valid"``.

    Raises:
        BadRequest: there is no such file, or it is none of its kind.
        UnknownName: a column is missing.
    """
    if spec.startswith(CT_RATE):
        found = read_ct_rate(Path(spec.removeprefix(CT_RATE)), split, labelled=False)
        return Reports(
            {sample.id: sample.reference for sample in found.samples},
            {sample.id: patient_of(sample.id) for sample in found.samples},
            Counter(dropped.reason for dropped in found.dropped),
        )
    path = Path(spec)
    if not path.is_file():
        raise BadRequest(
            f"{spec} is a folder." if path.is_dir() else f"There is no file {spec}.",
            f"Give a table, or a folder as {CT_RATE}DIR.",
            code="no_file",
        )
    wanted = [columns.id, *(column for _, column in columns.parts)]
    wanted += [columns.patient] if columns.patient else []
    texts: dict[str, str] = {}
    patients: dict[str, str] = {}
    dropped: Counter[str] = Counter()
    names: dict[str, str] = {}
    rows = read_rows(path, Columns(id=columns.id), tuple(wanted))
    for row in rows.rows:
        cells = {name: row.cells.get(name) for name in wanted}
        name = cell_text(cells[columns.id]) or ""
        id_, text = scan_id(name), columns.text(cells)
        reason = row.problem or _problem(id_, text)
        if not reason and id_ in texts:
            reason = f"reports {repeated(name, names[id_])}"
        if reason:
            dropped[reason] += 1
            continue
        texts[id_], names[id_] = text, name
        stated = cell_text(cells[columns.patient]) if columns.patient else ""
        patients[id_] = stated or patient_of(id_)
    return Reports(texts, patients, dropped, tuple(rows.notes))


def pair(
    encoder: EncoderIdentity, table: FeatureTable, reports: Reports, head_sha256: str = ""
) -> PairedFeatures:
    """Match features and reports by id, see :func:`rad3d.core.ids.matched`.

    Every report and every scan without a partner is counted among the dropped.
    """
    dropped = Counter(dict(reports.dropped))
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
    place = matched(reports.texts, [*rows, *failed])
    ids = [id_ for id_ in reports.texts if place.get(id_) in rows]
    dropped["scans without a report"] = len(rows) - len(ids)
    unseen = sum(place.get(id_) in failed for id_ in reports.texts)
    dropped["reports whose scan could not be encoded"] = unseen
    dropped["reports without features"] = len(reports.texts) - len(ids) - unseen
    if rows and reports.texts and not ids:
        raise BadRequest(
            f"No pair of features and report is left; {told(+dropped)}.",
            f"They meet by their ids: the first scan is {next(iter(rows))!r}, and the first report "
            f"{next(iter(reports.texts))!r}.",
            code="no_pairs",
        )
    picked = [rows[place[id_]] for id_ in ids]
    return PairedFeatures(
        pooled=table.embedding[picked][:, None],
        logits=None if table.logits is None else table.logits[picked][:, None],
        reports=[[reports.texts[id_]] for id_ in ids],
        patients=[reports.patients[id_] for id_ in ids],
        encoder=encoder,
        head_sha256=head_sha256,
        dropped=+dropped,
    )


def _require_same(fitted: EncoderIdentity, encoder: EncoderIdentity, path: Path) -> None:
    """Refuse features whose logits would come from the head of other weights."""
    if differs(fitted, encoder):
        raise BadRequest(
            f"The features in {path.name} are of other weights of {encoder.id}, or of another "
            "model grid, than the head that was fitted for it here.",
            "Compute them again with the encoder that is here.",
            code="other_encoder",
        )


def _problem(id_: str, text: str) -> str:
    if not id_:
        return "reports without an id"
    return "" if text else "rows without a report"


def _named(spec: str) -> str:
    """Without the folders above it, which are nobody's business."""
    return f"{CT_RATE}{Path(spec.removeprefix(CT_RATE)).name}" if spec.startswith(CT_RATE) else (
        Path(spec).name
    )  # fmt: skip
