"""The page of a reader study in a browser: by keyboard, on a desk and a phone, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser.fakes import FakeService
from browser.fixtures import KEPT, PATIENCE_MS
from browser.launch import running_app
from browser.pages import PHONE, faint_texts, widest
from browser.proxy import proxied
from playwright.sync_api import BrowserContext, Page, Route, expect

from rad3d.readers.store import RatingStore
from rad3d.readers.types import Case, Design, Study

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

DESK: dict[str, Any] = {"viewport": {"width": 1366, "height": 768}}
SYSTEMS = ("phantom-l/v1", "phantom-l/v3")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RatingStore:
    return RatingStore(tmp_path_factory.mktemp("runs") / "readers.sqlite")


@pytest.fixture(scope="module")
def address(
    page_service: FakeService, store: RatingStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("app")
    with running_app(page_service, folder, ratings_file=str(store.path)) as url:
        yield url


@pytest.fixture
def study(store: RatingStore, chest: Path) -> tuple[Study, str]:
    """Two systems on two cases, the second without a scan, and the secret of the link."""
    texts = {
        name: "Findings: A nodule of 9 mm in the right upper lobe. No effusion.\n"
        f"Impression: Nodule, version {i}."
        for i, name in enumerate(SYSTEMS)
    }
    scans = (str(chest), "")
    cases = tuple(Case(f"case-{n}", scan, "One nodule.", texts) for n, scan in enumerate(scans))
    return store.create(Design("Chest CTs", SYSTEMS, cases, per_case=2))


@pytest.fixture
def contexts(browser: Browser) -> Iterator[Any]:
    """``contexts(**options)`` is a new browser; a script error or a request elsewhere fails."""
    made: list[BrowserContext] = []
    problems: list[str] = []

    def new(**options: Any) -> BrowserContext:
        context = browser.new_context(**{**DESK, **options})
        context.set_default_timeout(PATIENCE_MS)
        context.on("weberror", lambda error: problems.append(str(error.error)))
        context.on(
            "request",
            lambda request: (
                problems.append(request.url)
                if not request.url.startswith(("http://127.0.0.1", "blob:", "data:"))
                else None
            ),
        )
        made.append(context)
        return context

    yield new
    for context in made:
        for page in context.pages:
            problems.extend(f"left behind: {key}" for key in page.evaluate(KEPT))
        context.close()
    assert problems == []


def opened(context: BrowserContext, address: str, secret: str) -> Page:
    page = context.new_page()
    page.goto(f"{address}/read#{secret}")
    expect(page.locator("#welcome, #reading, #finished").locator("visible=true")).to_be_visible()
    return page


def at_report(page: Page, number: int) -> None:
    expect(page.locator("#progress")).to_contain_text(f"Report {number} of")
    expect(page.locator("#reading")).to_be_visible()


def axe(page: Page) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    return [
        f"{rule['id']}: {[node['html'][:160] for node in rule['nodes'][:4]]}"
        for rule in Axe().run(page).response["violations"]
    ]


def looks_right(page: Page) -> None:
    assert axe(page) == []
    assert faint_texts(page) == []
    assert widest(page) <= page.evaluate("innerWidth")


def test_a_whole_study_is_read_by_keyboard_alone(
    contexts: Any, address: str, store: RatingStore, study: tuple[Study, str]
) -> None:
    page = opened(contexts(), address, study[1])
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.keyboard.press("Tab")
    expect(page.locator("#begin")).to_be_focused()
    page.keyboard.press("Enter")
    at_report(page, 1)
    page.keyboard.press("Enter")
    expect(page.locator("#problem")).to_contain_text("Not answered yet: Clinical accuracy")
    for digit in ("4", "5", "1"):
        page.keyboard.press(digit)
    expect(page.locator("#save")).to_be_focused()
    page.keyboard.press("Enter")
    at_report(page, 2)
    for digit in ("2", "3", "3", "1"):
        page.keyboard.press(digit)
    page.keyboard.press("Shift+Tab")  # from the button to what lies before it
    page.locator("[name=preference]:checked").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("[name=preference][value=same]")).to_be_checked()
    page.keyboard.press("Enter")
    at_report(page, 3)
    for number in (3, 4):
        at_report(page, number)
        for digit in "3333":
            page.keyboard.press(digit)
        page.locator("#comment").fill("Side? " * number)
        page.locator("#save").press("Enter")
    expect(page.locator("#finished")).to_be_visible()
    answers = [rating.answer for rating in store.ratings(study[0])]
    assert [tuple(a.scores.values()) for a in answers[:2]] == [(4, 5, 1), (2, 3, 3)]
    assert [a.preference for a in answers] == ["", "same", "", "this"]
    assert answers[3].comment == ("Side? " * 4).strip()
    assert all(a.seconds > 0 for a in answers)
    assert any("/read/screen/" in url for url in asked)
    assert not any(study[1] in url for url in asked), "the secret stands in no address"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", [DESK, PHONE], ids=["desk", "phone"])
def test_every_state_of_the_page_is_accessible_and_fits(
    contexts: Any, address: str, study: tuple[Study, str], device: Any, scheme: str
) -> None:
    page = opened(contexts(**device, color_scheme=scheme), address, study[1])
    looks_right(page)
    page.locator("#begin").click()
    at_report(page, 1)
    page.locator("#save").click()
    expect(page.locator("#problem")).to_be_in_viewport()
    looks_right(page)
    for digit in "321":
        page.keyboard.press(digit)
    page.keyboard.press("Enter")
    at_report(page, 2)
    looks_right(page)
    expect(page.locator("#reference")).to_be_visible()
    for digit in "3213":
        page.keyboard.press(digit)
    page.keyboard.press("Enter")
    at_report(page, 3)
    expect(page.locator("#viewer")).to_have_attribute("aria-busy", "false")
    looks_right(page)
    page.locator("#pause").click()
    looks_right(page)
    page.goto(f"{address}/read#wrong")
    page.reload()
    expect(page.locator("#problem")).to_contain_text("opens no reader study")
    looks_right(page)


def test_a_reader_goes_on_after_a_reload_elsewhere_with_the_code_and_by_the_back_button(
    contexts: Any, address: str, store: RatingStore, study: tuple[Study, str]
) -> None:
    page = opened(contexts(), address, study[1])
    page.locator("#begin").click()
    at_report(page, 1)
    for digit in "543":
        page.keyboard.press(digit)
    page.keyboard.press("Enter")
    at_report(page, 2)
    page.reload()
    at_report(page, 2)
    code = page.locator("#answers .reading-code").inner_text()
    page.go_back()
    at_report(page, 1)
    expect(page.locator("[name=accuracy]:checked")).to_have_value("5")
    page.locator("[name=accuracy][value='2']").check()
    page.locator("#save").click()
    at_report(page, 2)
    elsewhere = opened(contexts(**PHONE), address, study[1])
    elsewhere.locator("#code").fill(code.lower())
    elsewhere.get_by_role("button", name="Go on", exact=True).click()
    at_report(elsewhere, 2)
    kept = store.ratings(study[0])
    assert [(r.answer.scores["accuracy"], r.screen.changes) for r in kept] == [(2, 2)]
    assert store.study(study[0].id).readers == 1


def test_a_quick_reader_sees_the_scan_all_the_same(
    contexts: Any, address: str, store: RatingStore, chest: Path
) -> None:
    texts = dict.fromkeys(SYSTEMS, "Findings: None.")
    cases = tuple(Case(f"case-{n}", str(chest), "", texts) for n in range(2))
    _, secret = store.create(Design("Quick", SYSTEMS, cases, per_case=2))
    page = opened(contexts(), address, secret)

    def slow(route: Route) -> None:
        page.wait_for_timeout(700)
        route.continue_()

    page.route("**/rad3d/volume*", slow)
    page.locator("#begin").click()
    for number, digits in ((1, "321"), (2, "3211"), (3, "321")):
        at_report(page, number)
        for digit in digits:
            page.keyboard.press(digit)
        page.keyboard.press("Enter")
    at_report(page, 4)
    page.wait_for_function("document.querySelector('#viewer').viewer.source")
    expect(page.locator("#viewer .r3-empty")).to_be_hidden()


def test_of_two_tabs_the_later_one_is_told_and_shows_what_is_kept(
    contexts: Any, address: str, store: RatingStore, study: tuple[Study, str]
) -> None:
    context = contexts()
    page = opened(context, address, study[1])
    page.locator("#begin").click()
    at_report(page, 1)
    other = context.new_page()
    other.goto(page.url)
    at_report(other, 1)
    for each, digits in ((page, "444"), (other, "111")):
        for digit in digits:
            each.locator("#report").press(digit)
    page.evaluate("for (const _ of '12') document.querySelector('#save').click()")
    at_report(page, 2)
    other.locator("#save").click()
    expect(other.locator("#problem")).to_contain_text("in another tab or window")
    expect(other.locator("[name=accuracy]:checked")).to_have_value("4")
    assert [r.screen.changes for r in store.ratings(study[0])] == [1]
    store.delete(study[0].id)
    other.locator("#save").click()
    expect(other.locator("#problem")).to_contain_text("the study was deleted")
    expect(other.locator("#reading")).to_be_hidden()


def test_time_counts_while_the_report_is_in_view_and_a_lost_connection_loses_no_answer(
    contexts: Any, address: str, store: RatingStore, study: tuple[Study, str]
) -> None:
    context = contexts()
    page = opened(context, address, study[1])
    page.clock.install()
    page.locator("#begin").click()
    at_report(page, 1)
    page.clock.run_for(20_000)
    page.locator("#pause").click()
    page.clock.run_for(600_000)
    page.locator("#unpause").click()
    page.clock.run_for(10_000)
    for digit in "321":
        page.keyboard.press(digit)

    def cut(route: Route) -> None:
        route.abort()

    page.route("**/read/screen/**", cut)
    page.keyboard.press("Enter")
    expect(page.locator("#problem")).to_contain_text("Your answers are still here")
    page.unroute("**/read/screen/**")
    page.locator("#save").click()
    at_report(page, 2)
    (rating,) = store.ratings(study[0])
    assert 29 < rating.answer.seconds < 120


def test_a_study_is_read_below_a_path_of_a_reverse_proxy(
    contexts: Any, page_service: FakeService, chest: Path, tmp_path: Path
) -> None:
    store = RatingStore(tmp_path / "readers.sqlite")
    texts = dict.fromkeys(SYSTEMS, "Findings: None.")
    _, secret = store.create(Design("CTs", SYSTEMS, (Case("c", str(chest), "", texts),), 2))
    settings = {"root_path": "/ct/app", "ratings_file": str(store.path)}
    with (
        running_app(page_service, tmp_path, **settings) as url,
        proxied(url, "/ct/app") as public,
    ):
        page = opened(contexts(), public.rstrip("/"), secret)
        page.locator("#begin").click()
        at_report(page, 1)
        page.wait_for_function("document.querySelector('#viewer').viewer.source")
        page.reload()
        at_report(page, 1)
