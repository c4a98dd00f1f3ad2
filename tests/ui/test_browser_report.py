"""The report tab in headless Chromium: choose, write, cancel, read, and what is refused.

Around a stand-in service where timing matters, and around the shipped models at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser.fake_evaluations import FakeEvaluations
from browser.fakes import FakeService
from browser.fixtures import StartApp, Visit
from browser.launch import running_app, small_chest
from browser.pages import PHONE, VIEWER, open_evaluation, position, upload, write_report
from playwright.sync_api import Dialog, Page, expect
from tiny_models import CountingEncoder, FakeEncoderStore, save_shipped

from rad3d.core.labels import LABELS
from rad3d.core.settings import Settings
from rad3d.core.types import Novelty
from rad3d.service.service import Service

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def slow_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An app that takes about 20 seconds for a report, so that there is time to interfere."""
    service = FakeService(seconds_per_word=1.0)
    with running_app(service, tmp_path_factory.mktemp("slow")) as url:
        yield url


@pytest.fixture
def slow_page(visit: Visit, slow_address: str) -> Page:
    return visit(slow_address)


def test_without_a_scan_generate_says_what_to_do_and_the_page_stays_as_it_was(page: Page) -> None:
    before = page.locator("#report").inner_text()
    page.get_by_role("button", name="Generate report").click()
    expect(page.get_by_text("There is no scan yet. Open one first")).to_be_visible()
    page.wait_for_timeout(2000)  # what follows the click has gone through the queue by then
    expect(page.get_by_role("button", name="Generate report")).to_be_enabled()
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_disabled()
    expect(page.locator("#report")).to_have_text(before, use_inner_text=True)


