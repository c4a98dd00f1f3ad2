"""The runs and views that were looked at last, kept in memory for each owner."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from rad3d.evaluation.leaderboard import StudyView, view_of
from rad3d.evaluation.run_types import EvaluationRun
from rad3d.evaluation.runs import STUDY

if TYPE_CHECKING:
    from rad3d.evaluation.service import Evaluations

_KEPT = 6


class Shelf:
    """At most six runs and six views; a key holds the owner, so that none is handed to another.

    Thread-safe. A run that is still running is read anew each time. The study that ships is
    everybody's, and what was computed from it as well.
    """

    def __init__(self, evaluations: Evaluations) -> None:
        self._evaluations = evaluations
        self._runs: OrderedDict[tuple[str, str], EvaluationRun] = OrderedDict()
        self._views: OrderedDict[tuple[str, str, str], StudyView] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, run_id: str, owner: str) -> EvaluationRun:
        """A run that the owner may see; raises as ``KeptRuns.load``."""
        owner = _whose(owner, run_id)
        with self._lock:
            if found := self._runs.get((run_id, owner)):
                self._runs.move_to_end((run_id, owner))
                return found
        run = self._evaluations.kept.load(run_id, owner)
        if run.status != "running":
            with self._lock:
                self._runs[run_id, owner] = run
                while len(self._runs) > _KEPT:
                    self._runs.popitem(last=False)
        return run

    def view(self, run_id: str, other_id: str, owner: str) -> tuple[EvaluationRun, StudyView]:
        """A run and its view, with the systems of another run beside its own if one is named."""
        run = self.run(run_id, owner)
        other = self.run(other_id, owner) if other_id else None
        key = (run_id, other_id, _whose(owner, run_id, other_id))
        with self._lock:
            if run.status != "running" and (found := self._views.get(key)):
                self._views.move_to_end(key)
                return run, found
        view = view_of(run, other)
        with self._lock:
            self._views[key] = view
            while len(self._views) > _KEPT:
                self._views.popitem(last=False)
        return run, view

    def forget(self, run_id: str) -> None:
        """A run has changed."""
        self._drop(lambda key: run_id in key[:-1])

    def forget_owner(self, owner: str) -> None:
        """A session has ended."""
        self._drop(lambda key: key[-1] == owner)

    def _drop(self, chosen: Callable[[tuple[str, ...]], bool]) -> None:
        with self._lock:
            for run_key in [key for key in self._runs if chosen(key)]:
                del self._runs[run_key]
            for view_key in [key for key in self._views if chosen(key)]:
                del self._views[view_key]


def _whose(owner: str, *run_ids: str) -> str:
    """Nobody's in particular where all runs ship."""
    return "" if set(run_ids) <= {STUDY, ""} else owner
