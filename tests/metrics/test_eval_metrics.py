"""Every row of the table of metrics, also as an object of ``evaluate``."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from rad3d.core.errors import UnknownName
from rad3d.data.samples import Prediction, PredictionSet, Sample, SampleSet
from rad3d.metrics.cases import Cases
from rad3d.metrics.registry import (
    FAMILIES,
    METRICS,
    PRIMARY,
    default_metrics,
    measure,
    metric_status,
    metrics_of,
)
from rad3d.metrics.scorecard import score

REFERENCES = [
    "Findings: Small left pleural effusion. A 6 mm nodule in the right upper lobe.",
    "Findings: The heart is enlarged. No pleural effusion.",
    "Findings: Normal chest.",
]
PREDICTIONS = [
    "Findings: Small left pleural effusion. Consolidation in the left lower lobe.",
    "Findings: The heart is enlarged. No pleural effusion.",
    "",
]


def test_ids_families_and_targets_hold_together() -> None:
    for name, row in METRICS.items():
        assert row.id == name
        assert row.family in FAMILIES
        assert row.description.endswith(".")
        assert callable(measure(name).collect)
    assert set(PRIMARY) <= set(default_metrics())


def test_the_two_profiles_share_no_column_and_no_statistics() -> None:
    hf, coco = metrics_of(("overlap-hf",)), metrics_of(("overlap-coco",))
    assert hf
    assert coco
    assert not set(hf) & set(coco)
    assert not {measure(m).statistic for m in hf} & {measure(m).statistic for m in coco}
    assert not {METRICS[m].name for m in hf} & {METRICS[m].name for m in coco}


def test_metrics_with_different_settings_have_different_signatures() -> None:
    signatures = [measure(name).signature() for name in METRICS]
    assert len(set(signatures)) == len(signatures)


def test_whatever_cannot_run_says_why() -> None:
    for name, row in METRICS.items():
        status = metric_status(name)
        assert status.ready or status.reason
        assert row.needs or status.ready, f"{name} needs nothing and is not ready"


OF_TEXTS = [name for name in default_metrics() if METRICS[name].family != "prior"]
"""The others need what the classifier saw."""


@pytest.mark.parametrize("name", OF_TEXTS)
def test_a_metric_is_best_for_equal_reports_and_worse_for_others(name: str) -> None:
    samples = SampleSet(
        "set", "set", tuple(Sample(str(i), text) for i, text in enumerate(REFERENCES))
    )

    def value(texts: list[str]) -> float:
        predictions = tuple(Prediction(str(i), text) for i, text in enumerate(texts))
        card = score(samples, PredictionSet("it", "set", predictions), metrics=[name], resamples=20)
        return card.estimates[name].value

    same, other = value(REFERENCES), value(PREDICTIONS)
    best = 1.0 if METRICS[name].higher_is_better else 0.0
    assert same == pytest.approx(best, abs=0.02)
    if name in ("side", "wrong_place", "wrong_size", "contradictory"):
        return  # nothing of that kind is wrong here; see test_eval_factuality.py
    assert other < same if METRICS[name].higher_is_better else other > same


def test_an_unknown_metric_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="f1_macro"):
        measure("f1")


@pytest.mark.slow
def test_they_are_metrics_of_evaluate_and_combine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import evaluate

    from rad3d.metrics.hf_evaluate import ReportMetric, load

    assert ReportMetric.__bases__ == (evaluate.Metric,)
    names = ["f1_macro", "crg", "hf_bleu_4", "hf_meteor", "hf_rouge_l", "factuality"]
    combined = evaluate.combine([load(name) for name in names])
    values = combined.compute(predictions=PREDICTIONS, references=REFERENCES)
    assert set(values) == set(names)
    samples = SampleSet("s", "s", tuple(Sample(str(i), t) for i, t in enumerate(REFERENCES)))
    predictions = tuple(Prediction(str(i), t) for i, t in enumerate(PREDICTIONS))
    card = score(samples, PredictionSet("it", "s", predictions), metrics=names, resamples=10)
    for name in names:
        assert values[name] == pytest.approx(card.estimates[name].value)
    assert load("hf_bleu_4").signature == card.signature["hf_bleu_4"]


@pytest.mark.slow
def test_metrics_of_evaluate_can_be_added_to_and_leave_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rad3d.metrics.hf_evaluate import load

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    metric = load("f1_micro")
    assert list(tmp_path.glob("rad3d-metric-*"))
    for reference, prediction in zip(REFERENCES, PREDICTIONS, strict=True):
        metric.add(reference=reference, prediction=prediction)
    assert not math.isnan(metric.compute()["f1_micro"])
    del metric
    gc.collect()
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_scoring_loads_neither_torch_nor_evaluate() -> None:
    code = (
        "import sys\n"
        "from rad3d.data.samples import *; from rad3d.metrics.scorecard import score\n"
        "s = SampleSet('s', 's', (Sample('1', 'Small left pleural effusion.'),))\n"
        "score(s, PredictionSet('p', 's', (Prediction('1', 'No effusion.'),)), resamples=5)\n"
        "print(sorted({'torch', 'gradio', 'evaluate', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_statistics_of_a_report_do_not_depend_on_the_others() -> None:
    samples = tuple(Sample(str(i), text) for i, text in enumerate(REFERENCES))
    said = tuple(Prediction(str(i), text) for i, text in enumerate(PREDICTIONS))
    for name in default_metrics():
        collect = measure(name).collect
        alone = [collect(Cases((s,), (p,))) for s, p in zip(samples, said, strict=True)]
        assert np.allclose(np.concatenate(alone), collect(Cases(samples, said)))


def test_what_the_diagnosis_has_and_the_report_does_not_speak_of_is_counted_per_report() -> None:
    samples = tuple(Sample(str(i), "Findings: none.") for i in range(4))
    said = (
        Prediction(
            "0", "Small left effusion.", seen=("Pleural effusion", "Emphysema", "Hiatal hernia")
        ),
        Prediction("1", "No pleural effusion.", seen=("Pleural effusion",)),
        Prediction("2", "", failure="no scan", seen=("Emphysema",)),
        Prediction("3", "The skin is dry."),
    )
    found = measure("not_mentioned")
    sums = found.collect(Cases(samples, said)).sum(axis=0)
    assert found.combine(sums) == 1.0, "two are silent in one report, none in the other"
    assert np.isnan(found.combine(np.zeros(2))), "nothing is known of foreign predictions"
