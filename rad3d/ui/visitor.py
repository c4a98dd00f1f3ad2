"""Who sent a request: the session of its browser tab, whose runs it may see, and from where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from rad3d.evaluation.access import OPERATOR
from rad3d.server.owner import is_owner

if TYPE_CHECKING:
    from rad3d.service.service import Service
    from rad3d.service.sessions import Session


def session_of(service: Service, request: gr.Request) -> Session:
    """Return the session of a request's tab, made on first use; raises BadRequest without a tab."""
    return service.sessions.of_tab(request.session_hash)


def owner_of(service: Service, request: gr.Request) -> str:
    """Return whose runs a request may see: everybody's for who started the app, else its own."""
    if is_owner(service.owner_secret, getattr(request, "cookies", None) or {}):
        return OPERATOR
    return session_of(service, request).owner


def client_of(request: gr.Request) -> str:
    """Return the client's address, as a trusted proxy reports it; may be empty."""
    return str(getattr(getattr(request, "client", None), "host", "") or "")
