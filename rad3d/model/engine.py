"""The one engine: scan -> model grid -> features -> diagnosis -> prefix -> tokens.

The app, the command line and the evaluation all run through it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

from rad3d import __version__
from rad3d.core.details import findings_of
from rad3d.core.edits import Edits, checked_edits, with_edits
from rad3d.core.encoders import ENCODERS, SHIPPED_ENCODER
from rad3d.core.errors import BadRequest, Cancelled, some
from rad3d.core.findings import Finding
from rad3d.core.modes import Mode
from rad3d.core.types import (
    Diagnosis,
    DiagnosisEvent,
    DoneEvent,
    Event,
    Features,
    FinishReason,
    FloatArray,
    GenerationOptions,
    Note,
    Novelty,
    Report,
    StageEvent,
    TextEvent,
    Volume,
)
from rad3d.model.cache import ByteCache
from rad3d.model.encoders.base import LoadedEncoder, visual_tokens
from rad3d.model.encoders.noise import noise_novelty
from rad3d.model.llm.decoding import Written, decode, decode_batch
from rad3d.model.llm.failures import OUR_FAULT, plain_errors
from rad3d.model.llm.hub import with_progress
from rad3d.model.prefix_input import PrefixInput, conditionings
from rad3d.model.store import ModelStore
from rad3d.model.threads import computing
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.volume.grid import GridSpec, ModelGrid, to_grid

BATCH_ROWS = 16
"""Texts written at the same time by :meth:`Engine.generate_batches`."""


@dataclass(frozen=True)
class Generated:
    """A text of :meth:`Engine.generate_batches`; ``seconds`` is its share of its batch's time."""

    text: str
    n_tokens: int
    finish_reason: FinishReason
    seconds: float = field(default=0.0, compare=False)


