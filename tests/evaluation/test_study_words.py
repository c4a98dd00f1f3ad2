"""What is said of a study in words: who is best, and whether a difference is one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from browser.fake_evaluations import study_run

from rad3d.evaluation.leaderboard import StudyView, view_of
from rad3d.evaluation.run_types import EvaluationRun
from rad3d.evaluation.summary_text import finding_in_words, listed, lowered
from rad3d.evaluation.system_names import LOOKUP, expected_seconds, system_of
from rad3d.ui.evaluation import html as render

pytestmark = pytest.mark.slow

ATTACK = '<script>alert("x")</script><img src=x onerror=alert(1)>'
IN = "phantom-in"


@pytest.fixture(scope="module")
def run() -> EvaluationRun:
    return study_run(16)


@pytest.fixture(scope="module")
def view(run: EvaluationRun) -> StudyView:
    return view_of(run)


def test_the_finding_names_the_best_with_its_figure_and_n(view: StudyView) -> None:
    words = finding_in_words(view)
    best = view.ranked(IN, "f1_macro")[0]
    assert f"In domain (n = 16), {view.names[best.name]} has the highest macro F1" in words[0]
    assert str(best.estimates["f1_macro"]) in words[0]
    assert "the highest factuality" in words[1]
    assert words[2].startswith("Out of domain (n = 16)")


def test_a_difference_is_called_significant_only_where_it_is(view: StudyView) -> None:
    best, *others = view.ranked(IN, "f1_macro")
    equal = []
    for card in others:
        found = view.difference(IN, "f1_macro", best.name, card.name)
        assert found is not None
        if not found.significant:
            equal.append(view.names[card.name])
    assert equal, "the small study cannot tell all its systems apart"
    assert listed(equal) in finding_in_words(view)[0]


def test_a_variant_that_does_not_beat_the_look_up_is_said_not_to(run: EvaluationRun) -> None:
    cards = dict(run.cards)
    for system in ("phantom-s/v1", "phantom-s/v3"):
        cards[system, IN] = replace(cards[LOOKUP, IN], name=system)
    words = finding_in_words(view_of(replace(run, cards=cards)))[0]
    (said,) = [each for each in words.split(". ") if "significantly better than the temp" in each]
    assert "Every variant" not in said
    assert "Phantom S" not in said


def test_the_star_goes_to_nobody_where_the_runner_up_is_as_good(run: EvaluationRun) -> None:
    best = view_of(run).ranked(IN, "f1_macro")[0]
    cards = dict(run.cards)
    cards["phantom-s/v1", IN] = replace(best, name="phantom-s/v1")
    view = view_of(replace(run, cards=cards))
    assert view.leader(IN, "f1_macro") == ""
    assert "★</abbr>" not in render.leaderboard(view, IN, "core").split("Macro F1")[0]


def test_the_star_goes_to_a_system_that_is_clearly_better(run: EvaluationRun) -> None:
    kept = ("phantom-l/v3", "phantom-s/linear", "phantom-m/linear")
    cards = {key: card for key, card in run.cards.items() if key[0] in kept}
    view = view_of(replace(run, cards=cards))
    assert view.leader(IN, "f1_macro") == "phantom-l/v3"
    row = next(r for r in render.leaderboard(view, IN, "core").split("<tr>") if "Phantom L" in r)
    assert "★" in row


def test_controls_never_lead(view: StudyView) -> None:
    assert all(not view.systems[c.name].control for c in view.ranked(IN, "f1_macro"))


def test_sentences_keep_the_capitals_of_abbreviations() -> None:
    assert [lowered(n) for n in ("Macro F1", "CRG", "Laterality")] == [
        "macro F1",
        "CRG",
        "laterality",
    ]
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcdef")) == "a, b, c and 3 others"


@pytest.mark.parametrize(
    ("name", "shown", "control"),
    [
        ("phantom-l/v3", "Phantom L · V-3", ""),
        ("phantom-s/linear+image-zero", "Phantom S · Linear, image zeroed", "image-zero"),
        ("lookup", "Template baseline", "lookup"),
        ("my-reports", "my-reports", ""),
        ("phantom-l/v3 @ Own run", "Phantom L · V-3 @ Own run", ""),
        ("someone/else", "someone/else", ""),
    ],
)
def test_systems_are_named_for_people(name: str, shown: str, control: str) -> None:
    system = system_of(name, {})
    assert (system.shown, system.control) == (shown, control)


def test_the_time_of_a_run_grows_with_cases_variants_and_written_controls() -> None:
    costs = {"phantom-s/v1": {"seconds": 0.2}, "phantom-l/v3": {"seconds": 0.5}}
    assert expected_seconds(costs, ["phantom-s/v1"], [], 100) == pytest.approx(20)
    assert expected_seconds(costs, ["phantom-s/v1"], ["image-zero", "lookup"], 100) == 40
    assert expected_seconds(costs, ["phantom-m/v2"], [], 10) == pytest.approx(5)
    assert expected_seconds({}, ["phantom-m/v2"], [], 10) == 0
