"""The app behind a login, and below a path of a reverse proxy."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from browser.fakes import FakeService, sample_card
from browser.launch import running_app
from browser.proxy import proxied
from gradio_client import Client, handle_file
from study_of_readers import small_design
from tabs import PATIENCE_S

from rad3d.core.errors import BadRequest
from rad3d.core.settings import Settings
from rad3d.readers.store import RatingStore
from rad3d.server.login import accounts, public_path
from rad3d.ui.routes import KEY_HEADER

pytestmark = pytest.mark.process


def fake(chest: Path) -> FakeService:
    return FakeService((sample_card("one", "Sample one", "A chest", chest),), seconds_per_word=0.01)


def test_a_login_is_read_and_a_malformed_one_refused_without_quoting_it() -> None:
    assert accounts("") is None
    assert accounts("ann:pw,bob:p:w") == [("ann", "pw"), ("bob", "p:w")]
    for wrong in ("hunter2", "ann:", ":hunter2", "ann:hunter2,", "ann:hunter2,x"):
        with pytest.raises(BadRequest) as refused:
            accounts(wrong)
        assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(Settings(login="ann:hunter2", metrics_token="hunter2"))


def test_a_sub_path_is_read_and_a_malformed_one_refused() -> None:
    assert public_path("") == ""
    assert public_path("/rad3d/") == "/rad3d"
    assert public_path("https://example.org/rad3d") == "https://example.org/rad3d"
    with pytest.raises(BadRequest, match="must begin with /"):
        public_path("rad3d")


OTHERS = (
    ("GET", "/gradio_api/info"),
    ("GET", "/gradio_api/heartbeat/abc"),
    ("GET", "/gradio_api/queue/data?session_hash=abc"),
    ("GET", "/gradio_api/queue/status"),
    ("GET", "/gradio_api/upload_progress?upload_id=abc"),
    ("GET", "/gradio_api/call/write_report/abc"),
    ("POST", "/gradio_api/run/open_sample"),
    ("POST", "/gradio_api/call/v2/open_sample"),
    ("POST", "/gradio_api/cancel"),
    ("POST", "/gradio_api/reset"),
)


def test_with_a_login_nothing_of_the_app_is_open_to_a_stranger(chest: Path, tmp_path: Path) -> None:
    with running_app(fake(chest), tmp_path, login="ann:pw") as url:
        asked = {
            "/config": 401,
            "/rad3d/volume": 401,
            "/rad3d/slice": 401,
            "/rad3d/thumbnail/one": 401,
        }
        for path, status in asked.items():
            assert httpx.get(url + path).status_code == status, path
        files = {"files": ("scan.nii", b"x")}
        assert httpx.post(f"{url}/gradio_api/upload", files=files).status_code == 401
        joined = httpx.post(f"{url}/gradio_api/queue/join", json={"fn_index": 0, "data": []})
        assert joined.status_code == 401
        for method, path in OTHERS:
            assert httpx.request(method, url + path, json={}).status_code == 401, path
        assert httpx.get(f"{url}/rad3d/static/style.css").status_code == 200
        wrong = httpx.post(f"{url}/login", data={"username": "ann", "password": "no"})
        assert wrong.status_code == 400
        client = Client(url, auth=("ann", "pw"), verbose=False)
        assert client.predict(handle_file(chest), api_name="/open_scan")["shape"] == [96, 96, 60]
        job = client.submit("phantom-l/v3", {}, api_name="/write_report")
        assert job.result(timeout=PATIENCE_S)["event"] == "done"


def test_with_a_login_a_reader_study_opens_by_its_link_alone_and_opens_nothing_else(
    chest: Path, tmp_path: Path
) -> None:
    store = RatingStore(tmp_path / "readers.sqlite")
    _, secret = store.create(small_design())
    ratings = {"ratings_file": str(store.path)}
    with running_app(fake(chest), tmp_path, login="ann:pw", **ratings) as url:
        assert httpx.get(f"{url}/read").status_code == 200
        assert httpx.get(f"{url}/rad3d/static/reading.js").status_code == 200
        key = {KEY_HEADER: secret}
        assert httpx.get(f"{url}/read/study", headers=key).json()["title"] == "Chest CTs"
        code = httpx.post(f"{url}/read/join", headers=key, content="{}").json()["code"]
        key = {KEY_HEADER: f"{secret}.{code}"}
        assert httpx.get(f"{url}/read/screen/next", headers=key).json()["position"] == 0
        assert httpx.get(f"{url}/read/study").status_code == 404
        assert httpx.get(f"{url}/config", headers=key).status_code == 401
        for path in ("studies", "studies/abc/results", "studies/abc/ratings.csv"):
            assert httpx.get(f"{url}/{path}", headers=key).status_code == 401, path
        for path in ("read/", "read/join", "read/other", "read/screen", "read/0/rad3d/volume/x"):
            assert httpx.get(f"{url}/{path}", headers=key).status_code == 404, path
        foreign = key | {"Sec-Fetch-Site": "cross-site"}
        assert httpx.post(f"{url}/read/join", headers=foreign, content="{}").status_code == 403
        too_much = httpx.post(f"{url}/read/screen/0", headers=key, content=b"x" * 200_000)
        assert too_much.status_code == 413


def test_the_app_works_below_a_path_of_a_reverse_proxy(chest: Path, tmp_path: Path) -> None:
    with (
        running_app(fake(chest), tmp_path, root_path="/ct/app") as url,
        proxied(url, "/ct/app") as public,
    ):
        page = httpx.get(public)
        assert page.status_code == 200
        assert httpx.get(f"{public}config").json()["root"] == public.rstrip("/")
        linked = re.findall(r'(?:src|href)="(/[^"/][^"]*)"', page.text)
        outside = {link for link in linked if not link.startswith("/ct/app/")}
        assert outside <= {"/manifest.json"}, "Gradio's, of no use without its PWA"
        assert "rad3d/static/style.css" in page.text
        assert "/rad3d/static/style.css" not in page.text, "relative, so below the path"
        assert httpx.get(f"{public}rad3d/static/style.css").status_code == 200
        client = Client(public, verbose=False)
        assert client.predict(handle_file(chest), api_name="/open_scan")["shape"] == [96, 96, 60]
        job = client.submit("phantom-l/v3", {}, api_name="/write_report")
        assert job.result(timeout=PATIENCE_S)["event"] == "done"
        assert 'href="rad3d/static/reading.css"' in httpx.get(f"{public}read").text
        assert httpx.get(f"{public}read/study").json()["code"] == "no_study"
        for path in ("gradio_api/file=/etc/passwd", "rad3d/volume", "ct/app/rad3d/volume"):
            assert httpx.get(f"{public}{path}").status_code == 404, path


def test_with_a_login_a_path_with_the_prefix_is_no_way_around_it(
    chest: Path, tmp_path: Path
) -> None:
    with running_app(fake(chest), tmp_path, root_path="/ct/app", login="ann:pw") as url:
        for path in ("rad3d/thumbnail/one", "rad3d/volume", "gradio_api/info"):
            for start in ("", "/ct/app", "//ct/app", "/ct/app/ct/app"):
                answer = httpx.get(f"{url}{start}/{path}")
                assert answer.status_code in (401, 404), (start, path)
