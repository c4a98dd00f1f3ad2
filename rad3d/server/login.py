"""Who may come in, and below which path: the settings ``RAD3D_LOGIN`` and ``RAD3D_ROOT_PATH``."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.types import Scope

from rad3d.core.errors import BadRequest

OPEN = re.compile(
    r"/|/(login|logout|config|favicon\.ico|robots\.txt|theme\.css|manifest\.json)/?"
    r"|/(static|assets|svelte|rad3d/static)/.+"
    r"|/(healthz|metrics)"  # the metrics have a token of their own
    r"|/read(/.+)?"  # a reader study opens by the secret of its link, to readers without an account
    r"|/gradio_api/(user|login_check|app_id|startup-events|theme\.css)/?"
)
"""Paths that a stranger may ask for where there is a login: those of the page that asks for it, and
those that have a secret of their own."""


def is_logged_in(scope: Scope) -> bool:
    """Tell whether a request comes from a browser that has logged in."""
    app, cookies = scope["app"], Request(scope).cookies  # Gradio's app keeps who has which cookie
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(cookies.get(name) in app.tokens for name in names)


def accounts(login: str) -> list[tuple[str, str]] | None:
    """Return (name, password) pairs for Gradio's login; None where everybody may come in.

    Args:
        login: the setting of this name, see :class:`rad3d.core.settings.Settings`.

    Raises:
        BadRequest: not of the form ``name:password,name:password``; the message quotes nothing.
    """
    if not login:
        return None
    pairs = [entry.partition(":") for entry in login.split(",")]
    if not all(name.strip() and password for name, _, password in pairs):
        raise BadRequest(
            "RAD3D_LOGIN is not of the form name:password, several separated by commas.",
            "A password cannot hold a comma.",
            code="bad_login",
        )
    return [(name.strip(), password) for name, _, password in pairs]


def public_path(root_path: str) -> str:
    """Return the path at which a reverse proxy serves the app; raises :class:`BadRequest`."""
    path = root_path.rstrip("/")
    if path and not path.startswith(("/", "http://", "https://")):
        raise BadRequest(
            f"RAD3D_ROOT_PATH must begin with / and not be {root_path!r}.",
            "Such as /rad3d, or the whole address as visitors see it.",
        )
    return path
