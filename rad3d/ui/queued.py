"""Work in its turn: says that it waits, then streams, and always gives way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

import anyio
import gradio as gr

from rad3d.core.errors import Cancelled
from rad3d.core.types import StageEvent
from rad3d.server.queue import Turn, Turns

T = TypeVar("T")

POLL_SECONDS = 0.2
"""How often a waiting person's place is looked at; waiting occupies no thread."""


def client_of(request: gr.Request) -> str:
    """The address that a request comes from, as a proxy says that is trusted; may be empty."""
    return str(getattr(getattr(request, "client", None), "host", "") or "")


def told(turn: Turn) -> StageEvent:
    """What a report tells while it waits."""
    return StageEvent(str(turn), 0.0)


async def in_turn(
    turns: Turns,
    stop: threading.Event,
    start: Callable[[], Iterator[T]],
    wait: Callable[[Turn], T],
    awake: Callable[[], object],
    whose: str = "",
) -> AsyncIterator[T]:
    """What ``wait`` says while others are first, then the events of ``start``.

    Closing this iterator, or setting ``stop``, frees the place: at once while waiting, else at the
    next event.

    Args:
        turns: the queue.
        stop: set by whoever wants the work to end, and here when it has.
        start: begins the work; its iterator is run in a thread.
        wait: what to tell; asked several times a second, and passed on where it has changed.
        awake: called as often: who waits is not idle, however long it takes.
        whose: the client, see :func:`client_of`.

    Raises:
        BadRequest: ``queue_full``.
        Cancelled: stopped while waiting.
    """
    turn = turns.join(whose)
    try:
        said: T | None = None
        while not turn.ready:
            if stop.is_set():
                raise Cancelled("Cancelled while waiting.")
            awake()
            if said != (now := wait(turn)):
                yield (said := now)
            await asyncio.sleep(POLL_SECONDS)
        events = start()
        thread = anyio.CapacityLimiter(1)
        try:
            while True:
                event = await anyio.to_thread.run_sync(next, events, None, limiter=thread)
                if event is None:
                    return
                yield event
        finally:
            stop.set()
            close = getattr(events, "close", None)
            if close is not None:  # a generator; frees the model where the person has gone
                close()
    finally:
        turn.leave()
