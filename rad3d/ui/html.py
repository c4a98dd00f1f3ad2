"""The HTML of the tabs, from the templates beside this file; every value is escaped."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment

from rad3d.core.templates import macros
from rad3d.evaluation.parts import templates

_TEMPLATES = templates(Path(__file__).parent / "templates")

report_html = macros(_TEMPLATES, "report.jinja")
evaluation_html = macros(_TEMPLATES, "evaluation.jinja")
comparison_html = macros(_TEMPLATES, "comparison.jinja")


def page_templates() -> Environment:
    """Return the templates, for a page that is rendered as a whole."""
    return _TEMPLATES
