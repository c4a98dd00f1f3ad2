"""The page in headless Chromium: upload, browse, generate, cancel, phone, two people, bad files.

Around a stand-in service where timing matters, and around the shipped models at the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser.fakes import FakeCard, FakeService
from browser.launch import CHROMIUM_ARGUMENTS, running_app, small_chest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tiny_models import CountingEncoder, FakeEncoderStore, save_shipped

from rad3d.labels import LABELS
from rad3d.service.service import Service
from rad3d.settings import Settings
from rad3d.types import Novelty
from rad3d.ui.render import DISCLAIMER

pytestmark = pytest.mark.browser

VIEWER = "document.querySelector('.r3-viewer').viewer"
PHONE = {"width": 390, "height": 844}

expect.set_options(timeout=120_000)  # a busy machine is slow, not wrong


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_chest(tmp_path_factory.mktemp("scans") / "chest.nii.gz")


@pytest.fixture(scope="module")
def service(chest: Path) -> FakeService:
    cards = (
        FakeCard("one", "Sample one", "A <b>quiet</b> chest", chest, truth_text="One nodule."),
        FakeCard("two", "Sample two", "Another one", chest, truth_text="Nothing."),
    )
    return FakeService(cards, seconds_per_word=0.012)


@pytest.fixture(scope="module")
def address(service: FakeService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_app(service, tmp_path_factory.mktemp("app"), max_upload_mb=4) as url:
        yield url


@pytest.fixture(scope="module")
def slow_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An app that takes about 20 seconds for a report, so that there is time to interfere."""
    service = FakeService(seconds_per_word=0.35)
    with running_app(service, tmp_path_factory.mktemp("slow")) as url:
        yield url


@pytest.fixture
def slow_page(browser: Browser, slow_address: str) -> Iterator[Page]:
    yield from _page(browser, slow_address)


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    yield from _page(browser, address)


def _page(browser: Browser, address: str, **options: object) -> Iterator[Page]:
    """A page of its own session; script errors and requests to elsewhere fail the test."""
    settings = {"viewport": {"width": 1440, "height": 900}, **options}
    context = browser.new_context(**settings)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(120_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((address, "blob:", "data:"))
            else problems.append(f"outbound request: {request.url}")
        ),
    )
    page.goto(address)
    page.wait_for_function("document.querySelector('.r3-viewer')?.viewer?.state.key")
    yield page
    context.close()
    assert problems == []


def _upload(page: Page, path: Path) -> None:
    page.set_input_files(".r3-drop input", path)
    page.wait_for_function(f"{VIEWER}.source && {VIEWER}.state.id && !{VIEWER}.preview")


def _position(page: Page) -> list[int]:
    found: list[int] = page.evaluate(f"{VIEWER}.position")
    return found


def _grey_total(page: Page, plane: str) -> int:
    """Sum of the drawn pixels of a plane: changes when the picture does."""
    return int(
        page.evaluate(
            """plane => { const canvas = document.querySelector(
            `.r3-pane[data-plane=${plane}] canvas`); const data = canvas.getContext('2d')
            .getImageData(0, 0, canvas.width, canvas.height).data;
            let sum = 0; for (let i = 0; i < data.length; i += 4) sum += data[i]; return sum; }""",
            plane,
        )
    )


