"""Only who opened the link that the app printed has the owner's rights, whatever is in between."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from browser.launch import running_app
from tabs import Tab

from rad3d.core.errors import BadRequest
from rad3d.core.settings import Settings
from rad3d.data.spec import SetSpec
from rad3d.evaluation.access import OPERATOR
from rad3d.evaluation.evaluations import Evaluations
from rad3d.evaluation.run_types import EvaluationRequest
from rad3d.server.owner import cookie_name, is_owner, link
from rad3d.service.service import Service

pytestmark = pytest.mark.process


@contextlib.contextmanager
def nginx(target: str) -> Iterator[str]:
    """What nginx makes of requests under ``proxy_pass http://127.0.0.1:7860;`` and nothing else.

    HTTP/1.0, the upstream's address as Host, ``Connection: close``, and the visitor's other headers
    as they came: no word of a proxy.
    """
    upstream = target.removeprefix("http://")
    host, port = upstream.split(":")

    def pass_on(visitor: socket.socket) -> None:
        with visitor, visitor.makefile("rb") as lines, contextlib.suppress(OSError):
            method, path, _ = lines.readline().split()
            kept = []
            length = 0
            while (line := lines.readline()) not in (b"\r\n", b""):
                name = line.split(b":")[0].lower()
                length = int(line.split(b":")[1]) if name == b"content-length" else length
                if name not in (b"host", b"connection", b"keep-alive"):
                    kept.append(line)
            head = [method, path, b"HTTP/1.0\r\nHost:", upstream.encode()]
            request = b" ".join(head) + b"\r\nConnection: close\r\n" + b"".join(kept) + b"\r\n"
            with socket.create_connection((host, int(port))) as app:
                app.sendall(request + lines.read(length))
                while piece := app.recv(2**16):
                    visitor.sendall(piece)

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=pass_on, args=[line.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as line:
        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{line.getsockname()[1]}"
        line.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def evaluations(tmp_path: Path) -> Evaluations:
    settings = Settings(models_dir=tmp_path / "none", runs_dir=tmp_path / "runs")
    service = Service(settings, samples_dir=tmp_path / "none")
    visitors = tmp_path / "visitors"
    return Evaluations(service, settings, study_dir=tmp_path / "none", visitors_dir=visitors)


def scored(evaluations: Evaluations, folder: Path, owner: str) -> str:
    """The id of a run on a small file of this machine."""
    specs = []
    for name in ("private", "secret"):
        path = folder / f"{name}.jsonl"
        rows = [{"id": i, "reference": "Normal.", "prediction": "Nodule."} for i in "ab"]
        path.write_text("\n".join(map(json.dumps, rows)))
        specs.append(SetSpec("predictions", str(path)))
    request = EvaluationRequest(tuple(specs), draws=10, owner=owner)
    *_, last = evaluations.start(request, threading.Event())
    assert last.run is not None
    return last.run.id


def seen(tab: Tab) -> str:
    """What the Evaluation tab shows when it is opened."""
    *_, last = tab.events("open_tab")
    return json.dumps(last["output"])


def test_behind_a_plain_proxy_a_stranger_sees_nothing_of_the_owner_and_the_owner_sees_all(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    run = scored(evaluations, tmp_path, OPERATOR)
    service = evaluations._service
    with running_app(service, tmp_path, evaluations) as url, nginx(url) as public:
        for address in (public, url):  # the second: no proxy, and no link opened either
            with Tab(address) as stranger:
                assert run not in seen(stranger)
                *_, last = stranger.events("pick_run", run)
                assert "private" not in json.dumps(last), "the name of the system"
            with Tab(address) as tab:
                answer = tab.client.get(link(address, service.owner_secret))
                assert answer.status_code == 303
                assert run in seen(tab)


def test_a_stranger_reads_no_path_of_the_machine_and_is_bounded(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    with pytest.raises(BadRequest, match="open the link that it printed"):
        scored(evaluations, tmp_path, "somebody")
    assert scored(evaluations, tmp_path, OPERATOR)
    assert evaluations.rights.bounds("somebody").cases == Settings().visitor_cases
    assert evaluations.rights.bounds(OPERATOR).cases == 0


def test_a_visitors_run_is_the_visitors_and_the_owner_keeps_what_a_closed_tab_leaves(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    own = scored(evaluations, tmp_path, OPERATOR)
    assert [run.id for run in evaluations.kept.runs("somebody")] == []
    evaluations.kept.forget(OPERATOR)
    assert [run.id for run in evaluations.kept.runs(OPERATOR)] == [own]
    assert (tmp_path / "runs" / "evaluations" / own).is_dir(), "it outlives the server"


def test_the_link_gives_a_cookie_that_no_script_and_no_other_site_gets(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    service = evaluations._service
    with running_app(service, tmp_path, evaluations) as url:
        answer = httpx.get(link(f"{url}/", service.owner_secret))
        assert (answer.status_code, answer.headers["location"]) == (303, "./")
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=Strict"} <= set(re.split("; ", cookie))
        assert answer.headers["cache-control"] == "no-store"
        for wrong in ("", "x", service.owner_secret[:-1], service.owner_secret + "x", "%00", "é"):
            refused = httpx.get(f"{url}/", params={"owner": wrong})
            assert refused.status_code == 200, "the page, for a visitor"
            assert "set-cookie" not in refused.headers


def test_a_cookie_proves_only_what_its_server_gave() -> None:
    assert is_owner("secret", {cookie_name("secret"): "secret"})
    for cookies in ({}, {cookie_name("secret"): ""}, {cookie_name("other"): "secret"}):
        assert not is_owner("secret", cookies)
    assert not is_owner("", {cookie_name(""): ""})
    assert cookie_name("one") != cookie_name("two"), "two servers of a machine share its cookies"


@pytest.mark.parametrize(
    ("changes", "linked"),
    [
        ({}, True),
        ({"host": "localhost"}, True),
        ({"host": "::1"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": "192.0.2.7"}, False),
        ({"login": "ann:pw"}, False),
        ({"root_path": "/rad3d"}, False),
        ({"zero_gpu": True}, False),
        ({"owner_link": "off"}, False),
        ({"host": "0.0.0.0", "login": "ann:pw", "owner_link": "on"}, True),
    ],
)
def test_a_link_is_printed_for_one_person_or_where_the_operator_says_so(
    changes: dict[str, object], linked: bool
) -> None:
    settings = Settings(**changes)  # type: ignore[arg-type]
    assert settings.has_owner_link == linked
    printed = link("http://x/", Service(settings).owner_secret)
    assert printed.startswith("http://x/?owner=") == linked


def test_a_setting_that_is_neither_on_nor_off_is_refused() -> None:
    with pytest.raises(BadRequest, match="RAD3D_OWNER_LINK"):
        Settings(owner_link="yes").has_owner_link  # noqa: B018
