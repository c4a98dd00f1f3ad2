"""The systems of an evaluation: variants, ablations and baselines, and their reports."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from rad3d.core.encoders import SHIPPED_ENCODER, knows_only_phantoms
from rad3d.core.errors import BadRequest, Cancelled, MissingWeights, Rad3dError
from rad3d.core.types import Diagnosis, FloatArray
from rad3d.data.sample_sets import TRAINING
from rad3d.data.samples import Prediction, PredictionSet, SampleSet
from rad3d.evaluation.ablations import Given, ReferenceSet, conditions, from_prior
from rad3d.evaluation.feature_source import FeatureSource
from rad3d.evaluation.generate import ReportWriter, WriteBatches
from rad3d.evaluation.run_types import EvaluationRequest, Stage
from rad3d.evaluation.shuffling import shuffled
from rad3d.evaluation.system_names import CONTROLS, SHUFFLED, ablations
from rad3d.features.table import FeatureTable, gathered
from rad3d.metrics.classifier import ClassifierCard, classifier_card
from rad3d.model.engine import Engine
from rad3d.reports.labeller import label_report

NO_SCAN = "There is no scan."


@dataclass(frozen=True)
class Step:
    """Progress: the current work, and how many units of it were just finished."""

    stage: Stage
    text: str
    advance: int = 0


@dataclass(frozen=True)
class Failure:
    """A system that cannot be evaluated, and the reason."""

    system: str
    reason: str


Item = Step | PredictionSet | Failure


def scoring_units(n: int) -> int:
    """Return the cost of scoring ``n`` reports on the progress bar, in reports written."""
    return max(1, n // 4)


class Systems:
    """Makes the requested predictions.

    Args:
        engine: writes the reports.
        features: encodes the scans.
        kept_dir: reports of earlier runs, see :class:`ReportWriter`.
        request: what is wanted.
        sets: the cases.
        write: writes the reports; the engine by default.
        references: cases of the baselines; by default the training phantoms, with the shipped
            encoder.
    """

    def __init__(
        self,
        engine: Engine,
        features: FeatureSource,
        kept_dir: Path | None,
        request: EvaluationRequest,
        sets: Sequence[SampleSet],
        write: WriteBatches | None = None,
        references: SampleSet | None = None,
    ) -> None:
        self._engine, self._features, self._kept_dir = engine, features, kept_dir
        self._request, self._writes = request, write
        self.sets = tuple(s for s in sets if any(sample.scan for sample in s.samples))
        self._cases = references
        self._references: dict[str, ReferenceSet] = {}
        features.check_given(self.encoders())

    # How much there is to do

    def encoders(self) -> tuple[str, ...]:
        """The encoders whose features are needed."""
        encoders = dict.fromkeys(self.encoder_of(v) for v in self._request.variants)
        if not encoders and any(not CONTROLS[c].per_variant for c in self._request.controls):
            given = dict.fromkeys(identity.id for identity in self._features.given)
            return tuple(given) or (SHIPPED_ENCODER,)
        return tuple(encoders)

    def encoder_of(self, variant: str) -> str:
        """The encoder that a variant listens to."""
        return self._engine.store.catalogue.config(variant).encoder or SHIPPED_ENCODER

    def size(self) -> int:
        """Units of work: one for each scan to encode and report to write, less for scoring."""
        scans = sum(
            self._features.missing(each.id, each.samples, encoder)
            for encoder in self.encoders()
            for each in self.sets
        )
        variants, controls = self._request.variants, self._request.controls
        of_variants = [c for v in variants for c in ablations(v, controls)]
        times = len(variants) + sum(row.writes for row in of_variants)
        cards = (
            len(variants) + len(of_variants) + sum(not CONTROLS[c].per_variant for c in controls)
        )
        sizes = [len(each.samples) for each in self.sets]
        return scans + sum(n * times + scoring_units(n) * cards for n in sizes)

    # Scans

    def encode(self) -> Iterator[Step]:
        """Encode the remaining scans, and prepare the data that the baselines need."""
        for encoder in self.encoders():
            for each in self.sets:
                if told := self._features.told(each.samples, encoder):
                    yield Step("encode", f"{each.name}: {told}")
                missing = self._features.missing(each.id, each.samples, encoder)
                for done in self._features.encode(each.id, each.samples, encoder):
                    yield Step("encode", f"{each.name}: scan {done} of {missing} encoded", 1)
            if self._needs_references() and self._cases is not None:
                features = self._features.features(self._cases.id, self._cases.samples, encoder)
                if features.ids:
                    self._references[encoder] = ReferenceSet.of(features, self._cases)
            elif self._needs_references() and knows_only_phantoms(encoder):
                yield from self._load_references(encoder)

    def _needs_references(self) -> bool:
        return any(CONTROLS[c].needs_training for c in self._request.controls)

    def _load_references(self, encoder: str) -> Iterator[Step]:
        """Read the shipped features of the training phantoms, or encode them all."""
        cases = TRAINING.scans()
        features = self._features.features(TRAINING.id, cases, encoder)
        if not features.ids:
            for done in self._features.encode(TRAINING.id, cases, encoder):
                yield Step("encode", f"{TRAINING.name}: scan {done} of {len(cases)} encoded")
            features = self._features.features(TRAINING.id, cases, encoder)
        self._references[encoder] = ReferenceSet(features)

    def _reference_set(self, encoder: str) -> ReferenceSet:
        if encoder not in self._references:
            raise BadRequest(
                f"The training scans of {encoder} are not known here.",
                "Name them with --reference-set, and a store of their features with --features.",
                code="no_references",
            )
        return self._references[encoder]

    def _seen(self, samples: SampleSet, encoder: str) -> FeatureTable:
        features = self._features.features(samples.id, samples.samples, encoder)
        if not features.ids:
            reason = next(iter(features.failures.values()), NO_SCAN)
            raise BadRequest(f"Not one scan of {samples.name} can be read. {reason}")
        return features

    # Variants

    def variant(self, variant: str, cancel: threading.Event) -> Iterator[Item]:
        """Write a variant's reports on every set, as it is and under each ablation."""
        yield Step("write", f"Loading {variant}")
        try:
            writer = ReportWriter(
                self._engine, variant, self._request.options, self._kept_dir, self._writes
            )
        except Rad3dError as error:
            yield Failure(variant, str(error))
            return
        for samples in self.sets:
            own: PredictionSet | None = None
            for control in ("", *(row.id for row in ablations(variant, self._request.controls))):
                name = f"{variant}+{control}" if control else variant
                try:
                    if control != SHUFFLED:
                        written = yield from self._write(writer, name, control, samples, cancel)
                        own = written if not control else own
                        yield written
                    elif own is not None:
                        yield self._shuffled(own, name)
                except Cancelled:
                    raise
                except Rad3dError as error:
                    yield Failure(name, f"{samples.name}: {error}")

    def _write(
        self,
        writer: ReportWriter,
        name: str,
        control: str,
        samples: SampleSet,
        cancel: threading.Event,
    ) -> Generator[Step, None, PredictionSet]:
        """Write the reports of one system; yields progress and returns the predictions."""
        encoder = writer.config.encoder or SHIPPED_ENCODER
        seen = self._seen(samples, encoder)
        rows = self._given(control, encoder, seen)
        given = [row.whole for row in rows]
        n, told = writer.missing(given), 0
        for done in writer.write(given, cancel):
            now = done * len(samples.samples) // n
            yield Step("write", f"{name} on {samples.name}: {done} of {n} reports", now - told)
            told = now
        texts = {
            p.id: replace(p, seen=_stated(row.prior, samples))
            for p, row in zip(writer.predictions(seen.ids, given), rows, strict=True)
        }
        yield Step("write", f"{name} on {samples.name}: written", len(samples.samples) - told)
        return PredictionSet(
            name, samples.id, _in_order(samples, texts, seen), self._facts(writer, control, encoder)
        )

    def _given(self, control: str, encoder: str, seen: FeatureTable) -> list[Given]:
        """Return what a variant is given for each case under an ablation."""
        if control == "image-zero":
            air = {"air": self._features.blank(encoder)}
            table = gathered(air, {}, seen.label_set)
            return conditions("", table, self._priors(encoder, table)) * len(seen.ids)
        references = (
            self._reference_set(encoder) if control and CONTROLS[control].needs_training else None
        )
        priors = self._priors(encoder, seen)
        return conditions(control, seen, priors, references, self._request.seed)

    def _priors(self, encoder: str, seen: FeatureTable) -> list[Diagnosis] | None:
        try:
            return self._diagnoses(encoder, seen)
        except MissingWeights:
            return None

    def _shuffled(self, own: PredictionSet, name: str) -> PredictionSet:
        if len(own.predictions) < 2:
            raise BadRequest("One case alone cannot be shuffled.")
        return shuffled(own, name, self._request.seed)

    def _facts(self, writer: ReportWriter, control: str, encoder: str) -> dict[str, Any]:
        return {
            "control": control,
            "weights": dict(writer.config.files),
            "llm": writer.config.llm_source,
            "llm_revision": writer.config.llm_revision,
            "llm_sha256": writer.config.llm_sha256,
            "encoder": asdict(self._features.identity(encoder)),
            "features_given": [asdict(identity) for identity in self._features.given],
            "options": asdict(self._request.options),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    # Baselines

    def alone(self, control: str) -> Iterator[Item]:
        """Write the reports of a baseline on every set."""
        for encoder in self.encoders():
            name = control if encoder == SHIPPED_ENCODER else f"{control} ({encoder})"
            for samples in self.sets:
                yield Step("write", f"{name} on {samples.name}")
                try:
                    seen = self._seen(samples, encoder)
                    texts = self._stored(control, encoder, seen)
                except Rad3dError as error:
                    yield Failure(name, f"{samples.name}: {error}")
                    continue
                by_id = {
                    id_: Prediction(id_, text, finish="end")
                    for id_, text in zip(seen.ids, texts, strict=True)
                }
                facts = {"control": control, "encoder": asdict(self._features.identity(encoder))}
                yield PredictionSet(name, samples.id, _in_order(samples, by_id, seen), facts)

    def _stored(self, control: str, encoder: str, seen: FeatureTable) -> list[str]:
        if control == "grammar":
            return [from_prior(prior) for prior in self._diagnoses(encoder, seen)]
        references = self._reference_set(encoder)
        if control == "majority":
            return [references.majority()] * len(seen.ids)
        if control == "nearest":
            return references.nearest(seen.embedding)
        diagnoses = self._diagnoses(encoder, seen)
        references.label_set.require_same(
            diagnoses[0].label_set, "The reference set", f"the head of {encoder}"
        )
        return [references.lookup(d.present) for d in diagnoses]

    # The classifier

    def classifier(self, samples: SampleSet) -> ClassifierCard | None:
        """Return the classifier's figures on a set; None where its scans are not encoded."""
        encoders = self.encoders()
        if not encoders or samples not in self.sets:
            return None
        encoder = encoders[0]
        try:
            seen = self._seen(samples, encoder)
        except BadRequest:
            return None
        cases = {sample.id: sample for sample in samples.samples}
        truth = [
            labels if (labels := cases[id_].labels) is not None
            else label_report(cases[id_].reference, samples.label_set)
            for id_ in seen.ids
        ]  # fmt: skip
        diagnoses = self._diagnoses(encoder, seen)
        if diagnoses[0].label_set.names != samples.label_set.names:
            return None
        calibration = self._engine.store.encoder(encoder).calibration
        return classifier_card(
            encoder,
            samples.id,
            np.array(truth, dtype=np.int64),
            np.stack([d.probabilities for d in diagnoses]),
            diagnoses[0].thresholds,
            calibration.split if calibration else "",
            self._request.draws,
            self._request.seed,
            label_set=samples.label_set,
        )

    def redundancy(self) -> dict[str, float]:
        """How much of its prior each encoder's embedding holds: R² of the logits, held out.

        Where it is 1, the logits are a linear function of the embedding and can add nothing. Left
        out are encoders of which too few training scans are known.
        """
        tables = {id_: references.features for id_, references in self._references.items()}
        return {
            id_: explained(table.embedding, table.logits)
            for id_, table in tables.items()
            if table.logits is not None and len(table.ids) > 2 * table.embedding.shape[1]
        }

    def _diagnoses(self, encoder: str, seen: FeatureTable) -> list[Diagnosis]:
        loaded = self._engine.store.encoder(encoder)
        return [loaded.diagnose(row.embedding, row.readings) for row in seen.rows.values()]


def _stated(prior: Diagnosis | None, samples: SampleSet) -> tuple[str, ...] | None:
    """Return the labels a prior has at or above their threshold; None where it has other labels."""
    if prior is None or prior.label_set.names != samples.label_set.names:
        return None
    return tuple(compress(prior.label_set.names, prior.present))


def explained(embedding: FloatArray, logits: FloatArray) -> float:
    """R² of a linear map from (N, D) embeddings to (N, L) logits, fitted on half, on the others."""
    ones = np.ones((len(embedding), 1))
    given = np.concatenate((embedding.astype(np.float64), ones), axis=1)
    weights = np.linalg.lstsq(given[::2], logits[::2].astype(np.float64), rcond=None)[0]
    left = logits[1::2] - given[1::2] @ weights
    apart = logits[1::2] - logits[1::2].mean(axis=0)
    return round(float(1 - (left**2).sum() / (apart**2).sum()), 4)


def _in_order(
    samples: SampleSet, texts: dict[str, Prediction], seen: FeatureTable
) -> tuple[Prediction, ...]:
    """One prediction for each sample; a scan that could not be encoded is a failure."""
    return tuple(
        texts.get(sample.id) or Prediction(sample.id, "", seen.failures.get(sample.id, NO_SCAN))
        for sample in samples.samples
    )
