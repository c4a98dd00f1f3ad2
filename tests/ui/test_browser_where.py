"""Pressed findings in headless Chromium: the viewer shows where the evidence for them lies."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser.fixtures import Visit
from browser.pages import PHONE, VIEWER, grey_total, position, settle, upload, widest, write_report
from playwright.sync_api import Locator, Page, Route, expect

pytestmark = pytest.mark.browser

NODULE_MM, HEART_MM = [100.0, 0.0, 60.0], [-20.0, 20.0, -40.0]


@pytest.fixture
def reported(page: Page, chest: Path) -> Page:
    """A page with a report on the chest."""
    upload(page, chest)
    write_report(page)
    return page


def words(page: Page, label: str) -> Locator:
    """Pressable words of the report about a finding."""
    return page.locator(f'mark[data-where="{label}"]').first


def place(page: Page) -> list[float]:
    """The place of the crosshair in mm."""
    found: list[float] = page.evaluate(
        f"(() => {{ const v = {VIEWER}, a = v.source.affine, p = v.position; return [0, 1, 2].map("
        "r => a[r][0] * p[0] + a[r][1] * p[1] + a[r][2] * p[2] + a[r][3]); })()"
    )
    return found


def shows(page: Page, label: str, mm: list[float]) -> None:
    """Wait until the evidence for a finding is drawn, and check where it is."""
    expect(page.locator(".r3-where strong")).to_have_text(label)
    page.wait_for_function(f"{VIEWER}.overlay")
    assert place(page) == pytest.approx(mm, abs=3)


def shows_nothing(page: Page) -> None:
    expect(page.locator(".r3-where")).to_be_hidden()
    assert page.evaluate(f"{VIEWER}.overlay") is None
    expect(page.locator('[data-where][aria-pressed="true"]')).to_have_count(0)


def test_pressed_words_show_the_place_and_how_it_was_found_until_they_are_pressed_again(
    reported: Page,
) -> None:
    before = position(reported)
    words(reported, "Lung nodule").click()
    shows(reported, "Lung nodule", NODULE_MM)
    legend = reported.locator(".r3-where")
    expect(legend).to_contain_text("not a segmentation")
    expect(legend).to_contain_text("In 80 phantoms")
    expect(legend).to_contain_text("50 to 100 %")
    assert position(reported) != before
    settle(reported)
    drawn = grey_total(reported, "axial")
    words(reported, "Lung nodule").click()
    shows_nothing(reported)
    settle(reported)
    assert grey_total(reported, "axial") != drawn


def test_the_keyboard_shows_and_hides_and_the_focus_stays(reported: Page) -> None:
    words(reported, "Lung nodule").press("Enter")
    shows(reported, "Lung nodule", NODULE_MM)
    expect(words(reported, "Lung nodule")).to_have_attribute("aria-pressed", "true")
    reported.keyboard.press("Escape")
    shows_nothing(reported)
    expect(words(reported, "Lung nodule")).to_be_focused()
    words(reported, "Lung nodule").press("Space")
    shows(reported, "Lung nodule", NODULE_MM)
    reported.get_by_role("button", name="Hide the evidence").press("Enter")
    shows_nothing(reported)
    expect(words(reported, "Lung nodule")).to_be_focused()


def test_the_chart_its_table_and_a_contradiction_lead_to_the_same_places(reported: Page) -> None:
    reported.locator("#chart .annotation-text", has_text="Lung nodule").click(force=True)
    shows(reported, "Lung nodule", NODULE_MM)
    reported.locator("#verdicts").get_by_role("button", name="Show where: Cardiomegaly").click()
    shows(reported, "Cardiomegaly", HEART_MM)
    expect(words(reported, "Lung nodule")).to_have_attribute("aria-pressed", "false")
    reported.get_by_text("As a table").click()
    reported.locator("#table").get_by_role("button", name="Lung nodule").press("Enter")
    shows(reported, "Lung nodule", NODULE_MM)


def test_nothing_is_offered_without_a_finding_or_where_places_are_unreliable(
    reported: Page,
) -> None:
    labels = set(
        reported.locator("[data-where]").evaluate_all("all => all.map(e => e.dataset.where)")
    )
    assert labels == {"Lung nodule", "Cardiomegaly", "Pleural effusion"}
    words(reported, "Pleural effusion").click()  # the report states it, the classifier does not
    expect(reported.locator(".r3-where")).to_contain_text("finds no place in this scan")
    assert reported.evaluate(f"{VIEWER}.overlay") is None
    reported.locator("#chart .annotation-text", has_text="Emphysema").click(force=True)
    expect(reported.locator(".r3-where strong")).to_have_text("")


def test_another_scan_and_another_report_remove_it(reported: Page) -> None:
    words(reported, "Lung nodule").click()
    shows(reported, "Lung nodule", NODULE_MM)
    write_report(reported)
    shows_nothing(reported)
    words(reported, "Lung nodule").click()
    shows(reported, "Lung nodule", NODULE_MM)
    reported.locator("[data-sample=two]").click()
    shows_nothing(reported)
    expect(reported.locator(".r3-report.empty")).to_be_visible()
    shows_nothing(reported)


def test_an_answer_that_comes_after_another_scan_was_chosen_is_dropped(reported: Page) -> None:
    held: list[Route] = []
    reported.route("**/rad3d/where?*", lambda route: held.append(route))
    words(reported, "Lung nodule").click()
    expect(reported.locator(".r3-where")).to_contain_text("is looked for")
    reported.wait_for_timeout(100)
    reported.locator("[data-sample=two]").click()
    expect(reported.locator(".r3-report.empty")).to_be_visible()
    held[0].continue_()
    reported.wait_for_timeout(500)
    shows_nothing(reported)


def test_on_a_phone_it_fits_and_comes_into_view(visit: Visit, page_app: str) -> None:
    phone = visit(page_app, **PHONE)
    phone.locator("[data-sample=one]").click()
    write_report(phone)
    words(phone, "Lung nodule").tap()
    shows(phone, "Lung nodule", NODULE_MM)
    expect(phone.locator(".r3-panes")).to_be_in_viewport(ratio=0.9)
    assert widest(phone) <= PHONE["viewport"]["width"]
