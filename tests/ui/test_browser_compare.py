"""Models beside each other in headless Chromium: picked, written together, marked, aligned."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser.fakes import FakeService
from browser.fixtures import StartApp, Visit
from browser.pages import PHONE, rewrite, upload, write_report
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def pick(page: Page, *names: str) -> None:
    """Open the card and pick these and no others."""
    card = page.locator(".r3-versus")
    expect(card).to_be_visible()
    if card.get_attribute("open") is None:
        card.locator("summary").click()
    while card.locator("input:checked").count():
        card.locator("input:checked").first.uncheck()
    for name in names:
        card.get_by_label(name, exact=True).check()


def test_two_models_write_beside_each_other_and_what_only_one_states_is_marked(
    page: Page,
) -> None:
    expect(page.locator(".r3-versus")).to_be_hidden()
    page.locator("[data-sample=one]").click()
    pick(page, "Phantom S, V-3 frozen + logits", "Phantom S, V-1 fine-tuned")
    page.get_by_role("button", name="Compare 2 models").click()
    v3 = page.locator("[data-variant='phantom-s/v3']")
    v1 = page.locator("[data-variant='phantom-s/v1']")
    expect(v3.locator(".r3-status")).to_contain_text("finished")
    expect(v1.locator(".r3-status")).to_contain_text("finished")
    expect(v3.locator("mark.alone").first).to_have_text("There is a small left pleural effusion.")
    expect(v1.locator("mark.alone")).to_have_count(0)
    row = page.locator(".r3-aligned tr", has_text="Pleural effusion").first
    expect(row.locator("td.alone")).to_contain_text("stated: mild, left only here")
    expect(v3.locator("dl")).to_contain_text("Likely findings stated")
    expect(v3.locator("dl")).to_contain_text("Invented")  # the truth of a sample is known
    expect(page.locator("#generate")).to_be_enabled()
    expect(page.locator("#cancel")).to_be_disabled()
    page.locator("[data-sample=two]").click()
    expect(page.locator(".r3-beside")).to_have_count(0)
    expect(page.get_by_label("Phantom S, V-1 fine-tuned", exact=True)).to_be_checked()


def test_a_model_that_fails_says_why_and_the_others_write_on(page: Page, chest: Path) -> None:
    upload(page, chest)
    pick(page, "Phantom S, Text, untrained", "Phantom L, V-2 frozen", "Phantom L, Words, frozen")
    page.get_by_role("button", name="Compare 3 models").click()
    failed = page.locator("[data-variant='phantom-s/text'] [role=alert]")
    expect(failed).to_have_text("It does not fit.")
    expect(page.locator("[data-variant='phantom-l/words'] .r3-status")).to_contain_text("finished")
    expect(page.get_by_text("All reports are the same, word for word.")).to_be_visible()
    expect(page.locator(".r3-aligned")).not_to_contain_text("Truth")


def test_cancel_keeps_what_was_written_and_no_more_than_four_can_be_picked(
    visit: Visit, start_app: StartApp, chest: Path
) -> None:
    page = visit(start_app(FakeService(seconds_per_word=0.25)))
    upload(page, chest)
    names = ("V-1 fine-tuned", "V-2 frozen", "Words, frozen", "Text, untrained")
    pick(page, *(f"Phantom M, {name}" for name in names))
    expect(page.get_by_label("Phantom L, V-2 frozen", exact=True)).to_be_disabled()
    page.get_by_role("button", name="Compare 4 models").click()
    first = page.locator("[data-variant='phantom-m/v1']")
    expect(first.locator(".r3-text")).to_contain_text("The lungs")
    page.locator(".r3-versus-run").get_by_role("button", name="Cancel").click()
    expect(first.locator(".r3-status")).to_contain_text("cancelled: this text is incomplete")
    expect(first.locator(".r3-text")).to_contain_text("The lungs")
    expect(page.locator("#generate")).to_be_enabled()


def test_the_edits_that_are_shown_apply_to_all_that_are_compared(page: Page, chest: Path) -> None:
    upload(page, chest)
    write_report(page)
    rewrite(page)
    pick(page, "Phantom L, V-3 frozen + logits", "Phantom L, Linear, frozen + logits")
    page.get_by_role("button", name="Compare 2 models").click()
    for variant in ("v3", "linear"):
        column = page.locator(f"[data-variant='phantom-l/{variant}']")
        expect(column.locator(".r3-status")).to_contain_text("finished")
        expect(column).to_contain_text("No pleural effusion.")
    expect(page.locator(".r3-compared")).to_contain_text("Written from an edited diagnosis")
    expect(page.locator(".r3-compare")).to_be_visible()  # the edited report stays as it was


def test_a_link_opens_the_sample_and_picks_the_models_and_names_what_it_cannot(
    visit: Visit, page_app: str
) -> None:
    page = visit(page_app)
    page.goto(f"{page_app}/?compare=phantom-s/v3,phantom-x/v9,phantom-s/v1&sample=two")
    card = page.locator(".r3-versus")
    expect(card).to_have_attribute("open", "")
    expect(card.locator("input:checked")).to_have_count(2)
    expect(card).to_contain_text("phantom-x/v9, which cannot be picked here")
    expect(page.locator("#notes")).to_contain_text("Sample two")
    page.goto(f"{page_app}/?sample=%3Cb%3Enone&compare=,")
    expect(page.locator("#notice")).to_contain_text("which is not here")


def test_on_a_phone_the_columns_are_swiped_and_the_page_stays_as_wide_as_the_screen(
    visit: Visit, page_app: str
) -> None:
    page = visit(page_app, **PHONE)
    page.locator("[data-sample=one]").click()
    pick(page, "Phantom S, V-3 frozen + logits", "Phantom S, V-1 fine-tuned")
    page.get_by_role("button", name="Compare 2 models").click()
    expect(page.locator(".r3-aligned")).to_be_visible()
    sizes = page.evaluate(
        "() => [document.documentElement.scrollWidth, innerWidth, "
        "document.querySelector('.r3-beside').scrollWidth]"
    )
    assert sizes[0] <= sizes[1] < sizes[2]


def test_the_comparison_of_one_visitor_never_reaches_another(visit: Visit, page_app: str) -> None:
    one, other = visit(page_app), visit(page_app, **PHONE)
    for page in (one, other):
        page.locator("[data-sample=one]").click()
    pick(one, "Phantom S, V-3 frozen + logits", "Phantom S, V-1 fine-tuned")
    one.get_by_role("button", name="Compare 2 models").click()
    expect(one.locator(".r3-aligned")).to_be_visible()
    other.wait_for_timeout(1500)
    expect(other.locator(".r3-beside")).to_have_count(0)
