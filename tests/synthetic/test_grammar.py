"""The grammar: reports state what is true, deny only what is absent, and vary."""

from __future__ import annotations

import hashlib
import re

import pytest

from rad3d.core.errors import UnknownName
from rad3d.core.findings import DOMAINS, FINDING_NAMES, LOBES, Finding, Truth
from rad3d.core.labels import LABELS, PULMONARY_EMBOLISM
from rad3d.core.words import joined
from rad3d.reports.labeller import findings_in, label_report
from rad3d.reports.sections import ReportText, split_report
from rad3d.synthetic.grammar import REPORT_ORDER, write_report, write_summary
from rad3d.synthetic.grammar.impression import significant
from rad3d.synthetic.grammar.prose import prose_report, structured_report
from rad3d.synthetic.grammar.sentences import finding_sentence
from rad3d.synthetic.grammar.summary import NOTHING, STYLES
from rad3d.synthetic.grammar.template import CANONICAL, FREE, PhraseSampler, with_article
from rad3d.synthetic.truth import draw_truth

N = 300
GOLDEN = "f6e63d9be2ccc8531854a0784d67f0692d1b82a85e6c5c924c925478e93cce5f"

TERMS: dict[str, str] = {
    "Medical material": r"pacemaker|catheter|wire|tube|medical (?:device|material)",
    "Arterial wall calcification": r"aort\w*[^.]*calcif|calcif[^.]*aort|aort\w*[^.]*plaque"
    r"|plaque[^.]*aort",
    "Cardiomegaly": r"cardiomegaly|enlarge\w* of the (?:heart|cardiac)|cardiac enlargement"
    r"|heart (?:is|appears) \w+ (?:enl|in)|heart is not|silhouette|heart size",
    "Pericardial effusion": r"pericardial effusion",
    "Coronary artery wall calcification": r"coronar",
    "Hiatal hernia": r"hiat",
    "Lymphadenopathy": r"lymph",
    "Emphysema": r"emphysem",
    "Atelectasis": r"atelecta",
    "Lung nodule": r"nodule",
    "Lung opacity": r"opacit",
    "Pulmonary fibrotic sequela": r"fibrotic",
    "Pleural effusion": r"pleural (?:or pericardial )?effusion",
    "Mosaic attenuation pattern": r"mosaic",
    "Peribronchial thickening": r"peribronchial|bronchial wall",
    "Consolidation": r"consolidation",
    "Bronchiectasis": r"bronchiecta",
    "Interlobular septal thickening": r"interlobular",
    PULMONARY_EMBOLISM: r"pulmonary embol",
}
DENIAL = re.compile(
    r"^(?:\d\. |[\w ]+: |)(?:there (?:is|are) )?(?:no|not|negative|without|normal)\b"
    r"|is not enlarged|heart size is normal|heart is normal|without pulmonary",
    re.IGNORECASE,
)


def sentences(text: str) -> list[str]:
    return [s for s in re.split(r"(?<=[.;])\s+|\n", text) if s]


def stated(report: ReportText, label: str) -> list[bool]:
    """For each sentence that names the label: True where it is asserted, False where denied."""
    return [
        not DENIAL.search(s) for s in sentences(report.text) if re.search(TERMS[label], s, re.I)
    ]


@pytest.fixture(scope="module", params=DOMAINS)
def reports(request: pytest.FixtureRequest) -> list[tuple[Truth, ReportText]]:
    truths = [draw_truth(seed, request.param) for seed in range(N)]
    return [(t, write_report(t, style=request.param)) for t in truths]


def one_of_each() -> list[Finding]:
    lobe: dict[str, object] = {"side": "right", "sites": ("right lower lobe",)}
    values: dict[str, dict[str, object]] = {
        "Medical material": {"side": "left", "kind": "pacemaker"},
        "Arterial wall calcification": {"sites": ("aortic arch",), "severity": "moderate"},
        "Cardiomegaly": {"severity": "moderate"},
        "Pericardial effusion": {"severity": "moderate", "size_mm": 15},
        "Coronary artery wall calcification": {
            "sites": ("right coronary artery",),
            "severity": "moderate",
        },
        "Hiatal hernia": {"severity": "severe", "size_mm": 70},
        "Lymphadenopathy": {"sites": ("subcarinal",), "size_mm": 14, "count": 1},
        "Emphysema": {"side": "bilateral", "kind": "paraseptal", "severity": "moderate"},
        "Atelectasis": {**lobe, "kind": "linear", "severity": "moderate"},
        "Lung nodule": {**lobe, "kind": "solid", "size_mm": 8, "count": 1},
        "Lung opacity": {**lobe, "severity": "moderate"},
        "Pulmonary fibrotic sequela": {**lobe, "severity": "moderate"},
        "Pleural effusion": {"side": "left", "severity": "moderate", "size_mm": 40},
        "Mosaic attenuation pattern": {"side": "bilateral", "severity": "moderate"},
        "Peribronchial thickening": {
            "side": "bilateral",
            "sites": ("central",),
            "severity": "moderate",
        },
        "Consolidation": {**lobe, "severity": "moderate", "size_mm": 50},
        "Bronchiectasis": {**lobe, "kind": "cystic", "severity": "moderate"},
        "Interlobular septal thickening": {
            "side": "right",
            "sites": ("lower lobe",),
            "severity": "moderate",
        },
        PULMONARY_EMBOLISM: {"side": "right", "sites": ("main",), "severity": "moderate"},
    }
    return [Finding(label=name, **values[name]) for name in FINDING_NAMES]  # type: ignore[arg-type]


