"""Event handlers of the report tab: thin, one service call each, errors as one sentence.

The only broad ``except`` of the project is here, at the edge to the person.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.data_classes import FileData

from rad3d.errors import Cancelled, Rad3dError
from rad3d.registry import ENCODERS, SHIPPED_ENCODER, variant_id
from rad3d.service.crosscheck import cross_check
from rad3d.service.export import report_json, report_text
from rad3d.types import (
    DiagnosisEvent,
    DoneEvent,
    Event,
    GenerationOptions,
    Note,
    Report,
    StageEvent,
    Strategy,
    TextEvent,
    Volume,
)
from rad3d.ui import render
from rad3d.ui.chart import diagnosis_chart
from rad3d.ui.sessions import Sessions
from rad3d.ui.views import NO_RUN, RunView, ScanView

if TYPE_CHECKING:
    from rad3d.service.service import Service

_LOG = logging.getLogger(__name__)
OPTION_NAMES = (
    "strategy",
    "temperature",
    "top_p",
    "seed",
    "beams",
    "max_new_tokens",
    "repetition_penalty",
    "no_repeat_ngram",
)
"""Fields of :class:`GenerationOptions` in the order in which the page sends them."""

_SECONDS_BETWEEN_UPDATES = 0.08


def sentence(error: Exception) -> str:
    """What a person is told. A defect is logged; its text is not shown."""
    if isinstance(error, Rad3dError):
        return str(error)
    _LOG.exception("A defect reached the page")
    return (
        f"Something went wrong inside the app ({type(error).__name__}). "
        "Nothing of your session was lost; try again."
    )


class Handlers:
    """The handlers, bound to one service."""

    def __init__(self, service: Service, sessions: Sessions) -> None:
        self._service = service
        self._sessions = sessions
        self._serial = itertools.count()
        self._truths = {card.id: card.truth_text for card in service.samples()}
        self._trained_on = ENCODERS[SHIPPED_ENCODER].trained_on

    # -- scans -----------------------------------------------------------------------------

    def start(self, request: gr.Request) -> dict[str, Any]:
        """A new tab: an empty viewer that knows its key."""
        return self._viewer(self._sessions.token(request), opened=True)

    def open_upload(self, file: FileData | None, request: gr.Request) -> tuple[Any, ...]:
        """Read an uploaded file; a refused one leaves everything as it was."""
        if file is None:
            return self._refused(self._sessions.token(request), "No file arrived. Choose it again.")
        path, name = Path(file.path), Path(file.orig_name or file.path).name
        return self._open(request, lambda token: self._service.open_path(token, path, name))

    def pick_sample(self, event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        """Open the sample whose card was pressed."""
        sample = str(event.id)
        return self._open(
            request,
            lambda token: self._service.open_sample(token, sample),
            self._truths.get(sample, ""),
        )

    def _open(
        self, request: gr.Request, read: Callable[[str], Volume], truth: str = ""
    ) -> tuple[Any, ...]:
        try:
            token, volume = self._sessions.open(request, read)
        except Exception as error:
            return self._refused(self._sessions.token(request), sentence(error))
        view = ScanView(
            viewer=self._viewer(token, opened=True),
            notice="",
            notes=render.scan_notes(volume),
            truth=render.folded_truth(truth),
        )
        return (*view.outputs(), *NO_RUN.outputs())

    def describe(self, request: gr.Request) -> str:
        """What was read, and what the model grid does to it; also warms the grid for the report."""
        token = self._sessions.token(request)
        volume = self._service.volume(token)
        if volume is None:
            return ""
        try:
            done = self._service.model_view(token).notes
        except Rad3dError as error:
            done = (Note("warning", error.code, str(error)),)
        return render.scan_notes(volume, done)

    def _refused(self, token: str, text: str) -> tuple[Any, ...]:
        kept = self._service.volume(token)
        tail = f" {kept.name} stays open." if kept else ""
        view = ScanView(self._viewer(token, opened=False), render.notice(text + tail))
        return (*view.outputs(), *RunView().outputs())

    def _viewer(self, token: str, opened: bool) -> dict[str, Any]:
        """Value of the viewer component."""
        volume = self._service.volume(token)
        facts = {"id": "", "name": "", "shape": [0, 0, 0], "spacing_mm": [0, 0, 0]}
        if volume is not None:
            facts = {
                "id": volume.sha256,
                "name": volume.name,
                "shape": list(volume.shape),
                "spacing_mm": list(volume.spacing_mm),
            }
        return {"serial": next(self._serial), "key": token, "opened": opened, **facts}

    # -- reports ---------------------------------------------------------------------------

    def begin(self, request: gr.Request) -> tuple[Any, ...]:
        """Generate was pressed: arm the stop signal and say that the run waits for its turn."""
        token = self._sessions.token(request)
        if self._service.volume(token) is None:
            self._sessions.stop(token)
            text = "There is no scan yet. Upload one or choose a sample first."
            return RunView(notice=render.notice(text)).outputs()
        self._sessions.arm(token)
        waiting = render.progress("Waiting for a free model")
        return RunView(progress=waiting, notice="", running=True).outputs()

    def generate(
        self,
        llm: str | None,
        mode: str | None,
        strategy: Strategy,
        temperature: float,
        top_p: float,
        seed: int,
        beams: int,
        max_new_tokens: int,
        repetition_penalty: float,
        no_repeat_ngram: int,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """Stream one report into the page; the options come in the order of OPTION_NAMES."""
        token = self._sessions.token(request)
        stop = self._sessions.claim(token)
        volume = self._service.volume(token)
        if stop is None or volume is None:
            return
        try:
            if not llm or not mode:
                yield self._resting(token, "Choose a model first.").outputs()
                return
            options = GenerationOptions(
                strategy=strategy,
                temperature=temperature,
                top_p=top_p,
                seed=int(seed or 0),
                beams=int(beams),
                max_new_tokens=int(max_new_tokens),
                repetition_penalty=repetition_penalty,
                no_repeat_ngram=int(no_repeat_ngram),
            )
            events = self._service.generate(token, variant_id(llm, mode), options, stop)
            yield from self._follow(events, token, volume, stop)
        except Cancelled:
            if self._is_open(token, volume):
                yield self._resting(token, "Cancelled.", "info").outputs()
        except Exception as error:
            yield self._resting(token, sentence(error)).outputs()
        finally:
            stop.set()  # also where the tab was closed: the model stops at its next token

    def _follow(
        self, events: Iterator[Event], token: str, volume: Volume, stop: threading.Event
    ) -> Iterator[tuple[Any, ...]]:
        shown = 0.0
        for event in events:
            if not self._is_open(token, volume):
                stop.set()  # another scan is open: this report would stand beside the wrong one
                return
            if isinstance(event, TextEvent):
                if time.monotonic() - shown < _SECONDS_BETWEEN_UPDATES:
                    continue
                shown = time.monotonic()
            yield self._shown(event).outputs()

    def _resting(self, token: str, text: str, level: str = "error") -> RunView:
        """No run, with a sentence why; the last finished report comes back."""
        last = self._service.last_report(token)
        view = self._finished(DoneEvent(last)) if last else NO_RUN
        return replace(view, notice=render.notice(text, level))

    def _is_open(self, token: str, volume: Volume) -> bool:
        now = self._service.volume(token)
        return now is not None and now.sha256 == volume.sha256

    def _shown(self, event: Event) -> RunView:
        if isinstance(event, StageEvent):
            return RunView(progress=render.progress(event.stage, event.fraction))
        if isinstance(event, DiagnosisEvent):
            return RunView(
                report=_panel(render.report_panel("", "waiting for the first word", writing=True)),
                verdicts=render.verdicts(event.novelty, self._trained_on, notes=event.notes),
                chart=gr.update(value=diagnosis_chart(event.diagnosis), visible=True),
                table=render.diagnosis_table(event.diagnosis),
            )
        if isinstance(event, TextEvent):
            status = f"writing, {event.n_tokens} tokens"
            return RunView(report=_panel(render.report_panel(event.text, status, writing=True)))
        return self._finished(event)

    def _finished(self, event: DoneEvent) -> RunView:
        report = event.report
        found = cross_check(report.text, report.diagnosis)
        html = render.report_panel(report.text, render.report_status(report), found)
        return RunView(
            progress="",
            report=_panel(html, report_text(report), report_json(report), _file_name(report)),
            verdicts=render.verdicts(
                report.novelty, self._trained_on, found, report.notes, checked=True
            ),
            chart=gr.update(
                value=diagnosis_chart(report.diagnosis, {item.label for item in found}),
                visible=True,
            ),
            table=render.diagnosis_table(report.diagnosis),
            running=False,
        )

    def cancel(self, request: gr.Request) -> tuple[Any, ...]:
        """Stop the run; what has been written so far stays."""
        token = self._sessions.token(request)
        if self._sessions.stop(token):
            return self._resting(token, "Cancelled.", "info").outputs()
        return RunView(progress=render.progress("Stopping")).outputs()

    def end(self, request: gr.Request) -> None:
        """The tab was closed."""
        self._sessions.close(request)


def _panel(html: str, text: str = "", data: str = "", name: str = "report") -> dict[str, str]:
    return {"html": html, "text": text, "json": data, "name": name}


def _file_name(report: Report) -> str:
    return f"report-{report.variant_id.replace('/', '-')}"
