"""The runs and views that were looked at last, kept in memory for each owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rad3d.evaluation.leaderboard import StudyView, view_of
from rad3d.evaluation.run_types import EvaluationRun
from rad3d.evaluation.runs import STUDY
from rad3d.model.cache import ByteCache

if TYPE_CHECKING:
    from rad3d.evaluation.service import Evaluations

_KEPT = 6


class RunCache:
    """At most six runs and six views; a key holds the owner, so that none is handed to another.

    Thread-safe. A run that is still running is read anew each time. The study that ships is
    everybody's, and what was computed from it as well.
    """

    def __init__(self, evaluations: Evaluations) -> None:
        self._evaluations = evaluations
        self._runs, self._views = ByteCache(_KEPT), ByteCache(_KEPT)

    def run(self, run_id: str, owner: str) -> EvaluationRun:
        """A run that the owner may see; raises as ``RunRepository.load``."""
        key = (run_id, _whose(owner, run_id))
        run = self._runs.get(key, lambda: self._evaluations.kept.load(*key), _one)
        if run.status == "running":
            self._runs.drop(lambda each: each == key)
        return run

    def view(self, run_id: str, other_id: str, owner: str) -> tuple[EvaluationRun, StudyView]:
        """A run and its view, with the systems of another run beside its own if one is named."""
        run = self.run(run_id, owner)
        other = self.run(other_id, owner) if other_id else None
        if "running" in (run.status, other and other.status):
            return run, view_of(run, other)
        key = (run_id, other_id, _whose(owner, run_id, other_id))
        return run, self._views.get(key, lambda: view_of(run, other), _one)

    def put(self, run: EvaluationRun, owner: str) -> None:
        """A run of the owner's has changed: this is what it is now."""
        for cache in (self._runs, self._views):
            cache.drop(lambda key: run.id in key[:-1])  # type: ignore[index]
        self._runs.get((run.id, owner), lambda: run, _one)

    def forget_owner(self, owner: str) -> None:
        """A session has ended."""
        for cache in (self._runs, self._views):
            cache.drop(lambda key: key[-1] == owner)  # type: ignore[index]


def _one(_value: object) -> int:
    """Each counts as one."""
    return 1


def _whose(owner: str, *run_ids: str) -> str:
    """Nobody's in particular where all runs ship."""
    return "" if set(run_ids) <= {STUDY, ""} else owner
