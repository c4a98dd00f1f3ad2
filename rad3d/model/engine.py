"""The one engine: scan -> model grid -> features -> diagnosis -> prefix -> tokens.

The app, the command line and the evaluation all run through it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Hashable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field

from rad3d.core.details import findings_of
from rad3d.core.edits import Edits, checked_edits, with_edits
from rad3d.core.encoders import SHIPPED_ENCODER
from rad3d.core.errors import BadRequest, Cancelled, Rad3dError
from rad3d.core.findings import Finding
from rad3d.core.types import (
    Diagnosis,
    DiagnosisEvent,
    DoneEvent,
    Event,
    FailedEvent,
    Features,
    FinishReason,
    FloatArray,
    GenerationOptions,
    Novelty,
    StageEvent,
    VariantEvent,
    Volume,
)
from rad3d.model.cache import ByteCache
from rad3d.model.encoders.base import LoadedEncoder
from rad3d.model.encoders.noise import noise_novelty
from rad3d.model.llm.decoding import Written, decode_batch, decode_rows
from rad3d.model.llm.failures import OUR_FAULT, plain_errors
from rad3d.model.llm.hub import with_progress
from rad3d.model.prefix_input import PrefixInput, conditionings
from rad3d.model.report_facts import (
    Asked,
    Clock,
    diagnosis_notes,
    edit_notes,
    novelty_notes,
)
from rad3d.model.store import ModelStore
from rad3d.model.threads import SMALL_BYTES, computing
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
        asked = yield from self._prepare(volume, variant_id, cancel, edited)
        yield StageEvent("Writing the report", 0.5)
        _check(cancel)
        for _, event in self._write([asked], options, cancel):
            yield event

    def compare(
        self,
        volume: Volume,
        variant_ids: Sequence[str],
        options: GenerationOptions,
        cancel: threading.Event | None = None,
        edited: Edits | None = None,
    ) -> Iterator[VariantEvent]:
        """Write a report with each variant: the events of :meth:`stream`, each with its variant.

        The scan is encoded once. Variants of one frozen language model are written in one batch,
        and the small models take turns, token by token; a large one has finished before the next
        is loaded. What a variant cannot do is an event of it and concerns no other.

        Args:
            volume: the scan.
            variant_ids: what writes.
            options: how they write.
            cancel: stops them all.
            edited: probabilities in place of the classifier's.

        Raises:
            Cancelled: ``cancel`` was set before the last of them began to write.
        """
        cancel = cancel or threading.Event()
        at_work: list[Iterator[VariantEvent]] = []
        for group in self._sharing(variant_ids):
            together: list[Asked] = []
            for variant in group:
                try:
                    steps = self._prepare(volume, variant, cancel, edited)
                    together.append((yield from _named(variant, steps)))
                except Cancelled:
                    raise
                except Rad3dError as error:
                    yield VariantEvent(variant, FailedEvent(str(error), error.code))
            if together:
                at_work.append(self._write_all(together, options, cancel))
                if together[0].reporter.language.nbytes >= SMALL_BYTES:
                    yield from _in_turns(at_work)
                    at_work = []
        yield from _in_turns(at_work)

    def _sharing(self, variant_ids: Sequence[str]) -> list[list[str]]:
        """The variants in groups that share a frozen language model."""
        groups: dict[Hashable, list[str]] = {}
        for variant in variant_ids:
            key: Hashable = variant
            with suppress(Rad3dError):  # which is told when it is about to write
                config = self.store.ready(variant)
                if not config.mode_row.trains_llm and not config.mode_row.adapter:
                    key = config.llm_source, config.llm_revision
            groups.setdefault(key, []).append(variant)
        return list(groups.values())

    def _prepare(
        self, volume: Volume, variant_id: str, cancel: threading.Event, edited: Edits | None
    ) -> Generator[Event, None, Asked]:
        """Load a variant and encode the scan for it; gives what it writes from."""
        clock = Clock()
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
        return Asked(variant_id, reporter, features, diagnosis, notes, clock)

    def _fetching(self, variant_id: str, cancel: threading.Event) -> Iterator[Event]:
        """Stages of a download; ``cancel`` stops it."""
        with plain_errors("load the model"):
            told = with_progress(lambda progress: self.store.variant(variant_id, progress))
            with closing(told):
                for text, fraction in told:
                    _check(cancel)
                    yield StageEvent(text, 0.02 + 0.08 * fraction)

    def _write_all(
        self, together: Sequence[Asked], options: GenerationOptions, cancel: threading.Event
    ) -> Iterator[VariantEvent]:
        """Write in one batch; where that fails, it has failed for all that are unfinished."""
        unfinished = {asked.variant_id: asked for asked in together}
        try:
            for asked, event in self._write(together, options, cancel):
                if isinstance(event, DoneEvent):
                    del unfinished[asked.variant_id]
                yield VariantEvent(asked.variant_id, event)
        except Rad3dError as error:
            for variant in unfinished:
                yield VariantEvent(variant, FailedEvent(str(error), error.code))

    def _write(
        self, together: Sequence[Asked], options: GenerationOptions, cancel: threading.Event
    ) -> Iterator[tuple[Asked, Event]]:
        """Write a text for each of some variants that share a language model."""
        for asked in together:
            asked.clock.resume()
        language = together[0].reporter.language
        threads = self.store.threads.for_language(language.nbytes)
        with plain_errors("make the prefix"), computing(threads):
            embeds = [
                conditionings(asked.reporter, [asked.given], self._findings)[0]
                for asked in together
            ]
        steps = decode_rows(language, embeds, options, cancel)
        before = [Written(()) for _ in together]
        while True:
            # Each step may be asked for by another thread.
            with plain_errors("write the report", language), computing(threads):
                rows = next(steps, None)
            if rows is None:
                return
            for asked, last, now in zip(together, before, rows, strict=True):
                if now is not last:
                    yield from ((asked, event) for event in asked.events(now, options))
            before = rows

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


def _check(cancel: threading.Event) -> None:
    if cancel.is_set():
        raise Cancelled("The run was cancelled.", code="cancelled")


def _named(
    variant: str, steps: Generator[Event, None, Asked]
) -> Generator[VariantEvent, None, Asked]:
    """The steps as events of a variant; gives what the steps give."""
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            asked: Asked = end.value
            return asked
        yield VariantEvent(variant, event)


def _in_turns(writers: Sequence[Iterator[VariantEvent]]) -> Iterator[VariantEvent]:
    """One event of each in turn, until all have ended."""
    going = deque(writers)
    while going:
        writer = going.popleft()
        event = next(writer, None)
        if event is not None:
            going.append(writer)
            yield event
