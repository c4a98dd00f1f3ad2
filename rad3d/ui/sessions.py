"""Which browser tab owns which service session, and how its run is stopped.

Gradio names every tab by a ``session_hash``; the service knows only unguessable tokens. Nothing
is kept outside this object, and a closed tab's entry goes at once.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import gradio as gr

from rad3d.core.errors import BadRequest, Rad3dError
from rad3d.core.types import Volume
from rad3d.evaluation.access import OPERATOR
from rad3d.server.owner import is_owner
from rad3d.ui.page_state import PageState

if TYPE_CHECKING:
    from rad3d.service.service import Service


def owner_of(token: str) -> str:
    """Whose runs a session may see: known to that session only, and not its key."""
    return hashlib.sha256(f"evaluation:{token}".encode()).hexdigest()[:32]


class Sessions:
    """Maps tabs to service tokens and to the stop signal of their latest run."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._tokens: dict[str, str] = {}
        self._stops: dict[str, threading.Event] = {}
        self._waiting: dict[str, threading.Event] = {}
        self._pages: dict[tuple[str, str], PageState] = {}
        self._reading: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._lock = threading.Lock()
        service.farewells.append(self._ended)

    def token(self, request: gr.Request) -> str:
        """The tab's service token, made on first use; raises :class:`BadRequest` without a tab."""
        tab = request.session_hash
        if not tab:
            raise BadRequest("This request belongs to no session.", "Reload the page.")
        with self._lock:
            known = self._tokens.get(tab)
        if known:
            return known
        new = self._service.new_session()  # without the lock: it may end others, and tell us
        with self._lock:
            token = self._tokens.setdefault(tab, new)
        if token != new:  # two first requests of one tab
            self._service.end_session(new)
        return token

    def owner(self, request: gr.Request) -> str:
        """Whose runs a request may see: everybody's for who started the app, else its session's."""
        if is_owner(self._service.owner_secret, getattr(request, "cookies", None) or {}):
            return OPERATOR
        return owner_of(self.token(request))

    def page(self, request: gr.Request, name: str) -> tuple[str, PageState]:
        """The tab's token, and what it shows of a part of the page; a new one after its end."""
        token = self.token(request)
        with self._lock:
            return token, self._pages.setdefault((token, name), PageState())

    def at_end(self, farewell: Callable[[str], None]) -> None:
        """Have something called with the token of every session that has ended."""
        self._service.farewells.append(farewell)

    def touch(self, token: str) -> bool:
        """Mark a session as used now; False where it has ended."""
        return self._service.touch(token)

    def arm(self, token: str) -> threading.Event:
        """A fresh stop signal for a run that has been asked for; an earlier run is stopped."""
        with self._lock:
            if token in self._stops:
                self._stops[token].set()
            self._waiting[token] = self._stops[token] = threading.Event()
            return self._stops[token]

    def claim(self, token: str) -> threading.Event | None:
        """The stop signal of the run that was asked for; None where another has taken it up."""
        with self._lock:
            return self._waiting.pop(token, None)

    def stop(self, token: str) -> bool:
        """Stop the latest run; True where it had not begun, so that nothing will answer."""
        with self._lock:
            if token in self._stops:
                self._stops[token].set()
            return self._waiting.pop(token, None) is not None

    def is_latest(self, token: str, stop: threading.Event) -> bool:
        """Whether this is the signal of the session's latest run, and no scan was opened since."""
        with self._lock:
            return self._stops.get(token) is stop

    def close(self, request: gr.Request) -> None:
        """The tab was closed: stop its run and free everything that it holds."""
        with self._lock:
            token = self._tokens.get(request.session_hash or "")
        if token:
            self.stop(token)  # first, so that the model gives way while the rest is freed
            self._service.end_session(token)

    def _ended(self, token: str) -> None:
        """A session has ended, also for being idle or by the service's own decision."""
        self.stop(token)
        with self._lock:
            self._stops.pop(token, None)
            for key in [key for key in self._pages if key[0] == token]:
                self._pages.pop(key).close()
            for tab in [tab for tab, owned in self._tokens.items() if owned == token]:
                del self._tokens[tab]

    def open(self, request: gr.Request, read: Callable[[str], Volume]) -> tuple[str, Volume]:
        """Open a scan in the tab's session, in a new one where the old one has ended.

        A tab's scans are opened one after the other, so that the one asked for last stays.

        Args:
            request: of the tab.
            read: opens the scan in the session whose token it is given.

        Returns:
            The token and the volume; a run on the earlier scan is stopped.
        """
        with self._lock:
            turn = self._reading.setdefault(request.session_hash or "", threading.Lock())
        with turn:
            token = self.token(request)
            if not self._service.touch(token):  # it ends now, for having been idle
                token = self.token(request)
            try:
                volume = read(token)
            except Rad3dError as error:
                if error.code != "no_session":
                    raise
                raise BadRequest(
                    "The scan was deleted while it was being read.",
                    "Open it again to go on.",
                    code="deleted",
                ) from error
            self.stop(token)
            with self._lock:
                self._stops.pop(token, None)
            return token, volume
