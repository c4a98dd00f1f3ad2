"""The controls do what they say: nothing is left of what they take away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_parts import TRAINING_N, embeddings

from rad3d.core.errors import BadRequest
from rad3d.core.labels import LABELS, N_LABELS
from rad3d.core.types import Diagnosis
from rad3d.data.sample_sets import TRAINING
from rad3d.data.samples import Prediction, PredictionSet
from rad3d.evaluation.ablations import ReferenceSet, conditions, from_prior
from rad3d.evaluation.shuffling import derangement, shuffled
from rad3d.features.table import FeatureTable
from rad3d.reports.labeller import label_report

CASES = TRAINING.sample_set(TRAINING_N).samples


@pytest.fixture(scope="module")
def references() -> ReferenceSet:
    labels = np.array([case.labels for case in CASES])
    found = embeddings(labels, 3)
    return ReferenceSet(FeatureTable(tuple(c.id for c in CASES), found, found[:, :18] * 4))


def features(n: int, seed: int = 0) -> FeatureTable:
    rng = np.random.default_rng(seed)
    return FeatureTable(
        tuple(f"case-{i}" for i in range(n)),
        rng.normal(size=(n, 32)).astype(np.float32),
        rng.normal(size=(n, N_LABELS)).astype(np.float32),
    )


@given(n=st.integers(2, 300), seed=st.integers(0, 2**31))
@settings(max_examples=50)
def test_no_case_keeps_its_own_report(n: int, seed: int) -> None:
    order = derangement(n, seed)
    assert sorted(order) == list(range(n))
    assert all(place != source for place, source in enumerate(order))


def test_another_seed_shuffles_otherwise() -> None:
    assert derangement(50, 0) == derangement(50, 0)
    assert derangement(50, 0) != derangement(50, 1)


def test_shuffled_reports_are_those_of_other_cases() -> None:
    own = PredictionSet(
        "v", "set", tuple(Prediction(f"c{i}", f"text {i}", seconds=1.0) for i in range(9))
    )
    moved = shuffled(own, "v+image-shuffled", 0)
    assert [p.id for p in moved.predictions] == [p.id for p in own.predictions]
    pairs = zip(moved.predictions, own.predictions, strict=True)
    assert all(m.text != o.text and m.seconds is None for m, o in pairs)
    assert {p.text for p in moved.predictions} == {p.text for p in own.predictions}


def priors(features: FeatureTable) -> list[Diagnosis]:
    assert features.logits is not None
    return [
        Diagnosis(row, 1 / (1 + np.exp(-row)), np.full(N_LABELS, 0.5)) for row in features.logits
    ]


def test_logits_only_takes_away_the_image_and_leaves_the_logits(references: ReferenceSet) -> None:
    seen = features(4)
    given = [row.input for row in conditions("logits-only", seen, priors(seen), references)]
    assert {tuple(c.latent) for c in given} == {tuple(references.mean)}
    logits = [c.logits for c in given if c.logits is not None]
    np.testing.assert_array_equal(np.stack(logits), seen.logits)


def test_a_swapped_prior_is_another_cases_and_the_image_stays() -> None:
    seen = features(5)
    own = priors(seen)
    for i, row in enumerate(conditions("logits-swapped", seen, own, seed=3)):
        assert row.prior is not None
        assert [row.prior is each for each in own].count(True) == 1
        assert row.prior is not own[i]
        np.testing.assert_array_equal(row.input.logits, row.prior.logits)
        np.testing.assert_array_equal(row.input.latent, seen.embedding[i])


def test_one_label_of_each_case_is_flipped_the_labels_in_turn() -> None:
    seen = features(60)
    own = priors(seen)
    for i, row in enumerate(conditions("logit-flipped", seen, own)):
        assert row.prior is not None
        changed = np.flatnonzero(np.array(row.prior.present) != np.array(own[i].present))
        assert changed.tolist() == [i % N_LABELS]
        assert set(row.prior.edited) == {LABELS[i % N_LABELS]}
        np.testing.assert_array_equal(row.input.logits, row.prior.logits)
    assert seen.logits is not None
    np.testing.assert_array_equal(seen.logits[0], own[0].logits)


def test_a_label_that_no_case_has_cannot_be_flipped() -> None:
    seen = features(20)
    assert seen.logits is not None
    seen.logits[:, 0] = -2.0
    flipped = conditions("logit-flipped", seen, own := priors(seen))
    assert flipped[0].prior is own[0]


def test_an_encoder_without_a_head_has_no_prior_to_change() -> None:
    table = features(3)
    bare = FeatureTable(table.ids, table.embedding, None)
    assert [row.prior for row in conditions("", bare, None)] == [None] * 3
    with pytest.raises(BadRequest, match="no logits"):
        conditions("logits-swapped", bare, None)


def test_without_a_control_a_variant_is_given_the_scan_itself() -> None:
    seen = features(4)
    given = conditions("", seen, None)
    np.testing.assert_array_equal(np.stack([c.input.latent for c in given]), seen.embedding)


@pytest.mark.slow
@given(present=st.lists(st.booleans(), min_size=N_LABELS, max_size=N_LABELS))
@settings(max_examples=40)
def test_the_lookup_never_states_what_the_classifier_denies(
    references: ReferenceSet, present: list[bool]
) -> None:
    said = label_report(references.lookup(present))
    lacking = {LABELS[i] for i, (a, b) in enumerate(zip(said, present, strict=True)) if b and not a}
    assert all(b for a, b in zip(said, present, strict=True) if a)
    assert lacking <= set(LABELS) - set(references._sentences), (
        "only where no stored sentence has it"
    )


def test_the_lookup_of_a_known_combination_is_that_report(references: ReferenceSet) -> None:
    for case in CASES[:10]:
        assert case.labels is not None
        text = references.lookup([bool(v) for v in case.labels])
        first = next(c for c in CASES if c.labels == case.labels)
        assert text == first.reference


def test_the_nearest_scan_of_a_training_scan_is_itself(references: ReferenceSet) -> None:
    assert references.nearest(references.embedding[:5]) == [case.reference for case in CASES[:5]]


def test_the_majority_report_is_the_first_of_the_most_frequent_labels(
    references: ReferenceSet,
) -> None:
    counts: dict[tuple[int, ...], int] = {}
    for case in CASES:
        assert case.labels is not None
        counts[case.labels] = counts.get(case.labels, 0) + 1
    most = max(counts, key=lambda labels: counts[labels])
    assert references.majority() == next(c.reference for c in CASES if c.labels == most)


def test_the_grammar_states_what_the_prior_has_and_nothing_else() -> None:
    for prior in priors(features(40)):
        assert label_report(from_prior(prior)) == tuple(map(int, prior.present))
