"""What the faces ask for: sessions, scans, variants and reports. No Gradio, no printing."""

from __future__ import annotations

import contextlib
import importlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from rad3d.core.errors import BadRequest, Cancelled, Rad3dError
from rad3d.core.registry import ENCODERS, SHIPPED_ENCODER
from rad3d.core.settings import Settings
from rad3d.core.types import DoneEvent, Event, GenerationOptions, Report, Volume
from rad3d.model.cache import ByteCache
from rad3d.model.catalogue import VariantStatus, encoder_is_here
from rad3d.model.engine import Engine
from rad3d.model.store import ModelStore
from rad3d.service.events import OnEvent, ignore_event
from rad3d.service.gallery import SAMPLES_DIR, Gallery, SampleCard
from rad3d.service.memory import give_back
from rad3d.service.reading import read_scan
from rad3d.service.sessions import SessionStore
from rad3d.service.shutdown import RunningReports
from rad3d.service.zerogpu import GpuLease, lent_batches, lent_stream
from rad3d.volume.ctrate import ScanMetadata

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Usage:
    """What a service holds now, in numbers and bytes."""

    sessions: int
    scan_bytes: int
    sample_bytes: int
    computed_bytes: int
    models: int
    model_bytes: int
    running: int


class Service:
    """One per process; the memory of all sessions is bounded by ``settings.feature_cache_mb``.

    Five eighths of that bound are for open scans, one for samples, two for what is computed.

    Args:
        settings: limits and places.
        store: loaded models; one of its own by default.
        samples_dir: the gallery.
        on_event: told what happens, in figures and codes.
        lender: of the GPU, where one is lent for each report, and for batches of an evaluation.

    Attributes:
        running: the reports being written; to be stopped before the process ends.
        owner_secret: stands in the link that proves who started the app; empty where there is none.
        write_batches: reports of an evaluation, see :meth:`Engine.generate_batches`.
        farewells: called with the token of every session that has ended, for what others hold of
            it.
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
        eighth = settings.feature_cache_mb * 2**20 // 8
        self.engine = Engine(self._store, ByteCache(2 * eighth))
        self.running = RunningReports()
        self.owner_secret = secrets.token_urlsafe(32) if settings.has_owner_link else ""
        self._on_event = on_event
        self._stream = lent_stream(self.engine, lender) if lender else self.engine.stream
        self.write_batches = (
            lent_batches(self.engine, lender) if lender else self.engine.generate_batches
        )
        self._offered = [pattern for pattern in settings.variants.split(",") if pattern]
        self.farewells: list[Callable[[str], None]] = []
        self._sessions = SessionStore(
            settings.session_minutes * 60.0,
            5 * eighth,
            self.engine.forget,
            on_end=self._say_farewell,
        )
        self._gallery = Gallery(samples_dir, eighth, self.read)

    def warm_up(self) -> None:
        """Load the default variant and its encoder ahead of the first request.

        Takes a few seconds, most of them for importing; where the models are not here, nothing
        happens: the person is told when asking for a report.
        """
        for library in ("nibabel", "scipy.signal"):  # what reading the first scan needs
            importlib.import_module(library)
        try:
            config = self._store.variant(self._settings.default_variant).config
            self._store.encoder(config.encoder or SHIPPED_ENCODER)
        except Rad3dError as error:
            _LOG.info("Not loaded ahead: %s", error)

    def probe(self) -> None:
        """Try the default variant's encoder, so that the first visitor is told of its troubles."""
        with contextlib.suppress(Rad3dError):
            self._store.encoder(self._encoder_of(None))

    @property
    def troubles(self) -> tuple[Rad3dError, ...]:
        """Why encoders whose files are here could not be loaded when that was last tried.

        Scans can be looked at and predictions files scored all the same.
        """
        return tuple(self._store.failures.values())

    def new_session(self) -> str:
        """A token that cannot be guessed; it ends after ``session_minutes`` without use."""
        return self._sessions.new()

    def end_session(self, session: str) -> None:
        """Free everything of it; a token that has ended is fine."""
        self._sessions.end(session)

    def _say_farewell(self, session: str) -> None:
        for farewell in self.farewells:
            farewell(session)

    def touch(self, session: str) -> bool:
        """Mark a session as used now; False where it has ended."""
        return self._sessions.find(session) is not None

    def knows(self, session: str) -> bool:
        """Whether a session is alive; does not count as a use of it."""
        return self._sessions.knows(session)

    def sweep(self) -> None:
        """End the sessions that were idle for too long, and give back what was freed.

        A face calls it every now and then.
        """
        self._sessions.sweep()
        give_back()

    def open_path(
        self, session: str, path: Path, name: str, metadata: ScanMetadata | None = None
    ) -> Volume:
        """Read a scan and make it the session's open one.

        Args:
            session: token.
            path: of the file.
            name: shown to the person.
            metadata: what CT-RATE's table says about it.

        Raises:
            BadVolume: the file cannot be used; the scan that was open stays open.
            BadRequest: the session has ended.
        """
        return self._opened(session, lambda: self.read(path, name, metadata))

    def _opened(self, session: str, read: Callable[[], Volume]) -> Volume:
        self._sessions.get(session)
        began = time.perf_counter()
        try:
            volume = self._sessions.open(session, read())
        except Rad3dError as error:
            self._on_event("scan_refused", code=error.code)
            raise
        seconds = time.perf_counter() - began
        self._on_event("scan_opened", seconds=seconds, voxels=volume.hu.size)
        return volume

    def open_volume(self, session: str, volume: Volume) -> Volume:
        """Make a volume the session's open scan; raises BadRequest where the session has ended."""
        return self._sessions.open(session, volume)

    def read(self, path: Path, name: str, metadata: ScanMetadata | None = None) -> Volume:
        """Read a scan within the limits, without opening it; raises BadVolume."""
        return read_scan(self._settings, path, name, metadata)

    def samples(self) -> tuple[SampleCard, ...]:
        """The gallery."""
        return self._gallery.cards

    def sample(self, sample_id: str) -> Volume:
        """A sample scan; raises UnknownName, or BadVolume where its file cannot be used."""
        return self._gallery.volume(sample_id)

    def open_sample(self, session: str, sample_id: str) -> Volume:
        """Make a sample the session's open scan; raises as :meth:`sample` and BadRequest."""
        return self._opened(session, lambda: self.sample(sample_id))

    def volume(self, session: str) -> Volume | None:
        """The open scan; None where there is none or the session has ended."""
        found = self._sessions.find(session)
        return found.volume if found else None

    def model_view(self, session: str, encoder_id: str = "") -> Volume:
        """What an encoder sees, as a volume in HU; its notes say what was done to the scan.

        Args:
            session: token.
            encoder_id: whose grid; empty is that of the last report on the scan, and before any
                report the default variant's.

        Raises:
            BadRequest: there is no open scan, or the session has ended.
            UnknownName: there is no such encoder.
            MissingWeights: the encoder, whose grid it is, is not here.
        """
        volume = self._sessions.begin(session)
        try:
            grid = self.engine.grid(
                volume, encoder_id or self._encoder_of(self.last_report(session))
            )
            return self.engine.cache.get(
                (volume.sha256, "view", grid.spec.id),
                lambda: grid.to_volume(),
                lambda view: view.hu.nbytes,
            )
        finally:
            self._sessions.finish(session, volume, None)

    def _encoder_of(self, report: Report | None) -> str:
        if report is not None:
            return str(report.provenance["encoder"])
        try:
            config = self._store.config(self._settings.default_variant)
        except Rad3dError:
            return SHIPPED_ENCODER
        return config.encoder or SHIPPED_ENCODER

    def variants(self) -> tuple[VariantStatus, ...]:
        """Every language model in every mode that is offered: ready, or with the reason and the
        command."""
        return tuple(status for status in self._store.statuses() if self._is_offered(status.id))

    def encoders_here(self) -> frozenset[str]:
        """Ids of the encoders whose weights are in place."""
        folder = self._settings.models_dir
        return frozenset(row.id for row in ENCODERS.values() if encoder_is_here(row, folder))

    @property
    def usage(self) -> Usage:
        """What is held now."""
        return Usage(
            sessions=len(self._sessions),
            scan_bytes=self._sessions.nbytes,
            sample_bytes=self._gallery.nbytes,
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
        session: str,
        variant_id: str,
        options: GenerationOptions,
        cancel: threading.Event,
        insist: bool = False,
    ) -> Iterator[Event]:
        """Write a report on the session's open scan; see :meth:`rad3d.model.engine.Engine.stream`.

        Closing the iterator stops the model. A finished report is kept for :meth:`last_report`
        as long as its scan stays open.

        Args:
            session: token.
            variant_id: of those that are offered.
            options: how it is written.
            cancel: stops the model once it is set.
            insist: write it even where it would mean nothing.

        Raises:
            BadVolume: the scan is none of a chest, and nobody insists.
            BadRequest: besides the engine's reasons: the variant is not offered here, or the server
                is about to stop.
        """
        try:
            if not self._is_offered(variant_id):
                raise BadRequest(
                    f"{variant_id} is not offered here.",
                    f"Offered: {', '.join(self._offered)}.",
                    code="not_offered",
                )
            if not insist and (volume := self.volume(session)) is not None:
                volume.check_reportable()
            with self.running.report(cancel):
                yield from self._written(session, variant_id, options, cancel)
        except Cancelled:
            raise
        except Rad3dError as error:
            self._on_event("report_failed", code=error.code)
            raise
        except Exception:  # not handled here, only counted
            self._on_event("report_failed", code="defect")
            raise

    def _written(
        self,
        session: str,
        variant_id: str,
        options: GenerationOptions,
        cancel: threading.Event,
    ) -> Iterator[Event]:
        volume = self._sessions.begin(session)
        report: Report | None = None
        try:
            for event in self._stream(volume, variant_id, options, cancel):
                if isinstance(event, DoneEvent):
                    report = event.report
                    self._on_event("report_written", **_figures(report))
                yield event
        finally:
            self._sessions.finish(session, volume, report)

    def last_report(self, session: str) -> Report | None:
        """The last report on the open scan."""
        found = self._sessions.find(session)
        return found.report if found else None


def _figures(report: Report) -> dict[str, object]:
    """What may be told of a report: no text."""
    seconds = {f"{stage}_s": seconds for stage, seconds in report.timings_s.items()}
    finish = report.finish_reason
    return {"variant": report.variant_id, "finish": finish, "tokens": report.n_tokens, **seconds}
