"""Uploads under names that nobody can guess, for one reader, deleted once they were read.

Gradio's own upload route names a file by its content and keeps it, with its name, for whoever
asks; this one stands in its place. A file becomes ``<folder>/<random>/upload<.ending>``; the random
name begins with a mark of the client, by which the room is shared. What the
person calls it travels with the request that opens it and is stored nowhere. No route hands one
out.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import secrets
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

from gradio.route_utils import GradioMultiPartParser, MultiPartException
from gradio.utils import get_upload_folder
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from rad3d.core.errors import NO_ROOM, BadRequest, DiskFull
from rad3d.core.words import byte_text
from rad3d.server import limits

MAX_TABLE_MB = 64
"""Largest metadata table of CT-RATE; those of its 50,000 scans are smaller."""

ENDINGS = (
    ".nii.gz", ".nii", ".zip", ".hdr", ".img",
    ".csv", ".tsv", ".txt", ".jsonl", ".json",
)  # fmt: skip
_PATH = re.compile(r"[0-9a-f]{32}/upload(\.[a-z.]+)?")


def folder() -> Path:
    """Return the folder in which Gradio looks for uploads."""
    return Path(get_upload_folder()).resolve()


def is_upload(path: object) -> bool:
    """Tell whether a path has the shape of an upload of this app; the file may be gone."""
    if not isinstance(path, str):
        return False
    base = f"{folder()}/"
    return path.startswith(base) and _PATH.fullmatch(path.removeprefix(base)) is not None


@contextlib.contextmanager
def taken(path: str) -> Iterator[Path]:
    """Move an upload out of everybody else's reach while it is read, and delete it afterwards.

    Raises:
        BadRequest: it is no upload, or was read already.
    """
    if not is_upload(path):
        raise BadRequest("This is not an uploaded file.", "Upload it first.", code="no_upload")
    source = Path(path)
    private = folder() / f"reading-{secrets.token_hex(16)}"
    try:
        source.parent.rename(private)
    except OSError:
        raise BadRequest(
            "The uploaded file is not here any more.", "Upload it again.", code="no_upload"
        ) from None
    try:
        yield private / source.name
    finally:
        shutil.rmtree(private, ignore_errors=True)


def sweep(unread_seconds: float = limits.UNREAD_SECONDS) -> None:
    """Delete what was uploaded and never opened, or has stopped arriving.

    A jump of the clock deletes early, not late. What is being read is deleted by its reader.

    The folder itself comes back where a cleaner has removed it.
    """
    now = time.time()
    home = folder()
    with contextlib.suppress(OSError):
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    for entry in list(home.glob("*")):
        with contextlib.suppress(OSError):
            if not (entry.is_dir() and re.fullmatch(r"[0-9a-f]{32}", entry.name)):
                continue
            latest = max(path.stat().st_mtime for path in (entry, *entry.iterdir()))
            if abs(now - latest) > unread_seconds:
                shutil.rmtree(entry, ignore_errors=True)


def upload_route(max_bytes: int, max_total: int | None = None) -> Route:
    """Return the route ``POST /gradio_api/upload``, to stand in front of Gradio's own.

    Args:
        max_bytes: the largest file.
        max_total: bytes of all unread uploads; eight files of full size by default.
    """
    limit = limits.MAX_FILES * max_bytes if max_total is None else max_total

    async def respond(request: Request) -> Response:
        try:
            return JSONResponse(await _receive(request, max_bytes, limit))
        except MultiPartException as error:
            large = "maximum allowed size" in error.message
            text = f"The file is larger than the {byte_text(max_bytes)} allowed here."
            return _text(
                text if large else "The upload is damaged. Try again.", 413 if large else 400
            )
        except DiskFull as error:
            return _text(str(error), 507)
        except ClientDisconnect:
            return _text("The upload was interrupted. Try again.", 400)

    return Route("/gradio_api/upload", respond, methods=["POST"])


def _text(text: str, status: int) -> PlainTextResponse:
    return PlainTextResponse(text, status_code=status, headers={"Cache-Control": "no-store"})


async def _receive(request: Request, max_bytes: int, max_total: int) -> list[str]:
    """Store the files of a form and return their paths; a form that fails leaves nothing."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise MultiPartException("not a form")
    if len(request.headers["content-type"]) > limits.MAX_TYPE_CHARACTERS:
        raise MultiPartException("a boundary that no program makes")
    length = request.headers.get("content-length", "")
    claimed = int(length) if length.isdigit() else 0
    if claimed > limits.MAX_FILES * max_bytes + 2**20:
        raise MultiPartException("maximum allowed size")
    mark = client_mark(request.client.host if request.client else "")
    _check_room(claimed, max_total, mark)
    arriving = _new_home(mark)
    homes: list[Path] = []
    paths: list[str] = []
    parser: GradioMultiPartParser | None = None
    try:
        arriving.mkdir(parents=True, mode=0o700)
        parser = GradioMultiPartParser(
            request.headers,
            _counted(request, max_total, mark),
            max_files=limits.MAX_FILES,
            max_fields=0,  # what is no file would be held in memory
            upload_dir=arriving,
            max_file_size=max_bytes,
        )
        files = [f for f in (await parser.parse()).getlist("files") if isinstance(f, UploadFile)]
        for file in files:
            await file.close()
            homes.append(_new_home(mark))
            homes[-1].mkdir(mode=0o700)
            path = homes[-1] / f"upload{_ending(file.filename or '')}"
            Path(str(file.file.name)).rename(path)
            paths.append(str(path))
        homes = []
    except FileNotFoundError:
        raise MultiPartException("swept away: it had stopped arriving") from None
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise DiskFull from error
    finally:
        # An open file takes its room on the disk until it is closed, even where it was deleted.
        for temporary in parser._files_to_close_on_error if parser else ():
            with contextlib.suppress(OSError):
                temporary.close()
        for place in (arriving, *homes):
            shutil.rmtree(place, ignore_errors=True)
    return paths


