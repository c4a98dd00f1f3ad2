"""Gradio components with a browser side of their own (see ``static/``).

Each is a ``gr.HTML`` whose template never mentions a changing property; its script is an ES module
that this server hands out. They are made by functions: Gradio writes a stub file into the source
tree for every subclass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.data_classes import ListFiles

from rad3d.core.settings import Settings
from rad3d.server import uploads
from rad3d.service.service import MAX_COMPARED
from rad3d.ui.report.windows import WINDOWS

if TYPE_CHECKING:
    from rad3d.service.gallery import SampleCard

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


def module_script(module: str, arguments: str) -> str:
    """Return the script that imports ``static/<module>`` and calls its ``mount``.

    Args:
        module: file name.
        arguments: those of ``mount`` after the element, from ``props, watch, trigger, root``.
    """
    return _START % {"module": module, "arguments": arguments}


def markup(value: str = "", elem_id: str | None = None) -> gr.HTML:
    """Return a component for HTML without Gradio's typography; ``value`` is already escaped."""
    return gr.HTML(value, elem_id=elem_id, apply_default_css=False, js_on_load=None)


def volume_viewer(encoder: Mapping[str, str]) -> gr.HTML:
    """Return the viewer: three linked planes of the scan, or of what an encoder sees of it.

    Value (output only): see ``static/viewer.js``.

    Args:
        encoder: ``id`` and ``name`` of the one whose view is offered; changed by an update of the
            property of this name.
    """
    return gr.HTML(
        html_template='<div class="r3-viewer"></div>',
        js_on_load=module_script("viewer.js", "props, watch, root"),
        presets=[asdict(window) for window in WINDOWS],
        encoder=dict(encoder),
        apply_default_css=False,
        elem_id="viewer",
    )


def scan_source(samples: Sequence[SampleCard], settings: Settings) -> gr.HTML:
    """Return the upload field and the sample gallery.

    Value (input only): the uploaded scan, and behind it CT-RATE's metadata table if there is one.
    Events: ``upload``; ``select`` with the sample's ``id``.
    """
    cards = [
        {"id": card.id, "title": card.title, "description": card.description} for card in samples
    ]
    source = gr.HTML(
        html_template='<div class="r3-source"></div>',
        js_on_load=module_script("source.js", "props, trigger, root"),
        samples=cards,
        max_mb=settings.max_upload_mb,
        table_mb=uploads.MAX_TABLE_MB,
        apply_default_css=False,
        elem_id="source",
    )
    # Without a data model the value is whatever a browser sends, /etc/passwd included; with this
    # one Gradio refuses every path that is not an upload of its own (tests/ui/test_app_client.py).
    source.data_model = ListFiles
    return source


def what_if_panel() -> gr.HTML:
    """Return the diagnosis as sliders, folded.

    Value (output only): :func:`rad3d.ui.report.views.what_if`. Event: ``submit`` with ``edits``,
    label -> probability; none stand for the classifier's diagnosis.
    """
    return gr.HTML(
        html_template='<details class="r3-what-if" hidden></details>',
        js_on_load=module_script("what_if.js", "props, watch, trigger"),
        apply_default_css=False,
        elem_id="what-if",
    )


def compare_card(models: Sequence[Mapping[str, Any]]) -> gr.HTML:
    """Return the card in which models are picked and compared, folded.

    Value (output only): see ``static/compare.js``. Events: ``submit`` with ``variants``, a list of
    ids; ``stop``.

    Args:
        models: :func:`rad3d.ui.report.compare_card.offered`.
    """
    return gr.HTML(
        html_template='<details class="r3-card r3-versus" hidden></details>',
        js_on_load=module_script("compare.js", "props, watch, trigger"),
        models=list(models),
        most=MAX_COMPARED,
        apply_default_css=False,
        elem_id="compare",
    )


def report_sheet(value: dict[str, str]) -> gr.HTML:
    """Return the component for the report; copy and download run in the browser.

    Value (output only): ``{"html", "text", "json", "fhir", "name", "draft"}``; ``html`` is already
    escaped. Event: ``submit`` with ``of``, ``text``, ``seconds`` and whether the person is
    ``done``, see ``static/draft.js``.
    """
    return gr.HTML(
        value=value,
        html_template="${value ? value.html : ''}",
        js_on_load=module_script("report.js", "props, watch, trigger"),
        apply_default_css=False,
        elem_id="report",
    )
