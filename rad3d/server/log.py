"""The log: one line for each event, figures and codes, never a name or a content.

Messages of other packages are withheld, since they may quote what they read; so is what they print
past the log while visitors are served.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rad3d.core.lookup import lookup

_LOG = logging.getLogger(__name__)
_OWN = "rad3d"


def tell(event: str, **fields: object) -> None:
    """Log one line about an event; the fields are numbers, codes and ids."""
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in fields.items()}
    _LOG.info(event, extra={"fields": rounded})


class Lines(logging.Formatter):
    """Formats a record as one line, without what another package says about its input.

    Args:
        as_json: a JSON object instead of words.
    """

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        own = record.name.split(".")[0] == _OWN
        entry: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage() if own else f"withheld, {_place(record)}",
        }
        entry |= getattr(record, "fields", {}) if own else {}
        if left_out := getattr(record, "left_out", 0):
            entry["left_out"] = left_out
        if record.exc_info and record.exc_info[1] is not None:
            entry["error"] = error_path(record.exc_info[1])
        if self._as_json:
            return json.dumps(entry, ensure_ascii=False, default=str)
        head = f"{entry.pop('time')} {entry.pop('level')} {entry.pop('logger')}: "
        words = [str(entry.pop("event")), *(f"{k}={v}" for k, v in entry.items())]
        return head + " ".join(words).replace("\n", " ")


class Seldom(logging.Filter):
    """Lets a warning from one place through a few times a minute: floods fill a disk.

    Without file descriptors asyncio complains two thousand times a second. The next line that is
    let through says how many were left out.
    """

    MOST = 20
    SECONDS = 60.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record is written."""
        if record.levelno < logging.WARNING:
            return True
        place, now = (record.pathname, record.lineno), self._clock()
        with self._lock:
            since, count = self._seen.get(place, (now, 0))
            left_out = 0
            if now - since >= self.SECONDS:
                since, left_out, count = now, max(0, count - self.MOST), 0
            self._seen[place] = since, count + 1
        if left_out:
            record.left_out = left_out
        return count < self.MOST


def _place(record: logging.LogRecord) -> str:
    return f"{Path(record.pathname).name}:{record.lineno}"


def error_path(error: BaseException) -> str:
    """Return kind and places of an error, never its text: ``ValueError from load.py:41``."""
    places = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    tail = f"; after {error_path(cause)}" if cause is not None else ""
    return f"{type(error).__name__} from {' > '.join(places)}{tail}"


def configure_logging(kind: str) -> None:
    """Send every record to stderr through :class:`Lines`.

    Args:
        kind: ``"text"`` or ``"json"``, see :class:`rad3d.core.settings.Settings`.
    """
    as_json = lookup("kind of log", {"text": False, "json": True}, kind)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(as_json))
    handler.addFilter(Seldom())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_OWN).setLevel(logging.INFO)
    logging.captureWarnings(True)


@contextlib.contextmanager
def visitors_present() -> Iterator[None]:
    """Let nothing reach a standard stream but through :class:`Lines` while visitors are served.

    The web server's messages go there, which sets handlers of its own when it starts; what other
    packages print, and what ends a thread or a destructor, becomes a line that says where.
    """
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    with (
        contextlib.redirect_stdout(Prints()),
        contextlib.redirect_stderr(Prints()),
        _hooked(threading, "excepthook", _thread_ended),
        _hooked(sys, "unraisablehook", _unraisable),
    ):
        yield


class Prints(io.TextIOBase):
    """A stream that logs only the place from which something was printed.

    Gradio prints tracebacks, and their last line may quote a value.
    """

    def __init__(self) -> None:
        self._last: tuple[str, int, int] = "", 0, 0
        self._noting = threading.local()

    def writable(self) -> bool:
        """Tell that the stream takes texts."""
        return True

    def write(self, text: str) -> int:
        """Log the place once for a text that comes in pieces, and for each error."""
        if text.strip() and not getattr(self._noting, "now", False):
            self._noting.now = True  # a log that cannot be written to prints, too
            try:
                self._note(sys.exc_info()[1])
            finally:
                self._noting.now = False
        return len(text)

    def _note(self, error: BaseException | None) -> None:
        key = _printed_at(), id(error), int(time.monotonic())
        if key != self._last:
            self._last = key
            _LOG.warning("withheld, printed at %s", key[0], exc_info=error)


def _printed_at() -> str:
    """Return the innermost place that is no means of printing: ``queueing.py:913``."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__") in (__name__, "traceback", "warnings"):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


@contextlib.contextmanager
def _hooked(module: Any, name: str, hook: Callable[[Any], None]) -> Iterator[None]:
    earlier = getattr(module, name)
    setattr(module, name, hook)
    try:
        yield
    finally:
        setattr(module, name, earlier)


def _thread_ended(arguments: threading.ExceptHookArgs) -> None:
    _LOG.error("a thread ended", exc_info=arguments.exc_value)


def _unraisable(arguments: sys.UnraisableHookArgs) -> None:
    _LOG.error("an error in a destructor", exc_info=arguments.exc_value)
