"""The runs that were looked at last, and what was made of them, in memory for each owner."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import gradio as gr

from rad3d.evaluation.leaderboard import StudyView, view_of
from rad3d.evaluation.run_types import EvaluationRun
from rad3d.evaluation.runs import SHIPPED
from rad3d.model.cache import ByteCache
from rad3d.ui.visitor import owner_of, session_of

if TYPE_CHECKING:
    from rad3d.evaluation.evaluations import Evaluations
    from rad3d.service.service import Service

_MAX_RUNS = 6

Made = TypeVar("Made")


class RunCache:
    """At most six of each; a key holds the owner, so that none is handed to another.

    Thread-safe. A run that is still running is read anew each time. The study that ships is
    everybody's, and what was computed from it as well.
    """

    def __init__(self, evaluations: Evaluations, service: Service) -> None:
        self._evaluations, self._service = evaluations, service
        self._runs, self._views, self._made = (ByteCache(_MAX_RUNS) for _ in range(3))

    def owner(self, request: gr.Request) -> str:
        """Return whose runs a request may see; its session's own runs end with the session."""
        session = session_of(self._service, request)
        session.part("runs", lambda: _OwnRuns(self, session.owner))
        return owner_of(self._service, request)

    def run(self, run_id: str, owner: str) -> EvaluationRun:
        """Return a run that the owner may see; raises as ``RunRepository.load``."""
        key = (run_id, _owner_of(owner, run_id))
        run = self._runs.get(key, lambda: self._evaluations.kept.load(*key), _one)
        if run.status == "running":
            self._runs.drop(lambda each: each == key)
        return run

    def view(self, run_id: str, other_id: str, owner: str) -> tuple[EvaluationRun, StudyView]:
        """Return a run and its view; with a second id the systems of both runs stand together."""
        run = self.run(run_id, owner)
        other = self.run(other_id, owner) if other_id else None
        if "running" in (run.status, other and other.status):
            return run, view_of(run, other)
        key = (run_id, other_id, _owner_of(owner, run_id, other_id))
        return run, self._views.get(key, lambda: view_of(run, other), _one)

    def made(
        self, run_id: str, owner: str, make: Callable[[EvaluationRun, StudyView], Made]
    ) -> Made:
        """Return what ``make`` makes of a run, which is kept as long as the run's view."""
        run, view = self.view(run_id, "", owner)
        if run.status == "running":
            return make(run, view)
        key = (run_id, _owner_of(owner, run_id))
        return self._made.get(key, lambda: make(run, view), _one)

    def put(self, run: EvaluationRun, owner: str) -> None:
        """Take over a run that has just ended, so that it is not read from the disk."""
        for cache in (self._runs, self._views, self._made):
            cache.drop(lambda key: run.id in key[:-1])  # type: ignore[index]
        self._runs.get((run.id, owner), lambda: run, _one)

    def forget(self, owner: str) -> None:
        """Delete the runs of a session that has ended, here and on the disk."""
        self._evaluations.kept.forget(owner)
        for cache in (self._runs, self._views, self._made):
            cache.drop(lambda key: key[-1] == owner)  # type: ignore[index]


class _OwnRuns:
    """The part of a session that deletes its runs at the end."""

    def __init__(self, cache: RunCache, owner: str) -> None:
        self._cache, self._owner = cache, owner

    def close(self) -> None:
        """Delete the runs of the session."""
        self._cache.forget(self._owner)


def _one(_value: object) -> int:
    """Return the size of a cached value: each counts as one."""
    return 1


def _owner_of(owner: str, *run_ids: str) -> str:
    """Return the owner in a key: empty for shipped runs, which everyone may see."""
    return "" if set(run_ids) <= {*SHIPPED, ""} else owner
