"""Samples and predictions side by side, with what several measures need computed once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from rad3d.core.errors import BadRequest
from rad3d.core.ids import matched
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.settings import ROOT, Settings
from rad3d.core.types import IntArray
from rad3d.data.samples import (
    Dropped,
    Prediction,
    PredictionSet,
    Sample,
    SampleSet,
    dropped_sentence,
)
from rad3d.reports.labeller import Mention, find_mentions, stated_labels

NO_PREDICTION = "no prediction"
"""The failure of a sample that the predictions leave out."""


@dataclass(frozen=True)
class Places:
    """The folders in which the metrics that need weights find them.

    Attributes:
        models_dir: each such metric has a folder below ``metrics`` in it.
        python: interpreter that has the packages which cannot live beside this one's; empty for
            the running interpreter.
    """

    models_dir: Path = ROOT / "assets" / "models"
    python: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Places:
        """The places that an operator has set."""
        return cls(settings.models_dir, settings.metrics_python)

    def weights(self, name: str) -> Path:
        """The folder of one metric's weights."""
        return self.models_dir / "metrics" / name


@dataclass(frozen=True)
class Cases:
    """N cases: the sample and the prediction of each.

    A sample without a prediction is a failure; a failed prediction is scored as empty text.
    """

    samples: tuple[Sample, ...]
    predictions: tuple[Prediction, ...]
    places: Places = Places()
    label_set: LabelSet = CT_RATE

    def __post_init__(self) -> None:
        if [s.id for s in self.samples] != [p.id for p in self.predictions]:
            raise BadRequest("Samples and predictions differ in their ids.", code="unmatched_ids")

    @property
    def n(self) -> int:
        """Number of cases."""
        return len(self.samples)

    @property
    def failures(self) -> int:
        """Cases without a report."""
        return sum(bool(prediction.failure) for prediction in self.predictions)

    @cached_property
    def references(self) -> tuple[str, ...]:
        """The reference reports."""
        return tuple(sample.reference for sample in self.samples)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The predicted reports; empty where the system failed."""
        return tuple("" if each.failure else each.text for each in self.predictions)

    @cached_property
    def reference_mentions(self) -> tuple[tuple[Mention, ...], ...]:
        """The findings that each reference asserts or denies."""
        return tuple(find_mentions(text, self.label_set) for text in self.references)

    @cached_property
    def text_mentions(self) -> tuple[tuple[Mention, ...], ...]:
        """The findings that each prediction asserts or denies."""
        return tuple(find_mentions(text, self.label_set) for text in self.texts)

    @cached_property
    def truth(self) -> IntArray:
        """(N, L) labels: the known ones, else those of the reference."""
        rows = [
            sample.labels if sample.labels is not None else stated_labels(mentions, self.label_set)
            for sample, mentions in zip(self.samples, self.reference_mentions, strict=True)
        ]
        return np.array(rows, dtype=np.int64).reshape(-1, len(self.label_set))

    @cached_property
    def said(self) -> IntArray:
        """(N, L) labels that the predictions state."""
        rows = [stated_labels(mentions, self.label_set) for mentions in self.text_mentions]
        return np.array(rows, dtype=np.int64).reshape(-1, len(self.label_set))


def align(
    samples: SampleSet, predictions: PredictionSet, places: Places | None = None
) -> tuple[Cases, tuple[Dropped, ...]]:
    """Put each prediction beside its sample.

    Returns:
        the cases in the order of the samples, and the predictions whose id no sample has. Raises
        BadRequest where not one id matches.
    """
    by_id = {prediction.id: prediction for prediction in predictions.predictions}
    place = matched([sample.id for sample in samples.samples], list(by_id))
    if not by_id:
        raise BadRequest(
            f"{predictions.name} holds no prediction.",
            dropped_sentence(samples.dropped),
            code="unmatched_ids",
        )
    if not place:
        raise BadRequest(
            f"No id of {predictions.name} is one of {samples.name}.",
            f"There the first id is {samples.samples[0].id!r}, here {next(iter(by_id))!r}.",
            code="unmatched_ids",
        )
    paired = tuple(
        replace(by_id[place[sample.id]], id=sample.id)
        if sample.id in place
        else Prediction(sample.id, "", NO_PREDICTION)
        for sample in samples.samples
    )
    used = set(place.values())
    unmatched = tuple(Dropped(each, "with an unknown id") for each in by_id if each not in used)
    return Cases(samples.samples, paired, places or Places(), samples.label_set), unmatched