def test_without_a_model_nothing_can_be_chosen_or_pressed_and_a_sentence_says_what_helps(
    visit: Visit, start_app: StartApp, chest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = FakeService()
    needing = tuple(status for status in service.variants() if not status.ready)
    evaluations = FakeEvaluations(service, empty=True)
    for each in (service, evaluations):
        monkeypatch.setattr(each, "variants", lambda: needing)
    page = visit(start_app(service, evaluations=evaluations))
    upload(page, chest)
    expect(page.locator("#guidance")).to_contain_text("No model is ready here.")
    for part in ("#generate", "#cancel", "#llm", "#mode", "#options"):
        expect(page.locator(part)).to_be_hidden()
    open_evaluation(page)
    page.get_by_text("Run an evaluation").click()
    expect(page.get_by_text("Baselines and predictions files can be")).to_be_visible()
    expect(page.locator("#run-variants")).to_be_hidden()


def test_a_report_streams_beside_eighteen_bars_and_contradictions_are_marked(
    page: Page, chest: Path
) -> None:
    upload(page, chest)
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
    upload(page, chest)
    page.get_by_role("button", name="Generate report").click()
    expect(page.locator("[data-report=copy]")).to_be_visible()
    for kind, ending in (("txt", ".txt"), ("json", ".json")):
        with page.expect_download() as got:
            page.locator(f"[data-report={kind}]").click()
        assert got.value.suggested_filename.endswith(ending)
        assert "9 mm" in Path(got.value.path()).read_text(encoding="utf-8")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("[data-report=copy]").click()
    expect(page.locator("[data-report=copy]")).to_have_text("Copied")
    assert "right upper lobe" in page.evaluate("navigator.clipboard.readText()")


def test_cancelling_keeps_what_was_written(slow_page: Page, chest: Path) -> None:
    page = slow_page
    upload(page, chest)
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
    upload(page, chest)
    page.get_by_role("button", name="Generate report").click()
    page.wait_for_function("document.querySelector('.r3-text')?.innerText.includes('lungs')")
    other = small_chest(chest.with_name("another.nii.gz"), shift=20.0)
    upload(page, other)
    expect(page.locator(".r3-report.empty")).to_be_visible()
    page.wait_for_timeout(1500)
    expect(page.locator(".r3-report.empty")).to_be_visible()
    expect(page.locator("#generate")).to_be_enabled()


def test_of_samples_pressed_in_quick_succession_the_last_one_is_opened(page: Page) -> None:
    for name in ("one", "two", "one", "two"):
        page.locator(f"[data-sample={name}]").click()
    page.wait_for_timeout(2500)
    expect(page.locator(".r3-read")).to_contain_text("Sample two")
    assert page.evaluate(f"{VIEWER}.state.name") == "Sample two"
    expect(page.locator(".r3-busy")).to_be_hidden()


def test_a_bad_file_gets_a_sentence_and_the_earlier_scan_stays(
    page: Page, chest: Path, tmp_path: Path
) -> None:
    upload(page, chest)
    page.locator(".r3-pane[data-plane=axial] canvas").focus()
    page.keyboard.press("PageUp")
    place = position(page)
    bad = tmp_path / "<img src=x onerror=alert(1)>.nii.gz"
    bad.write_bytes(b"\x1f\x8b" + bytes(500))
    page.set_input_files(".r3-drop input", bad)
    expect(page.locator(".r3-notice.error")).to_contain_text("chest.nii.gz stays open")
    assert page.locator(".r3-notice.error img").count() == 0
    page.wait_for_function(f"!{VIEWER}.preview")
    assert page.evaluate(f"{VIEWER}.source.dims") == [96, 96, 60]
    assert position(page) == place
    expect(page.locator(".r3-read")).to_contain_text("chest.nii.gz")
    write_report(page)


def test_a_file_over_the_limit_is_refused_before_it_is_sent(page: Page, tmp_path: Path) -> None:
    large = tmp_path / "large.nii"
    large.write_bytes(bytes(5 * 2**20))
    page.set_input_files(".r3-drop input", large)
    expect(page.locator(".r3-source-error")).to_contain_text("accepts up to 4 MB")


def test_on_a_phone_a_refused_run_says_why_where_its_button_is(visit: Visit, page_app: str) -> None:
    page = visit(page_app, **PHONE)
    page.get_by_role("button", name="Generate report").tap()
    refusal = page.get_by_text("There is no scan yet. Open one first")
    expect(refusal).to_be_in_viewport()


def test_a_samples_findings_are_hidden_until_asked(page: Page) -> None:
    page.locator("[data-sample=one]").click()
    page.wait_for_function(f"{VIEWER}.source")
    expect(page.locator("[data-sample=one]")).to_contain_text("A <b>quiet</b> chest")
    truth = page.get_by_text("One nodule.")
    expect(truth).to_be_hidden()
    page.get_by_text("Show what is in this sample").click()
    expect(truth).to_be_visible()


def test_the_choice_of_model_and_mode_carries_the_papers_guidance(page: Page, chest: Path) -> None:
    upload(page, chest)
    expect(page.locator("#guidance")).to_contain_text("below about 1B parameters fine-tune")
    page.get_by_role("radio", name="Phantom S").check()
    page.get_by_role("radio", name="V-1 fine-tuned").check()
    expect(page.locator("#guidance")).to_contain_text("This choice follows it")
    page.get_by_text("Other models, and what they need").click()
    expect(page.locator("#needs")).to_contain_text("LLaMA-3.2-1B")
    expect(page.locator("#needs code").first).to_contain_text("rad3d train")
    page.get_by_role("button", name="Generate report").click()
    expect(page.locator(".r3-status")).to_contain_text("phantom-s/v1")


def test_generation_options_are_used(page: Page, chest: Path) -> None:
    upload(page, chest)
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


def test_a_scan_unlike_the_training_scans_is_named_so(
    visit: Visit, start_app: StartApp, chest: Path
) -> None:
    far = Novelty(distance=97.0, percentile=100.0, limit=21.5)
    service = FakeService(seconds_per_word=0.001, novelty=far)
    page = visit(start_app(service))
    upload(page, chest)
    page.get_by_role("button", name="Generate report").click()
    notice = page.locator(".r3-notice.novel")
    expect(notice).to_contain_text("These models know only synthetic phantoms")


def test_a_report_about_what_is_no_chest_takes_a_second_button(
    page: Page, chest: Path, tmp_path: Path
) -> None:
    anyway = page.get_by_role("button", name="Write a report anyway")
    upload(page, small_chest(tmp_path / "abdomen.nii.gz", lungs=False))
    expect(anyway).to_be_hidden()
    page.get_by_role("button", name="Generate report").click()
    expect(page.locator("#progress")).to_contain_text("No report was written.")
    expect(page.locator("[data-report=copy]")).to_have_count(0)
    anyway.click()
    expect(page.locator("[data-report=copy]")).to_be_visible()
    expect(anyway).to_be_hidden()
    page.get_by_role("button", name="Generate report").click()
    expect(anyway).to_be_visible()
    upload(page, chest)
    expect(anyway).to_be_hidden()
    write_report(page)


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
    visit: Visit, start_app: StartApp, real_service: Service
) -> None:
    if not real_service.gallery.cards:
        pytest.skip("no sample scans in assets/samples")
    page = visit(start_app(real_service))
    page.locator(".r3-sample").first.click()
    title = real_service.gallery.cards[0].title
    page.wait_for_function(f"{VIEWER}.source && {VIEWER}.state.name === {title!r}")
    page.get_by_role("button", name="Generate report").click()
    expect(page.locator(".r3-text h3").first).to_have_text("Findings")
    expect(page.locator(".r3-status")).to_contain_text(" s · ")  # the stored one has no time
    bars = page.locator("#chart .barlayer .trace.bars").nth(1).locator(".point")
    expect(bars).to_have_count(len(LABELS))
    page.get_by_role("button", name="Model’s view").click()
    page.wait_for_function(f"{VIEWER}.view === 'model' && {VIEWER}.source")


