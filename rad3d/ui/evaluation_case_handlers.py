"""Event handlers of the evaluation's cases: lists, one case, and its scan in the report tab."""

from __future__ import annotations

from collections.abc import Callable
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

Handler = Callable[..., tuple[Any, ...]]

N_CASES = 7
"""Outputs of a case: notice, four controls and list, the case, its id."""


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
        self, run_id: str, other_id: str, order: str, event: gr.EventData, request: gr.Request
    ) -> tuple[Any, ...]:
        """A point, a cell or a name leads to its cases."""
        return self._shown_or_notice(
            run_id, other_id, request, event.system, event.set, order, event.label or "", ""
        )

    def press_name(
        self,
        run_id: str,
        other_id: str,
        sample_set: str,
        order: str,
        event: gr.EventData,
        request: gr.Request,
    ) -> tuple[Any, ...]:
        """A system's name in the leaderboard leads to its cases on the set that is shown."""
        return self._shown_or_notice(
            run_id, other_id, request, event.system, sample_set, order, "", ""
        )

    def list_cases(
        self,
        run_id: str,
        other_id: str,
        system: str,
        sample_set: str,
        order: str,
        label: str,
        chosen: str,
        request: gr.Request,
    ) -> tuple[Any, ...]:
        """The list under its controls; the chosen case stays where it is listed."""
        return self._shown_or_notice(
            run_id, other_id, request, system, sample_set, order, label, chosen
        )

    def press_case(
        self,
        run_id: str,
        other_id: str,
        system: str,
        sample_set: str,
        order: str,
        label: str,
        event: gr.EventData,
        request: gr.Request,
    ) -> tuple[Any, ...]:
        """A case of the list."""
        return self._shown_or_notice(
            run_id, other_id, request, system, sample_set, order, label, str(event.case)
        )

    def step(self, forward: int) -> Handler:
        """The handler of the next (1) or previous (-1) button."""

        def handle(
            run_id: str,
            other_id: str,
            system: str,
            sample_set: str,
            order: str,
            label: str,
            chosen: str,
            request: gr.Request,
        ) -> tuple[Any, ...]:
            try:
                _, view = self._shelf.view(run_id, other_id, self._owner(request))
                ids = cases.ordered_ids(view.cards[system, sample_set], order, label)
                at = ids.index(chosen) + forward if chosen in ids else 0
                chosen = ids[at % len(ids)] if ids else ""
            except Exception as error:
                return self._refused(sentence(error))
            return self._shown_or_notice(
                run_id, other_id, request, system, sample_set, order, label, chosen
            )

        return handle

    def open_scan(self, n_outputs: int) -> Handler:
        """The handler that opens a case's scan in the report tab, its reference folded away.

        Args:
            n_outputs: how many components opening a scan writes to.
        """

        def handle(
            run_id: str,
            other_id: str,
            system: str,
            sample_set: str,
            chosen: str,
            request: gr.Request,
        ) -> tuple[Any, ...]:
            try:
                run, _ = self._shelf.view(run_id, other_id, self._owner(request))
                sample = {s.id: s for s in run.sample_sets[sample_set].samples}[chosen]
                if not sample.scan:
                    raise BadRequest(
                        "This case has no scan here: only its texts are known.",
                        "Give the folder of the scans as a sample set.",
                        code="no_scan",
                    )
            except Exception as error:
                skipped = tuple(gr.skip() for _ in range(n_outputs))
                return (gr.skip(), render.notice(sentence(error)), *skipped)
            opened = self._report.open(
                request,
                lambda token: self._evaluations.open_scan(token, sample),
                sample.reference,
            )
            return (gr.Tabs(selected="report"), "", *opened)

        return handle

    def _shown_or_notice(
        self, run_id: str, other_id: str, request: gr.Request, *choice: str
    ) -> tuple[Any, ...]:
        try:
            return self.shown(run_id, other_id, self._owner(request), *choice)
        except Exception as error:
            return self._refused(sentence(error))

    def shown(
        self,
        run_id: str,
        other_id: str,
        owner: str,
        system: str,
        sample_set: str,
        order: str,
        label: str,
        chosen: str,
    ) -> tuple[Any, ...]:
        """Notice, the four controls, the list, the case and its id."""
        run, view = self._shelf.view(run_id, other_id, owner)
        if (system, sample_set) not in view.cards:
            raise BadRequest(
                f"{view.names.get(system, system)} was not evaluated on this set.",
                "Choose another one.",
                code="not_evaluated",
            )
        card = view.cards[system, sample_set]
        ids = cases.ordered_ids(card, order, label)
        chosen = chosen if chosen in ids else (ids[0] if ids else "")
        shown = ""
        if chosen:
            own, other, title = system.partition(OF_RUN)
            source = self._shelf.run(other_id, owner) if other and title else run
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

    def none(self) -> tuple[Any, ...]:
        """Outputs where there is no run."""
        return ("", gr.skip(), gr.skip(), "", "", "", "")

    def _refused(self, text: str) -> tuple[Any, ...]:
        return (render.notice(text), *(gr.skip() for _ in range(N_CASES - 1)))
