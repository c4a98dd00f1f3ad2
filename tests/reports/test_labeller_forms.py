"""A report reads the same in every form it may have: tables, lists, JSON, lost line ends."""

from __future__ import annotations

import csv
import html
import json
import os
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rad3d.core.labels import LABELS
from rad3d.reports.labeller import find_mentions, label_report
from rad3d.reports.labeller.splitter import MAX_SENTENCE, split_sentences, stated_sentences
from rad3d.reports.reading import plain_sentences
from rad3d.synthetic.grammar import write_report
from rad3d.synthetic.truth import draw_truth

REAL_REPORTS = (
    Path(os.environ.get("RAD3D_SHARED", "../shared")) / "data" / "ct_rate_text" / "train.csv"
)


def labels_in(text: str) -> set[str]:
    """The labels that a text asserts."""
    return {name for name, value in zip(LABELS, label_report(text), strict=True) if value}


LAYOUTS: dict[str, Callable[[str, str, str, str], str]] = {
    "lines": lambda a, no, b, yes: f"{a}: {no}\n{b}: {yes}",
    "one line": lambda a, no, b, yes: f"{a}: {no}, {b}: {yes}.",
    "sentences": lambda a, no, b, yes: f"{a}: {no}. {b}: {yes}.",
    "equal signs": lambda a, no, b, yes: f"{a} = {no}; {b} = {yes}",
    "arrows": lambda a, no, b, yes: f"{a} -> {no}\n{b} → {yes}",
    "dashes": lambda a, no, b, yes: f"- {a} - {no}\n- {b} – {yes}",
    "brackets": lambda a, no, b, yes: f"{a} ({no}), {b} [{yes}]",
    "leaders": lambda a, no, b, yes: f"{a} ....... {no}\n{b} ....... {yes}",
    "questions": lambda a, no, b, yes: f"Is there {a}? {no}. Is there {b}? {yes}.",
    "dialogue": lambda a, no, b, yes: f"Q: {a}?\nA: {no}\nQ: {b}?\nA: {yes}",
    "bold": lambda a, no, b, yes: f"* **{a}**: {no}\n* **{b}:** **{yes}**",
    "markdown": lambda a, no, b, yes: (
        f"| Finding | Here |\n|:--|--:|\n| {a} | {no} |\n| {b} | {yes} |"
    ),
    "no header": lambda a, no, b, yes: f"| {a} | {no} |\n| {b} | {yes} |",
    "no bars outside": lambda a, no, b, yes: f"Finding | Here\n--- | ---\n{a} | {no}\n{b} | {yes}",
    "across": lambda a, no, b, yes: f"| {a} | {b} |\n|---|---|\n| {no} | {yes} |",
    "numbered": lambda a, no, b, yes: (
        f"| # | Label | Is |\n|-|--|-|\n| 1 | {a} | {no} |\n| 2 | {b} | {yes} |"
    ),
    "remarks": lambda a, no, b, yes: f"| {a} | {no} | - |\n| {b} | {yes} | small, left |",
    "flat": lambda a, no, b, yes: f"| Finding | Here | |---|---| | {a} | {no} | | {b} | {yes} |",
    "tabs": lambda a, no, b, yes: f"{a}\t{no}\n{b}\t{yes}",
    "commas": lambda a, no, b, yes: f"{a},{no}\n{b},{yes}",
    "html": lambda a, no, b, yes: (
        f"<table><tr><td>{a}</td><td>{no}</td></tr><tr><td>{b}</td><td>{yes}</td></tr></table>"
    ),
    "json": lambda a, no, b, yes: json.dumps({a: no, b: yes}),
    "python": lambda a, no, b, yes: str({a: no, b: yes}),
    "json in prose": lambda a, no, b, yes: f"Here you are: {json.dumps({a: no, b: yes})} Bye.",
    "fenced, cut off": lambda a, no, b, yes: f'```json\n{{"{a}": "{no}", "{b}": "{yes}"',
    "keys": lambda a, no, b, yes: json.dumps({a.lower().replace(" ", "_"): no, b: yes}),
    "objects": lambda a, no, b, yes: json.dumps(
        [{"finding": a, "present": no}, {"finding": b, "present": yes, "side": None}]
    ),
    "nested": lambda a, no, b, yes: json.dumps(
        {"findings": {a: {"status": no}, b: {"status": yes}}}
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("no", "yes"), [("No", "Yes"), ("absent", "present"), ("0", "1")])
def test_an_answer_counts_in_every_layout(layout: str, no: str, yes: str) -> None:
    for i, denied in enumerate(LABELS):
        found = LABELS[(i + 7) % len(LABELS)]
        text = LAYOUTS[layout](denied, no, found, yes)
        assert labels_in(text) == {found}, text


@pytest.mark.parametrize(
    "no", ["none", "negative", "false", "not seen", "not detected", "ruled out", "nil", "-", "0.0"]
)
@pytest.mark.parametrize("yes", ["positive", "true", "detected", "mild", "small, left", "1.0"])
def test_many_words_answer(no: str, yes: str) -> None:
    assert labels_in(f"Pleural effusion: {no}\nEmphysema: {yes}") == {"Emphysema"}


def test_false_and_true_without_quotes_answer() -> None:
    assert labels_in('{"lung_nodule": false, "hiatalHernia": true}') == {"Hiatal hernia"}


@pytest.mark.parametrize(
    "text",
    [
        "Pleural effusion (-), hiatal hernia (+), cardiomegaly (-)",
        "Effusion (-) Hiatal hernia (+) Nodule (-)",
        "[ ] Pleural effusion\n[x] Hiatal hernia\n[ ] Nodule",
        "☐ Pleural effusion\n☑ Hiatal hernia",
        "Pleural effusion ✗\nHiatal hernia ✓",
        "(-) pleural effusion\n(+) hiatal hernia",
        "| Finding | Yes | No |\n|---|---|---|\n| Effusion |  | x |\n| Hiatal hernia | x |  |",
        "Absent:\n- Pleural effusion\n- Cardiomegaly\nPresent:\n- Hiatal hernia",
        "**Negative findings:**\n* Nodule\n\n**Positive findings:**\n* Hiatal hernia",
        "Absent: effusion, nodule; present: hiatal hernia.",
        "No: nodule, effusion. Yes: hiatal hernia.",
        "Pleural effusion: N/A\nHiatal hernia: yes\nNodule: not assessed",
        '{"present": ["Hiatal hernia"], "absent": ["Nodule", "Emphysema"]}',
        '{"history": "emphysema", "report": "Hiatal hernia. No nodule."}',
        '{"lungs": {"emphysema": "no"}, "other": {"hiatal hernia": "small"}, "heart": null}',
        "Pleural effusion / thickening: No\nHiatal hernia: Yes",
        "Pleural effusion: 0.08\nHiatal hernia: 0.91",
        "Pleural effusion: 8%\nHiatal hernia: 91%",
        "Pleural effusion -\nHiatal hernia +",
        "Pleural effusion -ve, hiatal hernia +ve",
        "Pleural effusion\nAbsent\nHiatal hernia\nPresent",
        '"Pleural effusion","No"\n"Hiatal hernia","Yes"',
        "Negative: effusion; consolidation; nodule\nPositive: hiatal hernia",
        "There is no: effusion, nodule. There is: hiatal hernia.",
        "Pleural effusion: unlikely\nHiatal hernia: likely",
    ],
)
def test_marks_and_headings_answer(text: str) -> None:
    assert labels_in(text) == {"Hiatal hernia"}


def test_what_is_not_answered_is_neither_stated_nor_denied() -> None:
    assert find_mentions("Pleural effusion: not assessed\nEmphysema: n/a") == ()


@pytest.mark.parametrize(
    "text",
    [
        "1) No pleural effusion 2) Hiatal hernia 3) No nodule",
        "(1) no pleural effusion (2) hiatal hernia (3) no nodule",
        "a) No pleural effusion b) Hiatal hernia",
        "1. No pleural effusion 2. Hiatal hernia 3. No nodule",
        "1- No pleural effusion 2- Hiatal hernia",
        "① No pleural effusion ② Hiatal hernia",
        "No pleural effusion ► Hiatal hernia",
        "No pleural effusion | Hiatal hernia | No nodule",
        "No pleural effusion / Hiatal hernia / No nodule",
        "no pleural effusion\nsmall hiatal hernia\nno nodule",
        "No pleural effusion、no nodule。Hiatal hernia。",
        "No pleural effusion；hiatal hernia",
        "No pleural effusion - Hiatal hernia - No nodule",
        "No pleural effusion --- Hiatal hernia --- No nodule",
        "No pleural effusion → Hiatal hernia → No nodule",
        "No pleural effusion...Hiatal hernia...No nodule",
        "No pleural effusion…Hiatal hernia…No nodule…",
        "1.No pleural effusion.2.Hiatal hernia.3.No nodule.",
        "'No pleural effusion', 'Hiatal hernia', 'No nodule'",
        "«No pleural effusion.» «Hiatal hernia.»",
        "> No pleural effusion\n> Hiatal hernia\n> No nodule",
    ],
)
def test_every_item_of_a_list_is_a_sentence(text: str) -> None:
    assert labels_in(text) == {"Hiatal hernia"}


def test_lines_that_are_wrapped_go_on() -> None:
    assert labels_in("No pleural\neffusion. The heart is\nenlarged.") == {"Cardiomegaly"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No effusion on the right, but a small one on the left.", {"Pleural effusion"}),
        ("No pleural effusion on the left; small on the right.", {"Pleural effusion"}),
        ("No pleural effusion on the right. Moderate on the left.", {"Pleural effusion"}),
        ("No right pleural effusion; left present.", {"Pleural effusion"}),
        ("No nodule in the right lung, one in the left lower lobe.", {"Lung nodule"}),
        ("Pleural effusion is absent on the right and small on the left.", {"Pleural effusion"}),
        ("No pleural effusion on the right, none on the left.", set()),
        ("No pleural effusion on the right; the left is clear.", set()),
        ("Pericardial effusion has been ruled out.", set()),
        ("Pleural effusion was never seen.", set()),
        ("This is not consolidation but atelectasis.", {"Atelectasis"}),
        ("Instead of a consolidation this is a rounded atelectasis.", {"Atelectasis"}),
        ("Negative for nodules, positive for emphysema.", {"Emphysema"}),
        ("Absence of pleural effusion, presence of emphysema.", {"Emphysema"}),
        ("Pleural effusion: There is no pleural effusion.", set()),
        ("A lymph node of pathological size was not distinguished.", set()),
        ("On the earlier CT there was a large effusion. Today the pleura is normal.", set()),
        ("On prior CT there was a 5 mm nodule; it now measures 8 mm.", {"Lung nodule"}),
        ("On prior CT there was a small effusion, which has increased.", {"Pleural effusion"}),
        ("The prior CT showed consolidation. Today the lungs are clear.", set()),
        ("There was an effusion on the left. It has resolved.", set()),
        ("Resolved: left consolidation. New: right pleural effusion.", {"Pleural effusion"}),
        ("The nodule described earlier cannot be reproduced today.", set()),
        ("History of emphysema. The lungs are clear.", set()),
        ("Status post resection of a lung nodule.", set()),
        ("The chest tube has since been withdrawn.", set()),
        (
            "Complete regression of the consolidation with remaining fibrotic bands.",
            {"Pulmonary fibrotic sequela"},
        ),
        ("Mediastinal lymph nodes are present and normal in size.", set()),
        ("Normal-sized mediastinal lymph nodes.", set()),
        ("Scar of a surgical incision in the upper abdomen.", set()),
        ("Consolidated fracture of the left clavicle.", set()),
        ("Fibrous dysplasia of the seventh rib with ground-glass matrix.", set()),
        ("Vertebral collapse of T8.", set()),
        ("SPN of 8 mm in the left lower lobe.", {"Lung nodule"}),
        ("Round lesion of 11 mm in segment 3.", {"Lung nodule"}),
        ("Liver nodule in segment 3.", set()),
        ("Mediastinal LAD, short axis 16 mm.", {"Lymphadenopathy"}),
        ("Calcified LAD and RCA.", {"Coronary artery wall calcification"}),
        ("RLL cons., sm R eff.", {"Consolidation", "Pleural effusion"}),
        ("Peric. eff.", {"Pericardial effusion"}),
        ("No pl. eff. No PTX. Small HH.", {"Hiatal hernia"}),
        ("Small right effusion with overlying collapse.", {"Pleural effusion", "Atelectasis"}),
        ("Subsegmental dystelectases.", {"Atelectasis"}),
        ("Z.n. CABG, sternal cerclages in place.", {"Medical material"}),
        ("Enlarged LNs in the mediastinum.", {"Lymphadenopathy"}),
        ("No nodule in the right lung, 5 mm nodule in the left lung.", {"Lung nodule"}),
        ("The right pleura is normal; there is an effusion on the left.", {"Pleural effusion"}),
        ("Effusion is not seen on the right but is on the left.", {"Pleural effusion"}),
        ("No new nodules; the known ones are unchanged.", {"Lung nodule"}),
        ("The consolidation has not yet resolved.", {"Consolidation"}),
        ("Pleural effusion has not completely cleared.", {"Pleural effusion"}),
        ("Atelectasis of the left base has re-expanded.", set()),
        ("The consolidation has been replaced by scars.", {"Pulmonary fibrotic sequela"}),
        ("Pleural effusions have not developed.", set()),
        ("The lungs are clear of nodules.", set()),
        ("Unable to identify any nodule.", set()),
        ("Effusion ruled out. Chest tube removed. Nodule resected in 2019.", set()),
        ("The reported nodule corresponds to a vessel.", set()),
        ("Bronchial walls and septa are not thickened.", set()),
        ("Hx emphysema. Lungs clear.", set()),
        ("Heart enl. RML collapse.", {"Cardiomegaly", "Atelectasis"}),
        ("Aortic athero. PPM in situ.", {"Arterial wall calcification", "Medical material"}),
    ],
)
def test_sides_the_past_look_alikes_and_short_forms(text: str, expected: set[str]) -> None:
    assert labels_in(text) == expected


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("Right pleural effusion, none on the left.", "right"),
        ("Pleural effusion: right none, left small.", "left"),
        ("Pleural effusion: R moderate, L none.", "right"),
        ("Effusion on the right side but not on the left side.", "right"),
        ("Left but no right pleural effusion.", "left"),
        ("Moderate right, no left effusion.", "right"),
        ("A right, but not left, pleural effusion.", "right"),
        ("Right effusion, whereas the left lung is clear.", "right"),
        ("Left effusion without involvement of the right lung.", "left"),
        ("Effusion of the right side, sparing the left.", "right"),
        ("LLL effusion, RLL clear.", "left"),
        ("No effusion on the right, 5 mm effusion on the left.", "left"),
        ("Lt. pleural effusion.", "left"),
        ("Bilat. pl. effusions.", "bilateral"),
        ("Pleural effusions R > L.", "bilateral"),
        ("Small b/l effusions.", "bilateral"),
    ],
)
def test_a_side_that_is_spared_is_not_the_findings(text: str, side: str) -> None:
    assert [m.side for m in find_mentions(text) if m.present] == [side]


