"""Fixtures of the tests that drive a browser: one Chromium, one small chest, one app to look at.

They are loaded by ``tests/conftest.py``. Playwright, gradio and torch are imported only where a
fixture is used, so that a run without browser tests does without them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tabs import PATIENCE_S

if TYPE_CHECKING:
    from browser.fakes import FakeService
    from playwright.sync_api import Browser, BrowserContext, Page, Request

    Lounge = dict[str, list[BrowserContext]]
    """Contexts that nobody is in, by the options they were made with."""

Visit = Callable[..., "Page"]
StartApp = Callable[..., str]

PATIENCE_MS = 1000 * PATIENCE_S
"""A busy machine is slow, not wrong."""

KEPT = "[...Object.keys(localStorage), document.cookie].filter(k => k && k !== 'rad3d-tour')"
"""What a page would leave to the next person at this browser, but that the tour was seen."""

TOURED = "try { localStorage.setItem('rad3d-tour', 'seen') } catch {}"


@pytest.fixture(scope="session")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan to open; see :func:`browser.launch.small_chest`."""
    from browser.launch import small_chest

    return small_chest(tmp_path_factory.mktemp("scans") / "chest.nii.gz")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Chromium, for the tests of a module.

    Not for the whole run: Playwright's event loop would stand in the way of other tests' own.
    """
    from browser.launch import CHROMIUM_ARGUMENTS
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def start_app(tmp_path: Path) -> Iterator[StartApp]:
    """``start_app(service, **settings)`` gives the address of an app for this test alone."""
    from browser.launch import running_app

    with contextlib.ExitStack() as stack:
        yield lambda service, **settings: stack.enter_context(
            running_app(service, tmp_path, **settings)
        )


@pytest.fixture(scope="module")
def lounge(browser: Browser) -> Lounge:
    """Empty at first. A context that was left has the app's scripts, so its next page is cheap."""
    return {}


@pytest.fixture
def visit(browser: Browser, lounge: Lounge, start_app: StartApp) -> Iterator[Visit]:
    """``visit(address, **options)`` opens the page of a new person, with Playwright's options.

    The tour does not start, unless ``tour=True`` is given.

    People of one test have a context each, which people of later tests get. At the end of the test
    the pages are closed, before the apps that were started for them; a script error, a request to
    elsewhere and whatever the page left in the browser fail it.
    """
    people: list[tuple[str, BrowserContext, Callable[[Request], None]]] = []
    problems: list[str] = []

    def opened(address: str, tour: bool = False, **options: Any) -> Page:
        options = {"viewport": {"width": 1440, "height": 900}, **options}
        key = f"{options} {tour}"
        free = lounge.setdefault(key, [])
        context = free.pop() if free else browser.new_context(**options)
        if not tour:
            context.add_init_script(TOURED)

        def note(request: Request) -> None:
            if not request.url.startswith((address, "blob:", "data:")):
                problems.append(f"outbound request: {request.url}")

        people.append((key, context, note))
        context.on("request", note)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
        page.goto(address)
        page.wait_for_function("document.querySelector('.r3-viewer')?.viewer?.state.key")
        return page

    yield opened
    for options, context, note in people:
        for page in context.pages:
            problems.extend(f"left behind: {key}" for key in page.evaluate(KEPT))
            page.close()
        context.remove_listener("request", note)
        context.clear_permissions()
        lounge[options].append(context)
    assert problems == []


@pytest.fixture(scope="session")
def page_service(chest: Path) -> FakeService:
    """Writes a fixed report within a second; two samples."""
    from browser.fakes import FakeService, sample_card

    cards = (
        sample_card("one", "Sample one", "A <b>quiet</b> chest", chest, truth_text="One nodule."),
        sample_card("two", "Sample two", "Another one", chest, truth_text="Nothing."),
    )
    return FakeService(cards, seconds_per_word=0.012)


@pytest.fixture(scope="session")
def page_app(page_service: FakeService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an app around :func:`page_service`; uploads of up to 4 MB."""
    from browser.launch import running_app

    with running_app(page_service, tmp_path_factory.mktemp("app"), max_upload_mb=4) as url:
        yield url


@pytest.fixture
def page(visit: Visit, page_app: str) -> Page:
    """The page of a new person at :func:`page_app`."""
    return visit(page_app)