def _settle(page: Page) -> None:
    """Wait for the next drawn frame."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_an_uploaded_scan_is_shown_in_three_planes_with_its_facts(page: Page, chest: Path) -> None:
    expect(page.locator(".r3-empty")).to_be_visible()
    _upload(page, chest)
    _settle(page)
    for plane in ("axial", "coronal", "sagittal"):
        assert _grey_total(page, plane) > 0, f"{plane} is black"
    assert page.evaluate(f"{VIEWER}.source.dims") == [96, 96, 60]
    expect(page.locator(".r3-read")).to_contain_text("96 × 96 × 60")
    expect(page.locator(".r3-read")).to_contain_text("3.60 × 3.60 × 5.00 mm")
    expect(page.locator(".r3-empty")).to_be_hidden()


def test_the_patients_right_is_on_the_left_of_the_screen(page: Page, chest: Path) -> None:
    _upload(page, chest)
    marks = page.locator(".r3-pane[data-plane=axial] .r3-mark")
    assert [marks.nth(i).inner_text() for i in range(4)] == ["A", "P", "R", "L"]
    # The test chest has its larger lung on the patient's right: more dark columns on the left.
    left, right = page.evaluate(
        """() => { const canvas = document.querySelector('.r3-pane[data-plane=axial] canvas');
        const context = canvas.getContext('2d'); const {width, height} = canvas;
        const data = context.getImageData(0, 0, width, height).data; const dark = [0, 0];
        for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
          const grey = data[4 * (y * width + x)];
          if (grey > 50 && grey < 120) dark[x < width / 2 ? 0 : 1] += 1; } return dark; }"""
    )
    assert left > 1.05 * right


def test_keys_wheel_slider_and_crosshair_move_the_same_place(page: Page, chest: Path) -> None:
    _upload(page, chest)
    assert _position(page) == [48, 48, 30]
    axial = page.locator(".r3-pane[data-plane=axial] canvas")
    axial.focus()
    page.keyboard.press("ArrowUp")
    assert _position(page) == [48, 48, 31]
    page.keyboard.press("PageDown")
    assert _position(page) == [48, 48, 25]
    page.keyboard.press("Home")
    assert _position(page) == [48, 48, 0]
    page.keyboard.press("End")
    assert _position(page) == [48, 48, 59]
    axial.hover()
    page.mouse.wheel(0, 120)
    page.wait_for_function(f"{VIEWER}.position[2] === 58")
    before = _grey_total(page, "axial")
    page.locator(".r3-slide input").fill("30")
    _settle(page)
    assert _position(page) == [48, 48, 30]
    assert _grey_total(page, "axial") != before
    assert axial.get_attribute("aria-valuenow") == "31"
    box = page.locator(".r3-pane[data-plane=coronal] canvas").bounding_box()
    assert box is not None
    coronal = _grey_total(page, "sagittal")
    page.mouse.click(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.4)
    _settle(page)
    x, y, z = _position(page)
    assert x > 48, "left of the screen is the patient's right, which is +x"
    assert y == 48
    assert z > 30, "up on the screen is towards the head"
    assert _grey_total(page, "sagittal") != coronal, "the other planes follow the crosshair"


def test_presets_typing_and_dragging_change_the_window(page: Page, chest: Path) -> None:
    _upload(page, chest)
    page.get_by_role("button", name="Mediastinum").click()
    assert page.evaluate(f"{VIEWER}.window") == {"level": 40, "width": 400}
    page.locator(".r3-pane[data-plane=axial] canvas").focus()
    page.keyboard.press("3")
    assert page.evaluate(f"{VIEWER}.window") == {"level": 400, "width": 1800}
    page.locator(".r3-width").fill("900")
    page.locator(".r3-width").press("Enter")
    assert page.evaluate(f"{VIEWER}.window.width") == 900
    box = page.locator(".r3-pane[data-plane=axial] canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down(button="right")
    page.mouse.move(box["x"] + 140, box["y"] + 100, steps=4)
    page.mouse.up(button="right")
    assert page.evaluate(f"{VIEWER}.window.width") > 900


def test_the_value_under_the_cursor_is_in_hu(page: Page, chest: Path) -> None:
    _upload(page, chest)
    box = page.locator(".r3-pane[data-plane=axial] canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.29, box["y"] + box["height"] * 0.5)
    expect(page.locator(".r3-hu")).to_have_text(re.compile(r"-(8|9)\d\d HU"))


def test_anisotropic_voxels_keep_their_aspect(page: Page, chest: Path) -> None:
    _upload(page, chest)
    page.get_by_role("button", name="Enlarge the coronal plane").click()
    _settle(page)
    wide, high = page.evaluate(
        """() => { const canvas = document.querySelector('.r3-pane[data-plane=coronal] canvas');
        const {width, height} = canvas;
        const data = canvas.getContext('2d').getImageData(0, 0, width, height).data;
        let [left, right, top, bottom] = [width, 0, height, 0];
        for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
          if (data[4 * (y * width + x)] > 120 && data[4 * (y * width + x) + 2] < 250) {
            left = Math.min(left, x); right = Math.max(right, x);
            top = Math.min(top, y); bottom = Math.max(bottom, y); } }
        return [right - left, bottom - top]; }"""
    )
    body_mm, scan_mm = 0.9 * 96 * 3.6, 60 * 5.0
    assert wide / high == pytest.approx(body_mm / scan_mm, rel=0.06)


def test_what_the_model_sees_is_shown_at_the_same_place(page: Page, chest: Path) -> None:
    _upload(page, chest)
    page.locator(".r3-pane[data-plane=axial] canvas").focus()
    page.keyboard.press("PageUp")
    page.get_by_role("button", name="Model’s view").click()
    page.wait_for_function(f"{VIEWER}.view === 'model' && {VIEWER}.source")
    assert page.evaluate(f"{VIEWER}.source.dims") == [48, 48, 30]
    assert _position(page)[2] == 18
    page.get_by_role("button", name="Scan", exact=True).click()
    assert page.evaluate(f"{VIEWER}.source.dims") == [96, 96, 60]


def test_the_server_draws_where_the_browser_cannot(page: Page, chest: Path) -> None:
    _upload(page, chest)
    failing = "() => Promise.reject(new Error('Out of memory.'))"
    page.evaluate(f"() => {{ {VIEWER}.loader.open = {failing}; {VIEWER}.sources.scan = null; }}")
    page.locator("[data-sample=one]").click()
    page.wait_for_function(f"{VIEWER}.source?.kind === 'images'")
    expect(page.locator(".r3-note")).to_contain_text("Slices come from the server")
    page.wait_for_timeout(400)
    before = _grey_total(page, "axial")
    assert before > 0
    page.locator(".r3-pane[data-plane=axial] canvas").focus()
    page.keyboard.press("End")
    page.wait_for_timeout(400)
    assert _grey_total(page, "axial") != before


def test_a_report_streams_beside_eighteen_bars_and_contradictions_are_marked(
    page: Page, chest: Path
) -> None:
    _upload(page, chest)
    page.evaluate(
        """() => { window.lengths = new Set(); new MutationObserver(() => window.lengths.add(
        document.querySelector('.r3-text')?.innerText.length)).observe(
        document.querySelector('#report'), {subtree: true, childList: true, characterData: true});
        }"""
    )
    page.get_by_role("button", name="Generate report").click()
    expect(page.locator("[data-report=copy]")).to_be_visible()
    assert page.evaluate("window.lengths.size") >= 3, "the text comes in pieces"
    expect(page.locator(".r3-text h3")).to_have_text(["Findings", "Impression"])
    expect(page.locator(".r3-text")).to_contain_text("Small left pleural effusion.")
    expect(page.locator(".r3-status")).to_contain_text("finished")
    bars = page.locator("#chart .barlayer .trace.bars").nth(1).locator(".point")
    expect(bars).to_have_count(len(LABELS))
    captions = page.locator("#chart .annotation-text").all_text_contents()
    assert sum(caption.startswith("≠ ") for caption in captions) >= 1
    marked = page.locator(".r3-text mark.denied_but_likely")
    expect(marked.first).to_be_visible()
    expect(page.locator(".r3-notice.conflict")).to_contain_text("cardiomegaly")
    expect(page.locator(".r3-notice.known")).to_be_visible()
    expect(page.locator("#cancel")).to_be_disabled()


def test_the_report_can_be_copied_and_downloaded(page: Page, chest: Path) -> None:
    _upload(page, chest)
    page.get_by_role("button", name="Generate report").click()
    expect(page.locator("[data-report=copy]")).to_be_visible()
    for kind, ending in (("txt", ".txt"), ("json", ".json")):
        with page.expect_download() as got:
            page.locator(f"[data-report={kind}]").click()
        assert got.value.suggested_filename.endswith(ending)
        assert "9 mm" in Path(got.value.path()).read_text()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("[data-report=copy]").click()
    expect(page.locator("[data-report=copy]")).to_have_text("Copied")
    assert "right upper lobe" in page.evaluate("navigator.clipboard.readText()")


def test_cancelling_keeps_what_was_written(slow_page: Page, chest: Path) -> None:
    page = slow_page
    _upload(page, chest)
    page.get_by_role("button", name="Generate report").click()
    page.wait_for_function("document.querySelector('.r3-text')?.innerText.includes('lungs')")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".r3-status")).to_contain_text("cancelled")
    text = page.locator(".r3-text").inner_text().lower()
    assert "lungs" in text
    assert "impression" not in text
    expect(page.locator("#generate")).to_be_enabled()
    expect(page.locator("#cancel")).to_be_disabled()


def test_another_scan_never_stands_beside_the_earlier_scans_report(
    slow_page: Page, chest: Path
) -> None:
    page = slow_page
    _upload(page, chest)
    page.get_by_role("button", name="Generate report").click()
    page.wait_for_function("document.querySelector('.r3-text')?.innerText.includes('lungs')")
    other = small_chest(chest.with_name("another.nii.gz"), shift=20.0)
    _upload(page, other)
    expect(page.locator(".r3-report.empty")).to_be_visible()
    page.wait_for_timeout(1500)
    expect(page.locator(".r3-report.empty")).to_be_visible()
    expect(page.locator("#generate")).to_be_enabled()


def test_a_bad_file_gets_a_sentence_and_the_earlier_scan_stays(
    page: Page, chest: Path, tmp_path: Path
) -> None:
    _upload(page, chest)
    page.locator(".r3-pane[data-plane=axial] canvas").focus()
    page.keyboard.press("PageUp")
    place = _position(page)
    bad = tmp_path / "<img src=x onerror=alert(1)>.nii.gz"
    bad.write_bytes(b"\x1f\x8b" + bytes(500))
    page.set_input_files(".r3-drop input", bad)
    expect(page.locator(".r3-notice.error")).to_contain_text("chest.nii.gz stays open")
    assert page.locator(".r3-notice.error img").count() == 0
    page.wait_for_function(f"!{VIEWER}.preview")
    assert page.evaluate(f"{VIEWER}.source.dims") == [96, 96, 60]
    assert _position(page) == place
    expect(page.locator(".r3-read")).to_contain_text("chest.nii.gz")
    page.get_by_role("button", name="Generate report").click()
    expect(page.locator(".r3-status")).to_contain_text("finished")


def test_a_file_over_the_limit_is_refused_before_it_is_sent(page: Page, tmp_path: Path) -> None:
    large = tmp_path / "large.nii"
    large.write_bytes(bytes(5 * 2**20))
    page.set_input_files(".r3-drop input", large)
    expect(page.locator(".r3-source-error")).to_contain_text("accepts up to 4 MB")


def test_generating_without_a_scan_says_what_to_do(page: Page) -> None:
    page.get_by_role("button", name="Generate report").click()
    expect(page.locator(".r3-notice.error")).to_contain_text("Upload one or choose a sample")


def test_a_samples_findings_are_hidden_until_asked(page: Page) -> None:
    page.locator("[data-sample=one]").click()
    page.wait_for_function(f"{VIEWER}.source")
    expect(page.locator("[data-sample=one]")).to_contain_text("A <b>quiet</b> chest")
    truth = page.get_by_text("One nodule.")
    expect(truth).to_be_hidden()
    page.get_by_text("Show what is in this sample").click()
    expect(truth).to_be_visible()


def test_the_choice_of_model_and_mode_carries_the_papers_guidance(page: Page, chest: Path) -> None:
    _upload(page, chest)
    expect(page.locator("#guidance")).to_contain_text("below about 1B parameters fine-tune")
    page.get_by_label("Phantom S").check()
    page.get_by_label("V-1 fine-tuned").check()
    expect(page.locator("#guidance")).to_contain_text("This choice follows it")
    page.get_by_text("Other models, and what they need").click()
    expect(page.locator("#needs")).to_contain_text("LLaMA-3.2-1B")
    expect(page.locator("#needs code").first).to_contain_text("rad3d train")
    page.get_by_role("button", name="Generate report").click()
    expect(page.locator(".r3-status")).to_contain_text("phantom-s/v1")


def test_generation_options_are_used(page: Page, chest: Path) -> None:
    _upload(page, chest)
    page.get_by_text("Generation options").click()
    longest = page.get_by_role("spinbutton", name="Longest report")
    expect(longest).to_be_visible()
    page.wait_for_timeout(1000)  # the accordion's fields take their values as it opens
    longest.fill("16")
    longest.press("Tab")
    expect(longest).to_have_value("16")
    page.wait_for_timeout(1000)  # as long as a person takes to reach the button
    page.get_by_role("button", name="Generate report").click()
    expect(page.locator(".r3-status")).to_contain_text("16 tokens")
    expect(page.locator(".r3-status")).to_contain_text("length limit")


def test_two_people_do_not_see_each_other(browser: Browser, address: str, chest: Path) -> None:
    one, two = _page(browser, address), _page(browser, address)
    first, second = next(one), next(two)
    _upload(first, chest)
    other = small_chest(chest.with_name("stranger.nii.gz"), shift=15.0)
    _upload(second, other)
    for page in (first, second):
        page.get_by_role("button", name="Generate report").click()
    names = ("chest.nii.gz", "stranger.nii.gz")
    for page, own, other_name in ((first, *names), (second, *reversed(names))):
        expect(page.locator(".r3-status")).to_contain_text("finished")
        expect(page.locator(".r3-read")).to_contain_text(own)
        assert other_name not in page.content()
    keys = {page.evaluate(f"{VIEWER}.state.key") for page in (first, second)}
    assert len(keys) == 2
    for pages in (one, two):
        assert next(pages, None) is None


def test_a_closed_tab_frees_its_session(
    browser: Browser, address: str, service: FakeService, chest: Path
) -> None:
    pages = _page(browser, address)
    page = next(pages)
    _upload(page, chest)
    token = page.evaluate(f"{VIEWER}.state.key")
    assert token in service.open_sessions
    assert next(pages, None) is None
    waiting = next(others := _page(browser, address))
    for _ in range(50):
        if token not in service.open_sessions:
            break
        waiting.wait_for_timeout(200)
    assert token not in service.open_sessions
    assert next(others, None) is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(
    browser: Browser, address: str, chest: Path, scheme: str
) -> None:
    pages = _page(
        browser, address, viewport=PHONE, is_mobile=True, has_touch=True, color_scheme=scheme
    )
    page = next(pages)
    _upload(page, chest)
    page.get_by_role("button", name="Generate report").click()
    expect(page.locator(".r3-status")).to_contain_text("finished")
    expect(page.locator("#chart .annotation-text").first).to_be_visible()
    widest = page.evaluate(
        """() => Math.max(document.documentElement.scrollWidth, ...[...document.querySelectorAll(
        'body *')].filter(e => !e.closest('.r3-samples, .r3-sr, .r3-scroll') && e.offsetParent)
        .map(e => e.getBoundingClientRect().right))"""
    )
    assert widest <= PHONE["width"] + 1
    captions = page.locator("#chart .annotation-text")
    boxes = [captions.nth(i).bounding_box() for i in range(captions.count())]
    assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
    assert next(pages, None) is None


def test_touch_scrolls_slices_and_a_tap_moves_the_crosshair(
    browser: Browser, address: str, chest: Path
) -> None:
    pages = _page(browser, address, viewport=PHONE, is_mobile=True, has_touch=True)
    page = next(pages)
    _upload(page, chest)
    canvas = page.locator(".r3-pane[data-plane=axial] canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.5)
    page.wait_for_function(f"{VIEWER}.position[0] > 60")
    start = _position(page)
    cdp = page.context.new_cdp_session(page)
    x, y = box["x"] + 150, box["y"] + 100
    cdp.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 9):
        point = {"x": x, "y": y + 10 * step}
        cdp.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
    cdp.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function(f"{VIEWER}.position[2] < {start[2]}")
    both = [{"x": x, "y": y, "id": 0}, {"x": x + 40, "y": y, "id": 1}]
    wide = [{"x": x - 40, "y": y, "id": 0}, {"x": x + 80, "y": y, "id": 1}]
    cdp.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": both})
    cdp.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": wide})
    cdp.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function(f"{VIEWER}.panes[0].zoom.scale > 1.5")
    assert next(pages, None) is None


FOCUSED = """() => { const e = document.activeElement; if (e === document.body) return null;
  const style = getComputedStyle(e.closest('.r3-drop') ?? e);
  return [e.dataset.sample || e.dataset.tool || e.getAttribute('aria-label') || e.id || e.tagName,
  style.outlineStyle !== 'none' || style.boxShadow !== 'none']; }"""


def test_everything_is_reached_by_keyboard_with_a_visible_focus(page: Page, chest: Path) -> None:
    _upload(page, chest)
    reached: dict[str, bool] = {}
    for _ in range(60):
        page.keyboard.press("Tab")
        if focused := page.evaluate(FOCUSED):
            reached[focused[0]] = focused[1]
    assert {"one", "Axial slice", "Sagittal slice", "window", "generate"} <= set(reached)
    assert [name for name, visible in reached.items() if not visible] == []


def test_the_disclaimer_is_always_on_the_page(page: Page) -> None:
    expect(page.get_by_text(DISCLAIMER)).to_be_visible()
    page.get_by_role("tab", name="About").click()
    expect(page.get_by_text(DISCLAIMER)).to_be_visible()
    expect(page.locator(".r3-models").first).to_be_visible()


def test_nothing_of_the_session_is_stored_in_the_browser(page: Page, chest: Path) -> None:
    _upload(page, chest)
    page.get_by_role("button", name="Generate report").click()
    expect(page.locator(".r3-status")).to_contain_text("finished")
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert "chest" not in stored
    assert "nodule" not in stored


def test_a_scan_unlike_the_training_scans_is_named_so(
    browser: Browser, chest: Path, tmp_path: Path
) -> None:
    far = Novelty(distance=97.0, percentile=100.0, limit=21.5)
    service = FakeService(seconds_per_word=0.001, novelty=far)
    with running_app(service, tmp_path) as url:
        pages = _page(browser, url)
        page = next(pages)
        _upload(page, chest)
        page.get_by_role("button", name="Generate report").click()
        notice = page.locator(".r3-notice.novel")
        expect(notice).to_contain_text("These models know only synthetic phantoms")
        assert next(pages, None) is None


# -- the real thing ---------------------------------------------------------------------------


def _shipped() -> Service | None:
    """The service with the shipped models, None where they are not there yet."""
    service = Service(Settings())
    return service if any(status.ready for status in service.variants()) else None


@pytest.fixture(scope="module")
def real_service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """The shipped models; before they are trained, tiny random ones behind the same classes."""
    if service := _shipped():
        return service
    settings = replace(Settings(), models_dir=tmp_path_factory.mktemp("models"))
    save_shipped(settings.models_dir, modes=("v3",))
    return Service(settings, FakeEncoderStore(settings, CountingEncoder()))


def test_a_sample_is_opened_seen_and_reported_by_the_real_service(
    browser: Browser, real_service: Service, tmp_path: Path
) -> None:
    if not real_service.samples():
        pytest.skip("no sample scans in assets/samples")
    with running_app(real_service, tmp_path) as url:
        pages = _page(browser, url)
        page = next(pages)
        page.locator(".r3-sample").first.click()
        page.wait_for_function(f"{VIEWER}.source")
        page.get_by_role("button", name="Generate report").click()
        expect(page.locator(".r3-text h3").first).to_have_text("Findings")
        expect(page.locator(".r3-status")).to_contain_text("tokens ·")
        bars = page.locator("#chart .barlayer .trace.bars").nth(1).locator(".point")
        expect(bars).to_have_count(len(LABELS))
        page.get_by_role("button", name="Model’s view").click()
        page.wait_for_function(f"{VIEWER}.view === 'model' && {VIEWER}.source")
        assert next(pages, None) is None


def test_a_real_ct_is_called_unlike_the_training_scans(
    browser: Browser, shared_dir: Path, tmp_path: Path
) -> None:
    service = _shipped()
    if service is None:
        pytest.skip("no shipped models here (rad3d demo build makes them)")
    scan = shared_dir / "data" / "ct" / "lungdx_A0002_chest_8mm_dcm2niix.nii.gz"
    with running_app(service, tmp_path) as url:
        pages = _page(browser, url)
        page = next(pages)
        _upload(page, scan)
        assert page.evaluate(f"{VIEWER}.source.dims") == [512, 512, 30]
        page.get_by_role("button", name="Generate report").click()
        expect(page.locator(".r3-notice.novel")).to_be_visible(timeout=60_000)
        expect(page.locator(".r3-status")).to_contain_text("tokens ·")
        assert next(pages, None) is None
