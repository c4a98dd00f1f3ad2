"""The look: Gradio's base theme with local fonts and one stylesheet."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, fonts, sizes

_WEIGHTS = (400, 700)
"""Gradio's semi-bold files are subsets with few glyphs; regular and bold are whole."""

STATIC = Path(__file__).parent / "static"


_COLOURS = {
    "body_background_fill": "var(--r3-page)",
    "block_background_fill": "transparent",
    "block_label_background_fill": "transparent",
    "block_info_text_color": "var(--r3-muted)",
    "block_title_text_color": "var(--r3-muted)",
    "body_text_color_subdued": "var(--r3-muted)",
    "button_primary_background_fill": "var(--r3-accent)",
    "button_primary_background_fill_hover": "var(--r3-accent-strong)",
    "button_primary_border_color": "var(--r3-accent)",
    "button_primary_text_color": "var(--r3-on-accent)",
    "button_secondary_background_fill": "var(--r3-sunken)",
    "button_secondary_background_fill_hover": "var(--r3-line)",
    "button_secondary_border_color": "var(--r3-line)",
    "button_secondary_text_color": "var(--r3-ink)",
    "checkbox_background_color_selected": "var(--r3-accent)",
    "checkbox_border_color": "var(--r3-muted)",
    "checkbox_label_background_fill": "var(--r3-sunken)",
    "checkbox_label_background_fill_hover": "var(--r3-line)",
    "input_background_fill": "var(--r3-surface)",
}
"""The same in the light and in the dark theme: the variables of style.css differ."""


def theme() -> gr.themes.Base:
    """Return a quiet theme whose fonts come from this server; nothing is fetched elsewhere."""
    return gr.themes.Base(
        primary_hue=colors.teal,
        secondary_hue=colors.slate,
        neutral_hue=colors.slate,
        radius_size=sizes.radius_md,
        spacing_size=sizes.spacing_md,
        text_size=sizes.text_md,
        font=(
            fonts.LocalFont("IBM Plex Sans", weights=_WEIGHTS),
            "ui-sans-serif",
            "system-ui",
            "sans-serif",
        ),
        font_mono=(
            fonts.LocalFont("IBM Plex Mono", weights=_WEIGHTS),
            "ui-monospace",
            "monospace",
        ),
    ).set(
        **_COLOURS,
        **{f"{name}_dark": colour for name, colour in _COLOURS.items()},
        block_border_width="0px",
        block_shadow="none",
        block_padding="0px",
        button_border_width="1px",
        color_accent="var(--r3-accent)",
    )


def page_head() -> str:
    """Return the extra tags of the page's head.

    The stylesheet is linked, not given to Gradio, which rewrites selectors and loses media queries.
    """
    return (
        '<link rel="stylesheet" href="rad3d/static/style.css">'
        '<meta name="color-scheme" content="light dark"><meta name="robots" content="noindex">'
    )


def favicon() -> Path:
    """Return the path of the browser tab's icon."""
    return STATIC / "icon.svg"
