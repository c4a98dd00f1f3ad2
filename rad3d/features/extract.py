"""Encodes many scans into a store of features: planned, resumed, divided, and never silent.

The next scan is read and put onto the model grid by a thread while the present one is encoded. A
scan that cannot be used becomes a row with the reason. Whatever stops the work, what was encoded
up to the last shard is there, and the next run goes on behind it.
"""

from __future__ import annotations

import hashlib
import io
import math
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from rad3d import __version__
from rad3d.core.errors import DiskFull, Rad3dError
from rad3d.core.files import write_whole
from rad3d.core.tables import write_table
from rad3d.core.types import Volume
from rad3d.features.encoder_features import encode
from rad3d.features.scans import Scan
from rad3d.features.shard_writer import ShardWriter
from rad3d.features.shards import Case, Failed, FeatureStore, SourceFile
from rad3d.features.table import Row
from rad3d.model.cache import ByteCache
from rad3d.model.encoders.head import HeadedEncoder
from rad3d.model.engine import Engine
from rad3d.model.store import ModelStore
from rad3d.volume.ctrate import MetadataTable, ScanMetadata

FAILURES_FILE = "failures.csv"
SAVE_SECONDS = 600.0
"""A shard that is not full is written after this time, so that slow encoders lose little too."""

OF_THE_MACHINE = ("out_of_memory", "model_failed")
"""Codes that may be a scan's fault or the machine's; many in a row are the machine's."""

STOP_AFTER = 10
"""Failures in a row after which the work stops."""

ROW_BYTES = 350
"""Bytes of the store for a scan beside its numbers: hash, id, name, size and time of the file."""

PROBES = 3
"""Scans that are timed for a plan, after one that warms up."""

Reader = Callable[[Path, str, ScanMetadata | None], Volume]


@dataclass(frozen=True)
class Outcome:
    """The result for one scan.

    Attributes:
        scan: which.
        file: as it was read; None where there is none.
        content: hash of the volume; empty where it could not be read.
        row: features; None where they were known before, or could not be made.
        error: why there are no features.
        warned: codes of what the reader warned of.
        read_s, encode_s: seconds for reading and resampling, and for encoding.
    """

    scan: Scan
    file: SourceFile | None
    content: str = ""
    row: Row | None = None
    error: Failed | None = None
    warned: tuple[str, ...] = ()
    read_s: float = 0.0
    encode_s: float = 0.0


@dataclass(frozen=True)
class Summary:
    """Counts of scans by result; every scan is counted once.

    Attributes:
        scans: all that are wanted.
        encoded: newly.
        known: read, and recognised by their content.
        skipped: finished before, and not read.
        failed: code -> how many have no features, now or since an earlier run.
        warned: code -> how many were read with this warning in this run.
        seconds: of the run.
    """

    scans: int = 0
    encoded: int = 0
    known: int = 0
    skipped: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __add__(self, other: Summary) -> Summary:
        """Add the counts of two runs side by side; the longer one gives the seconds."""
        both = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return replace(Summary(**both), seconds=max(self.seconds, other.seconds))

    @property
    def with_features(self) -> int:
        """Number of scans that have features now."""
        return self.encoded + self.known + self.skipped


@dataclass(frozen=True)
class Progress:
    """Progress of a run: ``done`` of the ``total`` scans to encode, and the counts so far."""

    done: int
    total: int
    summary: Summary

    @property
    def seconds_left(self) -> float:
        """Seconds for the rest, at the rate so far."""
        return self.summary.seconds / self.done * (self.total - self.done)


@dataclass(frozen=True)
class Plan:
    """The scans that are left to encode, with time and disk space for them.

    Attributes:
        scans, finished, failed: all; with features; without, since an earlier run.
        todo: to encode.
        missing: of these, whose file is not there.
        source_bytes: of the files to read.
        bytes_per_scan: what the store takes for each.
        probed: scans that were timed; with fewer than two no time is known.
        seconds_per_scan: of one process, the next scan being read while one is encoded.
        read_s, encode_s: medians of the two sides.
    """

    scans: int
    finished: int
    failed: int
    todo: int
    missing: int
    source_bytes: int
    bytes_per_scan: int
    probed: int
    seconds_per_scan: float
    read_s: float
    encode_s: float

    def hours(self, processes: int = 1) -> float:
        """Hours for the rest, where every process has a device and processor cores of its own."""
        return self.todo * self.seconds_per_scan / processes / 3600


def _token_bytes(outcome: Outcome) -> int:
    tokens = outcome.row.tokens if outcome.row is not None else None
    return 0 if tokens is None else tokens.nbytes


