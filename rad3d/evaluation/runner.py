"""Runs an evaluation in steps: encode, write, score, compare. It can be stopped at any step."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import Any, cast

from rad3d.core.errors import BadRequest, Cancelled, Rad3dError
from rad3d.core.locks import locked
from rad3d.data.samples import PredictionSet
from rad3d.evaluation.groups import grouped, members_of
from rad3d.evaluation.run_types import EvaluationEvent, EvaluationRun, Events, Key, Status
from rad3d.evaluation.storage import (
    RUN_FILE,
    Outcome,
    save_group,
    save_run,
    save_sets,
)
from rad3d.evaluation.system_names import CONTROLS
from rad3d.evaluation.systems import Failure, Item, Step, Systems, scoring_units
from rad3d.evaluation.text_process import apart
from rad3d.evaluation.verdicts import verdicts
from rad3d.metrics.cases import Places
from rad3d.metrics.scorecard import Scorecard, score
from rad3d.model.store import ModelStore

ALONE = "controls"
"""The file of the baselines."""

_WORDS: dict[Status, str] = {
    "cancelled": "Cancelled; what was written is kept",
    "failures": "Finished; some reports or systems are missing",
    "finished": "Finished",
}


class EvaluationWork:
    """One run; see :meth:`events`.

    Args:
        systems: makes the predictions.
        store: says what the variants cost.
        run: as it begins: id, request, sets and directory; the rest is empty.
        files: predictions that were read from files.
        places: where metrics that need weights find them.
        foreign: texts of others are scored, for which :mod:`rad3d.evaluation.text_process` is.
    """

    def __init__(
        self,
        systems: Systems,
        store: ModelStore,
        run: EvaluationRun,
        files: Sequence[PredictionSet] = (),
        places: Places | None = None,
        foreign: bool = False,
    ) -> None:
        self._foreign = foreign
        self._systems, self._store, self._files = systems, store, files
        self._places = places
        self._run, self._request = run, run.request
        self._cards: dict[Key, Scorecard] = {}
        self._predictions: dict[Key, PredictionSet] = {}
        self._costs: dict[str, dict[str, Any]] = {}
        self._failed: dict[str, str] = {}
        self._groups: dict[str, list[Outcome]] = {}
        self._done = 0
        of_files = (len(run.sample_sets[f.sample_set].samples) for f in files)
        self._total = max(1, systems.size() + sum(map(scoring_units, of_files)))

    def events(self, cancel: threading.Event) -> Events:
        """Do the work; the last event holds the whole run.

        ``cancel`` is looked at after every scan, batch of reports and scorecard. A run that was
        cancelled, also by closing the iterator, is saved as such, with what it has.

        Raises:
            BadRequest: ``busy``: another process writes this run.
        """
        directory = self._run.directory
        with locked(directory) if directory else nullcontext(True) as mine:
            if not mine:
                raise BadRequest(
                    "This run is being written by another process.",
                    "Wait for it, or stop it there.",
                    code="busy",
                )
            yield from self._alone(cancel)

    def _alone(self, cancel: threading.Event) -> Iterator[EvaluationEvent]:
        status: Status = "cancelled"
        self._save("running")
        try:
            with closing(self._steps(cancel)) as steps:
                for event in steps:
                    yield event
                    if cancel.is_set():
                        raise Cancelled("The evaluation was cancelled.", code="cancelled")
            incomplete = self._failed or any(card.failures for card in self._cards.values())
            status = "failures" if incomplete else "finished"
        except Cancelled:
            pass
        finally:
            run = self._save(status)
        self._done = self._done if status == "cancelled" else self._total
        yield replace(self._event(Step("done", _WORDS[status])), run=run)

    def _steps(self, cancel: threading.Event) -> Generator[EvaluationEvent, None, None]:
        for name in dict.fromkeys(each.name for each in self._files):
            same = [file for file in self._files if file.name == name]
            # A file may be called as a variant is.
            yield from self._group(f"file {name}", same, cancel)
        for step in self._systems.encode():
            yield self._event(step)
        for variant in self._request.variants:
            yield from self._group(variant, self._systems.variant(variant, cancel), cancel)
            self._add_costs(variant)
            self._save("running")  # what is scored stays known if the process is killed
        alone = (c for c in self._request.controls if not CONTROLS[c].per_variant)
        items = [self._systems.alone(control) for control in alone]
        if items:
            yield from self._group(ALONE, (item for each in items for item in each), cancel)
        yield self._event(Step("compare", "Comparing"))
        self._compare()

    def _group(
        self, group: str, items: Iterable[Item], cancel: threading.Event
    ) -> Iterator[EvaluationEvent]:
        """Collect the predictions of a group, score each, and write the group's file."""
        predicted: list[PredictionSet] = []
        for item in items:
            if isinstance(item, PredictionSet):
                predicted.append(item)
            elif isinstance(item, Failure):
                self._failed[item.system] = item.reason
            else:
                yield self._event(item)
        outcomes: list[Outcome] = []
        try:
            for predictions in predicted:
                yield self._event(Step("score", f"Scoring {predictions.name}"))
                card = yield from self._scored(predictions, cancel)
                if card is None:
                    continue
                outcomes.append(Outcome(predictions, card))
                step = Step("score", f"Scored {card.name}", scoring_units(card.n))
                yield replace(self._event(step), card=card)
        finally:  # also where the run is stopped here
            if self._run.directory and outcomes:
                save_group(self._run.directory, group, outcomes)
                self._groups[group] = outcomes

    def _scored(
        self, predictions: PredictionSet, cancel: threading.Event
    ) -> Generator[EvaluationEvent, None, Scorecard | None]:
        """Score a system on a set; returns None, and records why, if that fails."""
        samples = self._run.sample_sets[predictions.sample_set]
        options: dict[str, Any] = {
            "metrics": self._request.metrics,
            "resamples": self._request.draws,
            "seed": self._request.seed,
            "places": self._places,
        }
        try:
            if self._foreign:
                scoring = apart(score, samples, predictions, cancel=cancel, tells=True, **options)
                card = yield from self._told(predictions.name, scoring)
            else:
                card = score(samples, predictions, **options)
        except Cancelled:
            raise
        except Rad3dError as error:
            self._failed[predictions.name] = f"{samples.name}: {error}"
            return None
        self._cards[card.name, samples.id] = card
        self._predictions[card.name, samples.id] = predictions
        return card

    def _told(
        self, name: str, scoring: Generator[str, None, Scorecard]
    ) -> Generator[EvaluationEvent, None, Scorecard]:
        with closing(scoring):
            while True:
                try:
                    yield self._event(Step("score", f"Scoring {name}: {next(scoring)}"))
                except StopIteration as done:
                    return cast(Scorecard, done.value)

    def _add_costs(self, variant: str) -> None:
        """Record parameters of a variant, and the seconds of a report where they are known."""
        try:
            status = self._store.catalogue.status(variant)
            config = self._store.catalogue.config(variant)
        except Rad3dError:
            return
        facts = {
            "parameters": status.parameters,
            "trainable": status.trainable,
            "pairs": config.pairs,
            "seed": config.training.get("seed"),
            "encoder": config.encoder,
        }
        for system in dict.fromkeys(name for name, _ in self._predictions):
            if system.partition("+")[0] == variant:
                seconds = [
                    prediction.seconds
                    for (name, _), predictions in self._predictions.items()
                    if name == system
                    for prediction in predictions.predictions
                    if prediction.seconds
                ]
                timed = system == variant and bool(seconds)  # an ablation may write a single report
                self._costs[system] = {
                    **facts,
                    "seconds": round(statistics.median(seconds), 4) if timed else None,
                }

    def _compare(self) -> None:
        together = grouped(self._cards)
        asked = {*self._request.variants, *(f.name for f in self._files), *members_of(self._cards)}
        compared = [name for name in dict.fromkeys(name for name, _ in together) if name in asked]
        tests = verdicts(together, compared, self._request.draws, self._request.seed)
        cards = {
            name: card
            for name, samples in self._run.sample_sets.items()
            if (card := self._systems.classifier(samples)) is not None
        }
        facts = {**self._run.facts, "redundancy": self._systems.redundancy()}
        self._run = replace(self._run, verdicts=tests, classifier=cards, facts=facts)

    def _event(self, step: Step) -> EvaluationEvent:
        self._done = min(self._done + step.advance, self._total)
        return EvaluationEvent(step.stage, self._done, self._total, step.text, self._run.id)

    def _save(self, status: Status) -> EvaluationRun:
        """Write ``run.json``, and the whole run at its start or after its folder was removed."""
        directory = self._run.directory
        if directory and not (directory / RUN_FILE).is_file():
            save_sets(directory, self._run.sample_sets.values())
            for group, outcomes in self._groups.items():
                save_group(directory, group, outcomes)
        self._run = replace(
            self._run,
            status=status,
            cards=dict(self._cards),
            predictions=dict(self._predictions),
            costs=dict(self._costs),
            failed=dict(self._failed),
        )
        save_run(self._run)
        return self._run
