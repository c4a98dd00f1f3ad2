"""Samples with their known truth, and the predictions of a system about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from rad3d.core.errors import BadRequest
from rad3d.core.findings import Finding
from rad3d.core.labels import CT_RATE, LabelSet


@dataclass(frozen=True)
class Sample:
    """One case: its reference report and, where they are known, its labels and findings.

    Attributes:
        id: unique in its set.
        reference: the reference report.
        labels: those of the set in their order; None where only the report is known, which the
            labeller then reads.
        findings: everything that is present; None likewise.
        scan: where the scan can be opened: a path, ``"phantom:<domain>:<seed>"``, or empty.
        patient: whose scan it is; empty where that is not known.
        wordings: further reports of the same scan, to learn from.
    """

    id: str
    reference: str
    labels: tuple[int, ...] | None = None
    findings: tuple[Finding, ...] | None = None
    scan: str = ""
    patient: str = ""
    wordings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.id:
            raise BadRequest("A sample needs an id.", code="bad_sample")
        if self.labels is not None and not set(self.labels) <= {0, 1}:
            raise BadRequest(f"The labels of {self.id} are not 0 or 1.", code="bad_sample")


@dataclass(frozen=True)
class Dropped:
    """A row of a file that is not evaluated, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class SampleSet:
    """Cases that belong together.

    Attributes:
        id: a short word, such as ``"phantom-in"``.
        name: shown to people.
        samples: at least one, with unique ids.
        version: of the data.
        split: such as ``"test"``.
        domain: ``"in"``, ``"out"`` or empty where it is not known.
        licence: of the data.
        dropped: rows of the source that are not among the samples.
        notes: what a person should know of the others.
        label_set: what the samples' labels are.
    """

    id: str
    name: str
    samples: tuple[Sample, ...]
    version: str = "1"
    split: str = "test"
    domain: str = ""
    licence: str = ""
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()
    label_set: LabelSet = CT_RATE

    def __post_init__(self) -> None:
        if not self.samples:
            raise BadRequest(
                f"The sample set {self.name} holds no case.",
                dropped_sentence(self.dropped),
                code="no_samples",
            )
        _require_unique((sample.id for sample in self.samples), self.name)
        for sample in self.samples:
            if sample.labels is not None and len(sample.labels) != len(self.label_set):
                raise BadRequest(
                    f"{sample.id} has {len(sample.labels)} labels, not those of {self.label_set}.",
                    code="bad_sample",
                )

    def labelled_by(self, label_set: LabelSet) -> SampleSet:
        """The same cases with other labels, which are then read from their references."""
        if self.label_set.names == label_set.names:
            return replace(self, label_set=label_set)
        label_set.require_rules()
        unlabelled = tuple(replace(sample, labels=None) for sample in self.samples)
        return replace(self, samples=unlabelled, label_set=label_set)


@dataclass(frozen=True)
class Prediction:
    """The prediction of a system for one sample.

    Attributes:
        id: of the sample.
        text: the report.
        failure: why there is none; such a case is counted and scored as empty text.
        seconds: how long it took.
        finish: how the text ended, such as ``"end"`` or ``"length"``.
        seen: labels that the classifier, whose view the report was written from, has above their
            threshold; None where there is no such view.
    """

    id: str
    text: str
    failure: str = ""
    seconds: float | None = None
    finish: str = ""
    seen: tuple[str, ...] | None = None


@dataclass(frozen=True)
class PredictionSet:
    """The predictions of one system for one sample set.

    Attributes:
        name: the system, such as ``"phantom-l/v3"`` or ``"phantom-l/v3+image-zero"``.
        sample_set: id of the :class:`SampleSet`.
        predictions: at most one for each sample.
        facts: plain JSON values worth keeping: weights, options, cost, date.
    """

    name: str
    sample_set: str
    predictions: tuple[Prediction, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_unique((prediction.id for prediction in self.predictions), self.name)


def dropped_sentence(dropped: Iterable[Dropped]) -> str:
    """``"3 rows were dropped: 2 repeat an id, 1 has no reference."``; empty where none was."""
    reasons = Counter(row.reason for row in dropped)
    if not reasons:
        return ""
    total = sum(reasons.values())
    parts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"{total} {'row was' if total == 1 else 'rows were'} dropped: {parts}."


def _require_unique(ids: Iterable[str], name: str) -> None:
    counts = Counter(ids)
    repeated = [each for each, count in counts.items() if count > 1]
    if repeated:
        raise BadRequest(
            f"{name} holds {len(repeated)} ids more than once, such as {repeated[0]!r}.",
            "Keep one row for each id.",
            code="duplicate_ids",
        )