def test_the_other_side_is_the_one_that_is_affected() -> None:
    text = "No pleural effusion on the right; moderate on the left."
    assert [(m.side, m.severity) for m in find_mentions(text) if m.present] == [
        ("left", "moderate")
    ]


DISGUISES: dict[str, Callable[[list[str]], str]] = {
    "new lines": "\n".join,
    "literal new lines": "\\n".join,
    "literal carriage returns": "\\r\\n".join,
    "Excel's": "_x000D_\n".join,
    "<br>": "<br>".join,
    "</p>": lambda lines: "".join(f"{line}</p>" for line in lines),
    "list items": lambda lines: "".join(f"<li>{line}</li>" for line in lines),
    "wide stops": lambda lines: "。".join(lines).replace(", ", "，"),
    "1) 2)": lambda lines: " ".join(f"{i}) {line}" for i, line in enumerate(lines, 1)),
    "1. 2.": lambda lines: " ".join(f"{i}. {line}" for i, line in enumerate(lines, 1)),
    "bullets": " • ".join,
    "semicolons": "; ".join,
    "bars": " | ".join,
    "hyphens": lambda lines: "\n".join(f"- {line}" for line in lines),
    "separators": "\u2028".join,
    "hard spaces": lambda lines: ". ".join(lines).replace(" ", "&nbsp;"),
    "tabs": lambda lines: ". ".join(lines).replace(" ", "\t"),
    "double spaces": lambda lines: ".   ".join(lines).replace(" ", "  "),
    "wrapped": lambda lines: textwrap.fill(". ".join(lines), 80),
    "JSON": lambda lines: json.dumps({"report": ". ".join(lines)}),
    "JSON list": lambda lines: json.dumps({"findings": lines}),
    "HTML": lambda lines: f"<div>{html.escape('. '.join(lines))}</div>",
    "thoughts": lambda lines: f"<think>Emphysema? Nodule.</think>\n{'. '.join(lines)}.",
}


