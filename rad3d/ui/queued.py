"""Reports in their turn: says that one waits, then streams it, and always gives way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import anyio
import gradio as gr

from rad3d.core.errors import Cancelled
from rad3d.core.types import Event, GenerationOptions, StageEvent

if TYPE_CHECKING:
    from rad3d.server.queue import ReportQueue
    from rad3d.service.service import Service

POLL_SECONDS = 0.2
"""How often a waiting person's place is looked at; waiting occupies no thread."""


def client_of(request: gr.Request) -> str:
    """The address that a request comes from, as a proxy says that is trusted; may be empty."""
    return str(getattr(getattr(request, "client", None), "host", "") or "")


async def in_turn(
    service: Service,
    turns: ReportQueue,
    request: gr.Request,
    token: str,
    variant: str,
    options: GenerationOptions,
    stop: threading.Event,
    insist: bool,
) -> AsyncGenerator[Event, None]:
    """The place in the queue while others are first, then the events of a report.

    Closing this iterator, or setting ``stop``, frees the place: at once while waiting, else at the
    next event. Who waits is not idle, however long it takes.

    Args:
        service: writes the report, see its ``generate`` also for the arguments below.
        turns: the queue.
        request: of the client.
        token: of the session.
        variant: of the language model.
        options: how it is written.
        stop: set by whoever wants the work to end, and here when it has.
        insist: write it even where it would mean nothing.

    Raises:
        BadRequest: ``queue_full``.
        Cancelled: stopped while waiting.
    """
    turn = turns.join(client_of(request))
    try:
        said = ""
        while not turn.ready:
            if stop.is_set():
                raise Cancelled("Cancelled while waiting.")
            service.touch(token)
            if said != str(turn):
                said = str(turn)
                yield StageEvent(said, 0.0)
            await asyncio.sleep(POLL_SECONDS)
        events = service.generate(token, variant, options, stop, insist)
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