def test_a_new_visitor_sees_a_stored_report_beside_its_scan_and_it_goes_with_the_scan(
    visit: Visit, start_app: StartApp, chest: Path
) -> None:
    service = _shipped()
    if service is None or service.gallery.example is None:
        pytest.skip("no stored example in assets/samples (scripts/make_samples.py writes it)")
    card, report = service.gallery.example
    page = visit(start_app(service), viewport={"width": 1366, "height": 768})
    expect(page.locator(".r3-status")).to_contain_text(f"stored example · {report.variant_id}")
    expect(page.locator("#progress")).to_contain_text("A finished example, stored with the app")
    page.wait_for_function(f"{VIEWER}.source && {VIEWER}.state.name === {card.title!r}")
    expect(page.locator("#chart .barlayer .trace.bars").first).to_be_visible()
    page.get_by_text("As a table").first.click()
    page.get_by_text("Other models, and what they need").click()
    page.evaluate("window.scrollTo(0, 0)")
    expect(page.locator("#generate")).to_be_in_viewport(ratio=1)
    upload(page, chest)
    expect(page.locator(".r3-report.empty")).to_be_visible()
    expect(page.locator("#progress")).to_have_text("")


def test_a_real_ct_is_called_unlike_the_training_scans(
    visit: Visit, start_app: StartApp, shared_dir: Path
) -> None:
    service = _shipped()
    if service is None:
        pytest.skip("no shipped models here (rad3d demo build makes them)")
    scan = shared_dir / "data" / "ct" / "lungdx_A0002_chest_8mm_dcm2niix.nii.gz"
    page = visit(start_app(service))
    upload(page, scan)
    assert page.evaluate(f"{VIEWER}.source.dims") == [512, 512, 30]
    page.get_by_role("button", name="Generate report").click()
    expect(page.locator(".r3-notice.novel")).to_be_visible(timeout=60_000)
    expect(page.locator(".r3-status")).to_contain_text("tokens ·")