def test_the_same_seed_writes_the_same_words_everywhere() -> None:
    texts = [
        write_report(draw_truth(seed, domain), style=domain).text
        for domain in DOMAINS
        for seed in range(100)
    ]
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest() == GOLDEN


def test_another_seed_writes_other_words() -> None:
    truth = draw_truth(12, "in")
    assert write_report(truth) == write_report(truth, seed=truth.seed)
    assert len({write_report(truth, seed=seed).text for seed in range(20)}) == 20


def test_all_that_is_present_is_stated_and_nothing_else(
    reports: list[tuple[Truth, ReportText]],
) -> None:
    for truth, report in reports:
        present = {finding.label for finding in truth.findings}
        for label in FINDING_NAMES:
            found = stated(report, label)
            assert all(found) if label in present else not any(found), (label, report.text)
            if label in present:
                in_findings = stated(ReportText(report.findings, ""), label)
                assert len(in_findings) in (1, 2), (label, report.text)


@pytest.mark.slow
def test_the_labeller_reads_back_the_labels(reports: list[tuple[Truth, ReportText]]) -> None:
    wrong = sum(label_report(report.text) != truth.labels() for truth, report in reports)
    assert wrong <= 0.01 * len(reports)


@pytest.mark.slow
def test_the_labeller_reads_back_the_side(reports: list[tuple[Truth, ReportText]]) -> None:
    right = total = 0
    for truth, report in reports:
        read = {finding.label: finding for finding in findings_in(report.text)}
        for finding in truth.findings:
            if finding.side and finding.label in LABELS:
                total += 1
                right += finding.label in read and read[finding.label].side == finding.side
    assert total > N
    assert right / total > 0.98


@pytest.mark.parametrize("finding", one_of_each(), ids=lambda f: f.label)
def test_a_finding_has_hundreds_of_surface_forms(finding: Finding) -> None:
    pen = PhraseSampler("forms", FREE)
    forms = {finding_sentence(finding, pen) for _ in range(4000)}
    assert len(forms) >= 200


@pytest.mark.parametrize("finding", one_of_each(), ids=lambda f: f.label)
def test_the_attributes_of_a_finding_are_in_its_sentence(finding: Finding) -> None:
    pen = PhraseSampler("attributes", FREE)
    for _ in range(200):
        text = finding_sentence(finding, pen).lower()
        if finding.side == "bilateral":
            assert re.search(r"both|bilateral", text), text
        elif finding.side:
            assert finding.side in text, text
        if finding.size_mm:
            assert f"{finding.size_mm} mm" in text, text
        if finding.kind:
            assert finding.kind in text, text
        if finding.sites and finding.sites[0] in LOBES:
            assert finding.sites[0] in text, text


def test_plain_wording_varies_less_than_free_wording() -> None:
    finding = one_of_each()[9]
    counts = []
    for skew in (CANONICAL, FREE):
        pen = PhraseSampler("skew", skew)
        counts.append(len({finding_sentence(finding, pen) for _ in range(200)}))
    assert counts[0] < counts[1] / 2


