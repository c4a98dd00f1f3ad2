"""The nouns of the pipeline: volume -> features -> diagnosis -> prefix -> report.

All are frozen and check themselves. Identity is a content hash, never a file name.
Arrays are NumPy here; torch appears only inside ``rad3d.model`` and ``rad3d.train``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rad3d.core.errors import BadRequest, BadVolume
from rad3d.core.labels import CT_RATE, LabelSet

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]

NOT_REPORTED = ("not_chest",)
"""Codes of the notes that say that a report would mean nothing."""


@dataclass(frozen=True)
class Note:
    """A fact about how a file was read or changed, for the person to see.

    Attributes:
        level: ``"info"`` (a fact) or ``"warning"`` (the report may not be trusted because of it).
        code: stable short word, such as ``"cropped_fov"``.
        text: one plain sentence.
    """

    level: Literal["info", "warning"]
    code: str
    text: str


@dataclass(frozen=True)
class Volume:
    """A CT volume in Hounsfield units.

    Attributes:
        hu: (X, Y, Z) int16 or float32, axes towards the patient's Right, Anterior, Superior (RAS+),
            read-only.
        affine: (4, 4) float64, voxel index -> RAS+ millimetres.
        sha256: hash of the voxels, shape and affine (see :func:`volume_hash`).
        name: shown to the person; never used as a key.
        notes: what was read and done, in order.
    """

    hu: npt.NDArray[Any]
    affine: FloatArray
    sha256: str
    name: str = "scan"
    notes: tuple[Note, ...] = ()

    def __post_init__(self) -> None:
        if self.hu.ndim != 3 or self.affine.shape != (4, 4):
            raise BadRequest("A volume needs an (X, Y, Z) array and a (4, 4) affine.")
        self.hu.setflags(write=False)
        self.affine.setflags(write=False)

    @classmethod
    def from_array(
        cls,
        hu: npt.NDArray[Any],
        affine: FloatArray,
        name: str = "scan",
        notes: tuple[Note, ...] = (),
    ) -> Volume:
        """A volume from RAS+ voxels in HU; computes the hash."""
        affine = np.asarray(affine, dtype=np.float64)
        return cls(hu, affine, volume_hash(hu, affine), name, notes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(X, Y, Z) in voxels."""
        x, y, z = self.hu.shape
        return x, y, z

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along X, Y, Z in mm."""
        sx, sy, sz = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(sx), float(sy), float(sz)

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Physical size along X, Y, Z in mm."""
        x, y, z = (n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return x, y, z

    @property
    def warnings(self) -> tuple[Note, ...]:
        """The notes a person should worry about."""
        return tuple(note for note in self.notes if note.level == "warning")

    @property
    def not_reported(self) -> Note | None:
        """The note that is one of :data:`NOT_REPORTED`."""
        return next((note for note in self.notes if note.code in NOT_REPORTED), None)

    def check_reportable(self) -> None:
        """Raises :class:`BadVolume`, with its code, where a note is one of :data:`NOT_REPORTED`."""
        if note := self.not_reported:
            raise BadVolume(
                f"No report was written. {note.text}",
                "Open a scan of a chest, or insist on the report.",
                code=note.code,
            )


def volume_hash(hu: npt.NDArray[Any], affine: FloatArray) -> str:
    """SHA-256 over dtype, shape, affine (rounded to 1e-4 mm) and voxels of a volume."""
    digest = hashlib.sha256(f"{hu.dtype.str}{hu.shape}".encode())
    digest.update((np.round(np.asarray(affine, dtype=np.float64), 4) + 0.0).tobytes())
    digest.update(np.ascontiguousarray(hu).data)  # the buffer itself: no copy of a large scan
    return digest.hexdigest()


@dataclass(frozen=True)
class Features:
    """The features that a frozen encoder computed from a volume.

    Attributes:
        pooled: (D,) float32 image embedding z.
        tokens: (C, X, Y, Z) float32 token grid before pooling, or None when not kept.
        volume_sha256: hash of the volume it was computed from.
        encoder_id: which encoder.
        preprocessing: identity of the model grid and intensity scaling.
        novelty: distance from the encoder's training scans as a percentile in [0, 100], calibrated
            on held-out training-domain scans, or None where the encoder has no reference.
        readings: (L + A,) raw logits of labels and their attributes, where the encoder's head
            reads them from the tokens and not from the embedding.
    """

    pooled: FloatArray
    volume_sha256: str
    encoder_id: str
    preprocessing: str
    tokens: FloatArray | None = None
    novelty: Novelty | None = None
    readings: FloatArray | None = None


@dataclass(frozen=True)
class Novelty:
    """The distance of a scan from the training scans of an encoder.

    Attributes:
        distance: Mahalanobis distance in feature space.
        percentile: share (0-100) of held-out training-domain scans that lie nearer.
        limit: the distance beyond which the scan counts as unlike the training scans.
        measured: in what: ``"features"`` of the encoder, or ``"noise"`` of the scan.
    """

    distance: float
    percentile: float
    limit: float
    measured: Literal["features", "noise"] = "features"

    @property
    def is_novel(self) -> bool:
        """True where the models have not learned from scans like this one."""
        return self.distance > self.limit

    @property
    def words(self) -> str:
        """The distance in words, such as ``"distance of its noise 61.0, limit 9.1"``."""
        return f"distance of its {self.measured} {self.distance:.1f}, limit {self.limit:.1f}"

    @staticmethod
    def farthest(*distances: Novelty | None) -> Novelty | None:
        """The one that is largest for its limit: a scan is novel where one of them says so."""
        measured = [each for each in distances if each is not None]
        return max(measured, key=lambda each: each.distance / each.limit, default=None)


@dataclass(frozen=True)
class Diagnosis:
    """The classifier's view of a volume: a logit for each label, and what they mean.

    Attributes:
        logits: (L,) raw classifier outputs in the order of the labels; what the projector gets.
        probabilities: (L,) in [0, 1], calibrated unless ``calibrated`` says otherwise.
        thresholds: (L,) probabilities from which a label counts as present, chosen on a split
            that is neither training nor test.
        edited: label that a person changed -> the classifier's own probability.
        source: which classifier.
        calibrated: False where the probabilities are plain sigmoids of the logits.
        label_set: the labels.
        details: (A,) probability of each attribute, given that its label is present, in the order
            of :func:`rad3d.core.details.attribute_names`; None where the encoder has no head for
            them.
    """

    logits: FloatArray
    probabilities: FloatArray
    thresholds: FloatArray
    edited: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    calibrated: bool = True
    label_set: LabelSet = CT_RATE
    details: FloatArray | None = None

    def __post_init__(self) -> None:
        n = len(self.label_set)
        for values in (self.logits, self.probabilities, self.thresholds):
            if values.shape != (n,):
                raise BadRequest(f"A diagnosis needs {n} values, not {values.shape}.")
            values.setflags(write=False)
        if self.details is not None:
            self.details.setflags(write=False)

    @property
    def present(self) -> tuple[bool, ...]:
        """Which labels reach their threshold."""
        return tuple(bool(p >= t) for p, t in zip(self.probabilities, self.thresholds, strict=True))

    def edit(self, label: str, logit: float, probability: float) -> Diagnosis:
        """A copy in which a person has set one label; the copy remembers that."""
        i = self.label_set.index[label]
        edited = {label: float(self.probabilities[i]), **self.edited}
        logits, probabilities = self.logits.copy(), self.probabilities.copy()
        logits[i], probabilities[i] = logit, probability
        return replace(self, logits=logits, probabilities=probabilities, edited=edited)

    def to_rows(self) -> list[dict[str, Any]]:
        """One plain dict per label, for JSON and tables."""
        return [
            {
                "label": name,
                "logit": round(float(self.logits[i]), 4),
                "probability": round(float(self.probabilities[i]), 4),
                "threshold": round(float(self.thresholds[i]), 4),
                "present": self.present[i],
                "edited": name in self.edited,
                "classifier": round(self.edited.get(name, float(self.probabilities[i])), 4),
            }
            for i, name in enumerate(self.label_set.names)
        ]


Strategy = Literal["greedy", "sample", "beam"]


@dataclass(frozen=True)
class GenerationOptions:
    """Options for decoding a report with the language model.

    Attributes:
        strategy: ``"greedy"``, ``"sample"`` (temperature, top_p, seed) or ``"beam"`` (beams).
        max_new_tokens: 1 to 1024.
        temperature: above 0; ``"sample"`` only.
        top_p: in (0, 1]; ``"sample"`` only.
        beams: 2 to 8; ``"beam"`` only.
        repetition_penalty: 1 (off) to 2.
        no_repeat_ngram: forbid repeating n-grams of this size; 0 is off.
        seed: for sampling.
    """

    strategy: Strategy = "greedy"
    max_new_tokens: int = 320
    temperature: float = 0.8
    top_p: float = 0.95
    beams: int = 4
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        checks = {
            "strategy must be greedy, sample or beam": self.strategy
            in ("greedy", "sample", "beam"),
            "max_new_tokens must lie between 1 and 1024": 1 <= self.max_new_tokens <= 1024,
            "temperature must lie between 0.05 and 5": 0.05 <= self.temperature <= 5,
            "top_p must lie in (0, 1]": 0 < self.top_p <= 1,
            "beams must lie between 2 and 8": 2 <= self.beams <= 8,
            "repetition_penalty must lie between 1 and 2": 1 <= self.repetition_penalty <= 2,
            "no_repeat_ngram must lie between 0 and 20": 0 <= self.no_repeat_ngram <= 20,
            "seed must lie between 0 and 2**32 - 1": 0 <= self.seed < 2**32,
        }
        for rule, holds in checks.items():
            if not holds:
                raise BadRequest(f"Generation option out of range: {rule}.", code="bad_option")


FinishReason = Literal["end", "length", "cancelled"]


@dataclass(frozen=True)
class Revision:
    """A report as a person has rewritten it.

    Attributes:
        text: the whole text, ``"Findings: ... Impression: ..."``.
        seconds: that the draft was open and visible for.
    """

    text: str
    seconds: float


@dataclass(frozen=True)
class Report:
    """A finished report and where it came from.

    Attributes:
        text: the whole text as generated, "Findings: ... Impression: ...".
        variant_id, llm, mode: which variant wrote it.
        diagnosis: what the classifier said about the same volume.
        options: how it was generated.
        finish_reason: ``"end"`` (the model ended), ``"length"`` or ``"cancelled"``.
        n_tokens: generated tokens.
        timings_s: stage -> seconds; ``"first_token"`` counts from the request.
        notes: facts and warnings about the volume and the variant.
        provenance: hashes and versions: volume, encoder, variant weights, code.
        located: labels for which :meth:`rad3d.service.service.Service.where` shows evidence.
        revision: what a person made of the text; None where nobody changed it.
    """

    text: str
    variant_id: str
    diagnosis: Diagnosis
    options: GenerationOptions
    finish_reason: FinishReason
    n_tokens: int
    timings_s: Mapping[str, float]
    notes: tuple[Note, ...] = ()
    novelty: Novelty | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    located: frozenset[str] = frozenset()
    revision: Revision | None = None

    @property
    def final_text(self) -> str:
        """The text that counts: the revised one where there is one."""
        return self.text if self.revision is None else self.revision.text


# What a running report tells its listener, in this order: stages, diagnosis, tokens, report.


@dataclass(frozen=True)
class StageEvent:
    """A stage has begun; ``fraction`` is the overall progress in [0, 1]."""

    stage: str
    fraction: float


@dataclass(frozen=True)
class DiagnosisEvent:
    """The logits are known; the report follows."""

    diagnosis: Diagnosis
    novelty: Novelty | None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class TextEvent:
    """More text; ``text`` is everything written so far."""

    text: str
    n_tokens: int


@dataclass(frozen=True)
class DoneEvent:
    """The report is finished (or was cancelled: see its finish reason)."""

    report: Report


Event = StageEvent | DiagnosisEvent | TextEvent | DoneEvent


@dataclass(frozen=True)
class FailedEvent:
    """One of several variants cannot write: the reason in a sentence, and its code."""

    reason: str
    code: str


@dataclass(frozen=True)
class VariantEvent:
    """What one of several variants tells, which write about the same scan."""

    variant_id: str
    event: Event | FailedEvent
