"""The page for everybody, in headless Chromium: on a phone, by keyboard, with its disclaimer."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser.fixtures import Visit
from browser.pages import PHONE, PHONE_WIDTH, faint_texts, upload, widest, write_report
from playwright.sync_api import Page, expect

from rad3d.core.registry import disclaimer

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(
    visit: Visit, page_app: str, chest: Path, scheme: str
) -> None:
    page = visit(page_app, color_scheme=scheme, **PHONE)
    upload(page, chest)
    write_report(page)
    expect(page.locator("#chart .annotation-text").first).to_be_visible()
    assert widest(page) <= PHONE_WIDTH + 1
    captions = page.locator("#chart .annotation-text")
    boxes = [captions.nth(i).bounding_box() for i in range(captions.count())]
    assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= PHONE_WIDTH for box in boxes)


FOCUSED = """() => { const e = document.activeElement; if (e === document.body) return null;
  const style = getComputedStyle(e.closest('.r3-drop') ?? e);
  return [e.dataset.sample || e.dataset.tool || e.getAttribute('aria-label') || e.id || e.tagName,
  style.outlineStyle !== 'none' || style.boxShadow !== 'none']; }"""


def test_everything_is_reached_by_keyboard_with_a_visible_focus(page: Page, chest: Path) -> None:
    upload(page, chest)
    reached: dict[str, bool] = {}
    for _ in range(60):
        page.keyboard.press("Tab")
        if focused := page.evaluate(FOCUSED):
            reached[focused[0]] = focused[1]
    assert {"one", "Axial slice", "Sagittal slice", "window", "generate"} <= set(reached)
    assert [name for name, visible in reached.items() if not visible] == []


def test_the_disclaimer_is_always_on_the_page(page: Page) -> None:
    expect(page.get_by_text(disclaimer(phantoms_only=True))).to_be_visible()
    page.get_by_role("tab", name="About").click()
    expect(page.get_by_text(disclaimer(phantoms_only=True))).to_be_visible()
    encoders = page.locator(".r3-models").first
    expect(encoders.get_by_role("row").filter(has_text="Phantom CNN")).to_contain_text("ready")
    expect(encoders.get_by_role("row").filter(has_text="CT-CLIP")).to_contain_text("rad3d convert")


def test_a_screen_reader_hears_the_report_once_it_is_written(page: Page, chest: Path) -> None:
    page.evaluate(
        """() => { window.heard = []; const line = document.querySelector('#announcement');
        new MutationObserver(() => window.heard.push(line.textContent)).observe(
        line, {childList: true}); }"""
    )
    upload(page, chest)
    write_report(page)
    page.wait_for_function("window.heard.length > 1")
    begun, read = page.evaluate("window.heard")
    assert begun == "A report is being written."
    assert "Small left pleural effusion." in read
    expect(page.get_by_role("status").filter(has_text="A solid nodule of 9 mm")).to_have_count(1)
    slider = page.locator(".r3-slide input")
    assert slider.get_attribute("aria-valuetext") == "slice 31 of 60"


def test_nothing_moves_for_who_asked_for_that(visit: Visit, page_app: str, chest: Path) -> None:
    page = visit(page_app, reduced_motion="reduce")
    upload(page, chest)
    page.get_by_role("button", name="Generate report").click()
    expect(page.locator(".r3-caret")).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(
    visit: Visit, page_app: str, chest: Path, scheme: str
) -> None:
    page = visit(page_app, color_scheme=scheme)
    upload(page, chest)
    for fold in ("Generation options", "Other models, and what they need"):
        page.get_by_role("button", name=fold).click()
    page.get_by_role("radio", name="Sampling").click()
    write_report(page)
    page.locator(".r3-table summary").click()
    bad = chest.with_name("bad.nii.gz")
    bad.write_bytes(bytes(40))
    page.set_input_files(".r3-drop input", bad)
    expect(page.locator(".r3-notice.error")).to_be_visible()
    expect(page.locator(".r3-notice.conflict")).to_be_visible()
    expect(page.locator("#chart .annotation-text").first).to_be_visible()
    assert faint_texts(page) == []
    for tab in ("Evaluation", "About"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(400)  # the tab's colour changes slowly
        assert faint_texts(page) == []
