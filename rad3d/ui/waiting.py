"""A report in its turn: says how long the wait will be, then streams, and always gives way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import anyio

from rad3d.errors import Cancelled
from rad3d.service.turns import Turns
from rad3d.types import Event, StageEvent

POLL_SECONDS = 0.2
"""How often a waiting person's place is looked at; waiting occupies no thread."""


async def in_turn(
    turns: Turns, stop: threading.Event, start: Callable[[], Iterator[Event]]
) -> AsyncIterator[Event]:
    """Stages while others are first, then the events of ``start``.

    Closing this iterator, or setting ``stop``, frees the place: at once while waiting, else at the
    model's next token.

    Raises:
        BadRequest: ``queue_full``.
        Cancelled: stopped while waiting.
    """
    turn = turns.join()
    try:
        told = ""
        while not turn.ready:
            if stop.is_set():
                raise Cancelled("Cancelled while waiting.")
            if told != (told := str(turn)):
                yield StageEvent(told, 0.0)
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