def test_a_report_is_revised_in_the_page_and_what_it_says_follows(page: Page, chest: Path) -> None:
    upload(page, chest)
    write_report(page)
    page.locator("[data-report=revise]").click()
    draft = page.get_by_label("Revise the report")
    expect(draft).to_be_focused()
    expect(page.locator(".r3-text")).to_be_hidden()
    before = draft.input_value()
    draft.fill(before + " There is emphysema.")
    conflict = page.locator(".r3-notice.conflict")
    expect(conflict).to_contain_text("emphysema")  # while it is still being typed
    expect(draft).to_be_visible()
    page.get_by_role("button", name="Done").click()
    revised = page.locator(".r3-revised")
    expect(revised).to_contain_text("0 words removed, 3 added")
    expect(page.locator("[data-report=revise]")).to_be_focused()
    expect(page.locator("mark[data-label=Emphysema]").last).to_be_visible()
    for kind in ("txt", "json", "fhir", "page"):
        with page.expect_download() as got:
            page.locator(f"[data-report={kind}]").click()
        assert "There is emphysema." in Path(got.value.path()).read_text(encoding="utf-8")
    page.locator("[data-report=revise]").click()
    page.get_by_role("button", name="Original text").click()
    page.get_by_role("button", name="Done").click()
    expect(revised).to_have_count(0)
    expect(page.locator(".r3-text")).not_to_contain_text("There is emphysema")


def test_discarded_changes_leave_the_report_as_it_was(page: Page, chest: Path) -> None:
    upload(page, chest)
    write_report(page)
    shown = page.locator(".r3-text").text_content() or ""
    page.locator("[data-report=revise]").press("Enter")
    draft = page.get_by_label("Revise the report")
    draft.fill("Findings: There is emphysema.")
    conflict = page.locator(".r3-notice.conflict")
    expect(conflict).to_contain_text("emphysema")
    page.get_by_role("button", name="Discard changes").press("Enter")
    expect(page.locator(".r3-text")).to_have_text(shown)
    expect(conflict).not_to_contain_text("emphysema")
    expect(page.locator("[data-report=revise]")).to_be_focused()


def test_a_revised_report_is_not_replaced_without_asking(page: Page, chest: Path) -> None:
    upload(page, chest)
    write_report(page)
    page.locator("[data-report=revise]").click()
    page.get_by_label("Revise the report").fill("Findings: Mine.")
    asked: list[str] = []

    def refuse(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.dismiss()

    page.once("dialog", refuse)
    page.get_by_role("button", name="Generate report").click()
    expect(page.get_by_label("Revise the report")).to_have_value("Findings: Mine.")
    assert "revised" in asked[0]
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Generate report").click()
    expect(page.locator(".r3-text")).to_contain_text("Small left pleural effusion.")


def test_a_typed_text_outlives_the_session_that_it_belonged_to(page: Page, chest: Path) -> None:
    upload(page, chest)
    write_report(page)
    page.locator("[data-report=revise]").click()
    page.get_by_label("Revise the report").fill("Findings: Mine.")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete scan and report").click()
    kept = page.get_by_label("The report that you revised is not open any more")
    expect(kept).to_have_value("Findings: Mine.")
    page.get_by_role("button", name="Close").click()
    expect(kept).to_have_count(0)


def test_a_page_with_a_draft_is_not_left_without_asking(page: Page, chest: Path) -> None:
    upload(page, chest)
    write_report(page)
    page.locator("[data-report=revise]").click()
    draft = page.get_by_label("Revise the report")
    draft.press_sequentially("Mine. ")
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    page.evaluate("setTimeout(() => location.reload())")
    page.wait_for_timeout(1500)
    assert asked == ["beforeunload"]
    # Gradio ends the session of a page that was about to be left: what was typed stays.
    texts = page.locator(".r3-draft textarea").evaluate_all("all => all.map((each) => each.value)")
    assert [text[:6] for text in texts] == ["Mine. "]
