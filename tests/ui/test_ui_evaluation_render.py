"""What the evaluation tab shows: tables, the headline, and single cases."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from browser.fake_evaluations import study_run

from rad3d.data.samples import Prediction
from rad3d.evaluation.leaderboard import StudyView, view_of
from rad3d.evaluation.parts import KINDS
from rad3d.evaluation.run_types import EvaluationRun
from rad3d.metrics.factuality import Match
from rad3d.metrics.registry import metric_row
from rad3d.metrics.scorecard import CaseScore
from rad3d.ui.evaluation import case_view as cases
from rad3d.ui.evaluation import html as render
from rad3d.ui.evaluation.views import EMPTY, Look, content_of, facts_of

ATTACK = '<script>alert("x")</script><img src=x onerror=alert(1)>'
IN = "phantom-in"


@pytest.fixture(scope="module")
def run() -> EvaluationRun:
    return study_run(16)


@pytest.fixture(scope="module")
def view(run: EvaluationRun) -> StudyView:
    return view_of(run)


def test_the_leaderboard_has_figures_with_intervals_and_baselines_below_a_rule(
    view: StudyView,
) -> None:
    html = render.leaderboard(view, IN, "core")
    e = view.cards["phantom-m/v3", IN].estimates["f1_macro"]
    assert f"{e.value:.3f}</span><small>[{e.low:.3f}, {e.high:.3f}]" in html
    compared, alone, folded = html.split("</table>")[0].split("<tbody")[1:]
    assert "Template baseline" not in compared
    assert "Template baseline" in alone
    assert ">Baselines<" in alone
    assert "images shuffled" in folded
    assert "n = 16" in html


def test_families_never_share_a_table(view: StudyView) -> None:
    for _, table in render.tables_of(view):
        families = {row.family for row in render.columns_of(view, IN, table)}
        assert len(families) == 1


def test_metrics_that_did_not_run_say_what_they_need(view: StudyView) -> None:
    html = render.leaderboard(view, IN, "core")
    assert "Metrics that are not in this run" in html
    assert "coco" in html
    assert not re.search(r"<td[^>]*>0\.000</td>", html), "no zero stands for what did not run"


def test_the_headline_states_what_who_when_and_that_scans_are_synthetic(
    run: EvaluationRun, view: StudyView
) -> None:
    facts = facts_of(run, view)
    assert facts["Compared"] == "7 variants, 2 baselines, 2 ablations"
    assert facts["Cases"] == "in domain 16, out of domain 16"
    assert facts["Failed reports"] == "2"
    assert facts["Revision"] == run.revision[:12]
    html = render.headline(view, run.title, facts)
    assert "Every scan here is a synthetic phantom" in html


def test_only_phantoms_are_called_synthetic(run: EvaluationRun) -> None:
    own = {name: replace(each, domain="") for name, each in run.sample_sets.items()}
    some = {**own, IN: run.sample_sets[IN]}
    assert "synthetic" not in render.headline(view_of(replace(run, sample_sets=own)), "", {})
    mixed = render.headline(view_of(replace(run, sample_sets=some)), "", {})
    assert "The scans in domain are synthetic phantoms" in mixed


def test_the_published_table_is_marked_as_not_comparable() -> None:
    html = render.published()
    assert "other data" in html
    assert "not comparable" in html
    assert html.startswith('<details class="r3-card r3-published">'), "apart from what was measured"


@pytest.mark.slow
def test_a_look_that_does_not_fit_falls_back_to_one_that_does(
    run: EvaluationRun, view: StudyView
) -> None:
    look = Look("elsewhere", "no-metric", "weights", "seconds", "nobody").fitted(view)
    assert look.sample_set in run.sample_sets
    assert look.metric == "f1_macro"
    assert look.table == "core"
    assert look.baseline in view.systems
    shown = content_of(run, view, look)
    assert set(EMPTY) <= set(shown)
    assert "leaderboard" in shown


def test_text_from_outside_cannot_become_markup(run: EvaluationRun, view: StudyView) -> None:
    sample = replace(run.sample_sets[IN].samples[0], id=ATTACK, reference=f"Findings: {ATTACK}.")
    match = Match("hallucinated", "Cardiomegaly", "", ATTACK, ATTACK)
    score = CaseScore(ATTACK, {}, (match,))
    for prediction in (Prediction(ATTACK, f"Findings: {ATTACK}"), Prediction(ATTACK, "", ATTACK)):
        html = cases.case_view(sample, prediction, score, (1, 1), ATTACK)
        assert "<script" not in html
        assert "<img" not in html
    card = replace(view.cards["lookup", IN], name=ATTACK)
    attacked = view_of(replace(run, title=ATTACK, cards={(ATTACK, IN): card}))
    for html in (
        render.leaderboard(attacked, IN, "core"),
        render.headline(attacked, ATTACK, {ATTACK: ATTACK}),
        render.unscored(ATTACK, ATTACK),
        cases.case_list(replace(card, cases=(score,)), [ATTACK], ATTACK),
    ):
        assert "<script" not in html
        assert "<img" not in html


def test_every_finding_is_told_by_sign_and_word_not_by_colour_alone(run: EvaluationRun) -> None:
    sample = run.sample_sets[IN].samples[0]
    sentence = "The heart is enlarged."
    for kind, row in KINDS.items():
        match = Match(kind, "Cardiomegaly", sentence, sentence, "")
        html = cases.case_view(
            sample, Prediction(sample.id, sentence), CaseScore(sample.id, {}, (match,)), (1, 1), "S"
        )
        assert f"{row.sign}&nbsp;Cardiomegaly" in html
        assert f"{row.sign} {row.name}</mark></td>" in html
    assert len({row.sign for row in KINDS.values()}) == len(KINDS)


def test_an_invented_finding_is_marked_in_the_report_only(run: EvaluationRun) -> None:
    sample = replace(run.sample_sets[IN].samples[0], reference="Findings: The lungs are clear.")
    match = Match("hallucinated", "Lung nodule", "", "There is a nodule of 9 mm.", "")
    text = "Findings: There is a nodule of 9 mm. No pleural effusion."
    score = CaseScore(sample.id, {}, (match,))
    html = cases.case_view(sample, Prediction(sample.id, text), score, (1, 1), "S")
    reference, report = html.split("<section")[1:3]
    assert "<mark" not in reference
    assert '<mark class="hallucinated">There is a nodule of 9 mm.</mark>' in report
    assert "No pleural effusion." in report


def test_cases_are_ordered_and_filtered_as_asked(view: StudyView) -> None:
    card = view.cards["phantom-s/linear", IN]
    values = {case.id: case.values for case in card.cases}
    worst = cases.ordered_ids(card, "worst")
    assert sorted(worst) == sorted(values)
    known = [values[i]["factuality"] for i in worst if "factuality" in values[i]]
    assert known == sorted(known)
    invented = [values[i].get("hallucinated", 0) for i in cases.ordered_ids(card, "invented")]
    assert invented == sorted(invented, reverse=True)
    label = "Cardiomegaly"
    states = [cases.label_state(card, i, label) for i in range(card.n)]
    counts = card.per_label[label]
    assert states.count("matched") + states.count("omitted") == counts["support"]
    assert states.count("matched") + states.count("invented") == counts["predicted"]
    assert len(cases.ordered_ids(card, "set", label)) == sum(map(bool, states))


def test_lower_is_better_is_said_where_it_holds(view: StudyView) -> None:
    assert not metric_row("hallucinated").higher_is_better
    assert "Invented ↓" in render.leaderboard(view, IN, "core")
