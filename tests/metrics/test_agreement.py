"""A report is held against its prior, whatever is true; and the truth judges where they differ."""

from __future__ import annotations

import numpy as np
import pytest

from rad3d.core.labels import LABELS, N_LABELS
from rad3d.data.samples import Prediction, PredictionSet, Sample, SampleSet
from rad3d.metrics.scorecard import score

EFFUSION, NODULE, EMPHYSEMA = "Pleural effusion", "Lung nodule", "Emphysema"
METRICS = ("prior_f1", "prior_same", "prior_omitted", "prior_invented", "right_against")


def _labels(*present: str) -> tuple[int, ...]:
    return tuple(int(label in present) for label in LABELS)


def _figures(*rows: tuple[tuple[str, ...], tuple[str, ...] | None, str]) -> dict[str, float]:
    """Figures of (truth, prior, text) rows."""
    samples = tuple(
        Sample(str(i), "Findings: none.", _labels(*truth)) for i, (truth, _, _) in enumerate(rows)
    )
    said = tuple(Prediction(str(i), text, seen=prior) for i, (_, prior, text) in enumerate(rows))
    card = score(
        SampleSet("s", "S", samples), PredictionSet("p", "s", said), metrics=METRICS, resamples=20
    )
    return {name: estimate.value for name, estimate in card.estimates.items()}


def test_a_report_that_follows_a_wrong_prior_agrees_with_it_wholly() -> None:
    found = _figures(((), (EFFUSION,), "Left pleural effusion."))
    assert (found["prior_f1"], found["prior_same"]) == (1.0, 1.0)
    assert (found["prior_omitted"], found["prior_invented"]) == (0.0, 0.0)
    assert np.isnan(found["right_against"]), "they never differ"


def test_departures_are_counted_by_report_and_judged_by_the_truth() -> None:
    found = _figures(
        ((), (EFFUSION,), "No pleural effusion."),  # a wrong prior is not followed: right
        ((EFFUSION,), (EFFUSION,), "There is emphysema."),  # one lost, one added: both wrong
    )
    assert found["prior_omitted"] == 1.0
    assert found["prior_invented"] == 0.5
    assert found["prior_same"] == pytest.approx(1 - 3 / (2 * N_LABELS))
    assert found["right_against"] == pytest.approx(1 / 3)


def test_a_report_without_a_known_prior_does_not_count() -> None:
    known = ((NODULE,), (NODULE,), "A nodule in the right upper lobe.")
    assert _figures(known) == pytest.approx(
        _figures(known, ((NODULE,), None, "There is emphysema.")), nan_ok=True
    )
    assert all(np.isnan(v) for v in _figures(((NODULE,), None, "A lung nodule.")).values())
