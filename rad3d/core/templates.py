"""Texts from Jinja templates. Every value is escaped, and one that is missing is an error."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def environment(*folders: Path, escape: Callable[[str], str] | None = None) -> Environment:
    """Return the templates of some folders; of two with the same name the first is taken.

    Besides Jinja's own, there is the filter ``lines``, which splits a text and drops empty lines.

    Args:
        folders: where the templates lie.
        escape: how values are escaped, except those marked as ``safe``; for HTML by default.
    """

    def escaped(value: object) -> object:
        return value if escape is None or hasattr(value, "__html__") else escape(str(value))

    made = Environment(
        loader=FileSystemLoader(folders),
        autoescape=escape is None,
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters["lines"] = lambda text: re.split(r"\n+", text)
    return made


def macros(templates: Environment, file: str) -> Callable[..., str]:
    """The macros of a template, to be called by name: ``html("notice", text="…")``.

    What comes back is a plain string of HTML: template code that prints it needs ``| safe``.
    """

    def html(name: str, **values: object) -> str:
        macro = getattr(templates.get_template(file).module, name)
        return str(macro(**values)).strip()

    return html
