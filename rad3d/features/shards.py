"""A store of features: a folder of files that never change, written by any number of processes.

``store.json`` says whose features these are; every file in ``shards`` holds some rows. A row is
kept under the hash of the scan's content, so a scan under two names is encoded once, and weights
and model grid are those of the whole store. Ids of cases point to contents, together with what is
known of the file (name, size, time), so that a finished file need not be read again. What could not
be encoded stands there as well, with the reason. Of two entries for one id, the later counts.

A shard appears in one step under a name that nobody else takes. So processes and machines need not
know of each other, and one that is killed leaves nothing that could be mistaken for features. Names
are times, but never earlier than that of a shard which the writer has seen: a clock that is set
back does not make its entries older than those that they replace.

A single file of features is read as a store of one shard, in which ids stand for contents.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rad3d.core.errors import BadRequest, DiskFull
from rad3d.core.files import PART, existing_file, write_whole
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.plain import from_plain
from rad3d.features.table import (
    SCHEMA_ID,
    FeatureTable,
    Row,
    gathered,
    plainly,
    read_about,
    read_tensors,
    write_tensors,
)
from rad3d.model.identity import EncoderIdentity

STORE_SCHEMA, SHARD_SCHEMA = "rad3d-feature-store/1", "rad3d-feature-shard/1"
STORE_FILE, SHARDS = "store.json", "shards"
SUFFIX = ".safetensors"

ABANDONED_SECONDS = 24 * 3600
"""Age from which a file that was never finished belongs to a process that has died."""


@dataclass(frozen=True)
class SourceFile:
    """A scan's file as it was when it was read; another size or time means another scan.

    Attributes:
        name: without its folder, which may move.
        size: in bytes.
        mtime_ns: when it was last changed.
        metadata: what a metadata table said of it; it changes what is read.
    """

    name: str
    size: int
    mtime_ns: int
    metadata: str = ""

    @classmethod
    def of(cls, path: Path, metadata: str = "") -> SourceFile:
        """The file now; raises OSError where there is none."""
        stat = path.stat()
        return cls(path.name, stat.st_size, stat.st_mtime_ns, metadata)


@dataclass(frozen=True)
class Case:
    """Key of an id's features: the hash of its content, with the file that it was read from."""

    content: str
    file: SourceFile | None = None


@dataclass(frozen=True)
class Failed:
    """Reason why an id has no features: a sentence, its stable code, and the file if any."""

    problem: str
    code: str
    file: SourceFile | None = None


@dataclass(frozen=True, eq=False)
class Shard:
    """Entries that one process adds in one step.

    Attributes:
        rows: hash of a scan's content -> what the encoder saw.
        cases: id -> its content, in these rows or in an earlier shard.
        failures: id -> why it has no features.
        facts: what computed it, as text.
        label_set: the labels of the logits.
    """

    rows: Mapping[str, Row] = field(default_factory=dict)
    cases: Mapping[str, Case] = field(default_factory=dict)
    failures: Mapping[str, Failed] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    label_set: LabelSet = CT_RATE


