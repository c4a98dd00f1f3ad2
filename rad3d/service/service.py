"""The work behind the app and the command line: scans, variants and reports for each session."""

from __future__ import annotations

import contextlib
import importlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from rad3d.core.edits import Edits
from rad3d.core.encoders import ENCODERS, SHIPPED_ENCODER
from rad3d.core.errors import BadRequest, Cancelled, Rad3dError
from rad3d.core.evidence import Evidence
from rad3d.core.settings import Settings
from rad3d.core.types import (
    DoneEvent,
    Event,
    FailedEvent,
    GenerationOptions,
    Report,
    VariantEvent,
    Volume,
)
from rad3d.model.cache import ByteCache
from rad3d.model.catalogue import VariantStatus, encoder_is_here
from rad3d.model.engine import Engine
from rad3d.model.store import ModelStore
from rad3d.service.events import OnEvent, ignore_event
from rad3d.service.evidence import EvidenceFinder
from rad3d.service.gallery import SAMPLES_DIR, Gallery, SampleCard
from rad3d.service.memory import give_back
from rad3d.service.sessions import Session, SessionStore
from rad3d.service.shutdown import RunningReports
from rad3d.service.zerogpu import GpuLease, lent_batches, lent_comparison, lent_stream
from rad3d.volume.ctrate import ScanMetadata
from rad3d.volume.decoded import Limits
from rad3d.volume.load import read_volume

_LOG = logging.getLogger(__name__)

MIN_COMPARED, MAX_COMPARED = 2, 4
"""How many variants write beside each other."""


@dataclass(frozen=True)
class Usage:
    """What a service holds at a moment, in numbers and bytes."""

    sessions: int
    scan_bytes: int
    sample_bytes: int
    computed_bytes: int
    models: int
    model_bytes: int
    running: int


