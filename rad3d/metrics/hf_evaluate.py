"""The metrics as objects of Hugging Face ``evaluate``, for code that works with those.

They subclass ``evaluate.Metric`` directly: nothing is loaded from a hub, texts are kept in memory,
and the folder that ``evaluate`` insists on is a temporary one. ``evaluate.combine`` takes them::

    evaluate.combine([load("f1_macro"), load("hf_bleu_4")]).compute(predictions=..., references=...)

Importing this module takes seconds (``evaluate`` brings its own dependencies); scorecards do not
need it.
"""

from __future__ import annotations

import tempfile
from typing import Any

import evaluate
from datasets import Features, Value

from rad3d.data.samples import Prediction, Sample
from rad3d.metrics.cases import Cases, Places
from rad3d.metrics.registry import measure, metric_row


class ReportMetric(evaluate.Metric):
    """One metric of the registry: predicted and reference reports -> ``{metric: value}``.

    Args:
        metric: a key of :data:`rad3d.metrics.registry.METRICS`.
    """

    def __init__(self, metric: str, **options: Any) -> None:
        self.row = metric_row(metric)
        self._folder = tempfile.TemporaryDirectory(prefix="rad3d-metric-")
        options.setdefault("cache_dir", self._folder.name)
        options.setdefault("keep_in_memory", True)
        super().__init__(config_name=metric, **options)

    @property
    def signature(self) -> str:
        """The implementation, settings and versions that determine the figure."""
        return measure(self.row.id).signed(Places())

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.row.description,
            citation="",
            inputs_description="predictions, references: reports as strings.",
            features=Features({"predictions": Value("string"), "references": Value("string")}),
        )

    def _compute(
        self, *, predictions: list[str] | None = None, references: list[str] | None = None,
        **_: Any,
    ) -> dict[str, float]:  # fmt: skip
        samples = tuple(Sample(str(i), text) for i, text in enumerate(references or ()))
        said = tuple(Prediction(str(i), text) for i, text in enumerate(predictions or ()))
        each = measure(self.row.id)
        sums = each.collect(Cases(samples, said)).sum(axis=0)
        return {self.row.id: float(each.combine(sums))}


def load(metric: str, **options: Any) -> ReportMetric:
    """The metric as an object of ``evaluate``; raises UnknownName with the known ones.

    Args:
        metric: a key of :data:`rad3d.metrics.registry.METRICS`.
        options: of ``evaluate.Metric``, such as ``experiment_id``.
    """
    return ReportMetric(metric, **options)