class Engine:
    """Writes reports with the models of a store.

    Args:
        store: loaded models.
        cache: keeps model grids and features by content hash; 256 MB of its own by default.
    """

    def __init__(self, store: ModelStore, cache: ByteCache | None = None) -> None:
        self.store = store
        self.cache = cache if cache is not None else ByteCache(256 * 2**20)

    def grid(self, volume: Volume, encoder_id: str = SHIPPED_ENCODER) -> ModelGrid:
        """The volume as the encoder sees it; kept."""
        spec = self.store.encoder(encoder_id).grid
        with plain_errors("put the scan onto the model grid", remedy=OUR_FAULT):
            return self.cache.get(
                (volume.sha256, "grid", spec.id),
                lambda: self._resample(volume, spec),
                lambda grid: grid.values.nbytes,
            )

    def _resample(self, volume: Volume, spec: GridSpec) -> ModelGrid:
        with computing(self.store.threads.for_encoder()):
            return to_grid(volume, spec)

    def features(self, volume: Volume, encoder_id: str = SHIPPED_ENCODER) -> Features:
        """The features of a volume, computed once per content, encoder and grid."""
        encoder = self.store.encoder(encoder_id)
        return self.cache.get(
            (volume.sha256, "features", encoder_id, encoder.grid.id),
            lambda: self._encode(volume, encoder, encoder_id),
            lambda f: f.pooled.nbytes + (f.tokens.nbytes if f.tokens is not None else 0),
        )

    def _encode(self, volume: Volume, encoder: LoadedEncoder, encoder_id: str) -> Features:
        grid = self.grid(volume, encoder_id)
        threads = self.store.threads.for_encoder()
        with plain_errors("encode the scan", remedy=OUR_FAULT), computing(threads):
            seen = encoder.encode(grid.values)
        novelty = seen.novelty
        if (noise := self.store.noise(encoder_id)) is not None:
            with plain_errors("measure the noise of the scan"):
                novelty = Novelty.farthest(novelty, noise_novelty(volume.hu, noise))
        return Features(
            pooled=seen.pooled,
            volume_sha256=volume.sha256,
            encoder_id=encoder_id,
            preprocessing=grid.spec.id,
            tokens=seen.tokens,
            novelty=novelty,
            readings=seen.readings,
        )

    def diagnose(self, features: Features) -> Diagnosis:
        """Logits and probabilities of the encoder's labels."""
        with plain_errors("run the classifier", remedy=OUR_FAULT):
            return self.store.encoder(features.encoder_id).diagnose(
                features.pooled, features.readings
            )

    def forget(self, volume_sha256: str) -> None:
        """Free everything computed from a volume."""
        self.cache.drop(lambda key: isinstance(key, tuple) and key[0] == volume_sha256)

    def stream(
        self,
        volume: Volume,
        variant_id: str,
        options: GenerationOptions,
        cancel: threading.Event | None = None,
        edited: Edits | None = None,
    ) -> Iterator[Event]:
        """Write one report: stages, then the diagnosis, then text after every token, then the end.

        Setting ``cancel`` or closing the iterator stops the model before its next token.

        Args:
            volume: the scan.
            variant_id: what writes.
            options: how it writes.
            cancel: stops it.
            edited: probabilities in place of the classifier's, see :mod:`rad3d.core.edits`.

        Raises:
            Cancelled: ``cancel`` was set before the first token.
            Rad3dError: any other condition a person can do something about.
        """
        cancel = cancel or threading.Event()
        clock = _Clock()
        yield StageEvent("Loading the model", 0.02)
        _check(cancel)
        if self.store.catalogue.needs_download(variant_id):
            yield from self._fetching(variant_id, cancel)
        with plain_errors("load the model"):
            reporter = self.store.variant(variant_id)
            encoder_id = reporter.config.encoder or SHIPPED_ENCODER
            encoder = self.store.encoder(encoder_id)
            _same_input(reporter, encoder)
            edits = checked_edits(edited or {}, encoder.label_set)
        clock.lap("load")
        yield StageEvent("Putting the scan onto the model grid", 0.1)
        _check(cancel)
        grid = self.grid(volume, encoder_id)
        clock.lap("grid")
        yield StageEvent("Encoding the scan", 0.25)
        _check(cancel)
        features = self.features(volume, encoder_id)
        clock.lap("encoder")
        slope = None if encoder.calibration is None else encoder.calibration.slope
        diagnosis = with_edits(self.diagnose(features), edits, slope)
        clock.lap("diagnosis")
        notes = (
            *volume.notes,
            *grid.notes,
            *novelty_notes(features.novelty, encoder_id),
            *diagnosis_notes(diagnosis),
            *edit_notes(diagnosis, reporter.config.mode_row),
        )
        yield DiagnosisEvent(diagnosis, features.novelty, notes)
        yield StageEvent("Writing the report", 0.5)
        _check(cancel)
        written = Written((), "cancelled")
        text = ""
        for written in self._write(reporter, features, diagnosis, options, cancel):
            if "first_token" not in clock.laps:
                clock.laps["first_token"] = clock.elapsed
            text = _streamable(reporter.language.decode(list(written.ids)))
            if written.finish is None:
                yield TextEvent(text, len(written.ids))
        text = reporter.language.decode(list(written.ids))
        clock.lap("writing")
        yield TextEvent(text, len(written.ids))
        yield DoneEvent(
            Report(
                text=text,
                variant_id=variant_id,
                diagnosis=diagnosis,
                options=options,
                finish_reason=written.finish or "cancelled",
                n_tokens=len(written.ids),
                timings_s=clock.laps | {"total": clock.elapsed},
                notes=notes,
                novelty=features.novelty,
                provenance=provenance(reporter, features) | edit_provenance(diagnosis),
            )
        )

    def _fetching(self, variant_id: str, cancel: threading.Event) -> Iterator[Event]:
        """Stages of a download; ``cancel`` stops it."""
        with plain_errors("load the model"):
            told = with_progress(lambda progress: self.store.variant(variant_id, progress))
            with closing(told):
                for text, fraction in told:
                    _check(cancel)
                    yield StageEvent(text, 0.02 + 0.08 * fraction)

    def _write(
        self,
        reporter: PrefixReporter,
        features: Features,
        diagnosis: Diagnosis,
        options: GenerationOptions,
        cancel: threading.Event,
    ) -> Iterator[Written]:
        threads = self.store.threads.for_language(reporter.language.nbytes)
        with plain_errors("make the prefix"), computing(threads):
            tokens = None if features.tokens is None else visual_tokens(features.tokens)
            given = PrefixInput(features.pooled, diagnosis.logits, tokens, findings_of(diagnosis))
            embeds = conditionings(reporter, [given], self._findings)[0][None]
        steps = decode(reporter.language, embeds, options, cancel)
        while True:
            # Each step may be asked for by another thread.
            with plain_errors("write the report", reporter.language), computing(threads):
                written = next(steps, None)
            if written is None:
                return
            yield written

    def _findings(self, reporter: PrefixReporter, latent: FloatArray) -> tuple[Finding, ...]:
        encoder = self.store.encoder(reporter.config.encoder or SHIPPED_ENCODER)
        return findings_of(encoder.diagnose(latent))

    def generate_batches(
        self,
        conditions: Sequence[PrefixInput],
        variant_id: str,
        options: GenerationOptions,
        cancel: threading.Event | None = None,
    ) -> Iterator[list[Generated]]:
        """Write a text from each input, in batches of up to ``BATCH_ROWS``, as they are written.

        Raises:
            Cancelled: ``cancel`` was set.
        """
        reporter = self.store.variant(variant_id)
        for first in range(0, len(conditions), BATCH_ROWS):
            began = time.perf_counter()
            threads = self.store.threads.for_language(reporter.language.nbytes)
            with plain_errors("write the reports", reporter.language), computing(threads):
                batch = conditions[first : first + BATCH_ROWS]
                embeds = conditionings(reporter, batch, self._findings)
                rows = decode_batch(reporter.language, embeds, options, cancel)
            if cancel is not None:
                _check(cancel)
            texts = [reporter.language.decode(list(row.ids)) for row in rows]
            seconds = (time.perf_counter() - began) / len(rows)
            yield [
                Generated(text, len(row.ids), row.finish or "length", seconds)
                for text, row in zip(texts, rows, strict=True)
            ]


