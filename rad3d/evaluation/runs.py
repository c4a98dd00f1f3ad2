"""Stored runs: those that ship, the operator's and those of visitors.

What visitors run goes with their session and with the server: it is kept apart from what the
operator has run.
"""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.evaluation.access import Rights
from rad3d.evaluation.run_types import EvaluationRun, RunSummary
from rad3d.evaluation.storage import RUN_FILE, is_run_id, read_run, read_summary

_LOG = logging.getLogger(__name__)

STUDY = "study"
"""Id of the run on the shipped variants."""

SHIPPED = {STUDY: "", "pairs": "-pairs"}
"""Id of a run that ships -> what its folder's name adds to that of the study."""


class RunRepository:
    """Runs on disk and their owners.

    Args:
        rights: who may see what.
        study: folder of the study that ships; further shipped runs lie beside it.
        home: folder of the operator's runs.
        visitors: folder of the visitors' runs; ``home`` by default.
    """

    def __init__(
        self, rights: Rights, study: Path, home: Path, visitors: Path | None = None
    ) -> None:
        self._rights, self._study = rights, study
        self._home, self._visitors = home, visitors or home

    def runs(self, owner: str = "") -> tuple[RunSummary, ...]:
        """List the readable runs, newest first, those that ship last."""
        summaries = [
            summary
            for summary, whose in self._rows()
            if summary is not None and self._rights.may_see(whose, owner)
        ]
        summaries.sort(key=lambda run: run.created, reverse=True)
        shipped = (
            replace(read_summary(place)[0], id=id_, shipped=True)
            for id_, place in self._shipped.items()
        )
        return (*summaries, *shipped)

    def unreadable(self, owner: str = "") -> int:
        """Count folders whose run cannot be read, for those who may see every run; else 0."""
        if not self._rights.trusts(owner):
            return 0
        return sum(summary is None for summary, _ in self._rows())

    def load(self, run_id: str, owner: str = "") -> EvaluationRun:
        """Read a whole run; raises BadRequest or UnknownName."""
        return replace(read_run(self.directory(run_id, owner)), id=run_id)

    def directory(self, run_id: str, owner: str = "") -> Path:
        """Return the folder of a run that the owner may see; raises UnknownName otherwise."""
        if run_id in self._shipped:
            return self._shipped[run_id]
        if is_run_id(run_id):
            for directory in (d for root in self._roots if (d := root / run_id).is_dir()):
                if self._rights.may_see(read_summary(directory)[1], owner):
                    return directory
        raise UnknownName("run", run_id, [run.id for run in self.runs(owner)])

    def place_of(self, run_id: str, owner: str) -> Path:
        """Return the folder in which an owner's run is stored."""
        kept = self._home / run_id
        return kept if self._rights.trusts(owner) or kept.is_dir() else self._visitors / run_id

    def study_first(self) -> Iterator[tuple[str, Path]]:
        """Return id and folder of the runs that all may see: those that ship, then the newest."""
        yield from self._shipped.items()
        for row in self.runs():
            if not row.shipped:
                yield row.id, self.directory(row.id)

    def forget(self, owner: str) -> None:
        """Delete the runs of a visitor's session that has ended."""
        if self._rights.trusts(owner) or not owner:
            return
        for row in self.runs(owner):
            if not row.shipped:
                directory = self.directory(row.id, owner)
                if secrets.compare_digest(read_summary(directory)[1], owner):
                    shutil.rmtree(directory, ignore_errors=True)  # it may still be written

    def _rows(self) -> Iterator[tuple[RunSummary | None, str]]:
        """Return every run of this machine with its owner; None for one that cannot be read."""
        for directory in (d for root in self._roots for d in root.glob("*")):
            if is_run_id(directory.name):
                try:
                    yield read_summary(directory)
                except BadRequest:
                    _LOG.warning("An evaluation run cannot be read")
                    yield None, ""

    @property
    def _shipped(self) -> dict[str, Path]:
        """Return the ids and folders of the runs that ship and are here."""
        study = self._study
        places = {id_: study.with_name(study.name + ending) for id_, ending in SHIPPED.items()}
        return {id_: place for id_, place in places.items() if (place / RUN_FILE).is_file()}

    @property
    def _roots(self) -> tuple[Path, ...]:
        """Return the folders of runs that exist."""
        return tuple(root for root in {self._home, self._visitors} if root.is_dir())
