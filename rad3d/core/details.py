"""Attributes of findings as numbers, and the findings that a diagnosis makes most likely.

An attribute is one bit of a label: a side, a place, a kind, a severity, ``large`` or ``multiple``.
A diagnosis may hold the probability of each, given that the label is present. Read one by one,
such bits contradict each other: a nodule of the left side in a right lobe. So the attributes of a
finding are chosen together, side and places first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rad3d.core.findings import (
    SCHEMA,
    SEVERITIES,
    Attributes,
    Finding,
    has_side,
    side_of_sites,
)
from rad3d.core.labels import CT_RATE, LabelSet

if TYPE_CHECKING:
    from rad3d.core.types import Diagnosis

Chances = Mapping[str, float]
"""Attribute of one label -> its probability, given that the label is present."""

_FLOOR = 1e-6


@lru_cache(maxsize=8)
def attribute_names(labels: LabelSet = CT_RATE) -> tuple[tuple[str, str], ...]:
    """(label, attribute) of every bit, in order; a label that is no known finding has none."""
    names: list[tuple[str, str]] = []
    for each in labels.labels:
        label, schema = each.name, SCHEMA.get(each.rule)
        if schema is None:
            continue
        if schema.sides:
            names += [(label, "left"), (label, "right")]
        names += [(label, site) for site in schema.sites]
        names += [(label, kind) for kind in schema.kinds]
        names += [(label, severity) for severity in schema.severities]
        names += [(label, "large"), (label, "multiple")]
    return tuple(names)


def attribute_value(finding: Finding, name: str) -> float | None:
    """An attribute of a finding, in [0, 1]; None where the finding does not say.

    ``large`` is the size relative to the range of its label.
    """
    schema = SCHEMA[finding.label]
    if name in ("left", "right"):
        return None if finding.side is None else float(finding.side in (name, "bilateral"))
    if name == "large":
        if schema.size_mm is None or finding.size_mm is None:
            return None
        low, high = schema.size_mm
        return min(max((finding.size_mm - low) / (high - low), 0.0), 1.0)
    if name == "multiple":
        return None if finding.count is None else float(finding.count > 1)
    if name in schema.severities:
        return float(finding.severity == name)
    return float(name in finding.sites or name == finding.kind)


def finding_bits(
    findings: Sequence[Finding], labels: LabelSet = CT_RATE
) -> npt.NDArray[np.float32]:
    """(L + A,) labels, then attributes, of findings; what is absent or not stated is 0."""
    known = {finding.label: finding for finding in findings}
    stated = {each.name: known[each.rule] for each in labels.labels if each.rule in known}
    present = [float(name in stated) for name in labels.names]
    values = (
        attribute_value(stated[label], name) if label in stated else None
        for label, name in attribute_names(labels)
    )
    return np.array([*present, *(value or 0.0 for value in values)], dtype=np.float32)


def findings_of(diagnosis: Diagnosis) -> tuple[Finding, ...]:
    """The most likely findings: the present labels, each with attributes that fit together.

    Where the encoder tells no attributes, findings are labels alone. A label that is no finding of
    :data:`rad3d.core.labels.FINDING_NAMES` is left out.
    """
    labels = diagnosis.label_set
    chances: dict[str, dict[str, float]] = {}
    if diagnosis.details is not None:
        for (label, name), value in zip(attribute_names(labels), diagnosis.details, strict=True):
            chances.setdefault(label, {})[name] = float(value)
    found: dict[str, Finding] = {}
    for each, present in zip(labels.labels, diagnosis.present, strict=True):
        if present and each.rule and each.rule not in found:
            known = chances.get(each.name)
            found[each.rule] = likely_finding(each.rule, known) if known else Finding(each.rule)
    return tuple(found.values())


def likely_finding(label: str, chances: Chances) -> Finding:
    """The finding of a label that is present, with its most likely attributes."""
    schema = SCHEMA[label]
    kind = max(schema.kinds, key=chances.__getitem__) if schema.kinds else None
    severity = max(schema.severities, key=chances.__getitem__) if schema.severities else None
    sites = _likely_sites(schema, chances)
    side = side_of_sites(sites)
    if side is None and schema.sides:
        side = max(schema.sides, key=lambda s: _side_odds(s, chances))
    side = side if has_side(label, kind, sites) else None
    count = None
    if schema.count is not None:
        several = chances["multiple"] > 0.5 or len(sites) > 1 or side == "bilateral"
        count = max(len(sites), 2) if several else 1
    return Finding(label, side, sites, kind, severity, _size(schema, severity, chances), count)


def _likely_sites(schema: Attributes, chances: Chances) -> tuple[str, ...]:
    """The combination of places that is likeliest together with the side it lies on."""
    if not schema.sites:
        return ()

    def odds(chosen: tuple[str, ...]) -> float:
        together = sum(_odds(chances[site], site in chosen) for site in schema.sites)
        side = side_of_sites(chosen)
        return together + (_side_odds(side, chances) if side and schema.sides else 0.0)

    sizes = range(1, schema.max_sites + 1)
    choices = itertools.chain.from_iterable(itertools.combinations(schema.sites, n) for n in sizes)
    return max((c for c in choices if len(c) == 1 or "apical" not in c), key=odds)


def _side_odds(side: str, chances: Chances) -> float:
    left, right = side != "right", side != "left"
    return _odds(chances["left"], left) + _odds(chances["right"], right)


def _odds(chance: float, there: bool) -> float:
    """The logarithm of the probability that an attribute is there, or that it is not."""
    return math.log(max(chance if there else 1 - chance, _FLOOR))


def _size(schema: Attributes, severity: str | None, chances: Chances) -> int | None:
    """A size in mm that its severity allows: mild findings are of the lower third of the range."""
    if schema.size_mm is None:
        return None
    share = chances["large"]
    if severity is not None:
        third = SEVERITIES.index(severity) / 3
        share = min(max(share, third + 0.02), third + 0.31)
    low, high = schema.size_mm
    return round(low + (high - low) * share)
