"""What stays of a person in the browser and on the server, seen from a browser: nothing.

The page is used in full (scan, report, evaluation), and every place in which a browser keeps things
is read out. A proxy that stands for the rest of the world notes whatever asks for it.
"""

from __future__ import annotations

import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser.fake_evaluations import FakeEvaluations
from browser.fakes import FakeService
from browser.fixtures import StartApp, Visit
from browser.launch import small_chest
from browser.pages import VIEWER, open_evaluation, upload, write_report
from playwright.sync_api import Browser, Error, Page, expect
from tabs import KEY, eventually

from rad3d.server import uploads

pytestmark = pytest.mark.browser

CHROMIUMS_OWN = "content-autofill.googleapis.com"
"""Asked by Chromium, not by the page, what the fields of a form may hold, on every site."""

TOUR = {"rad3d-tour": "seen"}
"""All that the page keeps: that its tour was seen, see SECURITY.md."""

NAME = "DOE^JANE 1970.nii.gz"
WORDS = ("JANE", "DOE", "well inflated", "nodule")
"""What must be found nowhere: of the file's name and of the report."""

STORED = """async () => {
  const found = {
    localStorage: {...localStorage}, sessionStorage: {...sessionStorage},
    indexedDB: await indexedDB.databases(), caches: await caches.keys(), workers: [], files: [],
    cookies: document.cookie, name: window.name, address: location.href, history: history.length,
  };
  for (const worker of await navigator.serviceWorker.getRegistrations())
    found.workers.push(worker.scope);
  for await (const name of (await navigator.storage.getDirectory()).keys()) found.files.push(name);
  return found;
}"""
"""Everything that a page can leave in its browser."""


@pytest.fixture
def named(chest: Path, tmp_path: Path) -> Path:
    """A scan whose file bears a person's name."""
    path = tmp_path / NAME
    path.write_bytes(chest.read_bytes())
    return path


@pytest.fixture
def evaluated(start_app: StartApp, page_service: FakeService) -> str:
    """Address of an app that has a study to look at."""
    return start_app(page_service, evaluations=FakeEvaluations(page_service, n=6))


class World:
    """Every host but this machine, as a browser's proxy sees it: notes what is asked, refuses."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._line = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._line.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                caller, _ = self._line.accept()
            except OSError:  # closed
                return
            with caller:
                self.asked.append(caller.recv(4096).partition(b"\r\n")[0].decode("latin-1"))
                caller.sendall(b"HTTP/1.1 502 no\r\nContent-Length: 0\r\n\r\n")

    def close(self) -> None:
        """Listen no more."""
        self._line.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def use_everything(page: Page, scan: Path) -> None:
    """A scan, a report, an evaluation, a case of it, and an evaluation of one's own."""
    upload(page, scan)
    write_report(page)
    open_evaluation(page)
    page.locator(".r3-cases [data-case]").first.click()
    expect(page.locator("#case .r3-pair section")).to_have_count(2)
    page.get_by_text("Run an evaluation").click()
    page.locator("#run-start").click()
    expect(page.locator("#headline h2")).to_have_text("Own run")


def left_in_browser(page: Page, address: str) -> dict[str, Any]:
    """What a browser keeps, without what is empty."""
    found = page.evaluate(STORED)
    assert found.pop("address").rstrip("/") == address, "no state in the address"
    assert found.pop("history") <= 2, "nothing to go back to"
    found["all cookies"] = page.context.cookies()
    return {place: held for place, held in found.items() if held}


def of_ours(*shown: str) -> list[str]:
    """Words of the person's that stand in some texts."""
    return [word for word in WORDS if any(word in text for text in shown)]


