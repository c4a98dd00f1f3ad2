"""Every failure becomes one sentence for the person, here and nowhere else."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

import gradio as gr

from rad3d.core.errors import NO_ROOM, Rad3dError
from rad3d.server.log import error_path

_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def failures_to(tell: Callable[[str], object]) -> Iterator[None]:
    """Catch whatever fails in the block and call ``tell`` with a sentence about it.

    An error of Gradio passes: a block inside this one has made it from a sentence already.
    """
    try:
        yield
    except gr.Error:
        raise
    except Exception as error:
        tell(sentence(error))


def sentence(error: Exception) -> str:
    """Return what a person is told about an error.

    A defect is logged by its kind and place. Its text is not, as it may hold a file's name, a
    header or a report.
    """
    if isinstance(error, Rad3dError):
        return str(error)
    _LOG.error("A defect reached the page: %s", error_path(error))
    if isinstance(error, MemoryError):
        return "The server has no memory left for this. Try again in a minute, or a smaller scan."
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return "The server's disk is full. Tell the person who runs it; nothing of yours was lost."
    return (
        f"Something went wrong inside the app ({type(error).__name__}): a fault in the software, "
        "not in your scan. Nothing of your session was lost. If it happens again, tell the person "
        "who runs it."
    )