class FeatureWork:
    """Brings the features of scans into a store.

    Args:
        models: gives the encoder, on its device.
        encoder_id: which.
        store: receives the features; with :meth:`plan` alone, nothing is written to it.
        scans: of this run's part, by id.
        read: opens a scan within the limits.
        metadata: CT-RATE's table, where its geometry and rescaling count.
        readers: threads that read ahead.
        retry: try scans again that failed before.
        tokens: keep visual tokens as well.
    """

    def __init__(
        self,
        models: ModelStore,
        encoder_id: str,
        store: FeatureStore,
        scans: Sequence[Scan],
        read: Reader,
        metadata: MetadataTable | None = None,
        readers: int = 1,
        retry: bool = False,
        tokens: bool = False,
    ) -> None:
        self._tokens = tokens
        self._encoder_id, self._encoder = encoder_id, models.encoder(encoder_id)
        self._store, self._read, self._metadata = store, read, metadata
        self._readers = readers
        grid_bytes = 4 * math.prod(self._encoder.grid.shape)
        self._engine = Engine(models, ByteCache((readers + 3) * grid_bytes))
        inner = self._encoder.encoder if isinstance(self._encoder, HeadedEncoder) else self._encoder
        self._facts = {
            "device": models.device,
            "precision": getattr(inner, "precision", "float32"),
            "rad3d": __version__,
        }
        self.summary = Summary(len(scans))
        self._todo: list[tuple[Scan, SourceFile | None]] = []
        for scan in scans:
            self._sort(scan, retry)

    def _sort(self, scan: Scan, retry: bool) -> None:
        """Whether a scan is finished, has failed, or is to do; its file is not read."""
        file = self._file(scan)
        state = self._store.state(scan.id, file)
        if isinstance(state, Case):
            self.summary += Summary(skipped=1)
        elif state is not None and not retry:
            self.summary += Summary(failed=Counter([state.code]))
        else:
            self._todo.append((scan, file))

    def _file(self, scan: Scan) -> SourceFile | None:
        try:
            row = self._row(scan)
        except Rad3dError:  # said when the scan is read
            row = None
        return file_of(
            scan.path, hashlib.sha256(repr(row).encode()).hexdigest()[:16] if row else ""
        )

    def _row(self, scan: Scan) -> ScanMetadata | None:
        return self._metadata.row(scan.path.name) if self._metadata else None

    def plan(self) -> Plan:
        """Count what is left, and time a few scans of it."""
        times: list[float] = []
        encoded: list[Outcome] = []
        began = time.perf_counter()
        with closing(self._outcomes(self._todo[: 4 * PROBES], lambda _: False)) as outcomes:
            for outcome in outcomes:
                if outcome.row is not None:
                    times.append(time.perf_counter() - began)
                    encoded.append(outcome)
                if len(encoded) > PROBES:
                    break
        timed = encoded[1:]  # the first one warms up
        return Plan(
            scans=self.summary.scans,
            finished=self.summary.skipped,
            failed=self.summary.failed.total(),
            todo=len(self._todo),
            missing=sum(file is None for _, file in self._todo),
            source_bytes=sum(file.size for _, file in self._todo if file),
            bytes_per_scan=4 * (self._encoder.embedding_dim + len(self._encoder.label_set))
            + max((_token_bytes(outcome) for outcome in encoded), default=0)
            + ROW_BYTES,
            probed=len(timed),
            seconds_per_scan=(times[-1] - times[0]) / len(timed) if timed else math.nan,
            read_s=statistics.median(o.read_s for o in timed) if timed else math.nan,
            encode_s=statistics.median(o.encode_s for o in timed) if timed else math.nan,
        )

    def run(self, shard_size: int, stop_after: int = STOP_AFTER) -> Generator[Progress, None, None]:
        """Encode what is to do; closing the iterator keeps what is done.

        Args:
            shard_size: scans that are written at once.
            stop_after: stop where so many in a row failed for want of memory; 0 never does.

        Raises:
            DiskFull, OSError: the store cannot be written, or a zip not be unpacked.
            Rad3dError: many scans in a row failed for want of memory or the like.
        """
        began = time.monotonic()
        writer = ShardWriter(
            self._store, shard_size, SAVE_SECONDS, self._facts, self._encoder.label_set
        )
        in_a_row = 0
        try:
            with closing(self._outcomes(self._todo, writer.holds)) as outcomes:
                for done, outcome in enumerate(outcomes, 1):
                    self._record(outcome, writer, time.monotonic() - began)
                    error = outcome.error
                    in_a_row = in_a_row + 1 if error and error.code in OF_THE_MACHINE else 0
                    if error and 0 < in_a_row == stop_after:
                        raise Rad3dError(
                            f"{stop_after} scans in a row could not be encoded. {error.problem}",
                            "Correct that, then go on with --retry-failed.",
                            code=error.code,
                        )
                    yield Progress(done, len(self._todo), self.summary)
        finally:
            writer.flush()

    def _record(self, outcome: Outcome, writer: ShardWriter, seconds: float) -> None:
        if outcome.error:
            writer.fail(outcome.scan.id, outcome.error)
            made = Summary(failed=Counter([outcome.error.code]), seconds=seconds)
        else:
            writer.add(outcome.scan.id, Case(outcome.content, outcome.file), outcome.row)
            is_new = outcome.row is not None
            made = Summary(encoded=int(is_new), known=int(not is_new), seconds=seconds)
        made.warned.update(outcome.warned)
        self.summary += made

    # One scan

    def _outcomes(
        self, todo: Sequence[tuple[Scan, SourceFile | None]], holds: Callable[[str], bool]
    ) -> Generator[Outcome, None, None]:
        """The results in order; ``holds`` tells whether a content has features already."""
        waiting: deque[Future[tuple[Outcome, Volume | None]]] = deque()
        with ThreadPoolExecutor(self._readers) as pool:
            try:
                for scan, file in todo:
                    waiting.append(pool.submit(self._open, scan, file, holds))
                    if len(waiting) > self._readers:
                        yield self._encode(*waiting.popleft().result(), holds)
                while waiting:
                    yield self._encode(*waiting.popleft().result(), holds)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _open(
        self, scan: Scan, file: SourceFile | None, holds: Callable[[str], bool]
    ) -> tuple[Outcome, Volume | None]:
        """Read a scan and put it onto the grid, which the engine keeps; in a thread."""
        began = time.perf_counter()
        try:
            volume = self._read(scan.path, scan.id, self._row(scan))
            if not holds(volume.sha256):
                self._engine.grid(volume, self._encoder_id)
        except (Rad3dError, OSError, MemoryError) as error:
            return Outcome(scan, file, error=_failed(error, file)), None
        seconds = time.perf_counter() - began
        warned = tuple({note.code for note in volume.warnings})
        return Outcome(scan, file, volume.sha256, warned=warned, read_s=seconds), volume

    def _encode(
        self, opened: Outcome, volume: Volume | None, holds: Callable[[str], bool]
    ) -> Outcome:
        if volume is None:
            return opened
        began = time.perf_counter()
        try:
            if holds(volume.sha256):
                return opened
            row = encode(self._engine, volume, self._encoder_id, self._tokens)
        except Rad3dError as error:
            return replace(opened, error=_failed(error, opened.file))
        finally:
            self._engine.forget(volume.sha256)
        if not all(np.isfinite(numbers).all() for numbers in row if numbers is not None):
            text = "The encoder gave no numbers for this scan."
            return replace(opened, error=Failed(text, "not_finite", opened.file))
        return replace(opened, row=row, encode_s=time.perf_counter() - began)


