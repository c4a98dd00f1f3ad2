"""Findings as target vectors: what the embedding must carry so that a report can state it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rad3d.core.details import attribute_names, attribute_value
from rad3d.core.findings import Truth


def attribute_targets(truth: Truth) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Targets in [0, 1] and which of them are known, both (A,).

    Attributes of absent findings, and those that a finding does not state, are unknown (weight 0).
    """
    findings = {finding.label: finding for finding in truth.findings}
    values = [
        attribute_value(findings[label], name) if label in findings else None
        for label, name in attribute_names()
    ]
    target = np.array([value or 0.0 for value in values], dtype=np.float32)
    return target, np.array([value is not None for value in values], dtype=np.float32)
