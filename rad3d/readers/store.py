"""Studies and ratings in one SQLite file, each answer on the disk before it is confirmed.

Only hashes of secrets are stored: of a study's link, and of the code by which a reader goes on.
So nobody can take part with what a copy of the file holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rad3d.core.errors import BadRequest, DiskFull
from rad3d.readers.order import screens_of
from rad3d.readers.types import (
    MAX_SECONDS,
    QUESTIONS,
    Answer,
    Case,
    Design,
    Rating,
    Screen,
    Study,
    bad_answer,
)

MAX_READERS = 100
"""Of one study; the link alone lets nobody fill the disk."""

BUSY_SECONDS = 20.0
"""How long one answer waits for another one to be written."""

_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Of readers' codes, without letters and digits that look alike."""

_SCORES = ", ".join(f"{question.id} INTEGER" for question in QUESTIONS)
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS study (
  id TEXT PRIMARY KEY, link BLOB NOT NULL UNIQUE, title TEXT NOT NULL, created TEXT NOT NULL,
  systems TEXT NOT NULL, per_case INTEGER NOT NULL, seed INTEGER NOT NULL, source TEXT NOT NULL,
  simulated INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS item (
  study TEXT NOT NULL REFERENCES study ON DELETE CASCADE, number INTEGER NOT NULL,
  id TEXT NOT NULL, scan TEXT NOT NULL, reference TEXT NOT NULL, texts TEXT NOT NULL,
  PRIMARY KEY (study, number)) STRICT;
CREATE TABLE IF NOT EXISTS reader (
  study TEXT NOT NULL REFERENCES study ON DELETE CASCADE, number INTEGER NOT NULL,
  code BLOB NOT NULL, joined TEXT NOT NULL,
  PRIMARY KEY (study, number), UNIQUE (study, code)) STRICT;
CREATE TABLE IF NOT EXISTS screen (
  study TEXT NOT NULL, reader INTEGER NOT NULL, position INTEGER NOT NULL,
  item INTEGER NOT NULL, slot INTEGER NOT NULL, system INTEGER NOT NULL, {_SCORES},
  preference TEXT NOT NULL DEFAULT '', comment TEXT NOT NULL DEFAULT '',
  seconds REAL NOT NULL DEFAULT 0, changes INTEGER NOT NULL DEFAULT 0,
  saved TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (study, reader, position),
  FOREIGN KEY (study, reader) REFERENCES reader ON DELETE CASCADE) STRICT;
"""
_STUDIES = """
SELECT s.*, (SELECT COUNT(*) FROM item WHERE study = s.id) AS cases,
  (SELECT COUNT(*) FROM reader WHERE study = s.id) AS readers,
  (SELECT COUNT(*) FROM screen WHERE study = s.id AND changes > 0) AS rated FROM study s
"""
_SET = ", ".join(f"{question.id} = :{question.id}" for question in QUESTIONS)


class RatingStore:
    """All studies of one file. Threads and processes may share it; each call is one transaction.

    Args:
        path: of the file; made with the first study, readable by its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    # Studies

    def create(self, design: Design) -> tuple[Study, str]:
        """Store a study.

        Returns:
            the study and the secret of its link, which is known to nobody afterwards.
        """
        study_id, secret = secrets.token_hex(3), secrets.token_urlsafe(24)
        with self._writing() as base:
            base.execute(
                "INSERT INTO study VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (study_id, _hash(secret), design.title, _now(), json.dumps(design.systems),
                 design.per_case, design.seed, json.dumps(design.source), design.simulated),
            )  # fmt: skip
            base.executemany(
                "INSERT INTO item VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (study_id, n, case.id, case.scan, case.reference,
                     json.dumps([case.texts[system] for system in design.systems]))
                    for n, case in enumerate(design.cases)
                ),
            )  # fmt: skip
        return self.study(study_id), secret

    def studies(self) -> tuple[Study, ...]:
        """List the studies, newest first."""
        with self._reading() as base:
            return tuple(_study(row) for row in base.execute(f"{_STUDIES} ORDER BY s.rowid DESC"))

    def study(self, study_id: str) -> Study:
        """Return a study by id; ``latest`` is the newest one. Raises BadRequest."""
        known = self.studies()
        for study in known:
            if study_id in (study.id, "latest"):
                return study
        ids = ", ".join(study.id for study in known[:20])
        raise BadRequest(
            f"There is no reader study {study_id[:40]!r}.",
            f"Known: {ids}." if ids else "Make one: rad3d readers new",
            code="no_study",
        )

    def by_link(self, secret: str) -> Study:
        """Return the study that a link opens; raises BadRequest where it opens none."""
        with self._reading() as base:
            row = base.execute(f"{_STUDIES} WHERE link = ?", (_hash(secret),)).fetchone()
        if row is None:
            raise BadRequest(
                "This link opens no reader study.",
                "It may be incomplete, or the study was deleted or got a new link. Ask the person "
                "who sent it.",
                code="no_study",
            )
        return _study(row)

    def new_link(self, study_id: str) -> str:
        """Give a study another link, and return its secret; the one before opens nothing."""
        study, secret = self.study(study_id), secrets.token_urlsafe(24)
        with self._writing() as base:
            base.execute("UPDATE study SET link = ? WHERE id = ?", (_hash(secret), study.id))
        return secret

    def delete(self, study_id: str) -> Study:
        """Delete a study with all that was rated; return what it was."""
        study = self.study(study_id)
        with self._writing() as base:
            base.execute("DELETE FROM study WHERE id = ?", (study.id,))
        return study

    def case(self, study: Study, number: int) -> Case:
        """Return a case with its texts; raises BadRequest where the study is gone."""
        with self._reading() as base:
            row = base.execute(
                "SELECT * FROM item WHERE study = ? AND number = ?", (study.id, number)
            ).fetchone()
        if row is None:
            raise _gone()
        texts = dict(zip(study.systems, json.loads(row["texts"]), strict=True))
        return Case(row["id"], row["scan"], row["reference"], texts)

    # Readers

    def join(self, study: Study) -> str:
        """Add a reader with an order of their own, and return the code by which to go on."""
        code = "".join(secrets.choice(_ALPHABET) for _ in range(10))
        with self._writing() as base:
            _require(base, study)
            last = base.execute("SELECT MAX(number) FROM reader WHERE study = ?", (study.id,))
            number = 1 + (last.fetchone()[0] or 0)
            if number > MAX_READERS:
                raise BadRequest(
                    f"This study has {MAX_READERS} readers already.",
                    "If you are one of them, enter your code.",
                    code="study_full",
                )
            base.execute(
                "INSERT INTO reader VALUES (?, ?, ?, ?)", (study.id, number, _hash(code), _now())
            )
            base.executemany(
                "INSERT INTO screen (study, reader, position, item, slot, system) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (study.id, number, s.position, s.case, s.slot, s.system)
                    for s in screens_of(
                        study.seed, number, study.cases, len(study.systems), study.per_case
                    )
                ),
            )
        return f"{code[:5]}-{code[5:]}"

    def reader(self, study: Study, code: str) -> int:
        """Return the number of the reader with a code; raises BadRequest where there is none."""
        plain = "".join(letter for letter in code.upper() if letter in _ALPHABET)
        with self._reading() as base:
            row = base.execute(
                "SELECT number FROM reader WHERE study = ? AND code = ?", (study.id, _hash(plain))
            ).fetchone()
        if row is None:
            raise BadRequest(
                "There is no reader with this code in this study.",
                "Check it, or begin as a new reader.",
                code="no_reader",
            )
        return int(row["number"])

    def screens(self, study: Study, reader: int) -> tuple[Screen, ...]:
        """Return everything that a reader reads, in order."""
        with self._reading() as base:
            rows = base.execute(
                "SELECT * FROM screen WHERE study = ? AND reader = ? ORDER BY position",
                (study.id, reader),
            ).fetchall()
        if not rows:
            raise _gone()
        return tuple(_screen(row) for row in rows)

    def save(
        self, study: Study, reader: int, position: int, answer: Answer, changes: int
    ) -> Screen:
        """Store an answer; when this returns, it is on the disk.

        The same answer once more changes nothing, so that a request may be repeated.

        Args:
            study, reader, position: what was rated.
            answer: the answer.
            changes: :attr:`Screen.changes` as the page knows it.

        Raises:
            BadRequest: there is no such report, the preference is missing or has nothing to refer
                to, or the report was rated elsewhere meanwhile (code ``"conflict"``).
        """
        if not 0 <= position < study.total:
            raise bad_answer("There is no such report in this study.")
        key = (study.id, reader, position)
        with self._writing() as base:
            _require(base, study)
            screen = _screen(base.execute(f"SELECT * FROM screen WHERE {_KEY}", key).fetchone())
            if bool(answer.preference) != (screen.slot > 0):
                raise bad_answer("Say which of the two reports is better.")
            if screen.answer and _same(screen.answer, answer):
                return screen
            if screen.changes != changes:
                raise BadRequest(
                    "This report was rated in another tab or window meanwhile.",
                    "Its answers are shown here; those you have just given were not kept.",
                    code="conflict",
                )
            earlier = screen.answer.seconds if screen.answer else 0.0
            seconds = min(earlier + answer.seconds, MAX_SECONDS)
            values = {
                **answer.scores, "preference": answer.preference, "comment": answer.comment,
                "seconds": seconds, "saved": _now(), "study": study.id, "reader": reader,
                "position": position,
            }  # fmt: skip
            base.execute(
                f"UPDATE screen SET {_SET}, preference = :preference, comment = :comment, "
                "seconds = :seconds, changes = changes + 1, saved = :saved "
                "WHERE study = :study AND reader = :reader AND position = :position",
                values,
            )
        answer = replace(answer, seconds=seconds)
        return replace(screen, answer=answer, changes=changes + 1, saved=str(values["saved"]))

    def ratings(self, study: Study) -> tuple[Rating, ...]:
        """Return everything that was rated, by reader and position."""
        with self._reading() as base:
            rows = base.execute(
                "SELECT screen.*, item.id AS name FROM screen JOIN item ON item.study = "
                "screen.study AND item.number = screen.item WHERE screen.study = ? "
                "ORDER BY reader, position",
                (study.id,),
            ).fetchall()
        ratings, before = [], None
        for row in rows:
            if row["changes"]:
                name = study.systems[before["system"]] if before and row["slot"] else ""
                system = study.systems[row["system"]]
                ratings.append(Rating(row["reader"], row["name"], system, _screen(row), name))
            before = row
        return tuple(ratings)

    def backup(self, target: Path) -> None:
        """Write a whole copy while the store is in use; raises BadRequest where it cannot."""
        if not self.path.is_file():
            raise BadRequest(f"There is no file {self.path}.", code="no_file")
        if target.resolve() == self.path.resolve():
            raise BadRequest("A backup needs a file of its own.", "Name another.", code="bad_file")
        part = target.with_name(f".{target.name}.part")
        part.unlink(missing_ok=True)
        try:
            with self._reading() as base, contextlib.closing(sqlite3.connect(part)) as copy:
                base.backup(copy)
            part.chmod(0o600)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    # The file

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Open the file; an empty base where there is none yet."""
        with contextlib.closing(self._open(write=False)) as base, _errors_told(self.path):
            yield base

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that nobody else writes beside; it is on the disk when this ends."""
        with contextlib.closing(self._open(write=True)) as base, _errors_told(self.path):
            base.execute("BEGIN IMMEDIATE")
            with base:
                yield base

    def _open(self, write: bool) -> sqlite3.Connection:
        with _errors_told(self.path):
            if write and not self.path.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.touch(0o600)
            place = self.path if self.path.exists() else ":memory:"
            base = sqlite3.connect(place, timeout=BUSY_SECONDS, isolation_level=None)
            base.row_factory = sqlite3.Row
            base.execute("PRAGMA foreign_keys = ON")
            base.execute("PRAGMA synchronous = EXTRA")
            base.executescript(_SCHEMA)  # writes nothing where the tables are there
            return base


