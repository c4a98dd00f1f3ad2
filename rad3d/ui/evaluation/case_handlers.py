"""Event handlers of the evaluation's cases: lists, one case, and its scan in the report tab."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from rad3d.core.errors import BadRequest
from rad3d.core.variant_ids import split_variant_id
from rad3d.evaluation.summary_text import where
from rad3d.evaluation.system_names import OF_RUN, system_of
from rad3d.ui.evaluation import case_view as cases
from rad3d.ui.evaluation.run_cache import RunCache
from rad3d.ui.evaluation.views import system_choices
from rad3d.ui.messages import failures_to
from rad3d.ui.page_state import PageHandlers, PageState, Snapshot, Values
from rad3d.ui.report import html
from rad3d.ui.report.compare_card import first_picks, linked_picks, pick
from rad3d.ui.report.handlers import Handlers
from rad3d.ui.visitor import session_of

if TYPE_CHECKING:
    from rad3d.evaluation.evaluations import Evaluations
    from rad3d.service.service import Service

Handler = Callable[..., Snapshot]


def write_of_run(
    page: PageState, run_id: str, asked: float, values: Callable[[Values], Values]
) -> None:
    """Show what was asked for of a run, unless another run is shown meanwhile."""
    page.write(lambda now: values(now) if now.get("run", run_id) == run_id else {}, asked=asked)


NO_CASE: Values = {"notice": "", "label": "", "listed": "", "shown": "", "chosen": ""}
"""The values where there is no run."""


@dataclass(frozen=True)
class Choice:
    """The system, set and case that is shown, in the order in which the page sends them."""

    run: str
    other: str
    system: str
    sample_set: str
    order: str
    label: str = ""
    chosen: str = ""


class CaseHandlers(PageHandlers):
    """The handlers, bound to the evaluations of one service.

    Args:
        evaluations: give a case its texts and its scan.
        cache: the runs that are looked at.
        report: opens a scan in the report tab.
        service: has the sessions. A page holds, besides the components, the ``run`` that it shows
            and the case that is ``chosen``.
    """

    def __init__(
        self, evaluations: Evaluations, cache: RunCache, report: Handlers, service: Service
    ) -> None:
        super().__init__(service, "cases")
        self._evaluations, self._cache, self._report = evaluations, cache, report

    def press_point(
        self, event: gr.EventData, request: gr.Request, run_id: str, other_id: str, order: str
    ) -> Snapshot:
        """Show the cases behind a point or a cell of a figure."""
        return self._answered(
            request,
            lambda _: Choice(run_id, other_id, event.system, event.set, order, event.label or ""),
        )

    def press_name(
        self,
        event: gr.EventData,
        request: gr.Request,
        run_id: str,
        other_id: str,
        sample_set: str,
        order: str,
    ) -> Snapshot:
        """Show the cases of a system of the leaderboard, on the set that is shown."""
        return self._answered(
            request, lambda _: Choice(run_id, other_id, event.system, sample_set, order)
        )

    def list_cases(self, request: gr.Request, *sent: str) -> Snapshot:
        """Show the list for its controls; the chosen case stays where it is listed.

        Args:
            request: the tab's.
            sent: the fields of a :class:`Choice` but the last.
        """
        return self._answered(request, lambda chosen: replace(Choice(*sent), chosen=chosen))

    def press_case(self, event: gr.EventData, request: gr.Request, *sent: str) -> Snapshot:
        """Show a case of the list; ``sent`` are the fields of a :class:`Choice` but the last."""
        return self._answered(request, lambda _: replace(Choice(*sent), chosen=str(event.case)))

    def step(self, forward: int) -> Handler:
        """Return the handler of the next (1) or previous (-1) button."""

        def handle(request: gr.Request, *sent: str) -> Snapshot:
            return self._answered(
                request,
                lambda chosen: self._stepped(
                    replace(Choice(*sent), chosen=chosen), forward, request
                ),
            )

        return handle

    def _stepped(self, choice: Choice, forward: int, request: gr.Request) -> Choice:
        _, view = self._cache.view(choice.run, choice.other, self._cache.owner(request))
        ids = cases.ordered_ids(
            view.cards[view.single(choice.system), choice.sample_set], choice.order, choice.label
        )
        at = ids.index(choice.chosen) + forward if choice.chosen in ids else 0
        return replace(choice, chosen=ids[at % len(ids)] if ids else "")

    def open_case(self, run_id: str, sample_set: str, request: gr.Request) -> tuple[Any, ...]:
        """Open the scan of the chosen case in the report tab, its reference folded away."""
        return self._opened(request, run_id, sample_set, ())

    def compare_case(
        self, run_id: str, sample_set: str, system: str, baseline: str, request: gr.Request
    ) -> tuple[Any, ...]:
        """Open the scan of the chosen case with its system and the baseline picked to compare.

        Where only one of them can write here, its V-1 or V-3 is the other. Where neither can, as
        they were trained for the run alone, the page says so.
        """
        statuses = self._service.variants()
        asked = [each.partition(OF_RUN)[0] for each in (system, baseline)]
        picked, _ = linked_picks(",".join(asked), statuses)
        told = ""
        if len(picked) == 1:
            llm, mode = split_variant_id(picked[0])
            picked = first_picks(statuses, llm.id, mode.id)[:2]
        elif not picked:
            shown = system_of(asked[0], {}).shown
            told = f"{shown} is not among the models here. Pick others to compare on this scan."
        return self._opened(request, run_id, sample_set, picked, told)

    def _opened(
        self,
        request: gr.Request,
        run_id: str,
        sample_set: str,
        picked: Sequence[str],
        told: str = "",
    ) -> tuple[Any, ...]:
        page = self.page(request)
        chosen = page.snapshot()["values"].get("chosen", "")
        with failures_to(lambda text: page.write({"notice": html.notice(text)})):
            run = self._cache.run(run_id, self._cache.owner(request))
            sample = {s.id: s for s in run.sample_sets[sample_set].samples}[chosen]
            if not sample.scan:
                raise BadRequest(
                    "This case has no scan here: only its texts are known.",
                    "Give the folder of the scans as a sample set.",
                    code="no_scan",
                )
            opened = self._report.open(
                request,
                lambda session: self._evaluations.open_scan(session, sample),
                sample.reference,
            )
            page.write({"notice": ""})
            if picked or told:
                report = session_of(self._service, request).part("report", PageState)
                pick(report, picked, told)
                opened = report.snapshot()
            return gr.Tabs(selected="report"), page.snapshot(), opened
        return gr.skip(), page.snapshot(), gr.skip()

    def _answered(self, request: gr.Request, choose: Callable[[str], Choice]) -> Snapshot:
        """Show a choice made from the earlier one, or a notice why it cannot be shown."""
        page = self.page(request)
        asked = page.now()
        with failures_to(lambda text: page.write({"notice": html.notice(text)}, asked=asked)):
            choice = choose(page.snapshot()["values"].get("chosen", ""))
            values = self.shown(choice, self._cache.owner(request))
            write_of_run(page, choice.run, asked, lambda _: values)
        return page.snapshot()

    def shown(self, choice: Choice, owner: str) -> Values:
        """Return the values for a choice: notice, three controls, the list, the case and its id."""
        run, view = self._cache.view(choice.run, choice.other, owner)
        system, sample_set, label = view.single(choice.system), choice.sample_set, choice.label
        if (system, sample_set) not in view.cards:
            raise BadRequest(
                f"{view.names.get(system, system)} was not evaluated on this set.",
                "Choose another one.",
                code="not_evaluated",
            )
        card = view.cards[system, sample_set]
        label = label if label in card.per_label else ""
        names = tuple(card.per_label)
        ids = cases.ordered_ids(card, choice.order, label)
        chosen = choice.chosen if choice.chosen in ids else (ids[0] if ids else "")
        shown = ""
        if chosen:
            own, other, title = system.partition(OF_RUN)
            source = self._cache.run(choice.other, owner) if other and title else run
            case = self._evaluations.case(source, own, sample_set, chosen)
            place = (ids.index(chosen) + 1, len(ids))
            shown = cases.case_view(
                case.sample, case.prediction, case.score, place, view.names[system]
            )
        return {
            "notice": "",
            "system": gr.update(
                choices=system_choices(view, sample_set, single=True), value=system
            ),
            "sample_set": gr.update(
                choices=[(where(s), s.id) for s in view.sets], value=sample_set
            ),
            "label": gr.update(choices=[("Any", ""), *zip(names, names, strict=True)], value=label),
            "listed": cases.case_list(card, ids, chosen, label),
            "shown": shown,
            "chosen": chosen,
        }
