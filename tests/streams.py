"""Event handlers that stream, followed to their end without a page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any


async def steps_of(
    stream: AsyncIterator[Any], after_first: Callable[[], object] = lambda: None
) -> list[Any]:
    """Everything that a handler yields; ``after_first`` is called behind the first of it."""
    found = []
    async for step in stream:
        found.append(step)
        if len(found) == 1:
            after_first()
    return found


def followed(
    stream: AsyncIterator[Any], after_first: Callable[[], object] = lambda: None
) -> list[Any]:
    """The same for a test that has no event loop."""
    return asyncio.run(steps_of(stream, after_first))
