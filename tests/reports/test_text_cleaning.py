"""A report comes back from spreadsheets, web pages and chat models as it was written."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rad3d.reports.cleaning import clean_report, is_no_report, undisguised
from rad3d.reports.replacements import Edited
from rad3d.synthetic.grammar import write_report
from rad3d.synthetic.truth import draw_truth


@pytest.mark.parametrize("seed", range(20))
def test_ordinary_text_comes_back_to_the_letter(seed: int) -> None:
    text = write_report(draw_truth(seed)).text + "\n\nNodule  < 5 mm & > 3 mm; ratio 1/2 [3].\t"
    assert clean_report(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("No effusion.\\nHernia.", "No effusion.\nHernia."),
        ("No effusion.\\r\\nHernia.", "No effusion.\nHernia."),
        ("No effusion.\\\\nHernia.", "No effusion.\nHernia."),
        ("No effusion._x000D_\nHernia.", "No effusion.\n\nHernia."),
        ("No effusion<br>Hernia<BR />", "No effusion\nHernia"),
        ("No effusion.<br/>\nHernia.", "No effusion.\nHernia."),
        ("<p>No effusion.</p><p>Hernia.</p>", "No effusion.\n\nHernia."),
        ("<ul><li>No effusion</li><li>Hernia</li></ul>", "- No effusion\n- Hernia"),
        ("<b>No</b>&nbsp;effusion &lt; 5&#160;mm", "No\xa0effusion < 5\xa0mm"),
        ("No effusion&lt;br&gt;Hernia", "No effusion\nHernia"),
        ("No effusion&amp;nbsp;seen", "No effusion\xa0seen"),
        ("No effusion。Hernia。", "No effusion. Hernia."),
        ("No effusion，no hernia；node．", "No effusion, no hernia; node."),
        ("Ａ nodule of ３．５ mm （left）", "A nodule of 3.5 mm (left)"),
        ("No\u200b effu\u00adsion\u2028Hernia", "No effusion\nHernia"),
        ("<history>Emphysema</history>Clear.", "history: Emphysema\nClear."),
        ("<pleural_effusion>no</pleural_effusion>", "pleural_effusion: no"),
        ("Clear.<|im_end|></s>", "Clear."),
    ],
)
def test_a_disguise_is_taken_off(text: str, clean: str) -> None:
    assert clean_report(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "<think>Effusion?</think>Clear.",
        "<think>\nEffusion?\n\n</think>\n\nClear.",
        "<THINKING time='3'>Effusion?</THINKING> Clear.",
        "Effusion? So the answer:</think>\nClear.",
        "<think>a<think>b</think>c</think>Clear.",
        "<think>Effusion?</think><answer>Clear.</answer>",
        "<reasoning>Effusion?</reasoning><report>Clear.</report>",
        "&lt;think&gt;Effusion?&lt;/think&gt;Clear.",
        "[THINK]Effusion?[/THINK]Clear.",
        "◁think▷Effusion?◁/think▷Clear.",
        "<unused94>thought\nEffusion?<unused95>Clear.",
        "<|begin_of_thought|>Effusion?<|end_of_thought|>Clear.",
        "<|channel|>analysis<|message|>Effusion?<|end|><|start|>assistant<|channel|>final"
        "<|message|>Clear.",
        "Clear.<think>Effusion?",
        "<think>x</think>Clear.<think>Effusion?</think>",
    ],
)
def test_what_a_model_thought_is_no_part_of_its_report(text: str) -> None:
    assert clean_report(text) == "Clear."


def test_a_thought_that_never_ends_leaves_no_report() -> None:
    assert clean_report("<think>Is there an effusion? The heart is") == ""


@pytest.mark.parametrize(
    "text",
    ["", " \n", "nan", "NaN", "None", "none.", "NULL", "N/A", "n.a.", "<NA>", "#N/A", "-", "--",
     "Not given.", "not  given", "Not available", "No report.", "Report not available.", "[]",
     "<think>Hm.</think>", "Findings: Not given.\nImpression: Not given.", "Not given.\nNot given.",
     "&nbsp;", "\\n", "<p></p>"],
)  # fmt: skip
def test_a_cell_that_says_there_is_no_report(text: str) -> None:
    assert is_no_report(text)


@pytest.mark.parametrize(
    "text",
    ["Normal.", "No findings.", "None of the nodes is enlarged.", "Not given. Emphysema.",
     "Unknown nodule.", "No acute abnormality.", "Clear lungs", "Findings: none. Hernia.",
     "正常", "Normal" * 100],
)  # fmt: skip
def test_a_short_report_is_a_report(text: str) -> None:
    assert not is_no_report(text)


@settings(deadline=None)
@given(st.text(), st.integers(0, 2**32))
def test_every_character_leads_back_to_where_it_stood(text: str, seed: int) -> None:
    rng = random.Random(seed)
    edited = Edited(text)
    for _ in range(3):
        places = sorted(rng.sample(range(len(edited.text) + 1), min(4, len(edited.text) + 1)))
        pairs = zip(places[::2], places[1::2], strict=False)
        edited.apply((a, b, rng.choice(["", "§", "§§§"])) for a, b in pairs)
    for i, character in enumerate(edited.text):
        start, end = edited.span(i, i + 1)
        assert 0 <= start <= end <= len(text)
        if character != "§" and "§" not in text:
            assert text[start:end] == character


@settings(deadline=None)
@given(st.text(alphabet="<>/&;\\nbrptd[]| lipthinkx。．\u200b\n", max_size=60))
def test_any_text_is_cleaned(text: str) -> None:
    edited = undisguised(text)
    assert edited.span(0, len(edited.text)) <= (len(text), len(text))
    assert isinstance(is_no_report(text), bool)