class Service:
    """Scans, variants and reports of one process; all sessions share its bounded memory.

    Of ``settings.feature_cache_mb`` five eighths are for open scans, one for samples, two for what
    is computed from scans.

    Args:
        settings: limits and places.
        store: loaded models; one of its own by default.
        samples_dir: the gallery.
        on_event: called with figures and codes, see :class:`rad3d.service.events.OnEvent`.
        lender: lends a GPU for each report and for batches of an evaluation; None computes here.

    Attributes:
        sessions: everything that belongs to each visitor.
        gallery: the sample scans.
        evidence: finds where a finding of a report lies in the scan.
        running: the reports being written, to be stopped before the process ends.
        owner_secret: stands in the link that proves who started the app; empty where there is none.
        write_batches: writes reports of an evaluation, see :meth:`Engine.generate_batches`.
    """

    def __init__(
        self,
        settings: Settings,
        store: ModelStore | None = None,
        samples_dir: Path = SAMPLES_DIR,
        on_event: OnEvent = ignore_event,
        lender: GpuLease | None = None,
    ) -> None:
        self._settings = settings
        self._store = store or ModelStore(settings)
        self._limits = Limits.of(settings)
        eighth = settings.feature_cache_mb * 2**20 // 8
        self.engine = Engine(self._store, ByteCache(2 * eighth))
        self.evidence = EvidenceFinder(self.engine, settings.models_dir)
        self.running = RunningReports()
        self.owner_secret = secrets.token_urlsafe(32) if settings.has_owner_link else ""
        self._on_event = on_event
        self._stream = lent_stream(self.engine, lender) if lender else self.engine.stream
        self._compare = lent_comparison(self.engine, lender) if lender else self.engine.compare
        self.write_batches = (
            lent_batches(self.engine, lender) if lender else self.engine.generate_batches
        )
        self._offered = [pattern for pattern in settings.variants.split(",") if pattern]
        self.sessions = SessionStore(
            settings.session_minutes * 60.0, 5 * eighth, self.engine.forget
        )
        self.gallery = Gallery(samples_dir, eighth, self.read)

    def warm_up(self) -> None:
        """Load the default variant and its encoder ahead of the first request.

        This takes a few seconds, most of them for imports. Where the models are missing, nothing
        happens: a person is told when asking for a report.
        """
        for library in ("nibabel", "scipy.signal"):  # what reading the first scan needs
            importlib.import_module(library)
        with contextlib.suppress(Rad3dError):
            if self.gallery.example:
                self.gallery.volume(self.gallery.example[0].id)
        try:
            config = self._store.variant(self._settings.default_variant).config
            self._store.encoder(config.encoder or SHIPPED_ENCODER)
        except Rad3dError as error:
            _LOG.info("Not loaded ahead: %s", error)

    def probe(self) -> None:
        """Load the default variant's encoder, so that the first visitor is told if that fails."""
        with contextlib.suppress(Rad3dError):
            self._store.encoder(self._encoder_of(None))

    @property
    def troubles(self) -> tuple[Rad3dError, ...]:
        """Errors of encoders whose files are here but could not be loaded at the last attempt.

        Scans can be looked at and predictions files scored all the same.
        """
        return tuple(self._store.failures.values())

    def sweep(self) -> None:
        """End idle sessions and return freed memory to the system; called every few seconds."""
        self.sessions.sweep()
        give_back()

    def read(self, path: Path, name: str, metadata: ScanMetadata | None = None) -> Volume:
        """Read a scan within the operator's limits, without opening it; raises BadVolume."""
        return read_volume(path, name, self._limits, metadata)

    def open(self, session: Session, read: Callable[[], Volume]) -> Volume:
        """Read a scan and make it the open one of a session.

        The scans of a session are read one after the other, so that the one asked for last stays.

        Args:
            session: the session that gets the scan.
            read: gives the volume.

        Raises:
            BadVolume: the file cannot be used; the scan that was open stays open.
            BadRequest: the session has ended, or ended while the scan was read.
        """
        with session.opening:
            self.sessions.check(session)
            start = time.perf_counter()
            try:
                volume = self.sessions.open(session, read())
            except Rad3dError as error:
                self._on_event("scan_refused", code=error.code)
                raise
            seconds = time.perf_counter() - start
        self._on_event("scan_opened", seconds=seconds, voxels=volume.hu.size)
        return volume

    def open_path(
        self, session: Session, path: Path, name: str, metadata: ScanMetadata | None = None
    ) -> Volume:
        """Open the scan in a file; raises as :meth:`open`.

        Args:
            session: the session that gets the scan.
            path: the file.
            name: shown to the person.
            metadata: the row of the scan in CT-RATE's table.
        """
        return self.open(session, lambda: self.read(path, name, metadata))

    def open_sample(self, session: Session, sample_id: str) -> Volume:
        """Open a sample; raises as :meth:`open`, and UnknownName."""
        return self.open(session, lambda: self.gallery.volume(sample_id))

    def open_example(self, session: Session) -> tuple[SampleCard, Volume, Report] | None:
        """Open the sample that has a stored report, which becomes the session's.

        Nobody has asked for it: whatever was opened meanwhile stays.

        Returns:
            Card, scan and report; None where there is none, or it is about another scan.

        Raises:
            BadVolume, BadRequest: a file is damaged, or the session has ended.
        """
        if (example := self.gallery.example) is None:
            return None
        card, report = example
        volume = self.gallery.volume(card.id)
        if report.provenance.get("volume_sha256") != volume.sha256:
            return None
        with session.opening:
            if session.volume is not None:
                return None
            volume = self.sessions.open(session, volume)
            report = self.evidence.located(report)
            session.keep(report, volume, threading.Event())
        return card, volume, report

    def model_view(self, session: Session, encoder_id: str = "") -> Volume:
        """Return what an encoder sees, as a volume in HU; its notes say what was done to the scan.

        Args:
            session: the session with the scan.
            encoder_id: of the encoder; empty is that of the last report on the scan, and before
                any report the default variant's.

        Raises:
            BadRequest: there is no open scan, or the session has ended.
            UnknownName: there is no such encoder.
            MissingWeights: the encoder, whose grid it is, is not here.
        """
        with self.sessions.using(session) as volume:
            grid = self.engine.grid(volume, encoder_id or self._encoder_of(session.report))
            return self.engine.cache.get(
                (volume.sha256, "view", grid.spec.id),
                lambda: grid.to_volume(),
                lambda view: view.hu.nbytes,
            )

    def where(self, session: Session, label: str) -> Evidence:
        """Return where in a session's scan its classifier found evidence for a label.

        Raises:
            BadRequest: there is no open scan, no report on it, or no evidence to show.
        """
        with self.sessions.using(session) as volume:
            return self.evidence.find(session, volume, label)

    def _encoder_of(self, report: Report | None) -> str:
        if report is not None:
            return str(report.provenance["encoder"])
        try:
            config = self._store.catalogue.config(self._settings.default_variant)
        except Rad3dError:
            return SHIPPED_ENCODER
        return config.encoder or SHIPPED_ENCODER

    def variants(self) -> tuple[VariantStatus, ...]:
        """Return every variant on offer: ready, or with the reason and the command that helps."""
        statuses = self._store.catalogue.statuses()
        return tuple(status for status in statuses if self._is_offered(status.id))

    def encoders_here(self) -> frozenset[str]:
        """Return the ids of the encoders whose weights are in place."""
        folder = self._settings.models_dir
        return frozenset(row.id for row in ENCODERS.values() if encoder_is_here(row, folder))

    @property
    def usage(self) -> Usage:
        """Sessions, models and bytes that are held now."""
        return Usage(
            sessions=len(self.sessions),
            scan_bytes=self.sessions.nbytes,
            sample_bytes=self.gallery.nbytes,
            computed_bytes=self.engine.cache.nbytes,
            models=self._store.loaded,
            model_bytes=self._store.nbytes,
            running=len(self.running),
        )

    def _is_offered(self, variant_id: str) -> bool:
        patterns = self._offered
        return not patterns or any(fnmatchcase(variant_id, pattern) for pattern in patterns)

    def generate(
        self,
        session: Session,
        variant_id: str,
        options: GenerationOptions,
        cancel: threading.Event,
        insist: bool = False,
        edited: Edits | None = None,
    ) -> Iterator[Event]:
        """Write a report on the session's open scan; see :meth:`rad3d.model.engine.Engine.stream`.

        Closing the iterator stops the model. A finished report becomes ``session.report``, or
        ``session.edited``, unless another scan was opened meanwhile.

        Args:
            session: the session with the scan.
            variant_id: one of those that are offered.
            options: how it is written.
            cancel: stops the model once it is set.
            insist: write it even where it would mean nothing.
            edited: probabilities in place of the classifier's.

        Raises:
            BadVolume: the scan shows no chest, and ``insist`` is False.
            BadRequest: for the reasons of the engine, or because the variant is not offered here,
                there is no open scan, or the server is about to stop.
        """
        with self._counted():
            self._check_offered(variant_id)
            with self.running.report(cancel), self.sessions.using(session) as volume:
                if not insist:
                    volume.check_reportable()
                for event in self._stream(volume, variant_id, options, cancel, edited):
                    if isinstance(event, DoneEvent):
                        event = DoneEvent(self.evidence.located(event.report))
                        session.keep(event.report, volume, cancel)
                        self._on_event("report_written", **_figures(event.report))
                    yield event

    def compare(
        self,
        session: Session,
        variant_ids: Sequence[str],
        options: GenerationOptions,
        cancel: threading.Event,
        insist: bool = False,
        edited: Edits | None = None,
    ) -> Iterator[VariantEvent]:
        """Write a report with each of two to four variants; see :meth:`Engine.compare`.

        The session keeps none of them. Arguments and errors are those of :meth:`generate`.
        """
        with self._counted():
            variant_ids = checked_comparison(variant_ids)
            for variant_id in variant_ids:
                self._check_offered(variant_id)
            with self.running.report(cancel), self.sessions.using(session) as volume:
                if not insist:
                    volume.check_reportable()
                for each in self._compare(volume, variant_ids, options, cancel, edited):
                    if isinstance(each.event, DoneEvent):
                        self._on_event("report_written", **_figures(each.event.report))
                    elif isinstance(each.event, FailedEvent):
                        self._on_event("report_failed", code=each.event.code)
                    yield each

    def _check_offered(self, variant_id: str) -> None:
        if not self._is_offered(variant_id):
            raise BadRequest(
                f"{variant_id} is not offered here.",
                f"Offered: {', '.join(self._offered)}.",
                code="not_offered",
            )

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Count what fails in the block; it is handled by the caller."""
        try:
            yield
        except Cancelled:
            raise
        except Rad3dError as error:
            self._on_event("report_failed", code=error.code)
            raise
        except Exception:
            self._on_event("report_failed", code="defect")
            raise


def checked_comparison(variant_ids: object) -> tuple[str, ...]:
    """Return the variants to compare, as somebody sent them; raises BadRequest unless 2 to 4."""
    asked = variant_ids if isinstance(variant_ids, list | tuple) else ()
    names = tuple(dict.fromkeys(str(name) for name in asked))
    if not MIN_COMPARED <= len(names) <= MAX_COMPARED:
        raise BadRequest(
            f"{MIN_COMPARED} to {MAX_COMPARED} models can be compared at once, not {len(names)}.",
            f"Pick {MIN_COMPARED} to {MAX_COMPARED} different ones.",
            code="bad_comparison",
        )
    return names


def _figures(report: Report) -> dict[str, object]:
    """Return the figures of a report for the log and the metrics, without any text."""
    seconds = {f"{stage}_s": seconds for stage, seconds in report.timings_s.items()}
    finish = report.finish_reason
    return {"variant": report.variant_id, "finish": finish, "tokens": report.n_tokens, **seconds}
