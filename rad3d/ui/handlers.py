"""Event handlers of the report tab: thin, one service call each, errors as one sentence.

The only broad ``except`` of the project is here, at the edge to the person.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.data_classes import ListFiles

from rad3d.errors import NO_ROOM, BadRequest, Cancelled, Rad3dError
from rad3d.registry import ENCODERS, SHIPPED_ENCODER, variant_id
from rad3d.service.crosscheck import cross_check
from rad3d.service.export import report_json, report_text
from rad3d.types import (
    Diagnosis,
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
from rad3d.ui import choices, render, uploads
from rad3d.ui.chart import diagnosis_chart
from rad3d.ui.sessions import Sessions
from rad3d.ui.views import NO_RUN, RunView, ScanView
from rad3d.ui.waiting import in_turn, told
from rad3d.volume.ctrate import MetadataTable, ScanMetadata

if TYPE_CHECKING:
    from rad3d.service.service import Service
    from rad3d.service.turns import Turns

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
    """What a person is told. A defect is logged by its kind and place; its text stays unsaid.

    The text of a foreign error may hold a file's name, a header or a report.
    """
    if isinstance(error, Rad3dError):
        return str(error)
    _LOG.error("A defect reached the page: %s", _kind_and_place(error))
    if isinstance(error, MemoryError):
        return "The server has no memory left for this. Try again in a minute, or a smaller scan."
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return "The server's disk is full. Tell the person who runs it; nothing of yours was lost."
    return (
        f"Something went wrong inside the app ({type(error).__name__}): a fault in the software, "
        "not in your scan. Nothing of your session was lost. If it happens again, tell the person "
        "who runs it."
    )


def _kind_and_place(error: BaseException | None) -> str:
    """``ValueError at decoding.py:41 in step, ...``, innermost cause last."""
    parts = []
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        places = [f"{PurePosixPath(f.filename).name}:{f.lineno} in {f.name}" for f in frames]
        parts.append(f"{type(error).__name__} at {', '.join(places) or 'an unknown place'}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "; from ".join(parts)


class Handlers:
    """The handlers, bound to one service."""

    def __init__(self, service: Service, sessions: Sessions, turns: Turns) -> None:
        self._service = service
        self._sessions = sessions
        self._turns = turns
        self._serial = itertools.count()
        self._truths = {card.id: card.truth_text for card in service.samples()}

    # -- scans -----------------------------------------------------------------------------

    def start(self, request: gr.Request) -> tuple[dict[str, Any], str]:
        """A new tab: an empty viewer that knows its key, and what does not work here."""
        troubles = render.troubles(self._service.troubles)
        return self._viewer(self._sessions.token(request), opened=True), troubles

    def open_upload(self, files: ListFiles | None, request: gr.Request) -> tuple[Any, ...]:
        """Read an uploaded scan; a refused one leaves everything as it was.

        Args:
            files: the scan, and CT-RATE's metadata table where the person gave one. Both are
                deleted when this returns.
            request: of the tab.
        """
        given = files.root if files else []
        if not given:
            return self._refused(self._sessions.token(request), "No file arrived. Choose it again.")
        try:
            with sent_scan([(file.path, file.orig_name) for file in given]) as (path, name, row):
                return self.open(
                    request, lambda token: self._service.open_path(token, path, name, row)
                )
        except Rad3dError as error:
            return self._refused(self._sessions.token(request), str(error))

    def pick_sample(self, event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        """Open the sample whose card was pressed."""
        sample = str(event.id)
        return self.open(
            request,
            lambda token: self._service.open_sample(token, sample),
            self._truths.get(sample, ""),
        )

    def open(
        self, request: gr.Request, read: Callable[[str], Volume], truth: str = ""
    ) -> tuple[Any, ...]:
        """Open what ``read`` gives for the session's token, with the report that is true of it."""
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

    def describe(self, llm: str | None, mode: str | None, request: gr.Request) -> str:
        """What was read, and what the grid of the chosen variant's encoder does to it.

        Also warms the grid for the report.
        """
        token = self._sessions.token(request)
        volume = self._service.volume(token)
        if volume is None:
            return ""
        try:
            encoder = choices.encoder_of(self._service.variants(), llm, mode)
            done = self._service.model_view(token, encoder.id).notes
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
            return RunView(progress=render.notice(text)).outputs()
        self._sessions.arm(token)
        waiting = render.progress("Waiting for a free model")
        return RunView(progress=waiting, notice="", running=True).outputs()

    async def generate(
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
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Stream one report into the page; the options come in the order of OPTION_NAMES."""
        # Nothing new: where a stream ends without a value, Gradio empties all that it writes to.
        yield RunView().outputs()
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
            variant = variant_id(llm, mode)
            events = in_turn(
                self._turns,
                stop,
                lambda: self._service.generate(token, variant, options, stop),
                told,
                lambda: self._sessions.touch(token),
            )
            shown = 0.0
            async with contextlib.aclosing(events):  # type: ignore[type-var]
                async for event in events:
                    if not self._is_open(token, volume):
                        return  # another scan: this report would stand beside the wrong one
                    if isinstance(event, TextEvent):
                        if time.monotonic() - shown < _SECONDS_BETWEEN_UPDATES:
                            continue
                        shown = time.monotonic()
                    yield self._shown(event).outputs()
        except Cancelled:
            if self._is_open(token, volume):
                yield self._resting(token, "Cancelled.", "info").outputs()
        except Exception as error:
            yield self._resting(token, sentence(error)).outputs()
        finally:
            stop.set()  # also where the tab was closed: the model stops at its next token

    def _resting(self, token: str, text: str, level: str = "error") -> RunView:
        """No run, with a sentence why below the button; the last finished report comes back."""
        last = self._service.last_report(token)
        view = self._finished(DoneEvent(last)) if last else NO_RUN
        return replace(view, progress=render.notice(text, level))

    def _is_open(self, token: str, volume: Volume) -> bool:
        now = self._service.volume(token)
        return now is not None and now.sha256 == volume.sha256

    def _shown(self, event: Event) -> RunView:
        if isinstance(event, StageEvent):
            return RunView(progress=render.progress(event.stage, event.fraction))
        if isinstance(event, DiagnosisEvent):
            return RunView(
                report=_panel(render.report_panel("", "waiting for the first word", writing=True)),
                verdicts=render.verdicts(
                    event.novelty, _trained_on(event.diagnosis), notes=event.notes
                ),
                chart=gr.update(value=diagnosis_chart(event.diagnosis), visible=True),
                table=render.diagnosis_table(event.diagnosis),
            )
        if isinstance(event, TextEvent):
            status = f"writing, {event.n_tokens} tokens"
            return RunView(report=_panel(render.report_panel(event.text, status, writing=True)))
        return self._finished(event)

    def _finished(self, event: DoneEvent) -> RunView:
        report = event.report
        check = cross_check(report.text, report.diagnosis)
        html = render.report_panel(report.text, render.report_status(report), check.statements)
        return RunView(
            progress="",
            report=_panel(html, report_text(report), report_json(report), _file_name(report)),
            verdicts=render.verdicts(
                report.novelty, _trained_on(report.diagnosis), check, report.notes
            ),
            chart=gr.update(value=diagnosis_chart(report.diagnosis, check), visible=True),
            table=render.diagnosis_table(report.diagnosis),
            running=False,
        )

    def cancel(self, request: gr.Request) -> tuple[Any, ...]:
        """Stop the run; what has been written so far stays."""
        token = self._sessions.token(request)
        if self._sessions.stop(token):
            return self._resting(token, "Cancelled.", "info").outputs()
        return RunView(progress=render.progress("Stopping")).outputs()

    def forget(self, request: gr.Request) -> tuple[Any, ...]:
        """Delete was pressed: nothing of the session stays; the tab goes on with an empty one."""
        self._sessions.close(request)
        view = ScanView(
            viewer=self._viewer(self._sessions.token(request), opened=True),
            notice=render.notice(
                "Scan, report and everything computed from them are deleted.", "info"
            ),
            notes="",
            truth="",
        )
        return (*view.outputs(), *NO_RUN.outputs())

    def end(self, request: gr.Request) -> None:
        """The tab was closed."""
        self._sessions.close(request)


def _panel(html: str, text: str = "", data: str = "", name: str = "report") -> dict[str, str]:
    return {"html": html, "text": text, "json": data, "name": name}


@contextlib.contextmanager
def sent_scan(
    files: Sequence[tuple[str, str | None]],
) -> Iterator[tuple[Path, str, ScanMetadata | None]]:
    """A scan that was sent, its name, and its row of the table that was sent behind it, if any.

    Args:
        files: path of each upload, and what the person calls it; they are deleted afterwards.

    Raises:
        BadRequest: no such upload, or the scan is not in the table.
    """
    name, *shown = [Path(given or "scan").name for _, given in files]
    with contextlib.ExitStack() as stack:
        path, *tables = [stack.enter_context(uploads.taken(sent)) for sent, _ in files]
        yield path, name, _metadata(tables[0], shown[0], name) if tables else None


def _metadata(path: Path, shown: str, scan: str) -> ScanMetadata:
    """The row of a scan in CT-RATE's table; nothing else of the table is kept."""
    if path.stat().st_size > uploads.MOST_TABLE_MB * 2**20:
        raise BadRequest(
            f"The metadata table is larger than the {uploads.MOST_TABLE_MB} MB allowed here.",
            "Give one with the rows of your scans.",
            code="too_large",
        )
    return MetadataTable(path, shown, only=scan).row(scan)


def _trained_on(diagnosis: Diagnosis) -> str:
    """What the encoder behind a diagnosis learned from."""
    return ENCODERS.get(diagnosis.source, ENCODERS[SHIPPED_ENCODER]).trained_on


def _file_name(report: Report) -> str:
    return f"report-{report.variant_id.replace('/', '-')}"