class FeatureStore:
    """The content of a folder of features when it was opened, and what was added since.

    Attributes:
        path: the folder, or a single file, to which nothing is added.
        identity: whose features these are.
        cases: id -> content, of all that have features.
        failures: id -> why not.
        facts: facts of the shards -> how many rows they hold.
    """

    def __init__(self, path: Path, identity: EncoderIdentity) -> None:
        self.path, self.identity = path, identity
        self.cases: dict[str, Case] = {}
        self.failures: dict[str, Failed] = {}
        self.facts: dict[tuple[tuple[str, str], ...], int] = {}
        self._places: dict[str, Path] = {}
        self._contents: dict[Path, tuple[str, ...]] = {}
        self._newest = 0

    @classmethod
    def open(cls, path: Path) -> FeatureStore:
        """Read what is known of every scan; the features themselves are read by :meth:`table`.

        Args:
            path: the folder, or a single file of features.

        Raises:
            BadRequest: there is no such thing, or a file is damaged; the sentence names it.
        """
        if not path.is_dir():
            return cls._of_file(path)
        store = cls(path, _read_identity(path))
        for shard in sorted((path / SHARDS).glob(f"[!.]*{SUFFIX}")):
            store._newest = max(store._newest, _nanoseconds(shard))
            store._read(shard)
        # Where a shard was removed, what pointed into it is unknown again.
        store.cases = {id_: case for id_, case in store.cases.items() if store.holds(case.content)}
        return store

    @classmethod
    def _of_file(cls, path: Path) -> FeatureStore:
        identity, about = read_about(existing_file(path), SCHEMA_ID)
        with plainly(path):
            ids = tuple(map(str, json.loads(about["ids"])))
            failures = json.loads(about["failures"]).items()
        store = cls(path, identity)
        shard = Shard(
            cases={id_: Case(id_) for id_ in ids},
            failures={id_: Failed(problem, "failed") for id_, problem in failures},
        )
        store._add(shard, path, ids)
        return store

    @classmethod
    def create(cls, path: Path, identity: EncoderIdentity) -> FeatureStore:
        """A new store, or the one that is there.

        Raises:
            BadRequest: the folder holds features of another encoder, or a file is damaged.
        """
        (path / SHARDS).mkdir(parents=True, exist_ok=True)
        if not (path / STORE_FILE).is_file():
            about = json.dumps({"schema": STORE_SCHEMA, **asdict(identity)}, indent=2)
            write_whole(path / STORE_FILE, f"{about}\n".encode(), contested=True)
        store = cls.open(path)
        _require_same(path, store.identity, identity)
        store._sweep()
        return store

    def __len__(self) -> int:
        return len(self.cases)

    def holds(self, content: str) -> bool:
        """True where the features of a scan's content are here, under whatever id."""
        return content in self._places

    def state(self, id_: str, file: SourceFile | None) -> Case | Failed | None:
        """The entry of an id, if its file is still this one; None where there is none."""
        entry = self.cases.get(id_) or self.failures.get(id_)
        return entry if entry is not None and entry.file == file else None

    def table(self, ids: Iterable[str] | None = None) -> FeatureTable:
        """The features of these cases, in their order.

        Of all by default, in the order of a single file, or else of ids. Cases that could not be
        encoded are among the table's failures; unknown ones are left out.
        """
        known_ids = list(dict.fromkeys((*self.cases, *self.failures)))
        if ids is None:
            ids_in_order = sorted(known_ids) if self.path.is_dir() else known_ids
        else:
            ids_in_order = list(ids)
        contents = {id_: self.cases[id_].content for id_ in ids_in_order if id_ in self.cases}
        rows, label_set = self._rows(set(contents.values()))
        failures = {i: self.failures[i].problem for i in ids_in_order if i in self.failures}
        return gathered({i: rows[content] for i, content in contents.items()}, failures, label_set)

    def append(self, shard: Shard) -> Path:
        """Write a shard in one step.

        Raises:
            DiskFull, OSError: it cannot be written; nothing is left behind.
            BadRequest: another process has made this the store of another encoder.
        """
        _require_same(self.path, _read_identity(self.path), self.identity)
        table = gathered(shard.rows, {}, shard.label_set)
        about = {
            "schema": SHARD_SCHEMA,
            "contents": json.dumps(table.ids),
            "cases": json.dumps({id_: asdict(case) for id_, case in shard.cases.items()}),
            "failures": json.dumps({id_: asdict(why) for id_, why in shard.failures.items()}),
            "facts": json.dumps(dict(shard.facts)),
        }
        # In the order of time, so that the later entry of an id wins.
        self._newest = max(time.time_ns(), self._newest + 1)
        path = self.path / SHARDS / f"{self._newest:020d}-{secrets.token_hex(4)}{SUFFIX}"
        try:
            write_tensors(path, table, about, self.identity)
        except DiskFull as error:
            raise DiskFull(
                f"The disk that holds {self.path} is full.",
                "Make room; the same command goes on where it was.",
            ) from error
        self._read(path)
        return path

    def nbytes(self) -> int:
        """Bytes on the disk."""
        return sum(
            path.stat().st_size for path in (self.path, *self.path.rglob("*")) if path.is_file()
        )

    def _rows(self, contents: set[str]) -> tuple[dict[str, Row], LabelSet]:
        """Content -> embedding and logits, and their labels; every shard is read once.

        Where shards have logits of different labels, those of the first one by name count.
        """
        rows_of: dict[str, Row] = {}
        label_set: LabelSet | None = None
        for path in sorted(set(map(self._places.__getitem__, contents))):
            table = read_tensors(path, self._contents[path])
            if table.logits is not None:
                label_set = label_set or table.label_set
                if table.label_set.names != label_set.names:
                    table = replace(table, logits=None, details=None)
            rows_of |= {c: row for c, row in table.rows.items() if self._places[c] == path}
        if len({row.embedding.shape for row in rows_of.values()}) > 1:
            raise BadRequest(
                f"{self.path.name} holds embeddings of different sizes.",
                "Compute or import them again into another folder.",
                code="bad_features",
            )
        return rows_of, label_set or CT_RATE

    def _add(self, shard: Shard, path: Path, contents: tuple[str, ...]) -> None:
        self._contents[path] = contents
        for content in contents:
            self._places.setdefault(content, path)
        for id_, case in shard.cases.items():
            self.failures.pop(id_, None)
            self.cases[id_] = case
        for id_, why in shard.failures.items():
            self.cases.pop(id_, None)
            self.failures[id_] = why
        key = tuple(sorted(shard.facts.items()))
        self.facts[key] = self.facts.get(key, 0) + len(contents)

    def _read(self, path: Path) -> None:
        try:
            identity, about = read_about(path, SHARD_SCHEMA)
            contents = from_plain(tuple[str, ...], json.loads(about["contents"]))
            shard = Shard(
                cases=from_plain(dict[str, Case], json.loads(about["cases"])),
                failures=from_plain(dict[str, Failed], json.loads(about["failures"])),
                facts=from_plain(dict[str, str], json.loads(about["facts"])),
            )
        except (BadRequest, KeyError, ValueError) as error:
            raise BadRequest(
                f"{path.name} in {self.path.name} is damaged.",
                "Remove the file; its scans are encoded again by the next run.",
                code="bad_features",
            ) from error
        if identity != self.identity:
            raise BadRequest(
                f"{path.name} in {self.path.name} is of {_named(identity)}, the store of "
                f"{_named(self.identity)}.",
                "Remove the file.",
                code="other_encoder",
            )
        self._add(shard, path, contents)

    def _sweep(self) -> None:
        """Remove what processes that died have left half written."""
        oldest = time.time() - ABANDONED_SECONDS
        for part in (*self.path.glob(f".*{PART}"), *(self.path / SHARDS).glob(f".*{PART}")):
            with suppress(FileNotFoundError):  # its writer may be finishing it
                if part.stat().st_mtime < oldest:
                    part.unlink()


