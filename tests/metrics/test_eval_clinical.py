"""Scores are what their definitions say, and their intervals behave."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from rad3d.metrics.bootstrap import bootstrap
from rad3d.metrics.clinical import auroc, label_counts, macro_auroc, macro_f1, micro_f1


def _random_labels(seed: int, n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, (n, 6)), rng.integers(0, 2, (n, 6))


@pytest.mark.parametrize("seed", range(3))
def test_f1_equals_scikit_learn(seed: int) -> None:
    truth, predicted = _random_labels(seed)
    counts = label_counts(truth, predicted).sum(axis=0)
    assert macro_f1(counts) == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert micro_f1(counts) == pytest.approx(f1_score(truth, predicted, average="micro"))


def test_a_label_that_occurs_and_is_never_predicted_scores_zero() -> None:
    truth = np.array([[1, 0, 0], [1, 1, 0]])
    predicted = np.array([[1, 0, 0], [1, 0, 0]])
    assert macro_f1(label_counts(truth, predicted).sum(axis=0)) == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(3))
def test_auroc_equals_scikit_learn_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, score = rng.integers(0, 2, 60), rng.integers(0, 8, 60).astype(float)
    assert auroc(truth, score) == pytest.approx(roc_auc_score(truth, score))
    stacked = np.stack((truth, np.ones_like(truth)), axis=1)
    assert macro_auroc(stacked, np.stack((score, score), axis=1)) == pytest.approx(
        roc_auc_score(truth, score)
    )


def _mean(values: np.ndarray, rows: np.ndarray) -> float:
    return float(values[rows].mean())


def test_the_interval_of_a_mean_covers_it_about_as_often_as_it_says() -> None:
    covered = 0
    for trial in range(100):
        values = np.random.default_rng(trial).normal(0.3, 1, 60)
        mean = bootstrap(partial(_mean, values), 60, 200, seed=trial)
        covered += mean.low <= 0.3 <= mean.high
    assert 86 <= covered <= 100


def test_the_interval_shrinks_with_more_cases_and_follows_its_seed() -> None:
    values = np.random.default_rng(0).normal(0, 1, 1000)

    def width(n: int, seed: int = 0) -> float:
        estimate = bootstrap(lambda rows: float(values[:n][rows].mean()), n, 300, seed)
        return estimate.high - estimate.low

    assert width(1000) < 0.5 * width(50)
    assert width(50) == width(50)
    assert width(50) != width(50, seed=1)
