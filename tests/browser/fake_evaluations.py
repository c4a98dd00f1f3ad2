"""A stand-in for :class:`rad3d.evaluation.evaluations.Evaluations` over :mod:`browser.small_study`.

It scores for real and writes nothing by a model: a run takes its predictions from the small study.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
from browser.fakes import FakeService
from browser.small_study import SKILL, small_cards, small_set, written

from rad3d.core.errors import BadRequest
from rad3d.core.labels import LABELS
from rad3d.core.types import Volume
from rad3d.data.sample_sets import LAYOUTS, SAMPLE_SETS, Layout
from rad3d.data.samples import Sample
from rad3d.data.spec import SetSpec
from rad3d.evaluation.exports import Export
from rad3d.evaluation.listening import Listening
from rad3d.evaluation.measured import VariantResult
from rad3d.evaluation.metric_choice import MetricGroup, metric_groups
from rad3d.evaluation.run_types import (
    Bounds,
    CaseView,
    EvaluationEvent,
    EvaluationRequest,
    EvaluationRun,
    RunSummary,
)
from rad3d.metrics.bootstrap import Estimate
from rad3d.metrics.cases import Places
from rad3d.metrics.classifier import ClassifierCard, classifier_card
from rad3d.metrics.scorecard import Scorecard, score_case
from rad3d.model.catalogue import VariantStatus
from rad3d.service.sessions import Session

SIZES = {"phantom-s": 850_000, "phantom-m": 2_200_000, "phantom-l": 5_600_000}
TRAINED = {"v1": 9_000_000, "v3": 4_900_000, "linear": 190_000}


class FakeKeptRuns:
    """Runs in memory; ``known`` by id, ``owners`` of those that are a visitor's."""

    def __init__(self, known: dict[str, EvaluationRun]) -> None:
        self.known = known
        self.owners: dict[str, str] = {}

    def runs(self, owner: str = "") -> tuple[RunSummary, ...]:
        """Those that the owner may see, newest first."""
        return tuple(
            RunSummary(
                run.id, run.title, run.created, run.revision, run.status,
                tuple(run.sample_sets), len({key[0] for key in run.cards}), run.id == "study",
            )
            for run in reversed(self.known.values())
            if self.owners.get(run.id, owner) == owner
        )  # fmt: skip

    def unreadable(self, owner: str = "") -> int:
        """None."""
        return 0

    def load(self, run_id: str, owner: str = "") -> EvaluationRun:
        """A run of the owner's."""
        if run_id not in self.known or self.owners.get(run_id, owner) != owner:
            raise BadRequest("There is no such run.", "Choose another one.", code="no_run")
        return self.known[run_id]

    def forget(self, owner: str) -> None:
        """The runs of a session that has ended go with it."""
        for run_id in [run_id for run_id, whose in self.owners.items() if whose == owner]:
            del self.known[run_id], self.owners[run_id]


