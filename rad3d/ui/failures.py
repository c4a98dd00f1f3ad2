"""Failures at the edge to the person: each becomes one sentence, here and nowhere else."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

import gradio as gr

from rad3d.core.errors import NO_ROOM, Rad3dError

_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def failures_to(tell: Callable[[str], object]) -> Iterator[None]:
    """Whatever fails in the block ends there, and ``tell`` gets the sentence on it.

    An error of Gradio is a sentence already, made by a block inside this one.
    """
    try:
        yield
    except gr.Error:
        raise
    except Exception as error:
        tell(sentence(error))


def sentence(error: Exception) -> str:
    """What a person is told. A defect is logged by its kind and place; its text stays unsaid.

    The text of a foreign error may hold a file's name, a header or a report.
    """
    if isinstance(error, Rad3dError):
        return str(error)
    _LOG.error("A defect reached the page: %s", _kind_and_place(error))
    if isinstance(error, MemoryError):
        return "The server has no memory left for this. Try again in a minute, or a smaller scan."
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return "The server's disk is full. Tell the person who runs it; nothing of yours was lost."
    return (
        f"Something went wrong inside the app ({type(error).__name__}): a fault in the software, "
        "not in your scan. Nothing of your session was lost. If it happens again, tell the person "
        "who runs it."
    )


def _kind_and_place(error: BaseException | None) -> str:
    """``ValueError at decoding.py:41 in step, ...``, innermost cause last."""
    parts = []
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        places = [f"{PurePosixPath(f.filename).name}:{f.lineno} in {f.name}" for f in frames]
        parts.append(f"{type(error).__name__} at {', '.join(places) or 'an unknown place'}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "; from ".join(parts)
