"""Reports in their turn: says that one waits, then streams it, and always gives way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

import anyio
import gradio as gr

from rad3d.core.errors import Cancelled
from rad3d.core.types import Event, StageEvent, TextEvent
from rad3d.ui.visitor import client_of

if TYPE_CHECKING:
    from rad3d.server.queue import ReportQueue
    from rad3d.service.service import Service
    from rad3d.service.sessions import Session

Told = TypeVar("Told")

SECONDS_BETWEEN_TEXTS = 0.08

POLL_SECONDS = 0.2
"""How often a waiting person's place is looked at; waiting occupies no thread."""


async def in_turn(
    service: Service,
    turns: ReportQueue,
    request: gr.Request,
    session: Session,
    stop: threading.Event,
    write: Callable[[], Iterator[Told]],
) -> AsyncGenerator[Told | StageEvent, None]:
    """Yield the place in the queue while others are first, then the events of a report.

    Closing this iterator, or setting ``stop``, frees the place: at once while waiting, else at the
    next event. A session that waits is not idle.

    Args:
        service: keeps the session alive.
        turns: the queue.
        request: the client's, whose address has a share of the queue.
        session: the session with the scan.
        stop: set by whoever wants the report to end, and here when it has.
        write: starts the report, which ``stop`` ends; called when the turn has come.

    Raises:
        BadRequest: ``queue_full``.
        Cancelled: stopped while waiting.
    """
    turn = turns.join(client_of(request))
    try:
        place = ""
        while not turn.ready:
            if stop.is_set():
                raise Cancelled("Cancelled while waiting.")
            service.sessions.touch(session)
            if place != str(turn):
                place = str(turn)
                yield StageEvent(place, 0.0)
            await asyncio.sleep(POLL_SECONDS)
        events = write()
        thread = anyio.CapacityLimiter(1)
        try:
            while event := await anyio.to_thread.run_sync(next, events, None, limiter=thread):
                yield event
        finally:
            stop.set()
            close = getattr(events, "close", None)
            if close is not None:  # a generator; frees the model where the person has gone
                close()
    finally:
        turn.leave()


async def thinned(events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """Leave out texts that follow each other too fast to be read."""
    latest = 0.0
    async with aclosing(events):
        async for event in events:
            if isinstance(event, TextEvent):
                if time.monotonic() - latest < SECONDS_BETWEEN_TEXTS:
                    continue
                latest = time.monotonic()
            yield event
