"""The viewer in headless Chromium: three planes, where things are, windows, touch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser.fixtures import Visit
from browser.pages import PHONE, VIEWER, grey_total, position, settle, upload
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def test_an_uploaded_scan_is_shown_in_three_planes_with_its_facts(page: Page, chest: Path) -> None:
    expect(page.locator(".r3-empty")).to_be_visible()
    upload(page, chest)
    settle(page)
    for plane in ("axial", "coronal", "sagittal"):
        assert grey_total(page, plane) > 0, f"{plane} is black"
    assert page.evaluate(f"{VIEWER}.source.dims") == [96, 96, 60]
    expect(page.locator(".r3-read")).to_contain_text("96 × 96 × 60")
    expect(page.locator(".r3-read")).to_contain_text("3.60 × 3.60 × 5.00 mm")
    expect(page.locator(".r3-empty")).to_be_hidden()


def test_the_patients_right_is_on_the_left_of_the_screen(page: Page, chest: Path) -> None:
    upload(page, chest)
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
    upload(page, chest)
    assert position(page) == [48, 48, 30]
    axial = page.locator(".r3-pane[data-plane=axial] canvas")
    axial.focus()
    page.keyboard.press("ArrowUp")
    assert position(page) == [48, 48, 31]
    page.keyboard.press("PageDown")
    assert position(page) == [48, 48, 25]
    page.keyboard.press("Home")
    assert position(page) == [48, 48, 0]
    page.keyboard.press("End")
    assert position(page) == [48, 48, 59]
    axial.hover()
    page.mouse.wheel(0, 120)
    page.wait_for_function(f"{VIEWER}.position[2] === 58")
    before = grey_total(page, "axial")
    page.locator(".r3-slide input").fill("30")
    settle(page)
    assert position(page) == [48, 48, 30]
    assert grey_total(page, "axial") != before
    assert axial.get_attribute("aria-valuenow") == "31"
    box = page.locator(".r3-pane[data-plane=coronal] canvas").bounding_box()
    assert box is not None
    coronal = grey_total(page, "sagittal")
    page.mouse.click(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.4)
    settle(page)
    x, y, z = position(page)
    assert x > 48, "left of the screen is the patient's right, which is +x"
    assert y == 48
    assert z > 30, "up on the screen is towards the head"
    assert grey_total(page, "sagittal") != coronal, "the other planes follow the crosshair"


def test_presets_typing_and_dragging_change_the_window(page: Page, chest: Path) -> None:
    upload(page, chest)
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
    upload(page, chest)
    box = page.locator(".r3-pane[data-plane=axial] canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.29, box["y"] + box["height"] * 0.5)
    expect(page.locator(".r3-hu")).to_have_text(re.compile(r"-(8|9)\d\d HU"))


def test_anisotropic_voxels_keep_their_aspect(page: Page, chest: Path) -> None:
    upload(page, chest)
    page.get_by_role("button", name="Enlarge the coronal plane").click()
    settle(page)
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


def test_the_scale_bar_is_as_long_as_it_says_at_every_zoom(page: Page, chest: Path) -> None:
    expect(page.locator(".r3-scale").first).to_be_hidden()
    upload(page, chest)
    axial = page.locator(".r3-pane[data-plane=axial]")
    box = axial.bounding_box()
    assert box is not None
    pixels_per_mm = min(box["width"], box["height"]) / (96 * 3.6)
    for zoom in (1, 1.25):
        settle(page)
        bar = axial.locator(".r3-scale")
        number, unit = bar.inner_text().split()
        length_mm = float(number) * {"mm": 1, "cm": 10}[unit]
        wide = bar.evaluate("bar => bar.getBoundingClientRect().width")
        assert wide == pytest.approx(zoom * pixels_per_mm * length_mm, abs=2)
        axial.locator("canvas").focus()
        page.keyboard.press("+")


def test_what_the_model_sees_is_shown_at_the_same_place(page: Page, chest: Path) -> None:
    upload(page, chest)
    page.locator(".r3-pane[data-plane=axial] canvas").focus()
    page.keyboard.press("PageUp")
    page.get_by_role("button", name="Model’s view").click()
    page.wait_for_function(f"{VIEWER}.view === 'model' && {VIEWER}.source")
    assert page.evaluate(f"{VIEWER}.source.dims") == [48, 48, 30]
    assert position(page)[2] == 18
    page.get_by_role("button", name="Scan", exact=True).click()
    assert page.evaluate(f"{VIEWER}.source.dims") == [96, 96, 60]


def test_the_server_draws_where_the_browser_cannot(page: Page, chest: Path) -> None:
    upload(page, chest)
    failing = "() => Promise.reject(new Error('Out of memory.'))"
    page.evaluate(f"() => {{ {VIEWER}.loader.open = {failing}; {VIEWER}.sources.scan = null; }}")
    page.locator("[data-sample=one]").click()
    page.wait_for_function(f"{VIEWER}.source?.kind === 'images'")
    expect(page.locator(".r3-note")).to_contain_text("Slices come from the server")
    page.wait_for_timeout(400)
    before = grey_total(page, "axial")
    assert before > 0
    page.locator(".r3-pane[data-plane=axial] canvas").focus()
    page.keyboard.press("End")
    page.wait_for_timeout(400)
    assert grey_total(page, "axial") != before


def test_touch_scrolls_slices_and_a_tap_moves_the_crosshair(
    visit: Visit, page_app: str, chest: Path
) -> None:
    page = visit(page_app, **PHONE)
    upload(page, chest)
    canvas = page.locator(".r3-pane[data-plane=axial] canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.5)
    page.wait_for_function(f"{VIEWER}.position[0] > 60")
    start = position(page)
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