def file_of(path: Path, metadata: str = "") -> SourceFile | None:
    """The file as it is now; None where there is none, which is said when the scan is read."""
    try:
        return SourceFile.of(path, metadata) if path.is_file() else None
    except OSError:
        return None


def _failed(error: Exception, file: SourceFile | None) -> Failed:
    """The failure to record for a scan; raises DiskFull, which is not the scan's fault."""
    if isinstance(error, DiskFull):
        raise error
    if isinstance(error, Rad3dError):
        return Failed(error.problem, error.code, file)
    if isinstance(error, OSError):
        return Failed(f"The file cannot be read: {error.strerror}.", "unreadable", file)
    return Failed("There is not enough memory to read the scan.", OF_THE_MACHINE[0], file)


def write_failures(store: FeatureStore) -> Path | None:
    """List everything without features in a CSV in the store; None where there is nothing."""
    path = store.path / FAILURES_FILE
    if not store.failures:
        path.unlink(missing_ok=True)
        return None
    text = io.StringIO(newline="")
    rows = (
        (id_, why.file.name if why.file else "", why.code, why.problem)
        for id_, why in sorted(store.failures.items())
    )
    write_table(text, [("id", "file", "code", "problem"), *rows])
    write_whole(path, text.getvalue().encode("utf-8", "backslashreplace"), contested=True)
    return path
