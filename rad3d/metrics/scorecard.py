"""Scores one system on one sample set, and keeps what intervals and comparisons are made from."""

from __future__ import annotations

import base64
import math
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rad3d.core.errors import BadRequest, MissingWeights
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.plain import Number, from_plain, to_plain
from rad3d.core.types import FloatArray
from rad3d.core.words import counted
from rad3d.data.samples import Dropped, Prediction, PredictionSet, Sample, SampleSet
from rad3d.metrics.bootstrap import LEVEL, Estimate, estimate
from rad3d.metrics.cases import Cases, Places, align
from rad3d.metrics.clinical import label_counts, label_table
from rad3d.metrics.factuality import Match, matches_of
from rad3d.metrics.registry import default_metrics, measure, metric_status
from rad3d.reports.readable import no_report

SCHEMA_ID = "rad3d-scorecard/1"
MAX_RESAMPLES = 100_000

Progress = Callable[[str, float], None]
"""Callback that receives the name of the current step and the share done, 0 to 1."""


@dataclass(frozen=True)
class CaseScore:
    """One case: its own figure for each metric that one report defines, and its findings."""

    id: str
    values: dict[str, float]
    findings: tuple[Match, ...] = ()


@dataclass(frozen=True, eq=False)
class Scorecard:
    """The figures of one system on one sample set.

    Attributes:
        name: the system.
        sample_set: id of the set.
        n: cases, failures included.
        failures: cases without a report, scored as empty text.
        dropped: rows of the files that are not among the cases.
        estimates: metric -> figure with its interval.
        per_label: label -> precision, recall, f1, support, predicted (NaN where undefined).
        cases: one for each case, in the set's order.
        signature: metric -> what fixes its figure.
        settings: ``draws`` (the number of resamples), ``seed``, level, and where truth came from.
        statistics: name -> (N, K) statistics of each report, or (S, N, K) of S seeds, see
            :mod:`rad3d.metrics.bootstrap`.
    """

    name: str
    sample_set: str
    n: int
    failures: int
    dropped: tuple[Dropped, ...]
    estimates: dict[str, Estimate]
    per_label: dict[str, dict[str, float]]
    cases: tuple[CaseScore, ...]
    signature: dict[str, str]
    settings: dict[str, Any]
    statistics: dict[str, FloatArray] = field(default_factory=dict)

    def rows(self, metric: str) -> FloatArray:
        """The statistics of a metric; raises BadRequest where it was not scored."""
        if metric not in self.estimates:
            raise BadRequest(
                f"{self.name} was not scored with {metric}.",
                f"Scored: {', '.join(self.estimates)}.",
                code="not_scored",
            )
        return self.statistics[measure(metric).statistic]

    def to_dict(self, findings: bool = True) -> dict[str, Any]:
        """Plain JSON values, arrays packed.

        Args:
            findings: also keep the findings of every case with their sentences; they are most of
                the size, and :func:`score_case` makes them again from the texts.
        """
        return {
            "schema": SCHEMA_ID,
            "name": self.name,
            "sample_set": self.sample_set,
            "n": self.n,
            "failures": self.failures,
            "dropped": to_plain(self.dropped),
            "estimates": {
                name: [*to_plain((e.value, e.low, e.high)), e.n]
                for name, e in self.estimates.items()
            },
            "per_label": to_plain(self.per_label),
            "ids": [case.id for case in self.cases],
            "findings": to_plain([case.findings for case in self.cases]) if findings else None,
            "signature": self.signature,
            "settings": self.settings,
            "statistics": {name: _packed(rows) for name, rows in self.statistics.items()},
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Scorecard:
        """The inverse of :meth:`to_dict`; raises BadRequest for anything else."""
        if values.get("schema") != SCHEMA_ID:
            raise BadRequest(f"This is not a scorecard ({SCHEMA_ID}).", code="bad_scorecard")
        statistics = {name: _unpacked(each) for name, each in values["statistics"].items()}
        estimates = estimates_of(values)
        ids = values["ids"]
        findings = values["findings"] or [[] for _ in ids]
        return cls(
            name=values["name"],
            sample_set=values["sample_set"],
            n=values["n"],
            failures=values["failures"],
            dropped=from_plain(tuple[Dropped, ...], values["dropped"]),
            estimates=estimates,
            per_label=from_plain(dict[str, dict[str, Number]], values["per_label"]),
            cases=_case_scores(
                ids, estimates, statistics, from_plain(list[tuple[Match, ...]], findings)
            ),
            signature=values["signature"],
            settings=values["settings"],
            statistics=statistics,
        )


def score(
    samples: SampleSet,
    predictions: PredictionSet,
    *,
    metrics: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    places: Places | None = None,
    progress: Progress | None = None,
) -> Scorecard:
    """Score the reports of one system.

    Args:
        samples: the cases.
        predictions: what the system wrote; a sample without a prediction is a failure.
        metrics: keys of :data:`rad3d.metrics.registry.METRICS`; by default all that need neither
            weights nor Java.
        resamples: bootstrap resamples behind every interval.
        seed: of the resamples.
        places: where metrics that need weights find them.
        progress: told of each metric.
    """
    if not 1 <= resamples <= MAX_RESAMPLES:
        raise BadRequest(
            f"The number of resamples must be from 1 to {MAX_RESAMPLES:,}, not {resamples}.",
            code="bad_option",
        )
    if seed < 0:
        raise BadRequest(f"A seed is 0 or more, not {seed}.", code="bad_option")
    names = tuple(dict.fromkeys(default_metrics() if metrics is None else metrics))
    for name in names:
        _require_ready(name, places)
    cases, unmatched = align(samples, predictions, places)
    tell = progress or (lambda text, fraction: None)
    statistics: dict[str, FloatArray] = {}
    estimates: dict[str, Estimate] = {}
    for i, name in enumerate(names):
        tell(name, i / len(names))
        each = measure(name)
        if each.statistic not in statistics:
            statistics[each.statistic] = each.collect(cases)
        estimates[name] = estimate(statistics[each.statistic], each.combine, resamples, seed)
    tell("findings", 1.0)
    ids = [sample.id for sample in samples.samples]
    return Scorecard(
        name=predictions.name,
        sample_set=samples.id,
        n=cases.n,
        failures=cases.failures,
        dropped=(*samples.dropped, *unmatched),
        estimates=estimates,
        per_label=label_table(
            label_counts(cases.truth, cases.said).sum(axis=0), cases.label_set.names
        ),
        cases=_case_scores(ids, estimates, statistics, matches_of(cases)),
        signature={name: measure(name).signed(cases.places, cases.label_set) for name in names},
        settings={
            "draws": resamples,
            "seed": seed,
            "interval": f"{LEVEL:.0%} percentile bootstrap over reports",
            "truth": _truth_source(samples),
            "label_set": samples.label_set.id,
            "notes": [
                *samples.notes,
                *predictions.facts.get("notes", ()),
                *_no_reports(predictions),
            ],
        },
        statistics=statistics,
    )


def _no_reports(predictions: PredictionSet) -> list[str]:
    """A sentence on the texts that are no reports; none where all are."""
    texts = [each.text for each in predictions.predictions if not each.failure]
    why = Counter(filter(None, map(no_report, texts)))
    if not why:
        return []
    parts = ", ".join(f"{count} {reason}" for reason, count in why.most_common())
    return [f"{sum(why.values())} of {counted(len(texts), 'text')} are no reports: {parts}."]


def pooled(name: str, cards: Sequence[Scorecard]) -> Scorecard:
    """The mean of a system over the seeds that it was trained from.

    Intervals and comparisons are over cases and seeds. Nothing is said of a single case: there the
    seeds wrote several reports.

    Args:
        name: of the system.
        cards: one for each seed, of the same cases.
    """
    first = cards[0]
    shared = [m for m in first.estimates if all(m in card.estimates for card in cards)]
    needed = {measure(metric).statistic for metric in shared}
    statistics = {each: np.stack([card.statistics[each] for card in cards]) for each in needed}
    resamples, seed = first.settings["draws"], first.settings["seed"]
    return replace(
        first,
        name=name,
        failures=max(card.failures for card in cards),
        estimates={
            metric: estimate(
                statistics[measure(metric).statistic], measure(metric).combine, resamples, seed
            )
            for metric in shared
        },
        per_label={
            label: {key: _mean([card.per_label[label][key] for card in cards]) for key in row}
            for label, row in first.per_label.items()
        },
        cases=tuple(CaseScore(case.id, {}) for case in first.cases),
        settings={**first.settings, "trained_seeds": len(cards)},
        statistics=statistics,
    )


def _mean(values: Sequence[float]) -> float:
    """Of the values that are defined."""
    defined = [value for value in values if value == value]
    return sum(defined) / len(defined) if defined else float("nan")


def score_case(sample: Sample, prediction: Prediction, label_set: LabelSet = CT_RATE) -> CaseScore:
    """The findings of one case, made from its texts; quick enough to do when a person asks."""
    cases = Cases((sample,), (prediction,), label_set=label_set)
    return CaseScore(sample.id, {}, matches_of(cases)[0])


def _require_ready(metric: str, places: Places | None) -> None:
    status = metric_status(metric, places)
    if not status.ready:
        remedy = f"Run: {status.command}" if status.command else ""
        raise MissingWeights(
            f"{metric} cannot run here ({status.state}): {status.reason}",
            remedy,
            code="metric_not_ready",
        )


def _truth_source(samples: SampleSet) -> str:
    known = sum(sample.labels is not None for sample in samples.samples)
    if known == len(samples.samples):
        return "given"
    return "read from the references" if known == 0 else f"given for {known}, else read"


def _case_scores(
    ids: Sequence[str],
    estimates: dict[str, Estimate],
    statistics: dict[str, FloatArray],
    findings: Sequence[tuple[Match, ...]],
) -> tuple[CaseScore, ...]:
    """Per-case figures: what each metric would be for that report alone, where it is defined."""
    columns = {}
    for name in estimates:
        each = measure(name)
        columns[name] = each.combine(statistics[each.statistic]).tolist()
    return tuple(
        CaseScore(
            id_,
            {name: v[i] for name, v in columns.items() if not math.isnan(v[i])},
            findings[i],
        )
        for i, id_ in enumerate(ids)
    )


def estimates_of(values: Mapping[str, Any]) -> dict[str, Estimate]:
    """The figures of a scorecard that is still plain values, by metric."""
    names = ("value", "low", "high", "n")
    rows = values["estimates"].items()
    return from_plain(
        dict[str, Estimate], {name: dict(zip(names, row, strict=True)) for name, row in rows}
    )


def _packed(rows: FloatArray) -> dict[str, Any]:
    """An array as its shape and compressed bytes; whole numbers as 16 bits where they fit."""
    whole = bool((rows == np.rint(rows)).all() and (np.abs(rows) < 2**15).all())
    dtype = "<i2" if whole else "<f8"
    data = zlib.compress(np.ascontiguousarray(rows, dtype=dtype).tobytes(), 9)
    return {
        "shape": list(rows.shape),
        "dtype": dtype,
        "data": base64.b64encode(data).decode("ascii"),
    }


def _unpacked(packed: dict[str, Any]) -> FloatArray:
    data = zlib.decompress(base64.b64decode(packed["data"]))
    return np.frombuffer(data, packed["dtype"]).reshape(packed["shape"]).astype(np.float64)
