"""Groups of metrics that an evaluation can score, and the requirements of those it cannot."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from rad3d.core.errors import BadRequest
from rad3d.core.lookup import lookup
from rad3d.metrics.cases import Places
from rad3d.metrics.registry import DEFAULT_FAMILIES, FAMILIES, METRICS, metric_status

DESCRIPTIONS: dict[str, str] = {
    "clinical": "what the report says of the patient: labels, findings, laterality, errors",
    "prior": "whether the report says what the classifier saw in the scan",
    "overlap-hf": "how many words are those of the reference; says little about truth",
    "overlap-coco": "the same as other papers compute it",
    "weights": "judged by another model",
}
"""Family -> one line for the person who chooses."""


@dataclass(frozen=True)
class MetricGroup:
    """A family of metrics as it can be chosen here.

    Attributes:
        id: the family.
        name, description: shown to people.
        ready: ids of its metrics that can run here, in the table's order.
        missing: name -> what it needs, for the others.
    """

    id: str
    name: str
    description: str
    ready: tuple[str, ...]
    missing: dict[str, str]


def metric_groups(places: Places) -> tuple[MetricGroup, ...]:
    """Return every family with its ready metrics; takes half a second, as programs are called."""
    groups = []
    for family, description in DESCRIPTIONS.items():
        rows = [row for row in METRICS.values() if row.family == family]
        ready = tuple(row.id for row in rows if metric_status(row.id, places).ready)
        missing = {row.name: row.needs for row in rows if row.id not in ready}
        groups.append(MetricGroup(family, FAMILIES[family], description, ready, missing))
    return tuple(groups)


def metrics_of_groups(
    groups: Collection[MetricGroup], chosen: Collection[str]
) -> tuple[str, ...] | None:
    """Return the ready metrics of some groups; None for the default metrics.

    Raises:
        UnknownName: there is no such group.
        BadRequest: nothing can be scored.
    """
    known = {group.id: group for group in groups}
    wanted = {lookup("group of metrics", known, each).id for each in chosen}
    if wanted == set(DEFAULT_FAMILIES):
        return None
    metrics = {metric for each in wanted for metric in known[each].ready}
    if not metrics:
        raise BadRequest("No metrics were chosen.", "Choose a group.", code="no_metrics")
    return tuple(metric for metric in METRICS if metric in metrics)
