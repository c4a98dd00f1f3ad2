"""Event handlers of the comparison: several models write on the scan that is open."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import gradio as gr

from rad3d.core.errors import Cancelled
from rad3d.core.types import GenerationOptions, Volume
from rad3d.service.service import checked_comparison
from rad3d.ui.messages import failures_to
from rad3d.ui.page_state import PageState, Snapshot, Values
from rad3d.ui.queued import in_turn
from rad3d.ui.report import html
from rad3d.ui.report.compare_card import begun, card, first_picks
from rad3d.ui.report.views import armed, buttons, edits_of, last_finished

if TYPE_CHECKING:
    from rad3d.server.queue import ReportQueue
    from rad3d.service.service import Service
    from rad3d.service.sessions import Session, Stop

_SECONDS_BETWEEN_UPDATES = 0.12


class Comparing:
    """Arms and writes comparisons.

    Args:
        service: scans and reports.
        turns: the queue of the reports.
    """

    def __init__(self, service: Service, turns: ReportQueue) -> None:
        self._service, self._turns = service, turns

    def offer(self, session: Session, page: PageState, llm: str | None, mode: str | None) -> None:
        """Show the card for the scan that is open, with what is picked at first."""
        volume = session.volume
        if volume is None:
            return

        def values(now: Values) -> Values:
            picked = now.get("linked") or first_picks(self._service.variants(), llm, mode)
            return card(now, scan=volume.sha256, picked=list(picked), sample=now.get("sample", ""))

        page.write(values, lambda: page.subject() is volume is session.volume)

    def begin(self, event: gr.EventData, session: Session, page: PageState) -> None:
        """Arm a comparison of the variants that were sent, or say why they cannot be compared.

        It is written from the edits of the report that is shown.
        """
        tell = html.notice
        with failures_to(lambda text: page.write(lambda now: card(now, html=tell(text)))):
            variants = checked_comparison(getattr(event, "variants", None))
            edits = edits_of(session.edited) if session.edited else {}
            stop = session.arm(edits, variants)
            armed(
                stop,
                session,
                page,
                # A report that was being written has been stopped, and will not say so.
                lambda now: last_finished(session) if now["cancel"]["interactive"] else {},
                f"Comparing {len(variants)} models: see below",
            )

    async def write(
        self,
        request: gr.Request,
        session: Session,
        page: PageState,
        stop: Stop,
        volume: Volume,
        options: GenerationOptions,
    ) -> AsyncGenerator[Snapshot, None]:
        """Stream the reports into the card.

        Another report may be asked for meanwhile, which stops them; what was written stays.
        """
        reference = str(page.snapshot()["values"].get("reference", ""))
        comparison = begun(stop.compared, reference, self._service.variants())
        insist = session.report is not None  # whoever has a report on this scan has insisted on it

        def show() -> bool:
            running = not comparison.ended
            text = comparison.html()
            return page.write(
                lambda now: card(now, html=text, running=running),
                lambda: session.comparison is stop and page.subject() is volume is session.volume,
            )

        with failures_to(comparison.end):
            try:
                show()
                yield page.snapshot()
                events = in_turn(
                    self._service, self._turns, request, session, stop,
                    lambda: self._service.compare(
                        session, stop.compared, options, stop, insist, stop.edits
                    ),
                )  # fmt: skip
                latest = 0.0
                async with contextlib.aclosing(events):
                    async for event in events:
                        at_once = comparison.take(event)
                        if at_once or time.monotonic() - latest > _SECONDS_BETWEEN_UPDATES:
                            latest = time.monotonic()
                            if not show():
                                break
                            yield page.snapshot()
            except Cancelled:
                comparison.end("Cancelled.", "info")
            finally:
                stop.set()
        comparison.end()
        show()
        page.write({"progress": "", **buttons(running=False)}, lambda: session.is_latest(stop))
        yield page.snapshot()
