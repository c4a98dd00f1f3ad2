"""The same work for programs: named endpoints for ``gradio_client``, one session per client.

``/open_scan``, ``/open_sample``, ``/variants``, ``/write_report`` (streams) and ``/stop_report``.
A refused file or option raises the sentence that the page would show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from rad3d.service.export import report_dict
from rad3d.types import (
    DiagnosisEvent,
    Event,
    GenerationOptions,
    StageEvent,
    TextEvent,
    Volume,
)
from rad3d.ui.handlers import sentence
from rad3d.ui.sessions import Sessions

if TYPE_CHECKING:
    from rad3d.service.service import Service


class Api:
    """Handlers of the endpoints, bound to one service."""

    def __init__(self, service: Service, sessions: Sessions) -> None:
        self._service = service
        self._sessions = sessions

    def open_scan(self, file: str, request: gr.Request) -> dict[str, Any]:
        """Open a NIfTI file or a zipped DICOM series; the earlier scan stays if it is refused."""
        path = Path(file)
        return self._open(request, lambda key: self._service.open_path(key, path, path.name))

    def open_sample(self, sample: str, request: gr.Request) -> dict[str, Any]:
        """Open a sample of the gallery."""
        return self._open(request, lambda key: self._service.open_sample(key, sample))

    def variants(self) -> list[dict[str, Any]]:
        """Every language model and mode: ready, or what it needs."""
        return [
            {"id": s.id, "ready": s.ready, "reason": s.reason, "command": s.command}
            for s in self._service.variants()
        ]

    def write_report(
        self, variant: str, options: dict[str, Any] | None, request: gr.Request
    ) -> Iterator[dict[str, Any]]:
        """Stream ``{"event": "stage" | "diagnosis" | "text" | "done", ...}``.

        Args:
            variant: such as ``phantom-l/v3``.
            options: fields of ``rad3d.types.GenerationOptions``.
        """
        token = self._sessions.token(request)
        stop = self._sessions.arm(token)
        try:
            settings = GenerationOptions(**(options or {}))
            for event in self._service.generate(token, variant, settings, stop):
                yield _plain(event)
        except Exception as error:
            raise gr.Error(sentence(error), print_exception=False) from error
        finally:
            stop.set()

    def stop_report(self, request: gr.Request) -> str:
        """Stop the running report."""
        self._sessions.stop(self._sessions.token(request))
        return "stopped"

    def _open(self, request: gr.Request, read: Callable[[str], Volume]) -> dict[str, Any]:
        try:
            _, volume = self._sessions.open(request, read)
        except Exception as error:
            raise gr.Error(sentence(error), print_exception=False) from error
        return {
            "name": volume.name,
            "sha256": volume.sha256,
            "shape": list(volume.shape),
            "spacing_mm": list(volume.spacing_mm),
            "notes": [asdict(note) for note in volume.notes],
        }


def add_endpoints(service: Service, sessions: Sessions, default_variant: str) -> None:
    """Register the endpoints; their components are never rendered."""
    api = Api(service, sessions)
    with gr.Row(visible=False):
        trigger = gr.Button()
        file = gr.File(label="file", type="filepath")
        sample = gr.Textbox(label="sample")
        variant = gr.Textbox(default_variant, label="variant")
        options = gr.JSON({}, label="options")
        answer = gr.JSON(label="answer")
    trigger.click(api.open_scan, file, answer, api_name="open_scan", concurrency_id="reading")
    trigger.click(api.open_sample, sample, answer, api_name="open_sample", concurrency_id="reading")
    trigger.click(api.variants, None, answer, api_name="variants")
    trigger.click(
        api.write_report,
        [variant, options],
        answer,
        api_name="write_report",
        concurrency_id="model",
    )
    trigger.click(api.stop_report, None, answer, api_name="stop_report", queue=False)


def _plain(event: Event) -> dict[str, Any]:
    if isinstance(event, StageEvent):
        return {"event": "stage", "stage": event.stage, "fraction": event.fraction}
    if isinstance(event, DiagnosisEvent):
        return {"event": "diagnosis", "diagnosis": event.diagnosis.to_rows()}
    if isinstance(event, TextEvent):
        return {"event": "text", "text": event.text, "n_tokens": event.n_tokens}
    return {"event": "done", **report_dict(event.report)}
