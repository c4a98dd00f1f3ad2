"""Collects the features that one process makes, and adds them to a store many at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.features.shards import Case, Failed, FeatureStore, Shard
from rad3d.features.table import Row


class ShardWriter:
    """Collects features of one process and appends them to a store, many at a time.

    Args:
        store: receives them.
        size: entries of a shard.
        seconds: a smaller shard is written once its first entry is so old.
        facts: what computes them.
        label_set: the labels of their logits.
    """

    def __init__(
        self,
        store: FeatureStore,
        size: int,
        seconds: float = float("inf"),
        facts: Mapping[str, str] | None = None,
        label_set: LabelSet = CT_RATE,
    ) -> None:
        self._store, self._size, self._seconds = store, size, seconds
        self._facts, self._label_set = facts or {}, label_set
        self._clear()

    def _clear(self) -> None:
        self._rows: dict[str, Row] = {}
        self._cases: dict[str, Case] = {}
        self._failures: dict[str, Failed] = {}
        self._began = time.monotonic()

    def holds(self, content: str) -> bool:
        """True where the content is in the store or about to be."""
        return content in self._rows or self._store.holds(content)

    def add(self, id_: str, case: Case, row: Row | None = None) -> None:
        """Features of a case; without a row its content must be there."""
        if row is not None:
            self._rows[case.content] = row
        self._failures.pop(id_, None)
        self._cases[id_] = case
        self._flush_when_due()

    def fail(self, id_: str, why: Failed) -> None:
        """A case that has no features, and why."""
        self._cases.pop(id_, None)
        self._failures[id_] = why
        self._flush_when_due()

    def _flush_when_due(self) -> None:
        held = len(self._cases) + len(self._failures)
        if held == 1:
            self._began = time.monotonic()
        if held >= self._size or time.monotonic() - self._began > self._seconds:
            self.flush()

    def flush(self) -> None:
        """Write what is held; does nothing where that is nothing."""
        if self._cases or self._failures:
            self._store.append(
                Shard(self._rows, self._cases, self._failures, self._facts, self._label_set)
            )
            self._clear()
