"""The page's parts without a browser: escaping, marks, chart, choices, sessions."""

from __future__ import annotations

import json
import re
from math import nan

import numpy as np
import pytest
from browser.fakes import FAKE_TEXT, FakeService, fake_diagnosis

from rad3d.core.edits import with_edits
from rad3d.core.labels import LABELS, LabelSet
from rad3d.core.modes import MODES
from rad3d.core.types import Diagnosis, Note, Novelty, Volume
from rad3d.evaluation.listening import Listening
from rad3d.evaluation.measured import VariantResult
from rad3d.metrics.bootstrap import Estimate
from rad3d.model.catalogue import VariantStatus
from rad3d.reports.crosscheck import cross_check
from rad3d.ui import choices
from rad3d.ui.html import report_html
from rad3d.ui.report import html as render
from rad3d.ui.report.chart import LONGEST, diagnosis_chart
from rad3d.ui.report.windows import WINDOWS

ATTACK = '<script>alert("x")</script><img src=x onerror=alert(1)>'


def test_generated_text_and_file_names_cannot_become_markup() -> None:
    volume = Volume.from_array(
        np.zeros((2, 2, 2), np.int16), np.eye(4), ATTACK, (Note("warning", ATTACK, ATTACK),)
    )
    novel = Novelty(9.0, 99.0, 1.0)
    found = VariantResult(ATTACK, "", {"f1_macro": Estimate(0.4, 0.3, 0.5, 20)}, ATTACK, "r")
    shares = Listening(*[Estimate(0.4, 0.3, 0.5, 20)] * 2)
    for html in (
        render.report_panel(f"Findings: {ATTACK}\nImpression: {ATTACK}", ATTACK),
        render.comparison(
            f"Findings: {ATTACK}", f"Findings: Else. {ATTACK}", ATTACK, [(ATTACK, True)]
        ),
        render.listening(ATTACK, {"": shares, ATTACK: shares}),
        render.scan_notes(volume),
        render.notice(ATTACK),
        render.progress(ATTACK, 0.5),
        render.folded_truth(ATTACK),
        render.verdicts(novel, ATTACK, notes=volume.notes),
        choices.not_ready([VariantStatus("gpt2/v3", False, ATTACK, ATTACK)]),
        choices.guidance([VariantStatus("gpt2/v3", True)], "gpt2", "v3", lambda _: [found]),
        report_html("models", title=ATTACK, head=[ATTACK], rows=[(ATTACK, ATTACK)]),
    ):
        assert "<script" not in html
        assert "<img" not in html


def test_contradictions_are_marked_at_their_words_in_both_sections() -> None:
    check = cross_check(FAKE_TEXT, fake_diagnosis())
    html = render.report_panel(FAKE_TEXT, statements=check.statements)
    assert html.count('<mark class="asserted_but_unlikely"') == 2
    assert html.count('<mark class="denied_but_likely"') == 1
    for item in check.contradictions:
        assert f">{FAKE_TEXT[item.start : item.end]}</mark>" in html


def test_words_that_differ_are_marked_and_what_is_not_written_yet_is_not() -> None:
    before, after = (
        "There is a nodule. No effusion. Clear airways.",
        "There is a mass. No effusion.",
    )
    removed, added = render.differences(before, after)
    assert [words for words, tag in removed if tag == "del"] == ["nodule.", "Clear airways."]
    assert [words for words, tag in added if tag == "ins"] == ["mass."]
    removed, _ = render.differences(before, after, unfinished=True)
    assert [words for words, tag in removed if tag == "del"] == ["nodule."]
    assert " ".join(words for words, _ in removed) == before


def test_a_report_follows_where_it_says_of_a_finding_what_was_set() -> None:
    diagnosis = with_edits(fake_diagnosis(), {"Pleural effusion": 0.9, "Cardiomegaly": 0.1})
    before, after = (
        cross_check(text, diagnosis)
        for text in (
            "Findings: No pleural effusion.",
            "Findings: Left pleural effusion. Cardiomegaly.",
        )
    )
    assert dict(render.followed(before, after, diagnosis)) == {
        "Pleural effusion, 5 % → 90 %: denied before, stated now": True,
        "Cardiomegaly, 87 % → 10 %: not mentioned before, stated now": False,
    }


def test_a_half_written_report_shows_findings_only() -> None:
    html = render.report_panel("Findings: The lungs are", writing=True)
    assert "<h3>Findings</h3>" in html
    assert "Impression" not in html
    assert "data-report" not in html, "an unfinished report cannot be downloaded"


def test_the_chart_has_all_labels_sorted_with_thresholds_and_logits() -> None:
    diagnosis = fake_diagnosis()
    check = cross_check("Findings: No cardiomegaly.", diagnosis)
    drawing = json.loads(diagnosis_chart(diagnosis, check).plot)
    bars = next(trace for trace in drawing["data"] if trace.get("name") == "probability")
    names = [row[0] for row in bars["customdata"]]
    assert sorted(names) == sorted(LABELS)
    assert names[-1] == "Lung nodule", "the highest probability is at the top"
    assert bars["customdata"][-1][2] == "+3.10"
    assert "logit" in bars["hovertemplate"]
    assert any(trace.get("name") == "threshold" for trace in drawing["data"])
    captions = [a["text"] for a in drawing["layout"]["annotations"]]
    assert "<b>≠ Cardiomegaly</b>" in captions
    assert "<b>∅ Lung nodule</b>" in captions, "it is likely, and the report is silent about it"
    assert drawing["layout"]["xaxis"]["range"] == [0, 1.0]


