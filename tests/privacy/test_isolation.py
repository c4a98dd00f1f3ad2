"""Two visitors never reach each other, and nobody reaches the server's files, whatever is asked."""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser.fakes import FakeService
from tabs import KEY, Tab

from rad3d.server import uploads
from rad3d.server.access_control import file_problem
from rad3d.server.limits import MAX_BODY_BYTES

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def tab(address: str) -> Iterator[Tab]:
    with Tab(address) as opened:
        yield opened


# -- paths and forged files ----------------------------------------------------------------------


def forged() -> list[dict[str, Any]]:
    """Values that name files which are not the caller's."""
    base = uploads.folder()
    paths = [
        "/etc/passwd",
        "../../../etc/passwd",
        f"{base}/../../etc/passwd",
        f"{base}/{'0' * 32}/../../../etc/passwd",
        f"{base}/{'0' * 32}/upload/../../x",
        f"{base}/deep_links/x/state.json",
        f"{base}/{'0' * 32}/upload\0.nii",
        "file:///etc/passwd",
        "http://127.0.0.1:1/scan.nii.gz",
        "https://example.org/scan.nii.gz",
        "\\\\host\\share\\scan.nii",
        "",
    ]
    values: list[dict[str, Any]] = [{"path": path} for path in paths]
    fine = f"{base}/{'0' * 32}/upload.nii.gz"
    values += [{"path": fine, "url": "http://127.0.0.1:1/x"}, {"path": fine, "meta": "x"}]
    values += [{"url": "http://127.0.0.1:1/x"}, {"path": 7}, {"path": None}, {"path": [fine]}]
    return values


def test_every_call_refuses_every_forged_file_wherever_it_stands(tab: Tab) -> None:
    """Each function of the page and of programs, by each way of calling it."""
    meta = {"_type": "gradio.FileData"}
    client = tab.client
    for number, value in enumerate(forged()):
        marked = {"meta": meta, **value}
        for data in ([marked], [[{"deep": [marked]}]], [{"options": value}]):
            everywhere = number == 0 and data[0] is marked
            names = tab.functions if everywhere else {"open_scan": tab.functions["open_scan"]}
            for name, index in names.items():
                body = {"data": data, "session_hash": tab.hash, "fn_index": index}
                ways = [f"{tab.api}/queue/join"]
                if everywhere:  # what follows differs by path and place only
                    ways += [f"{tab.api}/{way}/{name}" for way in ("run", "api", "call", "call/v2")]
                for way in ways:
                    answer = client.post(way, json=body)
                    assert answer.status_code == 400, (way, value)
                    assert "uploaded here" in answer.text


def test_a_call_that_is_too_large_too_deep_or_no_json_is_refused(tab: Tab) -> None:
    url = f"{tab.api}/queue/join"
    large = b'{"data": ["' + b"x" * MAX_BODY_BYTES + b'"]}'
    for body, status in ((large, 413), (b"[" * 100_000, 400), (b"\xff\xfe", 400), (b"", 400)):
        answer = tab.client.post(url, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == status
    assert file_problem(b'{"data": [{"name": "x", "value": [1, {"a": "b"}]}]}') == ""


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file=/etc/passwd",
        "gradio_api/file=../../../etc/passwd",
        "gradio_api/file/etc/passwd",
        "file=/etc/passwd",
        "gradio_api/file=http://127.0.0.1:1/",
        "gradio_api/proxy=http://127.0.0.1:1/",
        "gradio_api/deep_link?session_hash=x",
        "gradio_api/custom_component/../../../etc/passwd",
        "gradio_api/stream/x/y/z/playlist.m3u8",
        "gradio_api/token",
        "gradio_api/dev/reload",
        "gradio_api/runs",
        "gradio_api/profiling/traces",
        "gradio_api/vibe-code",
        "monitoring",
        "monitoring/summary",
        "rad3d/static/..%2F..%2Fserving.py",
        "rad3d/static/%2Fetc%2Fpasswd",
        "rad3d/thumbnail/..%2F..%2Fetc%2Fpasswd",
        "assets/..%2F..%2F..%2F..%2Fetc%2Fpasswd",
        "static/..%2F..%2F..%2F..%2Fetc%2Fpasswd",
        "docs",
        "openapi.json",
    ],
)
def test_what_the_page_does_not_need_is_closed(address: str, path: str) -> None:
    answer = httpx.get(f"{address}/{path}", follow_redirects=False)
    assert answer.status_code in (403, 404), path
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "path",
    ["component_server", "process_recording", "vibe-edit", "stream/x", "stream/x/close"],
)
def test_functions_of_gradio_that_the_page_does_not_need_are_closed(
    address: str, path: str
) -> None:
    assert httpx.post(f"{address}/gradio_api/{path}", json={}).status_code == 404


