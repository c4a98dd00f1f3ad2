"""The app below a path of a larger site, as SECURITY.md tells operators to put it there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.fake_evaluations import FakeEvaluations
from browser.fakes import FakeService
from browser.fixtures import Visit
from browser.launch import running_app
from browser.pages import VIEWER, grey_total, open_evaluation, settle, upload, write_report
from browser.proxy import proxied
from playwright.sync_api import Page, expect
from tabs import eventually

pytestmark = pytest.mark.browser

PATH = "/ct"


@pytest.fixture(scope="module")
def address(page_service: FakeService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of the app as its visitors see it."""
    folder = tmp_path_factory.mktemp("app")
    evaluations = FakeEvaluations(page_service, n=6)
    with (
        running_app(page_service, folder, evaluations=evaluations, root_path=PATH) as inner,
        proxied(inner, PATH) as outer,
    ):
        yield outer


@pytest.fixture
def page(visit: Visit, address: str) -> Page:
    """Fails where the page asks for anything outside its path."""
    return visit(address)


def test_a_scan_is_shown_and_its_report_streams_and_is_saved(page: Page, chest: Path) -> None:
    upload(page, chest)
    settle(page)
    assert all(grey_total(page, plane) > 0 for plane in ("axial", "coronal", "sagittal"))
    page.evaluate(
        """() => { window.lengths = new Set(); new MutationObserver(() => window.lengths.add(
        document.querySelector('.r3-text')?.innerText.length)).observe(
        document.querySelector('#report'), {subtree: true, childList: true, characterData: true});
        }"""
    )
    write_report(page)
    assert page.evaluate("window.lengths.size") >= 2, "the text comes in pieces"
    expect(page.locator("#chart .main-svg").first).to_be_visible()
    with page.expect_download() as got:
        page.locator("[data-report=txt]").click()
    assert "9 mm" in Path(got.value.path()).read_text(encoding="utf-8")
    page.get_by_role("button", name="Model’s view").click()
    page.wait_for_function(f"{VIEWER}.view === 'model' && {VIEWER}.source")


def test_samples_have_their_pictures_and_the_server_draws_slices(page: Page) -> None:
    page.wait_for_function(
        "[...document.querySelectorAll('.r3-sample img')].every(i => i.naturalWidth)"
    )
    failing = "() => Promise.reject(new Error('Out of memory.'))"
    page.evaluate(f"() => {{ {VIEWER}.loader.open = {failing}; }}")
    page.locator("[data-sample=one]").click()
    page.wait_for_function(f"{VIEWER}.source?.kind === 'images'")
    assert eventually(lambda: grey_total(page, "axial") > 0)


def test_the_evaluation_opens_and_its_files_are_saved(page: Page) -> None:
    open_evaluation(page)
    page.locator("#study-figure .main-svg").first.wait_for()
    with page.expect_download() as got:
        page.locator("[data-kind=csv]").click()
    assert got.value.suggested_filename == "study.csv"


def test_a_closed_tab_is_seen_to_close_through_the_proxy(
    visit: Visit, address: str, page_service: FakeService, chest: Path
) -> None:
    page = visit(address)
    upload(page, chest)
    key = page.evaluate(f"{VIEWER}.state.key")
    assert key in page_service.open_sessions
    page.close()
    assert eventually(lambda: key not in page_service.open_sessions, 20)