def test_reports_are_as_long_as_reports_and_no_longer(
    reports: list[tuple[Truth, ReportText]],
) -> None:
    words = sorted(len(report.text.split()) for _, report in reports)
    assert words[0] >= 10
    assert 70 <= words[len(words) // 2] <= 125
    assert words[-1] <= 175


def test_in_domain_reports_keep_one_order() -> None:
    for seed in range(N):
        truth = draw_truth(seed, "in")
        report = write_report(truth)
        first = [
            next(
                i
                for i, s in enumerate(sentences(report.findings))
                if re.search(TERMS[name], s, re.I) and not DENIAL.search(s)
            )
            for name in REPORT_ORDER
            if truth.get(name)
        ]
        assert first == sorted(first), report.text


def test_the_out_of_domain_style_always_speaks_of_embolism() -> None:
    present = absent = 0
    for seed in range(N):
        truth = draw_truth(seed, "out")
        report = write_report(truth, style="out")
        has = truth.get(PULMONARY_EMBOLISM) is not None
        assert report.findings.startswith("CT pulmonary angiogram.")
        for text in (report.findings, report.impression):
            said = re.search(r"pulmonary emboli|pulmonary embolism", text)
            assert said, report.text
            denied = re.search(r"(?:no|without)(?: evidence of)? pulmonary embolism", text, re.I)
            assert bool(denied) != has, report.text
        present, absent = present + has, absent + (not has)
    assert min(present, absent) > N / 5


def test_a_structured_report_numbers_its_impression() -> None:
    findings = draw_truth(3, "in").findings
    assert structured_report(findings, 1, angiogram=True).impression.startswith("1. ")
    assert "embol" not in structured_report(findings, 1).text


def test_the_impression_names_the_important_first_and_at_most_four() -> None:
    chosen = significant(one_of_each())
    assert [f.label for f in chosen[:2]] == [PULMONARY_EMBOLISM, "Consolidation"]
    assert len(chosen) == 4
    assert "o" in prose_report((), 1).impression.lower()


def test_an_unknown_style_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="in, out"):
        write_report(draw_truth(1, "in"), style="letter")
    with pytest.raises(UnknownName, match="plain"):
        write_summary((), style="poem")
    with pytest.raises(UnknownName, match="fixed"):
        write_summary((), order="random")


@pytest.mark.parametrize("style", STYLES)
def test_a_summary_is_short_and_names_every_finding_once(style: str) -> None:
    for seed in range(N):
        findings = draw_truth(seed, "in").findings
        text = write_summary(findings, style=style)
        assert text == write_summary(findings, seed=7, style=style)
        assert len(text.split("; ")) == max(len(findings), 1)
        assert len(text.split()) <= 100
    assert write_summary((), style=style) == NOTHING


def test_a_summary_holds_all_attributes() -> None:
    nodule = Finding("Lung nodule", "left", ("left upper lobe",), "solid", None, 8, 3)
    effusion = Finding("Pleural effusion", "right", (), None, "moderate", 32)
    both = (effusion, nodule)
    assert write_summary(both) == (
        "solid nodule, left upper lobe, 8 mm, number 3; right pleural effusion, moderate, 32 mm"
    )
    assert write_summary(both, style="terse") == (
        "nodule solid LUL 8 x3; effusion right moderate 32"
    )


def test_shuffled_summaries_depend_on_the_seed_alone() -> None:
    findings = draw_truth(10_000_000, "in").findings
    orders = {write_summary(findings, seed=seed, order="shuffled") for seed in range(10)}
    assert len(orders) > 1
    assert write_summary(findings, 3, order="shuffled") == write_summary(
        findings, 3, order="shuffled"
    )


@pytest.mark.parametrize(
    ("text", "findings", "impression"),
    [
        ("Findings: A.\nImpression: B.", "A.", "B."),
        ("FINDINGS: A.\n\nIMPRESSION:\nB.", "A.", "B."),
        ("A. Conclusion: B.", "A.", "B."),
        ("Impression: B.", "", "B."),
        ("no headings at all", "no headings at all", ""),
        ("", "", ""),
        ("Findings: A.\nImpres", "A.", ""),
        ("Findi", "", ""),
    ],
)
def test_a_report_is_cut_into_its_sections(text: str, findings: str, impression: str) -> None:
    assert split_report(text) == ReportText(findings, impression)


def test_sections_survive_a_round_trip_and_streaming() -> None:
    report = write_report(draw_truth(5, "in"))
    assert split_report(report.text) == report
    for end in range(len(report.text)):
        part = split_report(report.text[:end])
        assert report.findings.startswith(part.findings)
        assert report.impression.startswith(part.impression)
    assert ReportText("", "B.").text == "Impression: B."


def test_a_pen_is_seeded_and_leaves_its_input_alone() -> None:
    items = [1, 2, 3, 4, 5]
    assert PhraseSampler(1).shuffled(items) == PhraseSampler(1).shuffled(items)
    assert items == [1, 2, 3, 4, 5]
    assert joined(["a", "b", "c"], "or") == "a, b or c"
    assert [with_article(w) for w in ("8 mm", "11 mm", "7 mm", "enlarged", "uniform")] == [
        "an 8 mm",
        "an 11 mm",
        "a 7 mm",
        "an enlarged",
        "a uniform",
    ]
