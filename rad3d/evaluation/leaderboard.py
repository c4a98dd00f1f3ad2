"""A view of one evaluation: its systems ranked and compared, with every figure computed.

Comparisons are made when they are asked for and kept with the view.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from rad3d.core.errors import BadRequest
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.modes import MODES
from rad3d.evaluation.figures.scaling import Contrast, Point, Reference
from rad3d.evaluation.figures.worth import BASE
from rad3d.evaluation.groups import grouped, members_of
from rad3d.evaluation.run_types import EvaluationRun, Key
from rad3d.evaluation.system_names import LOOKUP, OF_RUN, PLUS, System, system_of
from rad3d.metrics.compare import Difference, compare, compare_all
from rad3d.metrics.registry import METRICS, MetricRow, metric_row
from rad3d.metrics.scorecard import Scorecard

T = TypeVar("T")


@dataclass(frozen=True)
class SetFacts:
    """Name, domain and number of evaluated cases of a sample set."""

    id: str
    name: str
    domain: str
    n: int
    label_set: LabelSet = CT_RATE


class StudyView:
    """A view of one evaluation, as the module describes it. Thread-safe.

    Args:
        cards: scorecards by system and sample set; two systems are compared where their cases are
            the same.
        sets: of the cards, in order.
        costs: see :func:`rad3d.evaluation.system_names.system_of`.
        facts: of the run.

    Attributes:
        cards: of every system, trainings from single seeds included.
        members: system that was trained from several seeds -> those trainings. It stands for them
            in tables, figures and comparisons.
    """

    def __init__(
        self,
        cards: Mapping[Key, Scorecard],
        sets: Sequence[SetFacts],
        costs: Mapping[str, Mapping[str, Any]],
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self._compared = grouped(cards)
        self.cards, self.members = {**cards, **self._compared}, members_of(cards)
        self.facts = dict(facts or {})
        self.sets = tuple(s for s in sets if any(key[1] == s.id for key in self.cards))
        names = dict.fromkeys(system for system, _ in self.cards)
        known = dict(costs)
        for group, members in self.members.items():
            known[group] = next((costs[name] for name in members if name in costs), {})
        self.systems = {name: system_of(name, known) for name in names}
        self.names = {name: system.shown for name, system in self.systems.items()}
        self._kept: dict[tuple[str, ...], Any] = {}
        self._lock = threading.Lock()

    def set_facts(self, sample_set: str) -> SetFacts:
        """The facts of a set of the view."""
        return next(s for s in self.sets if s.id == sample_set)

    def on(self, sample_set: str, controls: bool = True) -> list[Scorecard]:
        """Return the scorecards on a set; without ``controls`` only the compared systems."""
        return [
            card
            for (system, name), card in self._compared.items()
            if name == sample_set and (controls or not self.systems[system].control)
        ]

    def beside(self, sample_set: str, system: str) -> list[Scorecard]:
        """Return the systems to compare one with: all but the ablations of other variants."""
        own = system.split(PLUS)[0]
        return [
            card
            for card in self.on(sample_set)
            if not (self.systems[card.name].of_variant and card.name.split(PLUS)[0] != own)
        ]

    def metrics(self, sample_set: str = "") -> tuple[MetricRow, ...]:
        """The metrics that were scored, in the table's order."""
        scored = {
            metric
            for (_, name), card in self._compared.items()
            if not sample_set or name == sample_set
            for metric, estimate in card.estimates.items()
            if not math.isnan(estimate.value)
        }
        return tuple(row for row in METRICS.values() if row.id in scored)

    def ranked(self, sample_set: str, metric: str, controls: bool = False) -> list[Scorecard]:
        """The scorecards on a set, best first; those without the metric are left out."""
        sign = -1 if metric_row(metric).higher_is_better else 1
        cards = [
            card
            for card in self.on(sample_set, controls)
            if metric in card.estimates and not math.isnan(card.estimates[metric].value)
        ]
        return sorted(cards, key=lambda card: sign * card.estimates[metric].value)

    def differences(self, sample_set: str, metric: str, baseline: str) -> tuple[Difference, ...]:
        """Every other system of the set minus ``baseline``, p-values corrected over these.

        Systems that were scored on other cases, or otherwise, are left out.
        """

        def compute() -> tuple[Difference, ...]:
            cards = [c for c in self.beside(sample_set, baseline) if metric in c.estimates]
            first = next((card for card in cards if card.name == baseline), None)
            if first is None:
                return ()
            ids = [case.id for case in first.cases]
            same = [
                card
                for card in cards
                if [case.id for case in card.cases] == ids
                and card.signature[metric] == first.signature[metric]
            ]
            return compare_all(same, baseline=baseline, metrics=[metric])

        return self._once(("differences", sample_set, metric, baseline), compute)

    def leader(self, sample_set: str, metric: str) -> str:
        """Return the system that is better than all others of its kind; empty if there is none.

        The difference to the runner-up has to be significant after correction.
        """
        order = self.ranked(sample_set, metric)
        if len(order) < 2:
            return ""
        best, second = order[0].name, order[1].name
        difference = self.difference(sample_set, metric, best, second)
        return best if difference is not None and difference.better == best else ""

    def difference(self, sample_set: str, metric: str, a: str, b: str) -> Difference | None:
        """``b`` minus ``a``, corrected over all comparisons with ``a``; None where impossible."""
        differences = self.differences(sample_set, metric, a)
        return next((d for d in differences if d.b == b), None)

    def contrast(self, sample_set: str, metric: str, a: str, b: str) -> Difference | None:
        """``b`` minus ``a`` on its own, without correction; None where they cannot be compared."""
        first, second = (self._compared.get((each, sample_set)) for each in (a, b))

        def compute() -> Difference | None:
            if first is None or second is None:
                return None
            try:
                return compare(first, second, metrics=[metric])[0]
            except BadRequest:  # scored on other cases, or otherwise
                return None

        return self._once(("contrast", sample_set, metric, a, b), compute)

    def contrasts(self, base: str, mode: str, metric: str) -> list[Contrast]:
        """A mode minus another for each language model, number of pairs, encoder and set."""
        found = []
        for facts in self.sets:
            systems = {
                (s.llm, s.pairs, s.encoder, s.mode): s
                for card in self.on(facts.id, controls=False)
                if (s := self.systems[card.name]).is_variant
            }
            for (*alike, its), system in systems.items():
                other = systems.get((*alike, base))  # type: ignore[arg-type]
                if its == mode and other is not None:
                    difference = self.contrast(facts.id, metric, other.id, system.id)
                    if difference is not None and not math.isnan(difference.value):
                        found.append(Contrast(system, facts.id, difference))
        return found

    def worth(self, metric: str) -> list[Contrast]:
        """What frozen modes that read the prior gain over the one that does not."""
        readers = [m for m in MODES.values() if m.reads_prior and not m.trains_llm]
        return [c for mode in readers for c in self.contrasts(BASE, mode.id, metric)]

    def single(self, system: str) -> str:
        """The first training of a system that was trained from several seeds; else itself."""
        return self.members.get(system, [system])[0]

    def points(self, metric: str) -> tuple[Point, ...]:
        """The variants as points of :func:`rad3d.evaluation.figures.scaling.study_figure`."""
        return tuple(
            _point(self.systems[system], sample_set, card, metric)
            for (system, sample_set), card in self._compared.items()
            if metric in card.estimates and self.systems[system].is_variant
        )

    def references(self, metric: str) -> tuple[Reference, ...]:
        """The template baseline on every set where it was scored."""
        return tuple(
            Reference(self.names[LOOKUP], s.id, card.estimates[metric])
            for s in self.sets
            if (card := self.cards.get((LOOKUP, s.id))) and metric in card.estimates
        )

    def label_f1(self, sample_set: str) -> dict[str, dict[str, float]]:
        """Map system and label to F1 on a set; ablations are left out."""
        return {
            card.name: {label: row["f1"] for label, row in card.per_label.items()}
            for card in self.beside(sample_set, "")
        }

    def positives(self, sample_set: str) -> dict[str, int]:
        """Label -> number of cases of the set that have it."""
        cards = self.on(sample_set)
        return {label: int(row["support"]) for label, row in cards[0].per_label.items()}

    def _once(self, key: tuple[str, ...], compute: Callable[[], T]) -> T:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = compute()
            kept: T = self._kept[key]
            return kept


def _point(system: System, sample_set: str, card: Scorecard, metric: str) -> Point:
    return Point(
        system=system.id,
        shown=system.shown,
        size_name=system.llm,
        mode=system.mode,
        sample_set=sample_set,
        estimate=card.estimates[metric],
        parameters=system.parameters,
        trainable=system.trainable,
        seconds=system.seconds,
        pairs=system.pairs,
        encoder=system.encoder,
    )


def view_of(run: EvaluationRun, other: EvaluationRun | None = None) -> StudyView:
    """The view of a run, with the systems of another one beside its own where both share a set."""
    sets = [
        SetFacts(s.id, s.name, s.domain, len(s.samples), s.label_set)
        for s in run.sample_sets.values()
    ]
    cards, costs = dict(run.cards), dict(run.costs)
    for (system, sample_set), card in other.cards.items() if other else ():
        if other is None or sample_set not in run.sample_sets:
            continue
        name = f"{system}{OF_RUN}{other.title}"
        cards[name, sample_set] = replace(card, name=name)
        costs[name] = other.costs.get(system, {})
    return StudyView(cards, sets, costs, run.facts)
