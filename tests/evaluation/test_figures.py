"""The figures of an evaluation: what is drawn is what was measured, and it reads on a phone."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from browser.fake_evaluations import study_run

from rad3d.core.labels import LABELS
from rad3d.core.modes import MODES
from rad3d.evaluation.figures.classifier_curves import calibration_figure, classifier_figure
from rad3d.evaluation.figures.comparison import forest_figure, heatmap_figure
from rad3d.evaluation.figures.scaling import MODE_STYLES, study_figure
from rad3d.evaluation.figures.style import count, p_text
from rad3d.evaluation.leaderboard import StudyView, view_of
from rad3d.evaluation.run_types import EvaluationRun
from rad3d.metrics.registry import metric_row

pytestmark = pytest.mark.slow

METRIC = metric_row("f1_macro")
TITLES = {"phantom-in": "In domain", "phantom-out": "Out of domain"}


@pytest.fixture(scope="module")
def run() -> EvaluationRun:
    return study_run(16)


@pytest.fixture(scope="module")
def view(run: EvaluationRun) -> StudyView:
    return view_of(run)


def _traces(figure: Any, mode: str) -> list[Any]:
    return [t for t in figure.data if t.name == MODE_STYLES[mode].name]


def test_the_study_has_a_line_for_each_mode_in_each_domain(view: StudyView) -> None:
    figure = study_figure(view.points("f1_macro"), TITLES, METRIC)
    for mode in ("v1", "v3", "linear"):
        lines = _traces(figure, mode)
        assert [line.xaxis for line in lines] == ["x", "x2"], "in and out of domain"
        assert [line.showlegend for line in lines] == [True, False], "one entry in the legend"
    assert figure.layout.xaxis.type == figure.layout.xaxis2.type == "log"
    assert figure.layout.yaxis2.matches == "y", "both domains have one scale"


def test_points_and_bars_are_the_scorecards_figures(view: StudyView) -> None:
    figure = study_figure(view.points("f1_macro"), TITLES, METRIC)
    (line, _) = _traces(figure, "v3")
    for i, (system, sample_set, *_) in enumerate(line.customdata):
        e = view.cards[system, sample_set].estimates["f1_macro"]
        assert line.y[i] == e.value
        assert line.y[i] + line.error_y.array[i] == pytest.approx(e.high)
        assert line.y[i] - line.error_y.arrayminus[i] == pytest.approx(e.low)
    sizes = [view.systems[row[0]].parameters for row in line.customdata]
    assert sizes == sorted(sizes)
    assert list(line.x) == pytest.approx(sizes, rel=0.1), "at the size, a little apart"


@pytest.mark.parametrize("against", ["trainable", "seconds"])
def test_quality_stands_against_each_cost_at_its_true_value(view: StudyView, against: Any) -> None:
    points = view.points("f1_macro")
    figure = study_figure(points, TITLES, METRIC, against)
    drawn = {
        (row[0], row[1]): x for t in figure.data for row, x in zip(t.customdata, t.x, strict=False)
    }
    assert drawn == {(p.system, p.sample_set): p.along(against) for p in points}


def test_the_look_up_is_a_line_that_has_to_be_beaten(view: StudyView) -> None:
    references = view.references("f1_macro")
    assert [r.sample_set for r in references] == list(TITLES)
    figure = study_figure(view.points("f1_macro"), TITLES, METRIC, references=references)
    lines = [t for t in figure.data if t.name == "Template baseline"]
    assert [line.y[0] for line in lines] == [r.estimate.value for r in references]


def test_modes_differ_in_symbol_and_not_only_in_colour() -> None:
    assert set(MODE_STYLES) == set(MODES)
    assert len({style.symbol for style in MODE_STYLES.values()}) == len(MODES)


def test_the_heatmap_has_every_finding_with_its_positives_and_leads_to_cases(
    view: StudyView,
) -> None:
    f1, positives = view.label_f1("phantom-in"), view.positives("phantom-in")
    names = {name: view.systems[name].short for name in f1}
    (cells,) = heatmap_figure(f1, names, positives, "phantom-in").data
    assert sorted(cells.y) == sorted(f"{label} ({positives[label]})" for label in LABELS)
    assert "L V-3" in cells.x
    assert not any("+" in system for system in f1), "controls of single variants are left out"
    for row in cells.customdata:
        for (system, sample_set, label, _), value in zip(
            row, cells.z[list(cells.customdata).index(row)], strict=False
        ):
            true = view.cards[system, sample_set].per_label[label]["f1"]
            assert value == true or (math.isnan(value) and math.isnan(true))


def test_the_forest_names_a_difference_better_or_worse_only_where_it_is_significant(
    view: StudyView,
) -> None:
    found = view.differences("phantom-in", "f1_macro", "phantom-l/v3")
    figure = forest_figure(found, view.names, METRIC, "phantom-in")
    series = {row[0]: t.name for t in figure.data for row in t.customdata or ()}
    for d in found:
        wanted = "no significant difference"
        if d.significant:
            wanted = "better" if d.value > 0 else "worse"
        assert series[d.b] == wanted
    captions = [a.text for a in figure.layout.annotations]
    assert any(p_text(found[0].p_adjusted) in text for text in captions)
    low, high = figure.layout.xaxis.range
    assert low < min(d.low for d in found)
    assert high > 0


def test_the_classifier_and_its_calibration_are_the_cards(run: EvaluationRun) -> None:
    card = run.classifier["phantom-in"]
    figure = classifier_figure(card)
    auroc = next(t for t in figure.data if t.name == "AUROC")
    assert {row[3].split("</b>")[0].removeprefix("<b>"): x
            for row, x in zip(auroc.customdata, auroc.x, strict=False)} == {
        label: q.auroc.value for label, q in card.labels.items() if q.auroc.value == q.auroc.value
    }  # fmt: skip
    curve = calibration_figure({"In domain": card}).data[1]
    assert list(curve.x) == [b.probability for b in card.bins]
    assert list(curve.y) == [b.share.value for b in card.bins]
    assert f"{card.macro['calibration_error'].value:.3f}" in curve.name


def test_on_a_phone_the_panels_stand_below_each_other(view: StudyView) -> None:
    figure = study_figure(view.points("f1_macro"), TITLES, METRIC)
    narrow = figure.layout.meta["narrow"]
    wide = figure.layout
    assert wide.xaxis.domain[1] < wide.xaxis2.domain[0]
    assert narrow["xaxis"]["domain"] == narrow["xaxis2"]["domain"] == [0, 1]
    assert narrow["yaxis2"]["domain"][1] < narrow["yaxis"]["domain"][0]
    assert narrow["height"] > wide.height
    json.dumps(narrow)


def test_numbers_are_short() -> None:
    assert [count(n) for n in (850_000, 5_242_880, 1_235_814_400)] == ["850k", "5.24M", "1.24B"]
    assert [p_text(p) for p in (0.0004, 0.0312, math.nan)] == ["< 0.001", "0.031", "not defined"]