def test_probabilities_and_values_are_those_of_the_diagnosis() -> None:
    diagnosis = fake_diagnosis()
    bars = next(
        trace
        for trace in json.loads(diagnosis_chart(diagnosis).plot)["data"]
        if trace.get("name") == "probability"
    )
    shown = {row[0]: float(row[1]) for row in bars["customdata"]}
    for i, label in enumerate(LABELS):
        assert shown[label] == pytest.approx(float(diagnosis.probabilities[i]), abs=6e-4)


def test_a_scan_unlike_the_training_scans_is_said_clearly() -> None:
    far = render.verdicts(Novelty(97.0, 100.0, 21.5), "synthetic phantoms")
    assert "know only synthetic phantoms" in far
    assert 'role="alert"' in far
    near = render.verdicts(Novelty(8.0, 60.0, 21.5), "synthetic phantoms")
    assert "Within the range" in near


def test_agreement_is_told_only_where_nothing_is_left_out() -> None:
    seen = fake_diagnosis()
    agree = "Nothing in the report contradicts"
    silent = render.verdicts(None, "", cross_check("Findings: The skin is dry.", seen))
    assert agree not in silent
    assert "not mentioned in the report" in silent
    for label, present in zip(LABELS, seen.present, strict=True):
        assert (f"<li>{label}:" in silent) == present
    everything = [f"{label}." for label, here in zip(LABELS, seen.present, strict=True) if here]
    check = cross_check(f"Findings: {' '.join(everything)}", seen)
    whole = render.verdicts(None, "", check)
    assert agree in whole
    assert f"it mentions all {len(check.seen)} findings above their threshold" in whole


def test_pickers_follow_the_statuses() -> None:
    statuses = FakeService().variants()
    assert [llm for _, llm in choices.llm_choices(statuses)] == [
        "phantom-s",
        "phantom-m",
        "phantom-l",
    ]
    assert [mode for _, mode in choices.mode_choices(statuses, "phantom-s")] == list(MODES)
    assert choices.mode_choices(statuses, "gpt2") == []
    assert choices.first_choice(statuses, "phantom-m/v2") == ("phantom-m", "v2")
    assert choices.first_choice(statuses, "gpt2/v3")[0] == "phantom-l"
    assert choices.first_choice([], "phantom-m/v2") == (None, None)
    assert "rad3d demo build" in choices.guidance([], None, None, lambda _: ())


@pytest.mark.parametrize(
    ("parameters", "mode", "follows"),
    [
        (5_000_000, "v1", True),
        (5_000_000, "v3", False),
        (1_235_814_400, "v3", True),
        (1_235_814_400, "v1", False),
    ],
)
def test_guidance_is_the_papers_rule(parameters: int, mode: str, follows: bool) -> None:
    llm = "phantom-l" if parameters < 10**9 else "llama-3.2-1b"
    status = VariantStatus(f"{llm}/{mode}", True, parameters=parameters)
    text = choices.guidance([status], llm, mode, lambda _: ())
    assert ("This choice follows it." in text) is follows


def test_what_was_measured_is_shown_with_interval_n_and_date() -> None:
    found = (
        VariantResult(
            "phantom-in", "in", {"f1_macro": Estimate(0.9, 0.8, 0.95, 200)}, "2026-11-24", "r"
        ),
        VariantResult("mine", "", {"f1_macro": Estimate(0.4, 0.3, 0.5, 20)}, "2026-11-24", "r"),
        VariantResult("no-labels", "", {"f1_macro": Estimate(nan, nan, nan, 5)}, "2026-11-24", "r"),
    )
    shown = "in domain 0.90 [0.80, 0.95], n = 200; mine 0.40 [0.30, 0.50], n = 20 (2026-11-24)"
    assert choices.measured(found) == shown
    status = VariantStatus("phantom-l/v3", True, parameters=5)
    assert shown in choices.guidance([status], "phantom-l", "v3", lambda _: found)


def test_what_was_not_measured_says_how_to_measure_it() -> None:
    status = VariantStatus("phantom-l/v3", True, parameters=5)
    html = choices.guidance([status], "phantom-l", "v3", lambda _: ())
    assert "<code>rad3d eval run --variants phantom-l/v3</code>" in html
    assert "Measured" not in html


def test_the_windows_are_the_agreed_ones() -> None:
    assert {w.name: (w.level, w.width) for w in WINDOWS} == {
        "Lung": (-600, 1500),
        "Mediastinum": (40, 400),
        "Bone": (400, 1800),
    }


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 5, 21, 40])
def test_the_chart_has_a_bar_and_a_name_that_fits_for_every_label_of_a_set(n: int) -> None:
    names = [f"Label {i} " + "with a very long name " * (i % 3) for i in range(n)]
    labels = LabelSet.from_plain({"id": "x", "labels": [name.strip() for name in names]})
    values = np.linspace(-2, 2, n)
    diagnosis = Diagnosis(values, 1 / (1 + np.exp(-values)), np.full(n, 0.5), label_set=labels)
    drawing = json.loads(diagnosis_chart(diagnosis).plot)
    bars = next(trace for trace in drawing["data"] if trace["name"] == "probability")
    assert [each[0] for each in bars["customdata"]] == list(labels.names), "whole on hover"
    shown = [a["text"] for a in drawing["layout"]["annotations"] if a["xanchor"] == "left"]
    assert len(shown) == n
    assert all(len(re.sub("<.*?>", "", text)) <= LONGEST for text in shown)
    assert drawing["layout"]["height"] >= 32 * n
