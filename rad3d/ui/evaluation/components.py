"""Components of the evaluation tab that have a browser side of their own (see ``static/``)."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from rad3d.evaluation.figures.style import NARROW_PX
from rad3d.ui.components import module_script


def figure_view(elem_id: str) -> gr.HTML:
    """Return a component that draws a plotly figure.

    Value (output only): a dict of :func:`rad3d.ui.evaluation.figures.figure_value`, or None to hide
    it. Event: ``select`` with ``system``, ``set`` and ``label`` of the pressed point.
    """
    return gr.HTML(
        html_template='<figure class="r3-figure" hidden></figure>',
        js_on_load=module_script("figure.js", "props, watch, trigger, root"),
        narrow_px=NARROW_PX,
        apply_default_css=False,
        elem_id=elem_id,
    )


def leaderboard_view() -> gr.HTML:
    """Return the sortable table. Event: ``select`` with the ``system`` that was pressed."""
    return gr.HTML(
        html_template="${value || ''}",
        js_on_load=module_script("leaderboard.js", "trigger"),
        apply_default_css=False,
        elem_id="leaderboard",
    )


def case_list_view() -> gr.HTML:
    """Return the list of cases. Event: ``select`` with the ``case`` that was chosen."""
    return gr.HTML(
        html_template="${value || ''}",
        js_on_load=module_script("cases.js", "watch, trigger"),
        apply_default_css=False,
        elem_id="case-list",
    )


def downloads_view(kinds: Sequence[tuple[str, str, str]]) -> gr.HTML:
    """Return the download buttons; no file ever lies on the server's disk.

    Value (output only): ``{"name", "type", "data", "serial"}``, data in base64. Event: ``select``
    with the ``kind``.

    Args:
        kinds: (kind, name, hint) of each button.
    """
    return gr.HTML(
        html_template='<div class="r3-downloads r3-actions"></div>',
        js_on_load=module_script("downloads.js", "props, watch, trigger"),
        kinds=[{"kind": k, "name": n, "hint": h} for k, n, h in kinds],
        apply_default_css=False,
        elem_id="downloads",
    )
