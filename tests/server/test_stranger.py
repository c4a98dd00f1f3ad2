"""What a hostile stranger sends: requests by way of other sites, bodies without end, floods."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from browser.fakes import FakeService, sample_card
from browser.launch import running_app
from starlette.testclient import TestClient
from tabs import PATIENCE_S, eventually

from rad3d.server import limits, uploads
from rad3d.server.access_control import ALLOWED
from rad3d.server.connections import Connections
from rad3d.server.limits import MAX_BODY_BYTES, MAX_VALUES
from rad3d.server.security_headers import is_cross_site, with_security_headers

pytestmark = pytest.mark.process

POSTS = ("login", "gradio_api/queue/join", "gradio_api/cancel", "gradio_api/reset",
         "gradio_api/run/open_scan", "gradio_api/api/open_scan", "gradio_api/call/open_scan",
         "gradio_api/call/v2/open_scan", "read/join", "read/screen/0", "studies",
         "studies/abc/link")  # fmt: skip


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    service = FakeService((sample_card("one", "Sample one", "A chest", Path("chest.nii.gz")),))
    with running_app(service, tmp_path_factory.mktemp("app"), max_upload_mb=4) as url:
        yield url


@pytest.fixture
def empty() -> Iterator[Path]:
    """The folder of uploads, without any before and after."""
    home = uploads.folder()
    uploads.sweep(-1)
    assert list(home.iterdir()) == []
    yield home
    uploads.sweep(-1)


# -- requests that another site's page has a browser send -----------------------------------------


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({}, False),
        ({"sec-fetch-site": "same-origin", "origin": "https://ct.example"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-site"}, True),
        ({"origin": "https://ct.example"}, False),
        ({"origin": "http://ct.example"}, False),
        ({"origin": "https://ct.example:8443"}, True),
        ({"origin": "https://evil.example"}, True),
        ({"origin": "https://ct.example.evil.example"}, True),
        ({"origin": "null"}, True),
        ({"origin": "https://evil.example", "x-forwarded-host": "evil.example"}, True),
    ],
)
def test_a_browser_says_where_a_request_comes_from(headers: dict[str, str], foreign: bool) -> None:
    raw = [(k.encode(), v.encode()) for k, v in ({"host": "ct.example"} | headers).items()]
    for method in ("GET", "POST"):
        assert is_cross_site({"type": "http", "method": method, "headers": raw}) == foreign


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil"}])
def test_another_sites_page_can_neither_call_nor_upload_nor_sign_in(
    app: str, headers: dict[str, str], empty: Path
) -> None:
    for path in POSTS:
        assert httpx.post(f"{app}/{path}", json={}, headers=headers).status_code == 403, path
    files = {"files": ("scan.nii", b"x")}
    assert httpx.post(f"{app}/gradio_api/upload", files=files, headers=headers).status_code == 403
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil"}])
def test_another_sites_page_reads_no_answer_but_may_link_here(
    app: str, headers: dict[str, str]
) -> None:
    """Gradio lets every page read everything where the app has a name of its own."""
    asked = {"Host": "ct.example", **headers}
    paths = (
        "",
        "config",
        "gradio_api/info",
        "rad3d/volume",
        "gradio_api/queue/data?session_hash=x",
    )
    for path in paths:
        assert httpx.get(f"{app}/{path}", headers=asked).status_code == 403, path
    followed = asked | {"Sec-Fetch-Mode": "navigate"}
    assert httpx.get(app, headers=followed).status_code == 200
    form = httpx.post(f"{app}/login", data={}, headers=followed)
    assert form.status_code == 403, "a form of another site"


def test_the_browser_is_told_to_fetch_from_nowhere_else_and_to_keep_nothing(app: str) -> None:
    page = httpx.get(app)
    policy = page.headers["content-security-policy"]
    rules = {rule.split()[0]: set(rule.split()[1:]) for rule in policy.split("; ")}
    assert rules["default-src"] == {"'self'", "data:", "blob:", "'unsafe-inline'"}
    assert rules["script-src"] == {"'self'", "'unsafe-inline'", "'unsafe-eval'"}
    assert "connect-src" not in policy, "nothing is allowed beyond that"
    for path in ("", "config", "gradio_api/info", "rad3d/volume", "gradio_api/queue/status"):
        answer = httpx.get(f"{app}/{path}")
        assert answer.headers["cache-control"] == "no-store", path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
    with httpx.stream("GET", f"{app}/gradio_api/queue/data?session_hash=x") as events:
        assert events.headers["cache-control"] == "no-store", "reports come that way"


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", POSTS)
def test_a_body_over_the_limit_is_refused_before_it_is_looked_into(app: str, path: str) -> None:
    """Gradio would hold it in memory, or on the disk where it is a form."""
    kind = "multipart/form-data; boundary=b" if path == "login" else "application/json"
    sizes = {MAX_BODY_BYTES + 1: True, MAX_BODY_BYTES: False}
    for size, refused in sizes.items():
        pieces = iter([bytes(size - 1), b"x"])  # in chunks: nothing says how long it is
        answer = httpx.post(f"{app}/{path}", content=pieces, headers={"Content-Type": kind})
        assert (answer.status_code == 413) == refused


def test_every_route_that_takes_a_body_is_tried_here() -> None:
    """All but the upload, whose limits follow."""
    parts = " ".join(ALLOWED["POST"])
    named = {part for path in POSTS for part in path.removeprefix("gradio_api/").split("/")}
    assert set(re.findall(r"[a-z]\w+", parts)) - named == {"gradio_api", "upload"}


# -- floods of uploads -----------------------------------------------------------------------------


class Sender:
    """An upload that goes on for as long as one likes, and says nowhere how long it is."""

    def __init__(self, address: str) -> None:
        host, port = address.removeprefix("http://").split(":")
        self._line = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        head = (
            "POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        )
        self._line.sendall(head.encode())
        self.send(b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.nii"\r\n\r\n')

    def send(self, piece: bytes) -> None:
        self._line.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))

    def end(self) -> str:
        """The first line of the answer."""
        self.send(b"\r\n--b--\r\n")
        self._line.sendall(b"0\r\n\r\n")
        with self._line:
            return self._line.recv(100).decode().split("\r\n")[0]


def test_uploads_at_the_same_time_share_the_room(
    app: str, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is small enough and says no length; together they are over the limit."""
    monkeypatch.setattr(limits, "COUNTED_EVERY_BYTES", 2**18)
    senders = [Sender(app) for _ in range(limits.MAX_FILES + 4)]
    for sender in senders:
        for _ in range(6):
            sender.send(bytes(2**19))
    answers = [sender.end() for sender in senders]
    assert any("507" in answer for answer in answers), answers
    assert any("200" in answer for answer in answers), answers
    assert sum(path.stat().st_size for path in empty.rglob("*") if path.is_file()) <= 33 * 2**20


