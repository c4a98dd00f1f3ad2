"""Work on texts that strangers send, in a process of its own that can be ended.

Reading and labelling are Python that holds the interpreter: done in the server's process, a text
that takes minutes keeps everybody else waiting, and the signal to stop as well. Here such a text
costs its sender the time, and a process that is ended gives back all that it took.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar, cast

from rad3d.core.errors import BadRequest, Cancelled, Rad3dError

T = TypeVar("T")

MAX_SECONDS = 900.0
MAX_BYTES = 6 * 2**30
POLL_SECONDS = 0.1

_LOG = logging.getLogger(__name__)


def apart(
    work: Callable[..., T],
    *arguments: Any,
    cancel: threading.Event,
    seconds: float = MAX_SECONDS,
    tells: bool = False,
    **named: Any,
) -> Generator[str, None, T]:
    """``work(*arguments, **named)`` in another process; yields what it tells of its progress.

    Closing the iterator ends the process.

    Args:
        work: a function of a module; arguments and answer are pickled.
        arguments: of it.
        cancel: ends it.
        seconds: it is ended after so long.
        tells: it takes ``progress``, to be called with a text and a fraction.
        named: further arguments.

    Raises:
        Cancelled: ``cancel`` was set.
        BadRequest: what the work refuses; ``too_slow``; ``too_large`` where it had no memory left.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), name="apart", daemon=True)
    process.start()
    theirs.close()
    limit = time.monotonic() + seconds
    try:
        ours.send((work, arguments, named, tells))
        while True:
            if cancel.is_set():
                raise Cancelled("The evaluation was cancelled.", code="cancelled")
            if time.monotonic() > limit:
                raise BadRequest(
                    f"This took longer than {round(seconds / 60)} minutes and was stopped.",
                    "Give fewer or shorter reports.",
                    code="too_slow",
                )
            if ours.poll(POLL_SECONDS):
                kind, answer = ours.recv()
                if kind == "told":
                    yield answer
                else:
                    return cast(T, _opened(kind, answer))
    except (EOFError, ConnectionError):  # the system has ended it
        raise _too_large() from None
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()


def _opened(kind: str, answer: Any) -> Any:
    """Return the result in an answer, or raise the error that it holds."""
    if kind == "refused":
        raise BadRequest(*answer)
    if kind == "full":
        raise _too_large()
    if kind == "defect":
        _LOG.error("A defect in a process of its own: %s", answer)
        raise RuntimeError(answer)
    return answer


def _too_large() -> BadRequest:
    return BadRequest(
        "This needs more memory than there is for it.",
        "Give fewer or shorter reports.",
        code="too_large",
    )


def _work(line: Connection) -> None:
    """Answer one question in the other process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # packages quote texts
        os.dup2(nowhere, stream)
    _bound()
    answer: tuple[str, Any]
    try:
        work, arguments, named, tells = line.recv()
        if tells:
            named["progress"] = lambda text, _fraction: line.send(("told", text))
        answer = "done", work(*arguments, **named)
    except Rad3dError as error:
        answer = "refused", (error.problem, error.remedy, error.code)
    except MemoryError:
        answer = "full", None
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        answer = "defect", f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
    line.send(answer)


def _bound() -> None:
    """Limit this process's memory and files, and make it the first to be killed."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (MAX_BYTES, MAX_BYTES))
        Path("/proc/self/oom_score_adj").write_text("900", encoding="ascii")
