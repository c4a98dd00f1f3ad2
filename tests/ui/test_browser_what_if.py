"""The diagnosis edited in headless Chromium: the report is written again beside the original."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser.fixtures import Visit
from browser.pages import PHONE, rewrite, upload, write_report
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def test_an_edit_by_keyboard_is_written_marked_and_taken_back(page: Page, chest: Path) -> None:
    upload(page, chest)
    expect(page.locator(".r3-what-if")).to_be_hidden()
    write_report(page)
    rewrite(page)
    before, after = page.locator(".r3-compare .r3-pair section").all()
    expect(before.locator("del").first).to_contain_text("There is a small left")
    expect(after.locator("ins").first).to_contain_text("No")
    expect(after).to_contain_text("[only now: No] pleural effusion.")
    expect(before.locator("ins")).to_have_count(0)
    expect(page.locator(".r3-followed")).to_contain_text("Pleural effusion, 5 % → 0 %")
    with page.expect_download() as got:
        page.locator("[data-report=txt]").click()
    text = Path(got.value.path()).read_text(encoding="utf-8")
    assert "edited diagnosis: Pleural effusion 0% (classifier 5%)" in text
    page.get_by_text("What if the classifier").click()
    expect(page.locator("#chart")).to_contain_text("Pleural effusion · edited")
    page.get_by_text("What if the classifier").click()
    page.get_by_role("button", name="As the classifier says").click()
    expect(page.locator(".r3-compare")).to_have_count(0)
    expect(page.locator(".r3-text")).to_contain_text("There is a small left pleural effusion.")
    expect(page.locator(".r3-write")).to_be_disabled()


def test_presets_set_what_their_names_say_and_one_row_is_reset_alone(
    page: Page, chest: Path
) -> None:
    upload(page, chest)
    write_report(page)
    page.get_by_text("What if the classifier").click()
    edited = page.locator(".r3-what-if .edited")
    page.get_by_role("button", name="All negative").click()
    expect(edited).to_have_count(2)  # what the classifier sees
    expect(page.locator(".r3-what-if .present")).to_have_count(0)
    page.get_by_label("Only this finding").select_option("Emphysema")
    expect(edited).to_have_count(3)
    expect(page.locator(".r3-what-if .present")).to_contain_text("Emphysema")
    page.get_by_role("button", name="Reset Cardiomegaly").click()
    expect(edited).to_have_count(2)


def test_edits_end_with_the_scan_and_with_another_variant(page: Page, chest: Path) -> None:
    upload(page, chest)
    write_report(page)
    rewrite(page)
    page.get_by_role("radio", name="V-1 fine-tuned").check()
    expect(page.locator(".r3-compare")).to_have_count(0)
    expect(page.locator(".r3-what-if")).to_contain_text("is chosen now")
    write_report(page)
    page.get_by_text("What if the classifier").click()
    expect(page.locator(".r3-what-if")).to_contain_text("does not read the diagnosis")
    expect(page.locator(".r3-what-if .edited")).to_have_count(0)
    page.locator("[data-sample=two]").click()
    expect(page.locator(".r3-report.empty")).to_be_visible()
    expect(page.locator(".r3-what-if")).to_be_hidden()


def test_the_edits_of_one_visitor_never_reach_another(visit: Visit, page_app: str) -> None:
    one, other = visit(page_app), visit(page_app, **PHONE)
    for page in (one, other):
        page.locator("[data-sample=one]").click()
        write_report(page)
    rewrite(one)
    other.wait_for_timeout(1500)
    expect(other.locator(".r3-compare")).to_have_count(0)
    other.get_by_text("What if the classifier").click()
    expect(other.locator(".r3-what-if .edited")).to_have_count(0)
    expect(one.locator(".r3-compare")).to_be_visible()
