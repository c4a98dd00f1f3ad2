"""Proves who started the app: whoever opened the link that it printed, and nobody else.

An address proves nothing. Behind a reverse proxy every stranger comes from this machine, asks for
its loopback address and may send no header that a proxy adds. So the app prints a link with a
secret in it, as Jupyter does; opening it gives the browser a cookie, and that cookie is the proof.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs

from starlette.types import Message, Receive, Scope, Send

PARAMETER = "owner"


def link(address: str, secret: str) -> str:
    """Return the address to open; without a secret it proves nothing."""
    return f"{address}?{PARAMETER}={secret}" if secret else address


def cookie_name(secret: str) -> str:
    """Return a name for this server alone: browsers send cookies to every port of a machine."""
    return f"rad3d-owner-{hashlib.sha256(secret.encode()).hexdigest()[:12]}"


def is_owner(secret: str, cookies: Mapping[str, str]) -> bool:
    """Tell whether a request's cookies prove that its sender opened the link."""
    cookie = cookies.get(cookie_name(secret), "") if secret else ""
    return bool(cookie) and secrets.compare_digest(cookie.encode(), secret.encode())


def is_link(secret: str, scope: Scope) -> bool:
    """Tell whether a request follows the link."""
    values = parse_qs(scope.get("query_string", b"")[:1000].decode("latin-1")).get(PARAMETER, [""])
    return bool(secret) and secrets.compare_digest(values[0].encode(), secret.encode())


async def welcome(secret: str, _scope: Scope, _receive: Receive, send: Send) -> None:
    """Set the cookie and redirect to the page without the secret in its address."""
    cookie = f"{cookie_name(secret)}={secret}; HttpOnly; SameSite=Strict; Path=/"
    start: Message = {
        "type": "http.response.start",
        "status": 303,
        "headers": [(b"location", b"./"), (b"set-cookie", cookie.encode())],
    }
    await send(start)
    await send({"type": "http.response.body", "body": b""})
