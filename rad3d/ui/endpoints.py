"""Named endpoints for programs that use ``gradio_client``, one session for each client.

``/open_scan`` (a scan, or a list of it and CT-RATE's metadata table), ``/open_sample``,
``/variants``, ``/write_report`` and ``/compare`` (both stream), ``/where`` (the evidence for a
finding of the last report), ``/stop_report`` and ``/delete_session``.
A refused file or option raises the sentence that the page would show; a report on what is no chest
is written where the options say ``"insist": true``, and one from an edited diagnosis where they say
``"edited": {"Pleural effusion": 0.9}``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import asdict, fields
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import gradio as gr
from gradio.data_classes import FileData, GradioRootModel

from rad3d.core.edits import Edits
from rad3d.core.errors import BadRequest
from rad3d.core.types import (
    DiagnosisEvent,
    Event,
    FailedEvent,
    GenerationOptions,
    StageEvent,
    TextEvent,
    VariantEvent,
    Volume,
)
from rad3d.reports.export import report_dict
from rad3d.service.service import checked_comparison
from rad3d.ui.messages import failures_to
from rad3d.ui.queued import Told, in_turn
from rad3d.ui.report.sent import sent_scan
from rad3d.ui.visitor import session_of

if TYPE_CHECKING:
    from rad3d.server.queue import ReportQueue
    from rad3d.service.service import Service
    from rad3d.service.sessions import Stop


class Sent(GradioRootModel):
    """The input of ``/open_scan``: a scan, or a list of a scan and a table."""

    root: FileData | list[FileData]


class Api:
    """Handlers of the endpoints, bound to one service."""

    def __init__(self, service: Service, turns: ReportQueue) -> None:
        self._service, self._turns = service, turns

    def open_scan(self, file: object, request: gr.Request) -> dict[str, Any]:
        """Open a NIfTI file or a zipped DICOM series; the earlier scan stays if it is refused.

        Args:
            file: the scan, or a list of the scan and CT-RATE's metadata table with a row for it.
            request: the client's.
        """
        with failures_to(_refuse), sent_scan(_sent(file)) as scan:
            return _facts(self._service.open_path(session_of(self._service, request), *scan))

    def open_sample(self, sample: str, request: gr.Request) -> dict[str, Any]:
        """Open a sample of the gallery."""
        with failures_to(_refuse):
            return _facts(self._service.open_sample(session_of(self._service, request), sample))

    def variants(self) -> list[dict[str, Any]]:
        """List every language model and mode: ready, or what it needs."""
        return [
            {"id": s.id, "ready": s.ready, "reason": s.reason, "command": s.command}
            for s in self._service.variants()
        ]

    async def write_report(
        self, variant: str, options: dict[str, Any] | None, request: gr.Request
    ) -> AsyncIterator[dict[str, Any]]:
        """Stream ``{"event": "stage" | "diagnosis" | "text" | "done", ...}``.

        Args:
            variant: such as ``phantom-l/v3``.
            options: fields of ``rad3d.core.types.GenerationOptions``; ``insist``: true writes a
                report even where the scan is none of a chest; ``edited``: label -> probability in
                place of the classifier's.
            request: the client's.
        """
        session = session_of(self._service, request)
        write = partial(self._service.generate, session, variant)
        async with aclosing(self._streamed(request, session.arm(), options, write)) as events:
            async for event in events:
                yield _plain(event)

    async def compare(
        self, variants: list[str], options: dict[str, Any] | None, request: gr.Request
    ) -> AsyncIterator[dict[str, Any]]:
        """Stream the events of several reports on the scan, each with its ``"variant"``.

        Those of :meth:`write_report`, and ``{"event": "failed", "reason": ...}``.

        Args:
            variants: two to four.
            options: as for :meth:`write_report`.
            request: the client's.
        """
        session = session_of(self._service, request)
        with failures_to(_refuse):
            names = checked_comparison(variants)
        write = partial(self._service.compare, session, names)
        stop = session.arm(compared=names)
        async with aclosing(self._streamed(request, stop, options, write)) as events:
            async for event in events:
                yield _plain(event)

    async def _streamed(
        self,
        request: gr.Request,
        stop: Stop,
        options: dict[str, Any] | None,
        write: Callable[..., Iterator[Told]],
    ) -> AsyncGenerator[Told | StageEvent, None]:
        """Yield the events of what is written with these options, in its turn."""
        session = session_of(self._service, request)
        try:
            with failures_to(_refuse):
                settings, insist, edited = _options(options)
                events = in_turn(
                    self._service, self._turns, request, session, stop,
                    lambda: write(settings, stop, insist, edited),
                )  # fmt: skip
                async with aclosing(events):
                    async for event in events:
                        yield event
        finally:
            stop.set()

    def stop_report(self, request: gr.Request) -> dict[str, bool]:
        """Stop the running report."""
        session_of(self._service, request).stop()
        return {"stopped": True}

    def where(self, finding: str, request: gr.Request) -> dict[str, Any]:
        """Find where the classifier found its evidence for a finding of the last report.

        Returns:
            Fields of :meth:`rad3d.core.evidence.Evidence.to_dict`.
        """
        with failures_to(_refuse):
            session = session_of(self._service, request)
            return dict(self._service.where(session, finding).to_dict())

    def delete_session(self, request: gr.Request) -> dict[str, bool]:
        """Delete scan, report and everything computed from them; another scan may be opened."""
        self._service.sessions.end_tab(request.session_hash)
        return {"deleted": True}


def add_endpoints(service: Service, turns: ReportQueue, default_variant: str) -> None:
    """Register the endpoints; their components are never rendered."""
    api = Api(service, turns)
    with gr.Row(visible=False):
        trigger = gr.Button()
        file = gr.File(label="file", type="filepath")
        file.data_model = Sent
        sample = gr.Textbox(label="sample")
        variant = gr.Textbox(default_variant, label="variant")
        variants = gr.JSON([], label="variants")
        options = gr.JSON({}, label="options")
        finding = gr.Textbox(label="finding")
        answer = gr.JSON(label="answer")
    reading: dict[str, Any] = {"concurrency_id": "reading"}
    # Not preprocessed: the component would throw away the file's name.
    trigger.click(api.open_scan, file, answer, api_name="open_scan", preprocess=False, **reading)
    trigger.click(api.open_sample, sample, answer, api_name="open_sample", **reading)
    trigger.click(api.variants, None, answer, api_name="variants")
    for name, handler, asked in (
        ("write_report", api.write_report, variant),
        ("compare", api.compare, variants),
    ):
        trigger.click(
            handler,
            [asked, options],
            answer,
            api_name=name,
            concurrency_id="report",
            concurrency_limit=None,  # ReportQueue has the limit
        )
    trigger.click(api.where, finding, answer, api_name="where", **reading)
    trigger.click(api.stop_report, None, answer, api_name="stop_report", queue=False)
    trigger.click(api.delete_session, None, answer, api_name="delete_session", queue=False)


def _facts(volume: Volume) -> dict[str, Any]:
    """Return the facts of an opened scan for a program."""
    return {
        "name": volume.name,
        "sha256": volume.sha256,
        "shape": list(volume.shape),
        "spacing_mm": list(volume.spacing_mm),
        "notes": [asdict(note) for note in volume.notes],
    }


def _sent(file: object) -> list[tuple[str, str]]:
    """Return the path and name of each file of a call: a scan, or a scan and a table."""
    values = [value for value in (file if isinstance(file, list) else [file]) if value]
    files = [value for value in values if isinstance(value, dict)]
    if not 1 <= len(files) <= 2 or len(files) < len(values):
        raise BadRequest("Send a scan, or a list of a scan and a metadata table.", code="no_upload")
    return [(str(value.get("path")), str(value.get("orig_name") or "scan")) for value in files]


def _options(options: object) -> tuple[GenerationOptions, bool, Edits]:
    """Return the options of a call, whether it insists, and its edits; raises BadRequest."""
    names = {"edited", "insist", *(field.name for field in fields(GenerationOptions))}
    if not isinstance(options, dict | None) or set(options or {}) - names:
        raise BadRequest(f"The options must be an object with: {', '.join(sorted(names))}.")
    values = dict(options or {})
    insist, edited = values.pop("insist", False), values.pop("edited", {})
    if not isinstance(insist, bool):
        raise BadRequest("The option insist must be true or false.")
    try:
        return GenerationOptions(**values), insist, edited
    except TypeError:
        raise BadRequest("An option has a value of the wrong kind.") from None


def _refuse(text: str) -> NoReturn:
    raise gr.Error(text, print_exception=False)


def _plain(event: Event | FailedEvent | VariantEvent) -> dict[str, Any]:
    if isinstance(event, VariantEvent):
        return {"variant": event.variant_id, **_plain(event.event)}
    if isinstance(event, FailedEvent):
        return {"event": "failed", "reason": event.reason}
    if isinstance(event, StageEvent):
        return {"event": "stage", "stage": event.stage, "fraction": event.fraction}
    if isinstance(event, DiagnosisEvent):
        return {"event": "diagnosis", "diagnosis": event.diagnosis.to_rows()}
    if isinstance(event, TextEvent):
        return {"event": "text", "text": event.text, "n_tokens": event.n_tokens}
    return {"event": "done", **report_dict(event.report)}