def plain_lines(text: str) -> list[str]:
    """The sentences of a report without their full stops."""
    lines = (sentence.text.rstrip(".!") for sentence in split_sentences(text))
    return [line[0].upper() + line[1:] for line in lines if line]


@pytest.mark.slow
@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("style", ["in", "out"])
def test_a_disguise_changes_no_label_of_a_phantom_report(disguise: str, style: str) -> None:
    for seed in range(10):
        lines = plain_lines(write_report(draw_truth(seed, style), style=style).text)
        text = DISGUISES[disguise](lines)
        assert label_report(text) == label_report(". ".join(lines) + "."), text


@pytest.mark.slow
@pytest.mark.skipif(not REAL_REPORTS.exists(), reason="the labelled real reports are not here")
@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_disguise_changes_no_label_of_a_real_report(disguise: str) -> None:
    with REAL_REPORTS.open(newline="", encoding="utf-8") as handle:
        texts = [row["report_text"] for row in csv.DictReader(handle)][::50]
    different = 0
    for text in texts:
        lines = plain_lines(text)
        pairs = zip(label_report(text), label_report(DISGUISES[disguise](lines)), strict=True)
        different += sum(a != b for a, b in pairs)
    assert different == 0, different / len(texts) / len(LABELS)


PIECES = (
    *("5", " ", "\n", "\t", "no ", "and ", ", ", ". ", ".", "...", "(", "(?", "?", "[", "{", '"'),
    *('{"a": ', '["a", ', "<", "<a ", "<br>", "<think>", "</think>", "&", "&amp;", "\\", "\\n"),
    *("|", "| ", "| a |", "|--", "-", " - ", "--", "5 x ", "5 mm ", "1) ", "1. 2. ", "a. ", "no. "),
    *("no: ", "absent: ", "x: n/a, ", "x (-) ", "[ ] ", "✗", "_", "a_", "history: ", "clinical "),
    *("\u200b", "。", "🙂", "effusion ", "lymph ", "left and right ", "upper, ", "thickening "),
    *("peribronchial ", "in the previous ", "on prior ct "),
)