async def _counted(request: Request, max_total: int, mark: str) -> AsyncGenerator[bytes, None]:
    """Yield the body while there is room for it: a client need not say how long it is."""
    uncounted = 0
    pieces = request.stream()
    while True:
        try:
            piece = await asyncio.wait_for(anext(pieces), limits.STALLED_SECONDS)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise ClientDisconnect from None
        uncounted += len(piece)
        if uncounted > limits.COUNTED_EVERY_BYTES:
            uncounted = 0
            _check_room(0, max_total, mark)
        yield piece


def client_mark(address: str) -> str:
    """Return the mark that begins the names of a client's uploads."""
    return hashlib.sha256(address.encode()).hexdigest()[:8]


def _new_home(mark: str) -> Path:
    return folder() / f"{mark}{secrets.token_hex(12)}"


def _check_room(more: int, max_total: int, mark: str) -> None:
    """Raise :class:`DiskFull` where all uploads and ``more`` take over ``max_total`` bytes.

    First those that nobody has opened make room: the oldest of the client that holds most.
    """
    held: Counter[str] = Counter({mark: more})
    unread: dict[str, list[tuple[float, Path, int]]] = defaultdict(list)
    for home in list(folder().glob("*")):
        with contextlib.suppress(OSError):
            files = [path for path in home.rglob("*") if path.is_file()]
            size = sum(max(path.stat().st_size, limits.MIN_COUNTED_BYTES) for path in files)
            client = home.name[: len(mark)]
            held[client] += size
            if any(_PATH.fullmatch(f"{home.name}/{path.name}") for path in files):
                unread[client].append((home.stat().st_mtime, home, size))
    for waiting in unread.values():
        waiting.sort(reverse=True)
    while held.total() > max_total:
        client = max(held, key=held.__getitem__)
        old = time.time() - limits.WANTED_SECONDS
        if not unread[client] or (client == mark and unread[client][-1][0] > old):
            raise DiskFull("Too many files are being uploaded at the moment.")
        _, home, size = unread[client].pop()
        shutil.rmtree(home, ignore_errors=True)
        held[client] -= size


def _ending(name: str) -> str:
    """Return the ending that says what to try first, and never more of a name."""
    return next((e for e in ENDINGS if name.lower().endswith(e)), "")
