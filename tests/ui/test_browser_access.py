"""Both tabs on a desk and a phone, light and dark: what axe-core finds, and what does not fit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser.fake_evaluations import FakeEvaluations
from browser.fakes import FakeService
from browser.fixtures import Visit
from browser.launch import running_app
from browser.pages import PHONE, open_evaluation, rewrite, upload, widest, write_report
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

DEVICES: dict[str, dict[str, Any]] = {
    "desk": {"viewport": {"width": 1366, "height": 768}},
    "phone": PHONE,
}

CROSSED = """() => {
  const clipped = (e) => {
    let { left, right, top, bottom } = e.getBoundingClientRect();
    for (let up = e.parentElement; up; up = up.parentElement) {
      if (getComputedStyle(up).overflow === "visible") continue;
      const box = up.getBoundingClientRect();
      left = Math.max(left, box.left); right = Math.min(right, box.right);
      top = Math.max(top, box.top); bottom = Math.min(bottom, box.bottom);
    }
    return { left, right, top, bottom }; };
  const seen = [...document.querySelectorAll("button, input, select, textarea, a[href]")]
    .filter((e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true })
      && !e.closest(".r3-sr, .r3-viewer, svg")).map((e) => [e, clipped(e)]);
  const name = (e) => (e.ariaLabel || e.innerText || e.id || e.outerHTML.slice(0, 80)).trim();
  const crossed = [];
  for (const [i, [a, p]] of seen.entries()) for (const [b, q] of seen.slice(i + 1)) {
    const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (wide > 1 && high > 1 && !a.contains(b) && !b.contains(a))
      crossed.push(`${name(a)} lies on ${name(b)}`);
  }
  return crossed; }"""
"""Controls that lie on one another, where they are not scrolled out of sight."""

CUT = """() => [...document.querySelectorAll(
    "button:not(.label-wrap), table, h1, h2, h3, .r3-pair section, .r3-notice")]
  .filter((e) => e.checkVisibility({ visibilityProperty: true })
    && !e.closest(".r3-scroll, .r3-table, .r3-samples")
    && e.scrollWidth > e.clientWidth + 1 && e.clientWidth)
  .map((e) => `cut off: ${e.tagName} ${e.innerText.slice(0, 60)}`)"""
"""What holds more than it shows; Gradio's accordions (label-wrap) turn an arrow beyond them."""


@pytest.fixture(scope="module")
def address(page_service: FakeService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    evaluations = FakeEvaluations(page_service, n=8)
    with running_app(page_service, tmp_path_factory.mktemp("app"), evaluations=evaluations) as url:
        yield url


def _problems(page: Page) -> list[str]:
    """What axe-core calls serious or critical, and what does not fit."""
    from axe_playwright_python.sync_playwright import Axe

    rules = [
        f"{rule['id']}: {[node['html'][:160] for node in rule['nodes'][:4]]}"
        for rule in Axe().run(page).response["violations"]
        if rule["impact"] in ("serious", "critical")
    ]
    width = page.evaluate("innerWidth")
    wide = [f"reaches {widest(page)} of {width}"] if widest(page) > width + 1 else []
    return [*rules, *wide, *page.evaluate(CROSSED), *page.evaluate(CUT)]


def test_the_tour_is_walked_and_skipped_by_keyboard_and_does_not_come_back(
    visit: Visit, address: str
) -> None:
    page = visit(address, tour=True, **DEVICES["desk"])
    tour = page.get_by_role("complementary", name="A short tour")
    expect(tour).to_contain_text("Your turn")  # nothing is stored here that could be shown first
    assert [each for each in _problems(page) if "lies on" not in each] == []
    expect(page.locator("#generate")).to_be_in_viewport(ratio=1)
    page.get_by_role("button", name="Next").press("Enter")
    expect(tour).to_contain_text("press Generate")
    page.keyboard.press("Escape")
    expect(tour).to_be_hidden()
    page.reload()
    page.wait_for_function("document.querySelector('.r3-viewer')?.viewer?.state.key")
    page.wait_for_timeout(1500)
    expect(tour).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", DEVICES)
def test_both_tabs_are_accessible_and_nothing_is_cut_off(
    visit: Visit, address: str, chest: Path, device: str, scheme: str
) -> None:
    page = visit(address, **DEVICES[device], color_scheme=scheme)
    upload(page, chest)
    write_report(page)
    page.locator("#chart .main-svg").first.wait_for()
    page.get_by_text("As a table").first.click()
    assert _problems(page) == []
    rewrite(page)
    page.get_by_text("of its reports follow").click()
    assert _problems(page) == []
    open_evaluation(page)
    page.locator("#study-figure .main-svg").first.wait_for()
    assert _problems(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", DEVICES)
def test_revising_evidence_and_comparison_are_accessible_and_nothing_is_cut_off(
    visit: Visit, address: str, chest: Path, device: str, scheme: str
) -> None:
    page = visit(address, **DEVICES[device], color_scheme=scheme)
    upload(page, chest)
    write_report(page)
    page.locator("[data-report=revise]").click()
    draft = page.get_by_label("Revise the report")
    draft.fill(draft.input_value().replace("No pericardial effusion.", "There is emphysema."))
    expect(page.locator(".r3-notice.conflict")).to_contain_text("emphysema")
    assert _problems(page) == []
    page.get_by_role("button", name="Done").click()
    page.locator(".r3-revised summary").click()
    page.locator("mark[data-where]").first.click()
    expect(page.locator(".r3-where strong")).to_be_visible()
    assert _problems(page) == []
    page.get_by_text("Compare models on this scan").click()
    page.get_by_role("button", name=re.compile(r"^Compare \d models$")).click()
    expect(page.locator(".r3-aligned")).to_be_visible()
    assert _problems(page) == []