def _read_identity(path: Path) -> EncoderIdentity:
    if not (path / STORE_FILE).is_file():
        raise BadRequest(
            f"{path} holds no store of features.",
            "Make one with: rad3d features compute",
            code="no_file",
        )
    try:
        about = json.loads((path / STORE_FILE).read_text(encoding="utf-8"))
        if about.pop("schema") != STORE_SCHEMA:
            raise ValueError("another schema")
        return from_plain(EncoderIdentity, about)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadRequest(
            f"{STORE_FILE} in {path.name} is damaged.",
            "Restore it from a copy, or compute the features again.",
            code="bad_features",
        ) from error


def _require_same(path: Path, found: EncoderIdentity, wanted: EncoderIdentity) -> None:
    if found != wanted:
        raise BadRequest(
            f"{path.name} holds features of {_named(found)}, not of {_named(wanted)}.",
            "Give another folder: features of two encoders cannot be mixed.",
            code="other_encoder",
        )


def _nanoseconds(shard: Path) -> int:
    """The time in a shard's name; 0 where a person has given it another."""
    number = shard.name.partition("-")[0]
    return int(number) if number.isdecimal() else 0


def _named(identity: EncoderIdentity) -> str:
    """Name for people: the id and as much of the hash as tells two encoders apart."""
    return f"{identity.id} ({identity.sha256[:12]}, grid {identity.preprocessing or 'unknown'})"
