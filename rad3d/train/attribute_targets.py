"""Findings as target vectors: what the embedding must carry so that a report can state it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rad3d.core.findings import SCHEMA, Finding, Truth
from rad3d.core.labels import LABELS


@lru_cache(maxsize=1)
def attribute_names() -> tuple[tuple[str, str], ...]:
    """(label, attribute) of every target, in order; one bit each."""
    names: list[tuple[str, str]] = []
    for label in LABELS:
        schema = SCHEMA[label]
        if schema.sides:
            names += [(label, "left"), (label, "right")]
        names += [(label, site) for site in schema.sites]
        names += [(label, kind) for kind in schema.kinds]
        names += [(label, severity) for severity in schema.severities]
        names += [(label, "large"), (label, "multiple")]
    return tuple(names)


def attribute_targets(truth: Truth) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Targets in [0, 1] and which of them are known, both (A,).

    Attributes of absent findings are unknown (weight 0). ``large`` is the size relative to the
    range of its label.
    """
    target = np.zeros(len(attribute_names()), dtype=np.float32)
    known = np.zeros_like(target)
    findings = {finding.label: finding for finding in truth.findings}
    for i, (label, name) in enumerate(attribute_names()):
        finding = findings.get(label)
        if finding is None:
            continue
        value = _value(finding, name)
        if value is not None:
            target[i], known[i] = value, 1.0
    return target, known


def _value(finding: Finding, name: str) -> float | None:
    schema = SCHEMA[finding.label]
    if name in ("left", "right"):
        return None if finding.side is None else float(finding.side in (name, "bilateral"))
    if name == "large":
        if schema.size_mm is None or finding.size_mm is None:
            return None
        low, high = schema.size_mm
        return float(np.clip((finding.size_mm - low) / (high - low), 0, 1))
    if name == "multiple":
        return None if finding.count is None else float(finding.count > 1)
    if name in schema.severities:
        return float(finding.severity == name)
    return float(name in finding.sites or name == finding.kind)
