"""Uploads: under names that nobody can guess, for one reader, and gone once they were read.

Gradio's own upload route names a file by its content and keeps it, with its name, for whoever
asks; this one stands in its place. A file becomes ``<folder>/<random>/upload<.ending>``. What the
person calls it travels with the request that opens it and is stored nowhere. No route hands one
out.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from gradio.route_utils import GradioMultiPartParser, MultiPartException
from gradio.utils import get_upload_folder
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from rad3d.errors import NO_ROOM, BadRequest, DiskFull
from rad3d.volume.decoded import in_mb

UNREAD_SECONDS = 600.0
"""A file that nobody opened is deleted after so long."""

MOST_FILES = 8
MOST_TABLE_MB = 64
"""Of CT-RATE's metadata table; those of its 50,000 scans are smaller."""

ENDINGS = (
    ".nii.gz", ".nii", ".zip", ".hdr", ".img",
    ".csv", ".tsv", ".txt", ".jsonl", ".json", ".parquet",
)  # fmt: skip
_PATH = re.compile(r"[0-9a-f]{32}/upload(\.[a-z.]+)?")


def folder() -> Path:
    """Where Gradio looks for uploads."""
    return Path(get_upload_folder()).resolve()


def is_upload(path: object) -> bool:
    """Whether a path has the shape of an upload of this app; says nothing about its existence."""
    if not isinstance(path, str):
        return False
    base = f"{folder()}/"
    return path.startswith(base) and _PATH.fullmatch(path.removeprefix(base)) is not None


@contextlib.contextmanager
def taken(path: str) -> Iterator[Path]:
    """An upload for the one who reads it: out of reach of everybody else, deleted afterwards.

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


def sweep(unread_seconds: float = UNREAD_SECONDS) -> None:
    """Delete what was uploaded and never opened; a jump of the clock deletes early, not late.

    The folder itself comes back where a cleaner has removed it.
    """
    now = time.time()
    home = folder()
    with contextlib.suppress(OSError):
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    for entry in list(home.glob("*")):
        with contextlib.suppress(OSError):
            age = now - entry.stat().st_mtime
            if (age > unread_seconds or age < -unread_seconds) and _is_ours(entry):
                shutil.rmtree(entry, ignore_errors=True)


def _is_ours(entry: Path) -> bool:
    return entry.is_dir() and re.fullmatch(r"(reading-)?[0-9a-f]{32}", entry.name) is not None


def upload_route(max_bytes: int, max_total: int | None = None) -> Route:
    """``POST /gradio_api/upload``, in front of Gradio's own.

    Args:
        max_bytes: of one file.
        max_total: of all unread uploads together; eight files of full size by default.
    """
    limit = MOST_FILES * max_bytes if max_total is None else max_total

    async def respond(request: Request) -> Response:
        if not signed_in(request):
            return _told("Sign in first.", 401)
        try:
            return JSONResponse(await _receive(request, max_bytes, limit))
        except MultiPartException as error:
            large = "maximum allowed size" in error.message
            text = f"The file is larger than the {in_mb(max_bytes)} allowed here."
            return _told(
                text if large else "The upload is damaged. Try again.", 413 if large else 400
            )
        except DiskFull as error:
            return _told(str(error), 507)
        except ClientDisconnect:
            return _told("The upload was interrupted. Try again.", 400)

    return Route("/gradio_api/upload", respond, methods=["POST"])


def signed_in(request: Request) -> bool:
    """As Gradio's routes see it; always where the app asks for no log-in."""
    app = request.app
    if getattr(app, "auth", None) is None and getattr(app, "auth_dependency", None) is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(request.cookies.get(name) in app.tokens for name in names)


def _told(text: str, status: int) -> PlainTextResponse:
    return PlainTextResponse(text, status_code=status, headers={"Cache-Control": "no-store"})


async def _receive(request: Request, max_bytes: int, max_total: int) -> list[str]:
    """Paths of the files of a form; nothing stays of a form that fails."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise MultiPartException("not a form")
    length = request.headers.get("content-length", "")
    claimed = int(length) if length.isdigit() else 0
    if claimed > MOST_FILES * max_bytes + 2**20:
        raise MultiPartException("maximum allowed size")
    if _held() + claimed > max_total:
        raise DiskFull("Too many files are being uploaded at the moment.")
    arriving = folder() / secrets.token_hex(16)
    homes: list[Path] = []
    paths: list[str] = []
    try:
        arriving.mkdir(parents=True, mode=0o700)
        parser = GradioMultiPartParser(
            request.headers,
            request.stream(),
            max_files=MOST_FILES,
            max_fields=MOST_FILES,
            upload_dir=arriving,
            max_file_size=max_bytes,
        )
        files = [f for f in (await parser.parse()).getlist("files") if isinstance(f, UploadFile)]
        for file in files:
            await file.close()
            homes.append(folder() / secrets.token_hex(16))
            homes[-1].mkdir(mode=0o700)
            path = homes[-1] / f"upload{_ending(file.filename or '')}"
            Path(str(file.file.name)).rename(path)
            paths.append(str(path))
        homes = []
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise DiskFull from error
    finally:
        for place in (arriving, *homes):
            shutil.rmtree(place, ignore_errors=True)
    return paths


def _held() -> int:
    """Bytes of all uploads now."""
    total = 0
    for path in folder().rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _ending(name: str) -> str:
    """The ending that says what to try first; never more of a name than that."""
    return next((e for e in ENDINGS if name.lower().endswith(e)), "")
