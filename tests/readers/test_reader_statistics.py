"""Figures of a reader study against what is known: published values, and simulated truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from study_of_readers import SYSTEMS, answer_to, small_design

from rad3d.core.errors import BadRequest
from rad3d.core.types import FloatArray
from rad3d.metrics.bootstrap import Estimate
from rad3d.readers import report
from rad3d.readers.agreement import alpha, coincidences, ordinal_alpha
from rad3d.readers.preferences import chances, strengths
from rad3d.readers.simulate import SYSTEMS as SIMULATED
from rad3d.readers.simulate import drawn_answers, simulate
from rad3d.readers.statistics import Results, results_of
from rad3d.readers.store import RatingStore
from rad3d.readers.types import QUESTIONS, Rating, Screen, Study

N = np.nan
KRIPPENDORFF = np.array([
    [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
    [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
])  # fmt: skip
"""The example of Krippendorff 2011, section C: four observers, missing data, alpha = 0.815."""


def alpha_of(scores: FloatArray) -> float:
    return float(ordinal_alpha(coincidences(scores, 5).sum(axis=0)))


def test_alpha_is_that_of_krippendorffs_example() -> None:
    assert alpha_of(KRIPPENDORFF) == pytest.approx(0.815, abs=5e-4)


def test_alpha_of_identical_readers_is_1_and_of_strangers_near_0() -> None:
    scores = np.random.default_rng(0).integers(1, 6, 600).astype(float)
    assert alpha_of(np.stack([scores, scores, scores])) == pytest.approx(1.0)
    shuffled = np.random.default_rng(1).permutation(scores)
    assert alpha_of(np.stack([scores, shuffled])) == pytest.approx(0.0, abs=0.1)


def test_alpha_is_not_defined_where_nothing_could_disagree() -> None:
    assert np.isnan(alpha_of(np.array([[3.0, 3.0], [3.0, 3.0]])))
    one = alpha(np.array([[[1.0], [2.0], [5.0]]]), 5, 50, 0)
    assert np.isnan(one.value)
    assert str(one) == "not defined"


def test_strengths_are_those_of_two_systems_and_follow_known_ones_of_four() -> None:
    wins = np.array([[0.0, 300.0], [100.0, 0.0]])
    gap = float(np.diff(strengths(wins))[0])
    assert gap == pytest.approx(np.log(100 / 300), abs=0.01)
    truth = np.array([-0.8, -0.2, 0.3, 0.7])
    exact = 2000 / (1 + np.exp(truth[None, :] - truth[:, None])) * (1 - np.eye(4))
    assert strengths(exact) == pytest.approx(truth, abs=0.01)
    assert chances(truth).mean() == pytest.approx(0.5)
    assert np.all(np.isfinite(strengths(np.array([[0.0, 9.0], [0.0, 0.0]]))))


def simulated(
    readers: int, cases: int, step: float, seed: int = 0
) -> tuple[Study, tuple[Rating, ...]]:
    """A simulated study that is stored nowhere."""
    study = Study("abc123", "Simulated", "2026-11-30T10:00:00", SIMULATED, 2, seed, {}, True,
                  cases, readers, 2 * readers * cases)  # fmt: skip
    ratings, before = [], ""
    for number, screen in drawn_answers(study, range(1, readers + 1), step):
        system = study.systems[screen.system]
        ratings.append(
            Rating(number, f"case-{screen.case}", system, screen, before if screen.slot else "")
        )
        before = system
    return study, tuple(ratings)


def test_a_known_difference_is_recovered_within_its_interval() -> None:
    study, ratings = simulated(readers=6, cases=60, step=0.6)
    found = results_of(study, ratings)
    gaps = [gap for gap in found.differences if gap.question == "accuracy"]
    for gap, true in zip(gaps, (0.6, 1.2, 0.6), strict=True):
        assert gap.low < true < gap.high, gap
        assert gap.better == gap.b
        assert gap.pairs == 120
    harm = next(gap for gap in found.differences if gap.question == "harm")
    assert harm.value < 0
    assert harm.better == harm.b, "a lower discrepancy is better"
    assert found.preferences is not None
    ranked = [found.preferences.strength[name].value for name in study.systems]
    assert ranked == sorted(ranked)


def test_without_a_true_difference_none_is_found() -> None:
    study, ratings = simulated(readers=4, cases=40, step=0.0)
    found = results_of(study, ratings)
    assert [gap for gap in found.differences if gap.better] == []
    assert all(abs(gap.value) < 0.5 for gap in found.differences)


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = total = 0
    for seed in range(40):
        study, ratings = simulated(readers=4, cases=18, step=0.5, seed=seed)
        gaps = results_of(study, ratings, 300).differences
        # The first and the last difference of a question are of neighbours: 0.5 points.
        for gap in (g for g in gaps if g.question == "accuracy" and g.a[-1:] + g.b[-1:] != "AC"):
            held += gap.low <= 0.5 <= gap.high
            total += 1
    assert 0.85 < held / total <= 1.0, f"{held} of {total}"


def rated(scores: list[tuple[int, str, int, int]], per_case: int = 2) -> Results:
    """Results of (reader, case, system, score)."""
    design = small_design(cases=6, per_case=per_case)
    study = Study("abc123", design.title, "2026-11-30T10:00:00", design.systems, per_case, 0, {},
                  False, 6, 2, len(scores))  # fmt: skip
    ratings = []
    for reader, case, system, score in scores:
        screen = Screen(0, 0, 0, system)
        screen = Screen(0, 0, 0, system, answer_to(screen, score), 1, "2026-11-30")
        ratings.append(Rating(reader, case, SYSTEMS[system], screen))
    return results_of(study, ratings, 200)


def test_means_count_every_reader_the_same() -> None:
    strict = [(1, f"case-{n}", s, 2) for n in range(6) for s in range(3)]
    mild = [(2, "case-0", s, 4) for s in range(3)]
    found = rated(strict + mild)
    assert found.means["accuracy"][SYSTEMS[0]].value == pytest.approx(3.0)


def test_one_reader_has_intervals_over_cases_and_is_told_what_they_lack() -> None:
    found = rated([(1, f"case-{n}", s, 1 + (n + s) % 5) for n in range(6) for s in range(3)])
    each = found.means["accuracy"][SYSTEMS[0]]
    assert each.low < each.value < each.high
    assert any("intervals over readers cannot be had" in line for line in report.sentences(found))
    assert np.isnan(found.agreement["accuracy"].value)


def test_a_reader_who_has_not_rated_every_system_is_left_out_and_counted() -> None:
    whole = [(1, f"case-{n}", s, 3) for n in range(6) for s in range(3)]
    found = rated([*whole, (2, "case-0", 0, 5)])
    assert (found.readers, found.counted) == (2, 1)
    assert found.means["accuracy"][SYSTEMS[0]].value == pytest.approx(3.0)
    assert any("1 reader left out" in line for line in report.sentences(found))


def test_systems_that_no_reader_rated_on_one_scan_are_compared_unpaired() -> None:
    found = rated([(1, f"case-{n}", n % 3, 1 + n % 3) for n in range(6)], per_case=1)
    assert {gap.pairs for gap in found.differences} == {0}
    assert found.differences[0].value == pytest.approx(1.0)


def test_a_study_without_ratings_has_results_without_figures() -> None:
    found = rated([])
    assert found.means == {}
    assert found.differences == ()
    assert found.preferences is None
    assert [table.title for table in report.tables(found)] == ["Agreement of the readers"]
    assert b"0 readers" in report.page(found)


@pytest.mark.slow
def test_everything_that_comes_of_a_simulation_says_so() -> None:
    study, ratings = simulated(readers=2, cases=4, step=0.5)
    found = results_of(study, ratings, 50)
    assert report.sentences(found)[0] == report.SIMULATED
    page = report.page(found).decode()
    assert report.SIMULATED in page
    assert "(simulated)</title>" in page
    lines = report.ratings_csv(found, ratings).decode().splitlines()
    assert lines[0].split(",")[1] == "simulated"
    assert {line.split(",")[1] for line in lines[1:]} == {"1"}
    assert all("Simulated" in note for _, _, note in report.figures(found))
    assert len(lines) == 1 + study.total * 2


def test_a_simulated_study_is_stored_and_rated_as_a_real_one(tmp_path: Path) -> None:
    store = RatingStore(tmp_path / "readers.sqlite")
    study = simulate(store, readers=2, cases=3, step=0.5)
    assert study.simulated
    assert (study.readers, study.rated) == (2, 2 * study.total)
    drawn = simulated(readers=2, cases=3, step=0.5)[1]
    kept = store.ratings(study)
    assert [r.answer for r in kept] == [r.answer for r in drawn]
    assert [(r.system, r.before) for r in kept] == [(r.system, r.before) for r in drawn]
    with pytest.raises(BadRequest):
        simulate(store, readers=0)


def test_a_comment_is_no_formula_and_no_markup(tmp_path: Path) -> None:
    store = RatingStore(tmp_path / "readers.sqlite")
    study, _ = store.create(small_design())
    reader = store.reader(study, store.join(study))
    screen = store.screens(study, reader)[0]
    store.save(study, reader, 0, answer_to(screen, comment="=HYPERLINK(1)<script>"), 0)
    ratings = store.ratings(study)
    found = results_of(study, ratings, 50)
    assert b"'=HYPERLINK" in report.ratings_csv(found, ratings)
    assert b"HYPERLINK" not in report.page(found), "comments are in the CSV alone"


def test_every_question_has_its_figures() -> None:
    study, ratings = simulated(readers=2, cases=6, step=0.5)
    found = results_of(study, ratings, 50)
    names = [name for name, _, _ in report.figures(found)]
    assert len(names) == 2 * len(QUESTIONS) + 1
    means = found.means["accuracy"]
    assert all(isinstance(means[name], Estimate) for name in study.systems)