def test_after_all_of_it_the_browser_holds_nothing_and_nobody_else_was_asked(
    visit: Visit, browser: Browser, evaluated: str, named: Path, world: World
) -> None:
    proxy: Any = {"proxy": {"server": world.address, "bypass": "127.0.0.1"}}
    page = visit(evaluated, **proxy)
    use_everything(page, named)
    assert left_in_browser(page, evaluated) == {"localStorage": TOUR}
    assert [line for line in world.asked if CHROMIUMS_OWN not in line] == []
    with browser.new_context(**proxy) as other, pytest.raises(Error, match=r"example\.org"):
        other.new_page().goto("http://example.org/")
    assert any("example.org" in line for line in world.asked), "this test sees what leaves"
    page.evaluate(f"localStorage.setItem('x', {json.dumps(NAME)})")
    assert left_in_browser(page, evaluated) == {"localStorage": {**TOUR, "x": NAME}}, (
        "it sees what lies"
    )
    page.evaluate("localStorage.clear()")


def reached(address: str, key: str) -> set[int]:
    """How the server answers who asks for the scan with a key."""
    asked = (
        "volume",
        "volume?view=model",
        "geometry",
        "slice?plane=axial&index=3&level=-600&width=1500",
    )
    return {
        httpx.get(f"{address}/rad3d/{path}", headers={KEY: key}, timeout=60).status_code
        for path in asked
    }


def files(*folders: Path) -> list[Path]:
    """Files of the server's that hold something of a person."""
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def test_delete_leaves_no_file_no_slice_and_no_word_and_the_page_says_so(
    visit: Visit,
    evaluated: str,
    page_service: FakeService,
    named: Path,
    chest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = tmp_path / "temporary"
    work.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(work))  # as rad3d.ui.launch has it
    page = visit(evaluated)
    use_everything(page, named)
    page.get_by_role("tab", name="Report").click()
    key = page.evaluate(f"{VIEWER}.state.key")
    assert reached(evaluated, key) == {200}
    assert of_ours(page.content()) == list(WORDS), "this test can see what is shown"
    page.locator("#delete").click()
    expect(page.locator("#notice")).to_contain_text("are deleted")
    expect(page.locator(".r3-empty")).to_be_visible()
    expect(page.locator(".r3-report.empty")).to_be_visible()
    assert reached(evaluated, key) == {404}
    assert key not in page_service.open_sessions
    assert files(uploads.folder(), work) == []
    assert left_in_browser(page, evaluated) == {"localStorage": TOUR}
    assert page.evaluate(f"[{VIEWER}.sources.scan, {VIEWER}.sources.model]") == [None, None]
    page.get_by_role("tab", name="Report").click()
    assert of_ours(*page.locator(".r3-left, .r3-right").all_inner_texts()) == []
    upload(page, chest)
    assert reached(evaluated, page.evaluate(f"{VIEWER}.state.key")) == {200}


def test_a_closed_tab_frees_its_session_within_seconds(
    visit: Visit, page_app: str, page_service: FakeService, named: Path
) -> None:
    page, other = visit(page_app), visit(page_app)
    upload(page, named)
    write_report(page)
    key = page.evaluate(f"{VIEWER}.state.key")
    assert key in page_service.open_sessions
    page.close()
    assert eventually(lambda: key not in page_service.open_sessions, 10)
    assert reached(page_app, key) == {404}
    assert files(uploads.folder()) == []
    still_open = other.evaluate(f"{VIEWER}.state.key")
    assert still_open in page_service.open_sessions, "only the closed one"


def test_two_people_do_not_see_each_other(visit: Visit, page_app: str, chest: Path) -> None:
    first, second = visit(page_app), visit(page_app)
    upload(first, chest)
    other = small_chest(chest.with_name("stranger.nii.gz"), shift=15.0)
    upload(second, other)
    for page in (first, second):
        page.get_by_role("button", name="Generate report").click()
    names = ("chest.nii.gz", "stranger.nii.gz")
    for page, own, other_name in ((first, *names), (second, names[1], names[0])):
        expect(page.locator(".r3-status")).to_contain_text("finished")
        expect(page.locator(".r3-read")).to_contain_text(own)
        assert other_name not in page.content()
    keys = {page.evaluate(f"{VIEWER}.state.key") for page in (first, second)}
    assert len(keys) == 2
