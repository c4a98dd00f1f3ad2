"""Whether a report says what its prior says, and which of the two is right where they differ.

The prior is what the classifier saw in the scan that the report was written from
(:attr:`rad3d.data.samples.Prediction.seen`). A report without a known prior does not count. A
report that states exactly what its prior states can equal a look-up from that prior in label F1 and
never beat it; where it departs from the prior, :data:`RIGHT_AGAINST` tells judgement from loss.
"""

from __future__ import annotations

import numpy as np

from rad3d.core.types import FloatArray
from rad3d.metrics.bootstrap import Combine
from rad3d.metrics.cases import Cases
from rad3d.metrics.clinical import label_counts, macro_f1
from rad3d.metrics.measure import Measure, ratio
from rad3d.reports.labeller import REVISION

_COLUMNS = ("decisions", "same", "right_against", "reports")
"""Statistics of a report after its hits, false alarms and misses against the prior."""


def _collect(cases: Cases) -> FloatArray:
    """(N, 3 L + 4) counts against the prior; zeros where none is known."""
    known = np.array([each.seen is not None for each in cases.predictions])
    names = cases.label_set.names
    prior = np.array(
        [[label in (each.seen or ()) for label in names] for each in cases.predictions],
        dtype=np.int64,
    ).reshape(-1, len(names))
    said = cases.said
    same, right = said == prior, said == cases.truth
    totals = (
        np.full(cases.n, len(names)),
        same.sum(axis=1),
        (right & ~same).sum(axis=1),
        np.ones(cases.n),
    )
    counts = np.concatenate((label_counts(prior, said), np.stack(totals, axis=1)), axis=1)
    return np.where(known[:, None], counts, 0.0)


def _totals(sums: FloatArray) -> dict[str, FloatArray]:
    return {name: sums[..., i - len(_COLUMNS)] for i, name in enumerate(_COLUMNS)}


def _f1(sums: FloatArray) -> FloatArray:
    return macro_f1(sums[..., : -len(_COLUMNS)])


def _share_same(sums: FloatArray) -> FloatArray:
    totals = _totals(sums)
    return ratio(np.stack((totals["same"], totals["decisions"]), axis=-1))


def _share_right(sums: FloatArray) -> FloatArray:
    totals = _totals(sums)
    apart = totals["decisions"] - totals["same"]
    return ratio(np.stack((totals["right_against"], apart), axis=-1))


def _per_report(part: int) -> Combine:
    """False alarms (1) or misses (2) of a report."""

    def combine(sums: FloatArray) -> FloatArray:
        counts = np.split(sums[..., : -len(_COLUMNS)], 3, axis=-1)[part].sum(axis=-1)
        return ratio(np.stack((counts, _totals(sums)["reports"]), axis=-1))

    return combine


def _measure(name: str, combine: Combine) -> Measure:
    return Measure("prior", _collect, combine, lambda: f"prior|{name}|labeller:{REVISION}")


PRIOR_F1 = _measure("f1|macro", _f1)
PRIOR_SAME = _measure("same over decisions", _share_same)
PRIOR_OMITTED = _measure("omitted|per report", _per_report(2))
PRIOR_INVENTED = _measure("invented|per report", _per_report(1))
RIGHT_AGAINST = _measure("right over decisions that differ", _share_right)
