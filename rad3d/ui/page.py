"""The page: header, tabs, and the life of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from rad3d.ui.about_tab import about_tab
from rad3d.ui.api import add_endpoints
from rad3d.ui.handlers import Handlers
from rad3d.ui.render import DISCLAIMER
from rad3d.ui.report_tab import report_tab
from rad3d.ui.sessions import Sessions

if TYPE_CHECKING:
    from rad3d.service.service import Service
    from rad3d.settings import Settings

_HEADER = f"""
<header class="r3-header"><div class="r3-brand"><span class="r3-logo" aria-hidden="true"></span>
<div><h1>RAD3D</h1><p>Language models that write reports for 3D chest CTs</p></div></div>
<p class="r3-disclaimer" role="note">{DISCLAIMER}</p>
<button type="button" class="r3-theme" aria-label="Switch between light and dark">◐</button>
</header>
"""
_HEADER_SCRIPT = """
element.querySelector(".r3-theme").addEventListener("click", () =>
  document.body.classList.toggle("dark"));
"""


def build_ui(service: Service, settings: Settings) -> gr.Blocks:
    """The whole app, to be launched with :func:`rad3d.ui.serving.launch_options`."""
    sessions = Sessions(service)
    handlers = Handlers(service, sessions)
    with gr.Blocks(
        title="RAD3D: reports for chest CTs",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(600, 60 * settings.session_minutes),
    ) as demo:
        gr.HTML(_HEADER, js_on_load=_HEADER_SCRIPT, apply_default_css=False, elem_id="header")
        with gr.Tabs():
            with gr.Tab("Report"):
                viewer = report_tab(service, settings, handlers)
            with gr.Tab("About"):
                about_tab(service)
        add_endpoints(service, sessions, settings.default_variant)
        demo.load(handlers.start, None, viewer, show_progress="hidden", api_visibility="private")
        demo.unload(handlers.end)
    demo.queue(max_size=settings.queue_size, default_concurrency_limit=2)
    return demo