def test_a_form_field_that_is_no_file_is_refused_before_its_content(app: str, empty: Path) -> None:
    """The parser would keep it in memory, however long it is."""
    start = b'--b\r\nContent-Disposition: form-data; name="files"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    url = f"{app}/gradio_api/upload"
    answer = httpx.post(url, content=start + b"x\r\n--b--\r\n", headers=headers)
    assert answer.status_code == 400
    assert list(empty.iterdir()) == []


def test_a_million_empty_files_do_not_fit(app: str, empty: Path) -> None:
    room = limits.MAX_FILES * 4 * 2**20 // limits.MIN_COUNTED_BYTES
    answers = [
        httpx.post(f"{app}/gradio_api/upload", files=[("files", ("a.nii", b""))] * 8).status_code
        for _ in range(room // 8 + 2)
    ]
    assert answers[0] == 200
    assert answers[-1] == 507
    assert len(list(empty.iterdir())) <= room + 8


def test_who_fills_the_room_locks_nobody_out(app: str, empty: Path) -> None:
    """396 requests of 599 bytes once locked the uploads of all for ten minutes."""
    room = limits.MAX_FILES * 4 * 2**20 // limits.MIN_COUNTED_BYTES
    tiny = [("files", ("a.nii", b""))] * 8
    url = f"{app}/gradio_api/upload"
    for _ in range(room // 8):
        assert httpx.post(url, files=tiny).status_code == 200
    assert httpx.post(url, files=tiny).status_code == 507
    elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(transport=elsewhere) as other:
        sent = other.post(url, files={"files": ("scan.nii", b"x" * 1000)})
    assert sent.status_code == 200, "another client has a place"
    assert Path(sent.json()[0]).is_file()
    assert len(list(empty.iterdir())) <= room
    old = time.time() - 2 * limits.WANTED_SECONDS
    for home in empty.iterdir():
        os.utime(home, (old, old))
    assert httpx.post(url, files=tiny).status_code == 200, "what nobody opened makes room"


def test_a_slow_upload_arrives_and_one_that_has_stopped_is_swept_away(
    app: str, empty: Path
) -> None:
    slow, stopped = Sender(app), Sender(app)
    for sender in (slow, stopped):
        sender.send(b"x" * 2**17)
    assert eventually(lambda: len(arriving(empty)) == 2)
    first, second = arriving(empty)
    long_ago = time.time() - 2 * limits.UNREAD_SECONDS
    for folder in (first.parent, second.parent):
        os.utime(folder, (long_ago, long_ago))
    uploads.sweep()
    assert len(arriving(empty)) == 2, "both have sent something just now"
    for path in (first, second):
        os.utime(path, (long_ago, long_ago))
    slow.send(b"x" * 2**17)
    assert eventually(lambda: any(p.stat().st_mtime > long_ago + 9 for p in arriving(empty)))
    uploads.sweep()
    assert len(arriving(empty)) == 1
    assert "200" in slow.end()
    assert "400" in stopped.end()


def arriving(home: Path) -> list[Path]:
    """Files that are being written."""
    found = [path for path in home.rglob("*") if path.is_file() and path.name[:6] != "upload"]
    return [path for path in found if path.stat().st_size > 0]


# -- what keeps others waiting ---------------------------------------------------------------------


def head(address: str, request: bytes, seconds: float = PATIENCE_S) -> bytes:
    """The first line of the answer to these bytes; empty where the connection was closed."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as line:
        line.sendall(request)
        return line.recv(100).split(b"\r\n")[0]


def test_a_call_with_many_values_is_refused_before_gradio_looks_into_it(app: str) -> None:
    fine = {"fn_index": 0, "session_hash": "x", "data": [0] * 100}
    assert httpx.post(f"{app}/gradio_api/queue/join", json=fine).status_code != 400
    many = {"fn_index": 0, "session_hash": "x", "data": [0] * (MAX_VALUES + 1)}
    nested = {"fn_index": 0, "session_hash": "x", "data": [[[0] * 50] * 50]}
    for body in (many, nested):
        refused = httpx.post(f"{app}/gradio_api/queue/join", json=body)
        assert (refused.status_code, refused.json()["error"]) == (
            400,
            "The request has too many values.",
        )


def test_a_boundary_that_no_program_makes_is_a_damaged_upload_and_no_defect(app: str) -> None:
    for length in (100, 60_000):
        kind = {"Content-Type": f"multipart/form-data; boundary={'b' * length}"}
        answer = httpx.post(f"{app}/gradio_api/upload", content=b"x", headers=kind)
        assert answer.status_code == 400


def test_a_body_and_a_head_that_do_not_arrive_are_given_up(
    app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.2)
    join = b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
    assert b"408" in head(app, join)
    for begun in (b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "):
        with contextlib.suppress(ConnectionResetError):
            assert head(app, begun) == b""


def test_of_too_many_connections_the_longest_silent_go_first_and_none_that_works() -> None:
    class Line:
        def __init__(self, working: bool) -> None:
            self.cycle = SimpleNamespace(response_complete=False) if working else None
            self.transport = SimpleNamespace(abort=lambda: closed.append(self))

    closed: list[Line] = []
    now = 0.0
    doorkeeper = Connections(most=4, clock=lambda: now)
    old, working = [Line(False), Line(False)], [Line(True), Line(True)]
    assert doorkeeper.sweep([*old, *working]) == 0
    now = 5.0
    new = [Line(False), Line(False)]
    assert doorkeeper.sweep([*new, *working, *old]) == 2
    assert closed == old
    now = 5.0 + limits.HEAD_SECONDS + 1
    assert doorkeeper.sweep([*new, *working]) == 2, "silent for too long"
    assert closed == [*old, *new]


def test_over_https_the_browser_is_told_to_come_no_other_way(app: str) -> None:
    plain = httpx.get(app).headers
    assert "strict-transport-security" not in plain
    for name in ("permissions-policy", "cross-origin-opener-policy"):
        assert plain[name]
    assert plain["cross-origin-resource-policy"] == "same-origin"
    secure = httpx.get(app, headers={"X-Forwarded-Proto": "https"}).headers
    assert "max-age=" in secure["strict-transport-security"]


def test_over_https_every_cookie_is_secure() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        cookies = [(b"set-cookie", b"one=1; Path=/"), (b"set-cookie", b"two=2; Secure")]
        await send({"type": "http.response.start", "status": 200, "headers": cookies})
        await send({"type": "http.response.body", "body": b""})

    def cookies(scheme: str) -> list[str]:
        async def told_app(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, with_security_headers(scope, "/", send))

        answer = TestClient(told_app, base_url=f"{scheme}://x").get("/")
        return answer.headers.get_list("set-cookie")

    assert cookies("http") == ["one=1; Path=/", "two=2; Secure"]
    assert cookies("https") == ["one=1; Path=/; Secure", "two=2; Secure"]
