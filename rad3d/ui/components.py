"""Gradio components with a browser side of their own (see ``static/``).

Each is a ``gr.HTML`` whose template never mentions a changing property; its script is an ES module
that this server hands out. ``**block`` takes what Gradio passes when it copies a component.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from rad3d.settings import Settings
from rad3d.ui.windows import WINDOWS

_START = """
(async () => {
  const base = window.gradio_config?.root || document.baseURI;
  const root = new URL(base.endsWith("/") ? base : base + "/", document.baseURI);
  try {
    const module = await import(new URL("rad3d/static/%(module)s", root).href);
    module.mount(element, %(arguments)s);
  } catch (error) {
    element.textContent = "This part of the page could not start. Reload the page. " + error;
  }
})();
"""


def markup(value: str = "", elem_id: str | None = None) -> gr.HTML:
    """Own HTML without Gradio's typography; ``value`` is already escaped."""
    return gr.HTML(value, elem_id=elem_id, apply_default_css=False, js_on_load=None)


class VolumeViewer(gr.HTML):
    """Three synced planes of the session's volume.

    Value (output only): the dict of :func:`rad3d.ui.handlers.viewer_state`.
    """

    def __init__(self, **block: Any) -> None:
        super().__init__(
            html_template='<div class="r3-viewer"></div>',
            js_on_load=_START % {"module": "viewer.js", "arguments": "props, watch, root"},
            presets=[asdict(window) for window in WINDOWS],
            apply_default_css=False,
            elem_id="viewer",
            **block,
        )


class ScanSource(gr.HTML):
    """Upload and sample gallery.

    Value (input only): the uploaded file. As the data model is ``FileData``, Gradio refuses any
    path that is not an upload. Events: ``upload``; ``select`` with the sample's ``id``.
    """

    data_model = FileData

    def __init__(self, samples: Sequence[Any], settings: Settings, **block: Any) -> None:
        cards = [
            {"id": card.id, "title": card.title, "description": card.description}
            for card in samples
        ]
        super().__init__(
            html_template='<div class="r3-source"></div>',
            js_on_load=_START % {"module": "source.js", "arguments": "props, trigger, root"},
            samples=cards,
            max_mb=settings.max_upload_mb,
            apply_default_css=False,
            elem_id="source",
            **block,
        )

    def preprocess(self, payload: FileData | None) -> FileData | None:  # type: ignore[override]
        """The uploaded file: ``path`` on this machine and ``orig_name``."""
        return payload

    def api_info(self) -> dict[str, Any]:
        """A file, for API clients."""
        return FileData.model_json_schema()


class ReportPanel(gr.HTML):
    """The report as it is written; copy and download run in the browser.

    Value (output only): ``{"html", "text", "json", "name"}``; ``html`` is already escaped.
    """

    def __init__(self, value: dict[str, str] | None = None, **block: Any) -> None:
        super().__init__(
            value=value,
            html_template="${value ? value.html : ''}",
            js_on_load=_START % {"module": "report.js", "arguments": "props"},
            apply_default_css=False,
            elem_id="report",
            **block,
        )