@pytest.mark.slow
@pytest.mark.parametrize("piece", PIECES)
def test_no_sentence_is_longer_than_the_rules_can_bear(piece: str) -> None:
    text = plain_sentences("effusion " + piece * (20_000 // len(piece)) + "mm nodule").text
    assert all(len(sentence.text) <= MAX_SENTENCE for sentence in stated_sentences(text))


@pytest.mark.slow
@pytest.mark.parametrize("piece", PIECES)
def test_time_grows_with_the_length_of_a_text_not_faster(piece: str) -> None:
    def seconds(n: int) -> float:
        text = piece * (n // len(piece)) + "mm nodule"
        best = float("inf")
        for _ in range(2):
            start = time.process_time()
            find_mentions(text)
            best = min(best, time.process_time() - start)
        return best

    short = seconds(12_000)
    assert seconds(48_000) <= 8 * short + 0.1  # 4 where linear, 16 where quadratic


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([*PIECES, "pleural effusion", "nodule"]), max_size=30))
def test_spans_of_any_text_lie_in_it(pieces: list[str]) -> None:
    text = "".join(pieces)
    for mention in find_mentions(text):
        assert text[mention.start : mention.end] == mention.sentence
        assert mention.start <= mention.term[0] <= mention.term[1] <= mention.end
