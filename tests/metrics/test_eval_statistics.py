"""Intervals, paired tests and their correction do what they say."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.findings import Finding
from rad3d.core.plain import to_plain
from rad3d.data.samples import Prediction, PredictionSet, Sample, SampleSet
from rad3d.metrics.bootstrap import (
    bootstrap,
    draw_counts,
    estimate,
    holm,
    interval,
    paired_test,
)
from rad3d.metrics.clinical import crg, label_counts
from rad3d.metrics.compare import SIGNIFICANT, Difference, compare, compare_all
from rad3d.metrics.measure import ratio, values_and_ones
from rad3d.metrics.registry import PRIMARY
from rad3d.metrics.scorecard import Scorecard, pooled, score, score_case
from rad3d.synthetic.grammar import write_report
from rad3d.synthetic.truth import draw_truth

N = 60


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    found = []
    for seed in range(N):
        truth = draw_truth(seed)
        found.append(Sample(f"in-{seed}", write_report(truth).text, truth.labels(), truth.findings))
    return SampleSet("phantom-in", "Phantoms", tuple(found))


def predictions(name: str, wrong: int = 0, failed: int = 0) -> PredictionSet:
    """Right reports but for the first ``wrong`` ones, which are those of other phantoms."""
    said = []
    for seed in range(N):
        text = write_report(draw_truth(seed + (9000 if seed < wrong else 0)), seed=seed + 7).text
        failure = "out of memory" if seed < failed else ""
        said.append(Prediction(f"in-{seed}", text, failure))
    return PredictionSet(name, "phantom-in", tuple(said))


@pytest.fixture(scope="module")
def cards(samples: SampleSet) -> dict[str, Scorecard]:
    sets = (predictions("right"), predictions("half", N // 2), predictions("wrong", N))
    return {each.name: score(samples, each, resamples=200) for each in sets}


# Resampling


def test_the_interval_of_a_mean_covers_it_about_as_often_as_it_says() -> None:
    covered = 0
    for trial in range(200):
        values = np.random.default_rng(trial).normal(0.3, 1, 60)
        mean = estimate(values_and_ones(values), ratio, 300, seed=trial)
        covered += mean.low <= 0.3 <= mean.high
    assert 0.89 <= covered / 200 <= 0.985


def test_the_interval_of_a_mean_is_as_wide_as_theory_says_and_shrinks_with_n() -> None:
    values = np.random.default_rng(0).normal(0, 1, 1600)

    def width(n: int) -> float:
        mean = estimate(values_and_ones(values[:n]), ratio, 2000)
        return mean.high - mean.low

    assert width(400) == pytest.approx(2 * 1.96 * values[:400].std() / 20, rel=0.1)
    assert width(1600) == pytest.approx(width(400) / 2, rel=0.15)


def test_counting_draws_gives_what_drawing_indices_gives() -> None:
    rng = np.random.default_rng(1)
    truth, said = rng.integers(0, 2, (50, 18)), rng.integers(0, 2, (50, 18))
    rows = np.concatenate((label_counts(truth, said), np.full((50, 1), 18.0)), axis=1)
    by_counts = estimate(rows, crg, 4000, seed=1)
    by_index = bootstrap(lambda drawn: float(crg(rows[drawn].sum(axis=0))), 50, 4000, seed=2)
    assert by_counts.value == pytest.approx(by_index.value)
    spread = by_index.high - by_index.low
    assert by_counts.low == pytest.approx(by_index.low, abs=0.1 * spread)
    assert by_counts.high == pytest.approx(by_index.high, abs=0.1 * spread)


def test_every_draw_holds_as_many_reports_as_there_are() -> None:
    blocks = list(draw_counts(7, 50, seed=3))
    counts = np.concatenate(blocks)
    assert counts.shape == (50, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert len({tuple(row) for row in counts}) > 40


def test_draws_do_not_depend_on_how_they_are_cut_into_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = np.concatenate(list(draw_counts(7, 50, seed=3)))
    monkeypatch.setattr("rad3d.metrics.bootstrap._CHUNK_NUMBERS", 21)
    assert (np.concatenate(list(draw_counts(7, 50, seed=3))) == whole).all()


def test_seed_and_draws_change_the_interval_and_not_the_figure() -> None:
    rows = values_and_ones(np.random.default_rng(0).normal(0, 1, 40))
    base = estimate(rows, ratio, 200, seed=0)
    assert base == estimate(rows, ratio, 200, seed=0)
    for other in (estimate(rows, ratio, 200, seed=1), estimate(rows, ratio, 300, seed=0)):
        assert other.value == base.value
        assert (other.low, other.high) != (base.low, base.high)


def test_undefined_values_are_left_out_of_a_mean_and_nothing_has_no_interval() -> None:
    rows = values_and_ones(np.array([1.0, np.nan, 0.0]))
    assert estimate(rows, ratio, 50).value == 0.5
    none = estimate(values_and_ones(np.array([np.nan, np.nan])), ratio, 50)
    assert np.isnan([none.value, none.low, none.high]).all()
    assert np.isnan(interval(np.array([np.nan]))).all()


# Paired tests


def test_under_no_difference_p_values_are_small_as_rarely_as_they_say() -> None:
    small = {"bootstrap": 0, "randomisation": 0}
    for trial in range(200):
        rng = np.random.default_rng(trial)
        shared = rng.normal(0, 1, 40)
        a, b = (values_and_ones(shared + rng.normal(0, 1, 40)) for _ in range(2))
        test = paired_test(a, b, ratio, 200, 200, seed=trial)
        small["bootstrap"] += test.p_bootstrap < 0.05
        small["randomisation"] += test.p_randomisation < 0.05
    assert 0.01 <= small["randomisation"] / 200 <= 0.09
    assert 0.01 <= small["bootstrap"] / 200 <= 0.11


def test_a_paired_test_sees_what_intervals_that_overlap_hide() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 1, 80)
    a, b = values_and_ones(hard), values_and_ones(hard + 0.1 + rng.normal(0, 0.05, 80))
    first, second = estimate(a, ratio, 500), estimate(b, ratio, 500)
    assert first.high > second.low, "the intervals overlap"
    test = paired_test(a, b, ratio, 500, 500)
    assert test.low > 0
    assert test.value == pytest.approx(0.1, abs=0.02)
    assert max(test.p_bootstrap, test.p_randomisation) < 0.01


def test_equal_systems_do_not_differ() -> None:
    rows = values_and_ones(np.random.default_rng(0).normal(0, 1, 30))
    test = paired_test(rows, rows, ratio, 100, 100)
    assert (test.value, test.low, test.high) == (0, 0, 0)
    assert test.p_bootstrap == test.p_randomisation == 1


def test_exchanging_the_systems_changes_the_sign_only() -> None:
    rng = np.random.default_rng(0)
    a, b = (values_and_ones(rng.normal(mean, 1, 40)) for mean in (0, 0.4))
    there, back = paired_test(a, b, ratio, 300, 300), paired_test(b, a, ratio, 300, 300)
    assert there.value == pytest.approx(-back.value)
    assert there.low == pytest.approx(-back.high)
    assert there.p_randomisation == pytest.approx(back.p_randomisation)


def test_holm_multiplies_the_smallest_most_keeps_order_and_passes_over_nan() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.5, 0.9]) == pytest.approx((1.0, 1.0))
    adjusted = holm([0.01, float("nan"), 0.02])
    assert adjusted[0] == pytest.approx(0.02)
    assert np.isnan(adjusted[1])
    assert holm([]) == ()


# Scorecards


def test_right_reports_score_one_and_worse_ones_less(cards: dict[str, Scorecard]) -> None:
    for metric in PRIMARY:
        right, half, wrong = (cards[k].estimates[metric] for k in ("right", "half", "wrong"))
        assert right.value == 1
        assert right.value > half.high
        assert half.low > wrong.high
        assert right.n == N


@pytest.mark.slow
def test_failures_are_counted_and_scored_as_empty_reports(samples: SampleSet) -> None:
    card = score(samples, predictions("x", failed=20), resamples=50)
    assert card.failures == 20
    assert card.n == N
    truth = np.array([s.labels for s in samples.samples])
    recall = truth[20:].sum() / truth.sum()
    assert card.estimates["recall_micro"].value == pytest.approx(recall)
    assert card.estimates["precision_micro"].value == 1


@pytest.mark.slow
def test_a_sample_without_prediction_is_a_failure_and_an_unknown_id_is_dropped(
    samples: SampleSet,
) -> None:
    full = predictions("x")
    fewer = replace(full, predictions=(*full.predictions[5:], Prediction("who", "Normal.")))
    card = score(samples, fewer, resamples=20)
    assert (card.n, card.failures) == (N, 5)
    assert [(row.id, row.reason) for row in card.dropped] == [("who", "with an unknown id")]
    nobody = replace(full, predictions=(Prediction("who", "Normal."),))
    with pytest.raises(BadRequest, match="No id"):
        score(samples, nobody)


def test_known_labels_win_over_the_text_of_the_reference() -> None:
    labels = tuple(int(i == 2) for i in range(18))
    said = PredictionSet("x", "s", (Prediction("1", "The heart is enlarged."),))

    def f1(sample: Sample) -> float:
        card = score(SampleSet("s", "s", (sample,)), said, metrics=["f1_micro"], resamples=5)
        return card.estimates["f1_micro"].value

    assert f1(Sample("1", "The heart is normal in size.", labels)) == 1
    assert f1(Sample("1", "The heart is normal in size.")) == 0


@pytest.mark.slow
def test_every_option_of_a_score_has_an_effect(samples: SampleSet) -> None:
    said = predictions("half", N // 2)
    base = score(samples, said, metrics=["f1_macro"], resamples=100, seed=0)
    assert set(score(samples, said, metrics=["crg"], resamples=10).estimates) == {"crg"}
    for other in (
        score(samples, said, metrics=["f1_macro"], resamples=100, seed=1),
        score(samples, said, metrics=["f1_macro"], resamples=150, seed=0),
    ):
        assert other.estimates["f1_macro"].low != base.estimates["f1_macro"].low
        assert other.settings != base.settings
    told: list[str] = []
    score(samples, said, metrics=["crg"], resamples=10, progress=lambda text, _: told.append(text))
    assert told[0] == "crg"
    with pytest.raises(BadRequest, match="resamples"):
        score(samples, said, resamples=0)


def test_a_scorecard_survives_json_with_and_without_findings(cards: dict[str, Scorecard]) -> None:
    card = cards["half"]
    for findings in (True, False):
        text = json.dumps(card.to_dict(findings=findings), allow_nan=False)
        again = Scorecard.from_dict(json.loads(text))
        assert again.estimates.keys() == card.estimates.keys()
        for name, value in card.estimates.items():
            assert again.estimates[name].value == pytest.approx(value.value, abs=1e-6, nan_ok=True)
        for before, after in zip(card.cases, again.cases, strict=True):
            assert after.values == pytest.approx(before.values)
            assert to_plain(after.findings) == (to_plain(before.findings) if findings else [])
        assert compare(again, again, metrics=["f1_macro"], resamples=20)[0].value == 0
    assert len(json.dumps(card.to_dict(findings=False))) < 20_000
    with pytest.raises(BadRequest, match="not a scorecard"):
        Scorecard.from_dict({"schema": "x"})


def test_the_findings_of_one_case_are_those_of_the_scorecard(
    samples: SampleSet, cards: dict[str, Scorecard]
) -> None:
    said = predictions("half", N // 2)
    for i in (0, N - 1):
        case = score_case(samples.samples[i], said.predictions[i])
        assert case.findings == cards["half"].cases[i].findings


# Comparisons


def test_the_better_system_is_named_only_where_the_difference_is_significant(
    cards: dict[str, Scorecard],
) -> None:
    found = compare(cards["wrong"], cards["half"], resamples=200)
    by_metric = {d.metric: d for d in found}
    assert by_metric["f1_macro"].better == "half"
    assert by_metric["hallucinated"].better == "half", "fewer is better"
    assert by_metric["hallucinated"].value < 0
    again = compare(cards["half"], replace(cards["half"], name="twin"), resamples=200)
    assert all(d.better == "" for d in again)


def test_the_correction_counts_every_comparison_and_can_still_be_passed(
    cards: dict[str, Scorecard],
) -> None:
    found = compare_all(list(cards.values()), resamples=100)
    assert len(found) == 3 * len(PRIMARY)
    assert all(d.p_adjusted >= d.p_randomisation for d in found)
    assert all(d.p_adjusted < SIGNIFICANT for d in found)
    assert {(d.a, d.b) for d in compare_all(list(cards.values()), baseline="half")} == {
        ("half", "right"),
        ("half", "wrong"),
    }
    with pytest.raises(UnknownName, match="right"):
        compare_all(list(cards.values()), baseline="nobody")


def test_systems_are_compared_on_the_same_cases_in_the_same_way_only(
    cards: dict[str, Scorecard],
) -> None:
    right, half = cards["right"], cards["half"]
    with pytest.raises(BadRequest, match="same cases"):
        compare(right, replace(half, cases=half.cases[1:]))
    with pytest.raises(BadRequest, match="not scored"):
        compare(right, half, metrics=["bertscore"])
    other = replace(half, signature={**half.signature, "crg": "crg|other"})
    with pytest.raises(BadRequest, match="two ways"):
        compare(right, other)
    with pytest.raises(BadRequest, match="same name"):
        compare_all([right, right])


# CRG by hand


def test_crg_is_its_formula() -> None:
    truth = np.array([[1, 0, 0, 0], [1, 1, 0, 0]])
    said = np.array([[1, 0, 1, 0], [0, 1, 0, 0]])
    rows = np.concatenate((label_counts(truth, said), np.full((2, 1), 4.0)), axis=1)
    hits, false, missed, decisions, positive = 2, 1, 1, 8, 3
    r, scale = (decisions - positive) / (2 * positive), (decisions - positive) / 2
    expected = scale / (2 * scale - (r * hits - r * missed - false))
    assert float(crg(rows.sum(axis=0))) == pytest.approx(expected)


@pytest.mark.parametrize(("said", "value"), [(1, 1 / 3), (0, 1 / 3)])
def test_crg_of_everything_and_of_nothing_is_a_third(said: int, value: float) -> None:
    truth = np.random.default_rng(0).integers(0, 2, (30, 18))
    rows = np.concatenate(
        (label_counts(truth, np.full_like(truth, said)), np.full((30, 1), 18.0)), axis=1
    )
    assert float(crg(rows.sum(axis=0))) == pytest.approx(value)


def test_findings_with_attributes_that_are_known_are_the_truth() -> None:
    sample = Sample(
        "1", "A small effusion on the left.",
        findings=(Finding("Pleural effusion", side="left", severity="mild", size_mm=12),),
    )  # fmt: skip
    right = score_case(sample, Prediction("1", "Small left pleural effusion, 12 mm."))
    assert [m.kind for m in right.findings] == ["matched"]
    assert right.findings[0].credit == 1
    assert right.findings[0].reference_sentence == "A small effusion on the left."


# -- against an independent computation ------------------------------------------------------


def test_holm_is_its_definition_on_any_p_values() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        p = rng.random(rng.integers(1, 30)) ** 3
        order = np.argsort(p)
        steps = [min(1.0, (len(p) - j) * p[i]) for j, i in enumerate(order)]
        expected = {i: max(steps[: k + 1]) for k, i in enumerate(order)}
        assert holm(list(p)) == pytest.approx([expected[i] for i in range(len(p))])


def test_randomisation_finds_the_share_of_all_swaps_that_part_the_systems_as_far() -> None:
    rng = np.random.default_rng(1)
    for shift in (0.0, 0.5, 1.0):
        a = rng.normal(size=8)
        b = a + rng.normal(shift, 1.0, 8)
        signs = np.array(list(itertools.product((1, -1), repeat=8)))
        gaps = np.abs((signs * (b - a)).mean(axis=1))
        exact = float((gaps >= abs((b - a).mean()) - 1e-12).mean())
        found = paired_test(values_and_ones(a), values_and_ones(b), ratio, 10, 20_000)
        assert found.p_randomisation == pytest.approx(exact, abs=0.015)


def test_the_interval_of_a_ratio_is_the_one_that_scipy_finds() -> None:
    rng = np.random.default_rng(2)
    hits = rng.integers(0, 5, 150).astype(float)
    totals = hits + rng.integers(1, 6, 150)
    ours = estimate(np.stack((hits, totals), axis=1), ratio, resamples=4000)
    theirs = stats.bootstrap(
        (hits, totals),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        random_state=3,
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.08 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.08 * width)


def test_the_mean_over_seeds_has_an_interval_over_cases_and_seeds() -> None:
    """Seeds that differ by nothing add nothing; seeds that differ widen the interval as they do."""
    values = np.random.default_rng(0).normal(0, 1, 200)
    one = values_and_ones(values)
    same = estimate(np.stack([one, one, one]), ratio, 1000)
    assert same == estimate(one, ratio, 1000)
    apart = np.array([-0.5, 0.0, 0.5])
    seeds = np.stack([values_and_ones(values + shift) for shift in apart])
    found = estimate(seeds, ratio, 4000)
    assert found.value == pytest.approx(values.mean())
    expected = np.sqrt(values.var() / len(values) + apart.var(ddof=1) / len(apart))
    assert (found.high - found.low) / 3.92 == pytest.approx(expected, rel=0.1)


def test_two_systems_that_share_their_seeds_are_compared_seed_by_seed() -> None:
    """What a seed does to both alike is no noise of their difference."""
    rng = np.random.default_rng(1)
    base, shifts = rng.normal(0, 1, 300), (-0.6, 0.1, 0.5)
    a = np.stack([values_and_ones(base + s) for s in shifts])
    b = np.stack([values_and_ones(base + s + 0.1) for s in shifts])
    test = paired_test(a, b, ratio, 400, 400)
    assert test.value == pytest.approx(0.1)
    assert (test.low, test.high) == pytest.approx((0.1, 0.1))
    assert test.p_randomisation == test.p_bootstrap < 0.01
    unlike = np.stack([values_and_ones(base + s) for s in (0.4, -0.5, 0.3)])
    wide = paired_test(a, unlike, ratio, 400, 400)
    assert wide.low < 0 < wide.high


def test_a_pooled_scorecard_compares_as_the_mean_of_its_seeds(
    samples: SampleSet, cards: dict[str, Scorecard]
) -> None:
    right, half, wrong = cards["right"], cards["half"], cards["wrong"]
    both = pooled("both", [right, wrong])
    mean = (right.estimates["f1_macro"].value + wrong.estimates["f1_macro"].value) / 2
    assert both.estimates["f1_macro"].value == pytest.approx(mean)
    assert both.per_label["Lung nodule"]["support"] == right.per_label["Lung nodule"]["support"]
    (found,) = compare(half, both, metrics=["f1_macro"], resamples=100)
    assert found.value == pytest.approx(mean - half.estimates["f1_macro"].value)
    assert found.n == N


def test_the_detectable_difference_is_found_in_four_of_five_studies() -> None:
    rng = np.random.default_rng(2)
    n, truth = 200, 2.80 / np.sqrt(200)
    found, told = 0, []
    for trial in range(200):
        a = values_and_ones(np.zeros(n))
        test = paired_test(a, values_and_ones(rng.normal(truth, 1, n)), ratio, 300, 10, seed=trial)
        found += test.low > 0
        difference = Difference(
            "f1_macro", "a", "b", test.value, test.low, test.high, 0, 0, 0, test.n
        )
        told.append(difference.detectable)
    assert 0.72 <= found / 200 <= 0.88
    assert np.mean(told) == pytest.approx(truth, rel=0.05)


def test_one_case_has_a_figure_and_no_interval() -> None:
    found = estimate(values_and_ones(np.array([0.5])), ratio)
    assert (found.value, found.n) == (0.5, 1)
    assert np.isnan([found.low, found.high]).all()
    assert str(found) == "0.500 (no interval)"
