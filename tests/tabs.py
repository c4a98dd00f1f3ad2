"""A browser tab without a browser: the requests that the page makes, and nothing more."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

KEY = "X-Rad3d-Key"
PATIENCE_S = 120.0
"""What any test waits before it fails: a busy machine is slow, not wrong."""


class Tab:
    """One visitor; close it, or use it in a ``with``.

    Args:
        address: of the app.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.api = f"{address}/gradio_api"
        self.hash = secrets.token_hex(6)
        self.client = httpx.Client(timeout=PATIENCE_S)
        config = self.client.get(f"{address}/config").json()
        self.functions: dict[str, int] = {
            d["api_name"]: d["id"] for d in reversed(config["dependencies"])
        }
        self._heartbeat = contextlib.ExitStack()
        beats = self._heartbeat.enter_context(
            self.client.stream("GET", f"{self.api}/heartbeat/{self.hash}", timeout=None)
        )
        self._beats = beats.iter_lines()  # kept: with its iterator the connection would end
        next(self._beats)

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """What a browser does when a tab is closed: its connections end."""
        self._heartbeat.close()
        self.client.close()

    def upload(self, path: Path, name: str | None = None) -> dict[str, Any]:
        """Send a file; the value that names it."""
        with path.open("rb") as stream:
            files = {"files": (name or path.name, stream)}
            answer = self.client.post(f"{self.api}/upload", files=files)
        answer.raise_for_status()
        return {
            "path": answer.json()[0],
            "orig_name": name or path.name,
            "meta": {"_type": "gradio.FileData"},
        }

    def events(self, function: str, *data: Any) -> Iterator[dict[str, Any]]:
        """The messages of a call, to the last."""
        body = {"fn_index": self.functions[function], "session_hash": self.hash, "data": [*data]}
        joined = self.client.post(f"{self.api}/queue/join", json=body)
        joined.raise_for_status()
        query = {"session_hash": self.hash}
        with self.client.stream("GET", f"{self.api}/queue/data", params=query) as sse:
            for line in sse.iter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                yield message
                if message["msg"] in ("process_completed", "close_stream"):
                    return

    def call(self, function: str, *data: Any) -> Any:
        """The first output of a call's last message; RuntimeError with its sentence on failure."""
        *_, last = self.events(function, *data)
        if not last["success"]:
            raise RuntimeError(last["output"]["error"])
        return last["output"]["data"][0] if last["output"].get("data") else None

    def key(self) -> str:
        """The key that the page gets when it loads."""
        return str(self.call("start")["values"]["viewer"]["key"])


def eventually(condition: Any, seconds: float = PATIENCE_S) -> bool:
    """Whether something becomes true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
