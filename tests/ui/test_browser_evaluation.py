"""The evaluation tab in headless Chromium: look, sort, press a point, read a case, run, cancel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser.fake_evaluations import FakeEvaluations
from browser.fakes import FakeService
from browser.fixtures import StartApp, Visit
from browser.launch import running_app
from browser.pages import PHONE, PHONE_WIDTH, VIEWER, open_evaluation, widest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(page_service: FakeService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    evaluations = FakeEvaluations(page_service, n=16, pause=0.4)
    with running_app(page_service, tmp_path_factory.mktemp("app"), evaluations=evaluations) as url:
        yield url


@pytest.fixture
def page(visit: Visit, address: str) -> Page:
    """The opened tab."""
    page = visit(address)
    open_evaluation(page)
    return page


def _figures(page: Page) -> None:
    """Wait until every figure is drawn."""
    for name in ("study", "heatmap", "forest", "classifier", "calibration"):
        page.locator(f"#{name}-figure .main-svg").first.wait_for()


def _press(page: Page, selector: str, index: int = 0) -> None:
    """Press the middle of a drawn point; plotly listens on a layer above it."""
    point = page.locator(selector).nth(index)
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_timeout(300)  # plotly finds what is under the pointer
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_the_tab_opens_on_the_study_with_every_section(page: Page) -> None:
    expect(page.locator(".r3-finding")).to_contain_text("has the highest macro F1 of 0.")
    expect(page.locator(".r3-standing")).to_contain_text("synthetic phantom")
    _figures(page)
    assert page.locator("#study-figure .scatterlayer .trace").count() >= 6, "modes and domains"
    expect(page.locator("#leaderboard tbody").first.locator("tr")).to_have_count(7)
    expect(page.locator("#leaderboard .r3-controls").first).to_contain_text("Template baseline")
    expect(page.locator(".r3-published")).to_contain_text("not comparable")
    expect(page.locator("#case .r3-pair section")).to_have_count(2)


def test_the_leaderboard_sorts_folds_and_switches_family_and_set(page: Page) -> None:
    names = page.locator("#leaderboard tbody").first.locator("th")
    best = names.first.inner_text()
    page.get_by_role("button", name="Macro F1").click()
    expect(names.last).to_have_text(best)
    expect(page.locator("#leaderboard [aria-sort=ascending]")).to_contain_text("Macro F1")
    shuffled = page.get_by_role("button", name="Phantom L · V-3, images shuffled")
    expect(shuffled).to_be_hidden()
    page.locator("[data-fold]").click()
    expect(shuffled).to_be_visible()
    page.get_by_label("Word overlap, hf").check()
    expect(page.locator("#leaderboard thead")).to_contain_text("ROUGE-L")
    expect(page.locator("#leaderboard thead")).not_to_contain_text("Macro F1")
    figure = page.locator("#leaderboard td span").first.inner_text()
    page.get_by_label("Out of domain", exact=True).check()
    expect(page.locator("#leaderboard td span").first).not_to_have_text(figure)
    expect(page.locator("#heatmap-figure h3")).to_contain_text("out of domain")


def test_a_point_and_a_cell_lead_to_their_cases(page: Page) -> None:
    _figures(page)
    _press(page, "#study-figure .xy .scatterlayer .trace:nth-of-type(3) .point")
    expect(page.locator("#case h4").nth(1)).to_contain_text("Phantom S · V-3")
    page.get_by_label("With this finding").click()
    page.get_by_role("option", name="Cardiomegaly").click()
    expect(page.locator(".r3-count")).not_to_contain_text("16 of 16")
    expect(page.locator("#case .r3-verdicts")).to_contain_text("Cardiomegaly")


def test_a_case_is_read_stepped_through_and_its_scan_opened(page: Page) -> None:
    chosen = page.locator(".r3-cases [aria-selected=true]")
    first = chosen.get_attribute("data-case")
    page.get_by_role("button", name="Next →").click()
    expect(page.locator("#case h3")).to_contain_text("2 of 16")
    expect(chosen).not_to_have_attribute("data-case", str(first))
    page.get_by_role("button", name="← Previous").click()
    expect(page.locator("#case h3")).to_contain_text("1 of 16")
    expect(page.locator("#case .r3-kinds li")).to_have_count(6)
    page.get_by_role("button", name="Open this scan").click()
    page.wait_for_function(f"{VIEWER}.source && {VIEWER}.state.id")
    expect(page.locator("#notes")).to_contain_text(str(first))
    expect(page.get_by_role("tab", name="Report")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_text("Show what is in this sample")).to_be_visible()
    open_evaluation(page)
    page.get_by_role("button", name="Compare on it").click()
    expect(page.locator(".r3-versus")).to_have_attribute("open", "")
    expect(page.locator(".r3-versus input:checked")).to_have_count(2)
    expect(page.get_by_role("button", name="Compare 2 models")).to_be_in_viewport()


def test_a_run_shows_progress_is_cancelled_and_resumed(page: Page) -> None:
    page.get_by_text("Run an evaluation").click()
    page.get_by_label("Phantom S · V-1 fine-tuned").check()
    expect(page.locator("#run-estimate")).to_contain_text("3 variants on 100 cases")
    page.locator("#run-start").click()
    expect(page.locator("#run-progress")).to_contain_text("Writing reports")
    expect(page.locator("#run-start")).to_be_disabled()
    page.locator("#run-cancel").click()
    expect(page.locator("#run-notice")).to_contain_text("Cancelled")
    expect(page.locator("#run-start")).to_be_enabled()
    page.locator("#run-resume").click()
    expect(page.locator("#headline h2")).to_have_text("Own run")
    expect(page.locator("#run-progress")).to_have_text("")
    expect(page.locator("#leaderboard tbody").first.locator("tr")).to_have_count(3)
    page.get_by_label("Compare with").click()
    page.get_by_role("option", name="Study of the shipped variants").click()
    expect(page.locator("#leaderboard")).to_contain_text("@ Study of the shipped variants")


def test_files_are_downloaded_and_lie_nowhere(page: Page) -> None:
    for kind in ("csv", "html"):
        with page.expect_download() as got:
            page.locator(f"[data-kind={kind}]").click()
        assert got.value.suggested_filename == f"study.{kind}"
        assert (
            Path(got.value.path()).read_text(encoding="utf-8")
            == f"Study of the shipped variants: {kind}\n"
        )
    _figures(page)
    with page.expect_download() as got:
        page.locator("#study-figure [data-format=png]").click()
    assert got.value.suggested_filename == "rad3d-f1_macro-by-parameters.png"


def test_a_bad_predictions_file_gets_a_sentence(page: Page, tmp_path: Path) -> None:
    page.get_by_text("Run an evaluation").click()
    page.get_by_text("Evaluate a predictions file").click()
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n")
    page.set_input_files("#run-file input", bad)
    expect(page.locator("#run-file")).to_contain_text("bad")
    page.locator("#run-start").click()
    expect(page.locator("#run-notice .error")).to_contain_text("no column 'id'")
    expect(page.locator("#run-start")).to_be_enabled()


def test_names_and_cases_are_reached_by_keyboard(page: Page) -> None:
    page.locator("#leaderboard [data-system='phantom-s/linear']").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#case h4").nth(1)).to_contain_text("Phantom S · Linear")
    page.locator(".r3-cases [data-case]").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#case h3")).to_contain_text("2 of 16")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def test_without_a_study_the_tab_says_so(
    visit: Visit, start_app: StartApp, page_service: FakeService
) -> None:
    page = visit(start_app(page_service, evaluations=FakeEvaluations(page_service, empty=True)))
    open_evaluation(page)
    expect(page.locator("#headline")).to_contain_text("No evaluation yet")
    expect(page.locator("#headline code")).to_have_text("rad3d eval run")
    expect(page.locator("#leaderboard")).to_be_hidden()
    for picker in ("Evaluation", "Compare with"):
        expect(page.get_by_label(picker, exact=True)).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(visit: Visit, address: str, scheme: str) -> None:
    page = visit(address, color_scheme=scheme, **PHONE)
    open_evaluation(page)
    _figures(page)
    assert widest(page) <= PHONE_WIDTH + 1
    cut = page.evaluate(
        """() => [...document.querySelectorAll('.r3-plot')].flatMap(plot => {
        const edge = plot.getBoundingClientRect();
        return [...plot.querySelectorAll('text')].filter(t => t.textContent).map(t => [
        t.textContent, t.getBoundingClientRect()]).filter(([, box]) => box.width &&
        (box.left < edge.left - 2 || box.right > edge.right + 2)).map(([text]) => text); })"""
    )
    assert cut == [], "no text of a figure is cut off"
    ink = page.evaluate(
        "getComputedStyle(document.querySelector('#study-figure .xtick text')).fill"
    )
    light = sum(int(part) for part in ink[4:-1].split(",")) / 3 > 128
    assert light is (scheme == "dark"), "the figures follow the theme"


def test_after_a_run_without_results_every_part_of_another_one_works(
    start_app: StartApp, visit: Visit, page_service: FakeService
) -> None:
    evaluations = FakeEvaluations(page_service, n=6)
    study = evaluations.kept.known["study"]
    bare = replace(study, id="bare", title="Bare run", status="cancelled", cards={})
    evaluations.kept.known["bare"] = bare
    page = visit(start_app(page_service, evaluations=evaluations))
    open_evaluation(page)
    for title, text in (("Bare run", "Nothing of this run"), (study.title, "highest macro F1")):
        page.locator("#run-picker input").click()
        page.get_by_role("option").filter(has_text=title).click()
        expect(page.locator("#headline")).to_contain_text(text)
    page.get_by_role("button", name="Next →").click()
    expect(page.locator("#case")).to_contain_text("2 of 6")
    with page.expect_download() as download:
        page.locator("[data-kind=csv]").click()
    assert download.value.suggested_filename.endswith(".csv")
