"""Features of scans whose labels are known: brought together, checked, divided by patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import BadRequest
from rad3d.core.ids import matched, scan_id
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.lookup import lookup
from rad3d.core.types import FloatArray
from rad3d.data.layouts import LabelTable
from rad3d.features.table import FeatureTable
from rad3d.metrics.classifier import rows_by_patient
from rad3d.model.encoders.base import load_encoder
from rad3d.model.encoders.head import differs
from rad3d.model.identity import EncoderIdentity, weights_sha256
from rad3d.train.logistic import Rows


@dataclass(frozen=True, eq=False)
class Labelled:
    """Features of scans whose labels are known.

    Attributes:
        name: of the table of labels.
        patients: whose scans these are, N of them.
        embedding: (N, D) float64.
        logits: (N, L) of the encoder's own head; None where it has none for these labels.
        labels: (N, L), 0 or 1.
        unlabelled, unseen: how many scans had features only, or labels only.
        label_set: the L labels.
    """

    name: str
    patients: tuple[str, ...]
    embedding: FloatArray
    logits: FloatArray | None
    labels: npt.NDArray[np.int64]
    unlabelled: int = 0
    unseen: int = 0
    label_set: LabelSet = CT_RATE

    def __len__(self) -> int:
        return len(self.patients)

    def part(self, rows: Rows) -> Labelled:
        """Return some of the scans."""
        return replace(
            self,
            patients=tuple(self.patients[i] for i in rows),
            embedding=self.embedding[rows],
            logits=None if self.logits is None else self.logits[rows],
            labels=self.labels[rows],
        )

    @property
    def facts(self) -> dict[str, Any]:
        """Plain JSON values: of which table, and how many."""
        return {
            "labels": self.name,
            "scans": len(self),
            "patients": len(set(self.patients)),
            "positives": dict(
                zip(self.label_set.names, self.labels.sum(axis=0).tolist(), strict=True)
            ),
        }


def join(table: FeatureTable, labels: LabelTable, name: str) -> Labelled:
    """Bring features and labels together by the ids of the scans.

    Raises:
        BadRequest: they have no scan in common, or a feature is not a number.
    """
    places = {scan_id(id_): i for i, id_ in enumerate(table.ids)}
    place = matched(labels.labels, places)
    ids = list(place)
    if not ids:
        raise BadRequest(
            f"Not one scan of {name} has features"
            + (f": those are of {table.ids[0]} and others." if table.ids else "."),
            "Give the labels of the scans that were encoded.",
            code="no_samples",
        )
    rows = np.array([places[place[id_]] for id_ in ids])
    embedding = table.embedding[rows].astype(np.float64)
    if not np.isfinite(embedding).all():
        bad = ids[int(np.flatnonzero(~np.isfinite(embedding).all(axis=1))[0])]
        raise BadRequest(
            f"The features of {bad} are not numbers.", "Encode the scan again.", code="bad_features"
        )
    logits = None
    if table.logits is not None and table.label_set.names == labels.label_set.names:
        logits = table.logits[rows].astype(np.float64)
    return Labelled(
        name,
        tuple(labels.patients[id_] for id_ in ids),
        embedding,
        logits,
        np.array([labels.labels[id_] for id_ in ids], dtype=np.int64),
        unlabelled=len(table.ids) - len(ids),
        unseen=len(labels.labels) - len(ids),
        label_set=labels.label_set,
    )


def require_own_features(
    identity: EncoderIdentity,
    table: FeatureTable,
    encoder_id: str,
    models_dir: Path | None,
    like: EncoderIdentity | None = None,
) -> None:
    """Refuse features that are not of the encoder that gets the head.

    Args:
        identity: whose the features are.
        table: the features.
        encoder_id: the encoder that is meant.
        models_dir: holds its weights; None where it need not be here.
        like: whose the other features are.

    Raises:
        BadRequest: they are of another encoder, other weights or another grid.
        MissingWeights: the encoder is not here.
    """
    if identity.id != encoder_id or (like is not None and identity != like):
        other = identity.id if identity.id != encoder_id else "other weights, or another grid"
        raise BadRequest(
            f"These features are of {other}, not of {encoder_id}.",
            "Give the features of one encoder.",
            code="other_encoder",
        )
    if models_dir is None:
        return
    row = lookup("encoder", ENCODERS, encoder_id)
    encoder = load_encoder(row, models_dir)
    here = EncoderIdentity(encoder_id, weights_sha256(models_dir / row.source), encoder.grid.id)
    if differs(identity, here):
        raise BadRequest(
            f"These features were made with other weights of {encoder_id} than those here, or on "
            "another model grid.",
            f"Encode the scans again with: rad3d features compute SCANS --encoder {encoder_id}",
            code="other_encoder",
        )
    width = table.embedding.shape[1]
    if width != encoder.embedding_dim:
        raise BadRequest(
            f"{encoder_id} gives {encoder.embedding_dim} numbers for a scan, not {width}.",
            "Give its features.",
            code="other_encoder",
        )


def divide(patients: Sequence[str], shares: Sequence[float], seed: int) -> list[Rows]:
    """Rows of each part; the patients are divided by ``shares``, each with all of their scans."""
    groups = rows_by_patient(patients)
    order = np.random.default_rng([seed, 11]).permutation(len(groups))
    cuts = np.round(np.cumsum(shares)[:-1] / np.sum(shares) * len(groups)).astype(int)
    parts = [[groups[g] for g in part] for part in np.split(order, cuts)]
    if not all(parts):
        raise BadRequest(
            f"{len(groups)} patients cannot be divided into {len(shares)} parts.",
            "Give more labelled scans.",
            code="too_few",
        )
    return [np.sort(np.concatenate(part)) for part in parts]
