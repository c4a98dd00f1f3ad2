"""Event handlers of the report tab: thin, one service call each, errors as one sentence."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.data_classes import ListFiles

from rad3d.core.edits import checked_edits
from rad3d.core.errors import BadRequest, Cancelled, Rad3dError
from rad3d.core.types import NOT_REPORTED, Note, Volume
from rad3d.core.variant_ids import variant_id
from rad3d.ui import choices
from rad3d.ui.messages import failures_to
from rad3d.ui.page_state import PageState, Snapshot, Values
from rad3d.ui.queued import in_turn, thinned
from rad3d.ui.report import html
from rad3d.ui.report.compare_card import NOTHING, card, linked_picks, pick
from rad3d.ui.report.compare_handlers import Comparing
from rad3d.ui.report.generation_fields import OPTION_NAMES, options_of
from rad3d.ui.report.sent import sent_scan
from rad3d.ui.report.views import (
    NO_RUN,
    NO_WHAT_IF,
    armed,
    beside,
    finished,
    resting,
    revised,
    shown,
    what_if,
)
from rad3d.ui.visitor import session_of

if TYPE_CHECKING:
    from rad3d.evaluation.listening import Listening
    from rad3d.server.queue import ReportQueue
    from rad3d.service.service import Service
    from rad3d.service.sessions import Session

Listens = Callable[[str], "Mapping[str, Listening]"]
"""See :meth:`rad3d.evaluation.evaluations.Evaluations.listening`."""

_ENDED = (
    "Your session had ended, after a time without use or because the app was started anew. Its "
    "scan and report are gone; open the scan again to go on."
)
_NO_SCAN = {
    False: "There is no scan yet. Open one first.",
    True: "The server has closed this scan, because it needed the memory. Open it again to go on.",
}
"""Why there is none, by whether the page shows one."""


class Handlers:
    """The handlers of the report tab.

    Args:
        service: scans and reports.
        turns: the queue of the reports.
        listening: variant -> how often its reports follow an edit, by label.
    """

    def __init__(
        self, service: Service, turns: ReportQueue, listening: Listens = lambda _: {}
    ) -> None:
        self._service, self._turns, self._listening = service, turns, listening
        self._comparing = Comparing(service, turns)
        self._serial = itertools.count()
        self._truths = {card.id: card.truth_text for card in service.gallery.cards}

    def _page(self, request: gr.Request, notice: str = _ENDED) -> tuple[Session, PageState]:
        """Return the session of a tab and what its page shows, which begins without a scan.

        Args:
            request: the tab's.
            notice: told where the session is a new one: an earlier one of the tab has ended.
        """
        session = session_of(self._service, request)
        page = session.part("report", PageState)
        if page.is_new:
            values = {"notice": html.notice(notice, "info"), "notes": "", "truth": "", **NO_RUN}
            page.write({"viewer": self._viewer(session, None), "compare": NOTHING, **values})
        return session, page

    def again(self, request: gr.Request) -> Snapshot:
        """Return what the tab shows now."""
        return self._page(request)[1].snapshot()

    # -- scans -----------------------------------------------------------------------------

    def start(self, request: gr.Request) -> tuple[Snapshot, str]:
        """Show a new tab: what its link asks for, or the stored example; and what does not work."""
        session, page = self._page(request, notice="")
        asked = getattr(request, "query_params", {})
        sample = str(asked.get("sample", ""))
        if sample in self._truths:
            self._open_sample(request, sample)
        with contextlib.suppress(Rad3dError):  # where its files are damaged, the viewer is empty
            if opened := self._service.open_example(session):
                example, volume, report = opened
                run = {**finished(report), "progress": html.example(example.title, report)}
                self._show_scan(request, session, volume, run, example.truth_text, example.id)
        if sample and sample not in self._truths:
            text = f"The link asks for the sample {sample[:40]!r}, which is not here."
            page.write({"notice": html.notice(text, "info")})
        if compared := str(asked.get("compare", "")):
            pick(page, *linked_picks(compared, self._service.variants()))
        return page.snapshot(), html.troubles(self._service.troubles)

    def open_upload(self, files: ListFiles | None, request: gr.Request) -> Snapshot:
        """Read an uploaded scan; a refused one leaves everything as it was.

        Args:
            files: the scan, and CT-RATE's metadata table where the person gave one. Both are
                deleted when this returns.
            request: the tab's.
        """
        sent = files.root if files else []
        if not sent:
            self._refused(request, "No file arrived. Choose it again.")
            return self.again(request)
        with (
            failures_to(lambda text: self._refused(request, text)),
            sent_scan([(file.path, file.orig_name) for file in sent]) as scan,
        ):
            self.open(request, lambda session: self._service.open_path(session, *scan))
        return self.again(request)

    def pick_sample(self, event: gr.EventData, request: gr.Request) -> Snapshot:
        """Open the sample whose card was pressed."""
        return self._open_sample(request, str(event.id))

    def _open_sample(self, request: gr.Request, sample: str) -> Snapshot:
        """Open a sample; its name goes into the links to this page."""
        return self.open(
            request,
            lambda session: self._service.open_sample(session, sample),
            self._truths.get(sample, ""),
            sample,
        )

    def open(
        self,
        request: gr.Request,
        read: Callable[[Session], Volume],
        truth: str = "",
        sample: str = "",
    ) -> Snapshot:
        """Open a scan in the tab's session.

        Args:
            request: the tab's.
            read: opens the scan in the session that it is given.
            truth: the report that is true of the scan, where it is known.
            sample: its id, where it is one of the gallery.
        """
        with failures_to(lambda text: self._refused(request, text)):
            session = session_of(self._service, request)
            volume = read(session)
            self._show_scan(request, session, volume, NO_RUN, truth, sample)
        return self.again(request)

    def _show_scan(
        self,
        request: gr.Request,
        session: Session,
        volume: Volume,
        run: Values,
        truth: str,
        sample: str,
    ) -> None:
        """Show a scan that has just been opened, with what there is of a report on it.

        The page keeps the true report and the sample's id as well, which no component shows.
        """
        values = {
            "viewer": self._viewer(session, volume),
            "notice": "",
            "notes": html.scan_notes(volume),
            "truth": html.folded_truth(truth),
            "reference": truth,
            "sample": sample,
            **run,
        }
        _, page = self._page(request)
        page.write(
            lambda now: {**values, **card(now, scan=volume.sha256, html="", running=False)},
            lambda: session.volume is volume,
            subject=volume,
        )

    def describe(self, llm: str | None, mode: str | None, request: gr.Request) -> Snapshot:
        """Show what was read, and what the grid of the chosen variant's encoder does to it.

        The grid is cached for the report.
        """
        session, page = self._page(request)
        asked = page.now()
        volume = session.volume
        if volume is None:
            return page.snapshot()
        self._rechosen(session, page, variant_id(llm, mode) if llm and mode else "")
        self._comparing.offer(session, page, llm, mode)
        try:
            encoder = choices.encoder_of(self._service.variants(), llm, mode)
            notes = self._service.model_view(session, encoder.id).notes
        except Rad3dError as error:
            notes = (Note("warning", error.code, str(error)),)
        page.write(
            {"notes": html.scan_notes(volume, notes)},
            lambda: page.subject() is volume is session.volume,
            asked,
        )
        return page.snapshot()

    def _rechosen(self, session: Session, page: PageState, chosen: str) -> None:
        """Drop the edits of a report where a variant was picked anew."""
        report, dropped = session.report, session.drop_edits()
        if report is None:
            return

        def values(now: Values) -> Values:
            if now["cancel"]["interactive"] and not dropped and not session.is_comparing:
                return {}  # a report is being written
            last = beside(session, finished(report))(now) if dropped else {}
            return {**last, **NO_WHAT_IF, "what_if": what_if(report, chosen=chosen)}

        page.write(values, lambda: session.report is report)

    def _refused(self, request: gr.Request, text: str) -> None:
        session, page = self._page(request)

        def refused(now: Values) -> Values:
            scan = session.volume
            tail = f" {scan.name} stays open." if scan else ""
            viewer = {**now["viewer"], "serial": next(self._serial)}  # it ends its preview
            return {"viewer": viewer, "notice": html.notice(text + tail)}

        page.write(refused)

    def _viewer(self, session: Session, volume: Volume | None) -> dict[str, Any]:
        """Return the value of the viewer for a scan that was opened, or for none."""
        facts = {"id": "", "name": "", "shape": [0, 0, 0], "spacing_mm": [0, 0, 0]}
        if volume is not None:
            facts = {
                "id": volume.sha256,
                "name": volume.name,
                "shape": list(volume.shape),
                "spacing_mm": list(volume.spacing_mm),
            }
        serial = next(self._serial)
        return {"serial": serial, "scan": serial, "key": session.token, **facts}

    # -- reports ---------------------------------------------------------------------------

    def begin(self, request: gr.Request) -> Snapshot:
        """Arm the stop signal of a new run and say that it waits for its turn."""
        session, page = self._page(request)
        if not self._has_no_scan(session, page):
            armed(session.arm(), session, page, lambda _: NO_WHAT_IF)
        return page.snapshot()

    @staticmethod
    def _has_no_scan(session: Session, page: PageState) -> bool:
        """Say so where there is no scan, and stop what is written."""
        if session.volume is not None:
            return False
        session.stop()
        page.write(lambda now: {"progress": html.notice(_NO_SCAN[bool(now["viewer"]["id"])])})
        return True

    def begin_comparison(self, event: gr.EventData, request: gr.Request) -> Snapshot:
        """Arm a comparison of the variants that were sent."""
        session, page = self._page(request)
        if not self._has_no_scan(session, page):
            self._comparing.begin(event, session, page)
        return page.snapshot()

    def begin_edited(self, event: gr.EventData, request: gr.Request) -> Snapshot:
        """Arm a run from the edited diagnosis that was sent; no edits bring the original back."""
        session, page = self._page(request)
        report = session.report
        if report is None:
            return page.snapshot()
        with failures_to(lambda text: page.write({"progress": html.notice(text)})):
            sent: Any = getattr(event, "edits", None)
            if edits := checked_edits(sent, report.diagnosis.label_set):
                armed(session.arm(edits), session, page, lambda _: {})
            elif session.drop_edits():
                page.write(beside(session, finished(report)), lambda: session.report is report)
        return page.snapshot()

    def revise(self, event: gr.EventData, request: gr.Request) -> Snapshot:
        """Keep what a person has made of the report so far, and show what it says now."""
        session, page = self._page(request)
        with failures_to(lambda text: page.write({"progress": html.notice(text)})):
            revised(self._service, session, page, event)
        return page.snapshot()

    def listen(self, request: gr.Request) -> Snapshot:
        """Show how often reports of the variant followed an edit, where that was measured."""
        session, page = self._page(request)
        report = session.report
        if report is not None:
            found = html.listening(report.variant_id, self._listening(report.variant_id))
            page.write({"listening": found}, lambda: session.report is report)
        return page.snapshot()

    async def generate(
        self, request: gr.Request, llm: str | None, mode: str | None, *sent: Any
    ) -> AsyncIterator[Snapshot]:
        """Stream one report into the page, or a comparison where that was asked for.

        One from an edited diagnosis is written as the report that stands beside it was.

        Args:
            request: the tab's.
            llm: language model of the variant.
            mode: adaptation mode of the variant.
            sent: the options in the order of OPTION_NAMES, then whether a report is wanted that
                would mean nothing.
        """
        session, page = self._page(request)
        yield page.snapshot()  # where a stream ends without a value, Gradio empties its outputs
        stop, volume = session.claim(), session.volume
        if stop is None or volume is None:
            return
        if stop.compared:
            how = options_of(dict(zip(OPTION_NAMES, sent, strict=False)))
            answers = self._comparing.write(request, session, page, stop, volume, how)
            async with contextlib.aclosing(answers):
                async for answer in answers:
                    yield answer
            return
        original = session.report if stop.edits else None

        def show(values: Values) -> bool:
            """Show what belongs to the latest run on the scan that is open; else False."""
            return page.write(
                values,
                lambda: session.is_latest(stop) and page.subject() is volume is session.volume,
            )

        with failures_to(lambda text: show(resting(session, text))):
            try:
                if not llm or not mode:
                    raise BadRequest("Choose a model first.")
                *options, insist = sent
                variant = variant_id(llm, mode)
                how = options_of(dict(zip(OPTION_NAMES, options, strict=True)))
                if original is not None:
                    variant, how, insist = original.variant_id, original.options, True
                events = in_turn(
                    self._service, self._turns, request, session, stop,
                    lambda: self._service.generate(
                        session, variant, how, stop, insist, stop.edits
                    ),
                )  # fmt: skip
                async with contextlib.aclosing(thinned(events)) as events:
                    async for event in events:
                        if not show(shown(event, original)):
                            break
                        yield page.snapshot()
            except Cancelled:
                show(resting(session, "Cancelled.", "info"))
            except Rad3dError as error:
                if error.code not in NOT_REPORTED:
                    raise
                show(resting(session, str(error), insist=True))
            finally:
                stop.set()  # also where the tab was closed: the model stops at its next token
        yield page.snapshot()

    def cancel(self, request: gr.Request) -> Snapshot:
        """Stop the run; what has been written so far stays."""
        session, page = self._page(request)
        unbegun = session.stop()

        def stopped(now: Values) -> Values:
            if now["cancel"]["interactive"] is False:
                return {}  # it has ended meanwhile
            if unbegun:
                return resting(session, "Cancelled.", "info")
            return {"progress": html.progress("Stopping")}

        page.write(stopped)
        return page.snapshot()

    def forget(self, request: gr.Request) -> Snapshot:
        """Delete everything of the session; the tab goes on with an empty one."""
        self.end(request)
        _, page = self._page(request)
        text = "Scan, report and everything computed from them are deleted."
        page.write({"notice": html.notice(text, "info")})
        return page.snapshot()

    def end(self, request: gr.Request) -> None:
        """Stop the report of a tab that was closed and free everything that it holds."""
        self._service.sessions.end_tab(request.session_hash)
