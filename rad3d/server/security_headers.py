"""Security headers of every answer, and the check that another site's page sent no request.

A page of somebody else may send requests to this server with the cookies that the browser has for
it, and to an app on the same machine that no stranger reaches. Browsers mark such requests. The
policy of the page has the browser itself see to it that nothing is fetched from, or sent to,
anywhere else.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Scope, Send

OWN_PAGES = "'self' https://huggingface.co https://*.hf.space"
"""Where the app may be framed: a Space is shown in a frame of the hub's page."""

POLICY = "; ".join((
    "default-src 'self' data: blob: 'unsafe-inline'",  # Gradio's page needs all three
    # Gradio makes functions from texts: ``js`` of events and ``js_on_load`` of HTML components.
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
    "worker-src 'self' blob:",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    f"frame-ancestors {OWN_PAGES}",
))  # fmt: skip

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
OVER_HTTPS = {"Strict-Transport-Security": "max-age=31536000"}
_STAYS = ("/static/", "/assets/", "/svelte/")
"""Parts of Gradio's page, which a browser may keep; everything else tells how long, or no time."""


def is_cross_site(scope: Scope) -> bool:
    """Tell whether a page of another origin has made the browser send a request.

    A link to this server, or a frame that shows it, is none: that page cannot read what comes. Of
    other answers Gradio would let it read all. Programs do not say where they come from.
    """
    headers = Headers(scope=scope)
    if scope["method"] != "POST" and headers.get("sec-fetch-mode") == "navigate":
        return False
    relation = headers.get("sec-fetch-site")
    if relation is not None:
        return relation not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return False
    return urlsplit(origin).netloc != headers.get("host")  # no header that a page could set


def with_security_headers(scope: Scope, path: str, send: Send) -> Send:
    """Return a ``send`` that adds :data:`HEADERS` and keeps a visitor's data out of caches.

    Over HTTPS the browser is told to come by no other way, and to send cookies by no other.

    Args:
        scope: the request; a trusted proxy says whether it came over HTTPS.
        path: that was asked for.
        send: ASGI's.
    """

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            if scope.get("scheme") == "https":
                headers.update(OVER_HTTPS)
                cookies = headers.getlist("set-cookie")
                del headers["set-cookie"]
                for cookie in cookies:
                    secure = re.search(r";\s*secure\s*(;|$)", cookie, re.IGNORECASE)
                    headers.append("set-cookie", cookie if secure else f"{cookie}; Secure")
            if not path.startswith(_STAYS):
                headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return with_headers