# -- one visitor and another ---------------------------------------------------------------------


def test_equal_files_of_two_visitors_are_two_files_and_neither_can_be_fetched(
    address: str, chest: Path
) -> None:
    with Tab(address) as one, Tab(address) as two:
        mine, yours = one.upload(chest), two.upload(chest)
        assert mine["path"] != yours["path"]
        assert "chest" not in mine["path"], "the name is in no path"
        for value in (mine, yours):
            answer = httpx.get(f"{address}/gradio_api/file={value['path']}")
            assert answer.status_code == 404
        assert one.call("open_scan", mine)["shape"] == [96, 96, 60]
        assert two.call("open_scan", yours)["shape"] == [96, 96, 60]


def test_an_upload_is_read_once(address: str, chest: Path) -> None:
    with Tab(address) as one, Tab(address) as two:
        value = one.upload(chest)
        one.call("open_scan", value)
        with pytest.raises(RuntimeError, match="not here any more"):
            two.call("open_scan", value)


def test_a_scan_opens_with_its_key_only_not_by_hash_tab_or_address(
    address: str, chest: Path
) -> None:
    with Tab(address) as one, Tab(address) as two:
        facts = one.call("open_scan", one.upload(chest))
        key, other = one.key(), two.key()
        assert key != other
        places = ("volume", "geometry", "slice", "volume?view=model", "geometry?view=model")
        for place in places:
            url = f"{address}/rad3d/{place}"
            assert httpx.get(url, headers={KEY: key}).status_code == 200
            for guess in (other, facts["sha256"], one.hash, two.hash, "", key[:-1], key + "x"):
                assert httpx.get(url, headers={KEY: guess}).status_code == 404
            joined = f"{url}{'&' if '?' in url else '?'}key={key}"
            assert httpx.get(joined).status_code == 404


def test_what_one_visitor_writes_never_arrives_at_another(
    address: str, fake_service: FakeService, chest: Path
) -> None:
    with Tab(address) as one, Tab(address) as two:
        one.call("open_scan", one.upload(chest))
        mine = two.call("open_sample", "one")
        seen = [json.dumps(event) for event in one.events("write_report", "phantom-l/v3", {})]
        assert "nodule" in "".join(seen)
        assert "nodule" not in _delivered(two)
        assert fake_service.sessions.find(two.key()).report is None  # type: ignore[union-attr]
        assert fake_service.sessions.find(one.key()).report is not None  # type: ignore[union-attr]
        assert mine["name"] == "Sample one"
        two.call("forget")
        first = fake_service.sessions.find(one.key())
        assert first is not None
        assert first.volume is not None, "deleting is for one's own session"


def _delivered(tab: Tab) -> str:
    """What the server would deliver to a tab that asked for nothing."""
    query = {"session_hash": tab.hash}
    with (
        contextlib.suppress(httpx.HTTPError),
        tab.client.stream("GET", f"{tab.api}/queue/data", params=query, timeout=10) as stream,
    ):
        return "".join(stream.iter_lines())
    return ""


def test_results_are_not_found_by_guessing_their_event(tab: Tab) -> None:
    url = f"{tab.api}/call/write_report/{'0' * 32}"
    lines: list[str] = []
    with contextlib.suppress(httpx.HTTPError), tab.client.stream("GET", url) as stream:
        lines.extend(stream.iter_lines())
    assert lines[0] == "event: error"
    assert "nodule" not in "".join(lines)


# -- weights that are programs -------------------------------------------------------------------

LOADERS = {"load", "loads", "Unpickler", "load_checkpoint_and_dispatch"}


def unsafe_loads(source: str) -> list[str]:
    """Calls that could run what a weight file says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name == "torch.load" and options.get("weights_only") != "True":
            found.append(ast.unparse(node))
        if name.startswith(("pickle.", "joblib.", "dill.")) and name.split(".")[-1] in LOADERS:
            found.append(ast.unparse(node))
        if options.get("trust_remote_code", "False") != "False":
            found.append(ast.unparse(node))
        if options.get("allow_pickle", "False") != "False":
            found.append(ast.unparse(node))
    return found


def test_no_weights_are_loaded_in_a_way_that_runs_code() -> None:
    for path in [*sorted((ROOT / "rad3d").rglob("*.py")), ROOT / "app.py"]:
        assert unsafe_loads(path.read_text(encoding="utf-8")) == [], path.name


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "pickle.load(f)",
        "AutoModel.from_pretrained(p, trust_remote_code=True)",
        "np.load(p, allow_pickle=True)",
    ],
)
def test_the_search_for_unsafe_loading_finds_it(source: str) -> None:
    assert unsafe_loads(source)