class _Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._start

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage] = now - self._last
        self._last = now


def novelty_notes(novelty: Novelty | None, encoder_id: str) -> tuple[Note, ...]:
    """A warning where the scan lies outside what the models were trained on."""
    if novelty is None or not novelty.is_novel:
        return ()
    row = ENCODERS.get(encoder_id)
    return (
        Note(
            "warning",
            "unlike_training",
            f"These models know only {row.trained_on if row else 'their training scans'}, and this "
            f"scan is unlike them ({novelty.words}): "
            "the report shows how the software works, not what is in the scan.",
        ),
    )


def diagnosis_notes(diagnosis: Diagnosis) -> tuple[Note, ...]:
    """What limits the diagnosis: probabilities that are none, and labels no rule reads."""
    notes = []
    if unread := diagnosis.label_set.unread:
        text = f"No rule finds {some(unread, 3)} in a report, so the report is not held against it."
        notes.append(Note("info", "not_read", text))
    if diagnosis.calibrated:
        return tuple(notes)
    return (
        *notes,
        Note(
            "warning",
            "uncalibrated",
            f"The probabilities of {diagnosis.source} are plain sigmoids of its logits and were "
            "not calibrated: read them as an order, not as chances.",
        ),
    )


def edit_notes(diagnosis: Diagnosis, mode: Mode) -> tuple[Note, ...]:
    """A warning where a person edited a diagnosis that the mode does not read."""
    if not diagnosis.edited or mode.reads_prior:
        return ()
    text = f"{mode.name} does not read the diagnosis: an edit of it cannot change the report."
    return (Note("warning", "not_listening", text),)


def edit_provenance(diagnosis: Diagnosis) -> dict[str, Any]:
    """What a person set in place of what the classifier said; empty where nothing was edited."""
    probability = dict(zip(diagnosis.label_set.names, diagnosis.probabilities, strict=True))
    edits = {
        label: {"probability": float(probability[label]), "classifier": own}
        for label, own in diagnosis.edited.items()
    }
    return {"edited": edits} if edits else {}


def provenance(reporter: PrefixReporter, features: Features) -> dict[str, Any]:
    """Hashes and versions of everything that a report depends on."""
    config = reporter.config
    return {
        "volume_sha256": features.volume_sha256,
        "encoder": features.encoder_id,
        "preprocessing": features.preprocessing,
        "variant": config.id,
        "variant_files": dict(config.files),
        "phantoms_only": config.phantoms_only,
        "llm": config.llm_source,
        "llm_revision": config.llm_revision or reporter.language.revision,
        "llm_sha256": config.llm_sha256 or reporter.language.sha256,
        "precision": reporter.language.precision,
        "precision_reason": reporter.language.reason,
        "device": str(reporter.language.device),
        "rad3d": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _same_input(reporter: PrefixReporter, encoder: LoadedEncoder) -> None:
    if reporter.config.mode_row.reads_prior:
        reporter.config.label_set.require_same(
            encoder.label_set, reporter.config.id, f"the head of {encoder.id} here"
        )
    expected = reporter.config.preprocessing
    if expected and expected != encoder.grid.id:
        raise BadRequest(
            f"{reporter.config.id} was trained on another model grid ({expected}) than the one of "
            f"this encoder ({encoder.grid.id}).",
            "Train the variant again, or restore the encoder it belongs to.",
            code="grid_mismatch",
        )


def _streamable(text: str) -> str:
    """Text without a character of which only the first bytes have been written."""
    return text.rstrip("\ufffd")


def _check(cancel: threading.Event) -> None:
    if cancel.is_set():
        raise Cancelled("The run was cancelled.", code="cancelled")
