"""Encoded scans paired with their reports: what variants learn from, wherever it comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rad3d.core.details import findings_of
from rad3d.core.errors import BadRequest
from rad3d.core.findings import Finding
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.types import FloatArray
from rad3d.core.words import counted
from rad3d.model.encoders.base import LoadedEncoder
from rad3d.model.identity import EncoderIdentity


@dataclass(frozen=True, eq=False)
class PairedFeatures:
    """Encoded scans with their reports.

    Attributes:
        pooled: (N, V, D) embeddings, V views of each scan; the first is the scan as it is.
        logits: (N, V, L); None where the encoder has no head for them.
        reports: for each scan one or more wordings of its report.
        patients: whose scan each is; scans of one patient are never on both sides of a split.
        encoder: whose features they are.
        head_sha256: of the head, fitted here, that the logits are of; empty for the encoder's own.
        dropped: reason -> how many scans or reports are not among the pairs.
        label_set: the L labels.
        tokens: (N, V, T, C) visual tokens; None where the features have none.
        details: (N, V, A) logits of attributes, where a head reads them from the tokens.
        findings: what the classifier says of each scan; None where nobody has asked it.
    """

    pooled: FloatArray
    logits: FloatArray | None
    reports: Sequence[Sequence[str]]
    patients: Sequence[str]
    encoder: EncoderIdentity
    head_sha256: str = ""
    dropped: Mapping[str, int] = field(default_factory=dict)
    label_set: LabelSet = CT_RATE
    tokens: FloatArray | None = None
    details: FloatArray | None = None
    findings: Sequence[tuple[Finding, ...]] | None = None

    def __post_init__(self) -> None:
        if not self.reports:
            raise BadRequest(
                f"No pair of features and report is left; {told(self.dropped)}.",
                "Scans and reports meet by their ids, and a report must fit into the model.",
                code="no_pairs",
            )

    def __len__(self) -> int:
        return len(self.reports)

    @property
    def dim(self) -> int:
        """Size of the embedding."""
        return self.pooled.shape[2]

    def take(self, rows: Sequence[int]) -> PairedFeatures:
        """Return some of the pairs, in this order."""
        return replace(
            self,
            pooled=self.pooled[list(rows)],
            logits=None if self.logits is None else self.logits[list(rows)],
            reports=[self.reports[i] for i in rows],
            patients=[self.patients[i] for i in rows],
            tokens=None if self.tokens is None else self.tokens[list(rows)],
            details=None if self.details is None else self.details[list(rows)],
            findings=None if self.findings is None else [self.findings[i] for i in rows],
        )

    def diagnosed(self, encoder: LoadedEncoder) -> PairedFeatures:
        """The same with what an encoder's classifier says of each scan as it is."""
        readings: Sequence[FloatArray | None] = [None] * len(self)
        if self.logits is not None and self.details is not None:
            readings = list(np.concatenate((self.logits[:, 0], self.details[:, 0]), axis=1))
        pairs = zip(self.pooled[:, 0], readings, strict=True)
        return replace(self, findings=[findings_of(encoder.diagnose(*pair)) for pair in pairs])

    def without(self, rows: Sequence[int], reason: str) -> PairedFeatures:
        """Return the other pairs, with the reason counted."""
        gone = set(rows)
        if not gone:
            return self
        dropped = Counter(self.dropped) + Counter({reason: len(gone)})
        left = [i for i in range(len(self)) if i not in gone]
        if not left:
            return replace(self, reports=(), dropped=dropped)  # refused, with the reasons
        return replace(self.take(left), dropped=dropped)

    def facts(self) -> dict[str, Any]:
        """The facts about the pairs that a variant records."""
        return {
            "pairs": len(self),
            "patients": len(set(self.patients)),
            "dropped": dict(self.dropped),
        }

    def sentence(self) -> str:
        """Return a sentence such as ``"9 pairs of 5 patients"``."""
        n = sum(map(len, self.reports))
        wordings = f", {n:,} wordings" if n > len(self) else ""
        patients = counted(len(set(self.patients)), "patient")
        return f"{counted(len(self), 'pair')} of {patients}{wordings}"


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Pairs that are learned from and pairs that are held out.

    Attributes:
        train: learned from.
        held_out: measured on along the way; None where nothing is.
        source: where they are from, for the record.
    """

    train: PairedFeatures
    held_out: PairedFeatures | None = None
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.held_out is None:
            return
        self.train.label_set.require_same(
            self.held_out.label_set, "What is learned from", "what is held out"
        )
        if self.held_out.encoder != self.train.encoder:
            raise BadRequest(
                "The features held out are of another encoder, of other weights or of another "
                "model grid than those to learn from.",
                "Compute both with the same encoder.",
                code="other_encoder",
            )
        both = set(self.train.patients) & set(self.held_out.patients)
        if both:
            raise BadRequest(
                f"{len(both)} patients are held out and learned from, such as {min(both)}.",
                "Remove their reports from one of the two.",
                code="leak",
            )

    def facts(self) -> dict[str, Any]:
        """The facts about its data that a variant records."""
        facts = {**self.train.facts(), "source": dict(self.source)}
        return facts | ({"held_out": self.held_out.facts()} if self.held_out else {})


def hold_out(data: PairedFeatures, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Rows to learn from and rows to hold out: a share of the patients, at least one of each.

    Args:
        data: the pairs.
        share: of the patients, in (0, 1).
        seed: which ones.

    Raises:
        BadRequest: there are not two patients.
    """
    patients = sorted(set(data.patients))
    if len(patients) < 2:
        raise BadRequest(
            "Nothing can be held out of a single patient's scans.",
            "Give more pairs, or --validation-share 0.",
            code="no_held_out",
        )
    n = min(max(round(share * len(patients)), 1), len(patients) - 1)
    drawn = np.random.default_rng([seed, 5]).permutation(len(patients))[:n]
    held = {patients[i] for i in drawn}
    rows: tuple[list[int], list[int]] = ([], [])
    for i, patient in enumerate(data.patients):
        rows[patient in held].append(i)
    return rows


def told(dropped: Mapping[str, int]) -> str:
    """``{"without a report": 3}`` -> ``"dropped: 3 without a report"``."""
    listed = ", ".join(f"{n:,} {reason}" for reason, n in dropped.items())
    return f"dropped: {listed}" if listed else "none was dropped"