_KEY = "study = ? AND reader = ? AND position = ?"


@contextlib.contextmanager
def _errors_told(path: Path) -> Iterator[None]:
    """Say in a sentence what SQLite cannot do."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
            raise DiskFull from error
        raise BadRequest(
            f"The file of ratings, {path.name}, cannot be used: {error}.",
            "Restore it from a backup, or check who may write it.",
            code="ratings_unusable",
        ) from error


def _require(base: sqlite3.Connection, study: Study) -> None:
    if base.execute("SELECT 1 FROM study WHERE id = ?", (study.id,)).fetchone() is None:
        raise _gone()


def _gone() -> BadRequest:
    return BadRequest(
        "This reader study was deleted.",
        "Nothing more is kept. Ask the person who sent you the link.",
        code="no_study",
    )


def _same(stored: Answer, given: Answer) -> bool:
    return replace(stored, seconds=0.0) == replace(given, seconds=0.0)


def _study(row: Mapping[str, Any]) -> Study:
    return Study(
        row["id"], row["title"], row["created"], tuple(json.loads(row["systems"])),
        row["per_case"], row["seed"], json.loads(row["source"]), bool(row["simulated"]),
        row["cases"], row["readers"], row["rated"],
    )  # fmt: skip


def _screen(row: Mapping[str, Any]) -> Screen:
    answer = None
    if row["changes"]:
        scores = {question.id: row[question.id] for question in QUESTIONS}
        answer = Answer(scores, row["preference"], row["comment"], row["seconds"])
    return Screen(
        row["position"], row["item"], row["slot"], row["system"], answer, row["changes"],
        row["saved"],
    )  # fmt: skip


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
