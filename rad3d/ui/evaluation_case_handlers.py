"""Event handlers of the evaluation's cases: lists, one case, and its scan in the report tab."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from rad3d.errors import BadRequest
from rad3d.service.study_words import where
from rad3d.service.systems import OF_RUN
from rad3d.ui import evaluation_cases as cases
from rad3d.ui import render
from rad3d.ui.evaluation_shelf import Shelf
from rad3d.ui.evaluation_views import system_choices
from rad3d.ui.handlers import Handlers, sentence

if TYPE_CHECKING:
    from rad3d.service.evaluation import Evaluations

Shown = tuple[Any, ...]
Handler = Callable[..., Shown]

N_CASES = 7
"""Outputs of a case: notice, system, set, label, list, the case, its id."""


@dataclass(frozen=True)
class Choice:
    """What is looked at, in the order in which the page sends it."""

    run: str
    other: str
    system: str
    sample_set: str
    order: str
    label: str = ""
    chosen: str = ""


class CaseHandlers:
    """The handlers, bound to the evaluations of one service.

    Args:
        evaluations: give a case its texts and its scan.
        shelf: the runs that are looked at.
        report: opens a scan in the report tab.
        owner: whose runs a request may see.
    """

    def __init__(
        self,
        evaluations: Evaluations,
        shelf: Shelf,
        report: Handlers,
        owner: Callable[[gr.Request], str],
    ) -> None:
        self._evaluations = evaluations
        self._shelf = shelf
        self._report = report
        self._owner = owner

    def press_point(
        self, event: gr.EventData, request: gr.Request, run_id: str, other_id: str, order: str
    ) -> Shown:
        """A point, a cell or a name leads to its cases."""
        return self._answered(
            request,
            lambda: Choice(run_id, other_id, event.system, event.set, order, event.label or ""),
        )

    def press_name(
        self,
        event: gr.EventData,
        request: gr.Request,
        run_id: str,
        other_id: str,
        sample_set: str,
        order: str,
    ) -> Shown:
        """A system's name in the leaderboard leads to its cases on the set that is shown."""
        return self._answered(
            request, lambda: Choice(run_id, other_id, event.system, sample_set, order)
        )

    def list_cases(self, request: gr.Request, *sent: str) -> Shown:
        """The list under its controls; the chosen case stays where it is listed.

        Args:
            request: of the tab.
            sent: the fields of a :class:`Choice`.
        """
        return self._answered(request, lambda: Choice(*sent))

    def press_case(self, event: gr.EventData, request: gr.Request, *sent: str) -> Shown:
        """A case of the list; ``sent`` are the fields of a :class:`Choice` but the last."""
        return self._answered(request, lambda: replace(Choice(*sent), chosen=str(event.case)))

    def step(self, forward: int) -> Handler:
        """The handler of the next (1) or previous (-1) button."""

        def handle(request: gr.Request, *sent: str) -> Shown:
            return self._answered(request, lambda: self._stepped(Choice(*sent), forward, request))

        return handle

    def _stepped(self, choice: Choice, forward: int, request: gr.Request) -> Choice:
        _, view = self._shelf.view(choice.run, choice.other, self._owner(request))
        ids = cases.ordered_ids(
            view.cards[choice.system, choice.sample_set], choice.order, choice.label
        )
        at = ids.index(choice.chosen) + forward if choice.chosen in ids else 0
        return replace(choice, chosen=ids[at % len(ids)] if ids else "")

    def open_case(self, run_id: str, sample_set: str, chosen: str, request: gr.Request) -> Shown:
        """Open a case's scan in the report tab, its reference folded away."""
        try:
            run = self._shelf.run(run_id, self._owner(request))
            sample = {s.id: s for s in run.sample_sets[sample_set].samples}[chosen]
            if not sample.scan:
                raise BadRequest(
                    "This case has no scan here: only its texts are known.",
                    "Give the folder of the scans as a sample set.",
                    code="no_scan",
                )
        except Exception as error:
            return (gr.skip(), render.notice(sentence(error)), gr.skip())
        opened = self._report.open(
            request, lambda token: self._evaluations.open_scan(token, sample), sample.reference
        )
        return (gr.Tabs(selected="report"), "", opened)

    def _answered(self, request: gr.Request, choose: Callable[[], Choice]) -> Shown:
        """What is chosen, or a notice why it cannot be shown."""
        try:
            return self.shown(choose(), self._owner(request))
        except Exception as error:
            skipped = (gr.skip() for _ in range(N_CASES - 1))
            return (render.notice(sentence(error)), *skipped)

    def shown(self, choice: Choice, owner: str) -> Shown:
        """Notice, three controls, the list, the case and its id."""
        run, view = self._shelf.view(choice.run, choice.other, owner)
        system, sample_set, label = choice.system, choice.sample_set, choice.label
        if (system, sample_set) not in view.cards:
            raise BadRequest(
                f"{view.names.get(system, system)} was not evaluated on this set.",
                "Choose another one.",
                code="not_evaluated",
            )
        card = view.cards[system, sample_set]
        ids = cases.ordered_ids(card, choice.order, label)
        chosen = choice.chosen if choice.chosen in ids else (ids[0] if ids else "")
        shown = ""
        if chosen:
            own, other, title = system.partition(OF_RUN)
            source = self._shelf.run(choice.other, owner) if other and title else run
            case = self._evaluations.case(source, own, sample_set, chosen)
            place = (ids.index(chosen) + 1, len(ids))
            shown = cases.case_view(
                case.sample, case.prediction, case.score, place, view.names[system]
            )
        return (
            "",
            gr.update(choices=system_choices(view, sample_set), value=system),
            gr.update(choices=[(where(s), s.id) for s in view.sets], value=sample_set),
            label,
            cases.case_list(card, ids, chosen, label),
            shown,
            chosen,
        )

    def none(self) -> Shown:
        """Outputs where there is no run."""
        return ("", gr.skip(), gr.skip(), "", "", "", "")