class FakeEvaluations:
    """See the module's docstring.

    Args:
        service: opens the scans of the cases.
        n: cases of each set in the study.
        pause: seconds that a run takes for one step, of ten for each variant and set.
        empty: no study ships.
        trusted: whether paths of this machine may be named.
    """

    def __init__(
        self,
        service: FakeService,
        n: int = 24,
        pause: float = 0.02,
        empty: bool = False,
        trusted: bool = True,
    ) -> None:
        self._service = service
        self._pause = pause
        self._trusted = trusted
        self.kept = FakeKeptRuns({} if empty else {"study": study_run(n)})
        self.rights = SimpleNamespace(offered=Bounds())

    def layouts(self) -> tuple[Layout, ...]:
        """The real table, where paths are allowed."""
        return tuple(LAYOUTS.values()) if self._trusted else ()

    def metric_groups(self) -> tuple[MetricGroup, ...]:
        """The real groups, as they are here."""
        return metric_groups(Places())

    def variants(self) -> tuple[VariantStatus, ...]:
        """Those of the small study."""
        return tuple(VariantStatus(name, True) for name in SKILL if "/" in name and "+" not in name)

    def listening(self, variant: str) -> dict[str, Listening]:
        """Every second report follows, for a label and for all."""
        half = Estimate(0.5, 0.4, 0.6, 40)
        both = Listening(half, half)
        return {} if self.kept.known.get("study") is None else {"": both, "Pleural effusion": both}

    def measured(self, variant: str) -> tuple[VariantResult, ...]:
        """Of the small study, whatever the weights."""
        study = self.kept.known.get("study")
        return tuple(
            VariantResult(
                name, SAMPLE_SETS[name].domain, card.estimates, study.created[:10], "study"
            )
            for (system, name), card in (study.cards if study else {}).items()
            if system == variant and study
        )

    def start(
        self,
        request: EvaluationRequest,
        cancel: threading.Event,
        uploads: Collection[str] = (),
    ) -> Iterator[EvaluationEvent]:
        """One system after the other, a pause for each case."""
        run_id = f"run-{len(self.kept.known)}"
        yield from self._go(run_id, request, cancel, {}, self._pause)

    def resume(
        self, run_id: str, cancel: threading.Event, owner: str = ""
    ) -> Iterator[EvaluationEvent]:
        """Go on with what is missing, without a pause."""
        run = self.kept.load(run_id, owner)
        yield from self._go(run_id, run.request, cancel, dict(run.cards), 0.0)

    def _go(
        self,
        run_id: str,
        request: EvaluationRequest,
        cancel: threading.Event,
        cards: dict[tuple[str, str], Scorecard],
        pause: float,
    ) -> Iterator[EvaluationEvent]:
        if any(spec.source == "predictions" for spec in request.sets):
            raise BadRequest("The file has no column 'id'.", "Name it.", code="bad_columns")
        sets = {spec.source: small_set(spec.source, request.limit or 24) for spec in request.sets}
        jobs = [(v, s) for v in request.variants for s in sets]
        total, done = len(jobs) * 10, 10 * len(cards)
        for key in jobs:
            if key in cards:
                continue
            for _ in range(10):
                if cancel.wait(pause):
                    break
                done += 1
                yield EvaluationEvent("write", done, total, f"{key[0]} on {key[1]}", run_id)
            if cancel.is_set():
                break
            _, _, made = small_cards(request.limit or 24, 100, [key[0]], [key[1]])
            cards.update(made)
            yield EvaluationEvent("score", done, total, key[0], run_id, card=made[key])
        run = EvaluationRun(
            id=run_id,
            title="Own run",
            created="2026-11-25T09:30:00",
            revision="0123456789abcdef",
            status="cancelled" if cancel.is_set() else "finished",
            request=request,
            sample_sets=sets,
            cards=cards,
            predictions={key: written(key[0], sets[key[1]]) for key in cards},
        )
        self.kept.known[run_id], self.kept.owners[run_id] = run, request.owner
        yield EvaluationEvent("done", total, total, "", run_id, run=run)

    def case(self, run: EvaluationRun, system: str, sample_set: str, case_id: str) -> CaseView:
        """From the texts, as the real one."""
        sample = next(s for s in run.sample_sets[sample_set].samples if s.id == case_id)
        written = run.predictions[system, sample_set].predictions
        prediction = next(p for p in written if p.id == case_id)
        known = next(c for c in run.cards[system, sample_set].cases if c.id == case_id)
        findings = score_case(sample, prediction).findings
        return CaseView(sample, prediction, replace(known, findings=findings))

    def open_scan(self, session: Session, sample: Sample) -> Volume:
        """The first sample of the gallery, under the case's name."""
        card = self._service.gallery.cards[0]
        return self._service.open_path(session, card.path, sample.id)

    def export(self, run: EvaluationRun, kind: str) -> Export:
        """A line of text."""
        return Export(f"{run.id}.{kind}", "text/plain", f"{run.title}: {kind}\n".encode())


@cache
def study_run(n: int) -> EvaluationRun:
    """The small study as a run."""
    sets, predictions, cards = small_cards(n)
    costs = {
        name: {
            "parameters": SIZES[name.split("/")[0]],
            "trainable": TRAINED[name.split("/")[1].split("+")[0]],
            "seconds": 0.1 + SIZES[name.split("/")[0]] / 2e7 + 0.01 * len(name),
        }
        for name in SKILL
        if "/" in name
    }
    return EvaluationRun(
        id="study",
        title="Study of the shipped variants",
        created="2026-11-24T18:00:00",
        revision="0123456789abcdef",
        status="finished",
        request=EvaluationRequest(tuple(SetSpec(name) for name in sets), tuple(SKILL)),
        sample_sets=sets,
        cards=cards,
        predictions=predictions,
        costs=costs,
        classifier={name: _classifier(name, each.samples) for name, each in sets.items()},
    )


def _classifier(name: str, samples: tuple[Sample, ...]) -> ClassifierCard:
    """Noisy probabilities of the known labels."""
    truth = np.array([sample.labels for sample in samples])
    rng = np.random.default_rng(len(name))
    noise = 1.4 if name.endswith("in") else 2.0
    logits = 3.0 * truth - 1.8 + rng.normal(0, noise, truth.shape)
    return classifier_card(
        "phantom-cnn", name, truth, 1 / (1 + np.exp(-logits)), np.full(len(LABELS), 0.5),
        "phantom-calibration", resamples=100,
    )  # fmt: skip
