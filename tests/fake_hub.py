"""A hub on this machine: enough of its protocol for the real client to fetch a model from it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """What it holds, and what was asked of it.

    Attributes:
        files: repository -> file name -> content.
        gated: repositories that ask for an accepted licence.
        url: where it listens.
        asked: paths, in order.
    """

    files: dict[str, dict[str, bytes]]
    gated: frozenset[str] = frozenset()
    url: str = ""
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def log_message(self, *args: object) -> None:
            """Nothing on stderr."""

        def _answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(path)
            parts = path.strip("/").split("/")
            if parts[:2] == ["api", "models"] and len(parts) >= 4:
                self._metadata("/".join(parts[2:4]), parts[4:], body)
            elif len(parts) >= 5 and parts[2] == "resolve":
                self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]), body)
            else:
                self._send(404, b"{}", body)

        def _refused(self, repo: str, revision: str, body: bool) -> bool:
            if repo not in hub.files:
                self._send(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})
            elif repo in hub.gated:
                self._send(403, b"{}", body, {"X-Error-Code": "GatedRepo"})
            elif revision not in ("main", COMMIT):
                self._send(404, b"{}", body, {"X-Error-Code": "RevisionNotFound"})
            else:
                return False
            return True

        def _metadata(self, repo: str, rest: list[str], body: bool) -> None:
            revision = rest[1] if len(rest) > 1 else "main"
            if self._refused(repo, revision, body):
                return
            files = hub.files[repo]
            if rest and rest[0] == "tree":
                tree = [
                    {"type": "file", "path": n, "size": len(c), "oid": _hash(c)}
                    for n, c in files.items()
                ]
                self._send(200, json.dumps(tree).encode(), body)
                return
            siblings = [{"rfilename": n, "size": len(c)} for n, c in files.items()]
            info = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings}
            self._send(200, json.dumps(info).encode(), body)

        def _file(self, repo: str, revision: str, name: str, body: bool) -> None:
            if self._refused(repo, revision, body):
                return
            if name not in hub.files[repo]:
                self._send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
                return
            content = hub.files[repo][name]
            facts = {"ETag": f'"{_hash(content)}"', "X-Repo-Commit": COMMIT}
            self._send(200, content, body, facts)

        def _send(
            self, status: int, content: bytes, body: bool, headers: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    return Handler


def _hash(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
