"""Attributes as numbers become findings that a radiologist could have seen."""

from __future__ import annotations

import numpy as np
import pytest

from rad3d.core.details import attribute_names, finding_bits, findings_of, likely_finding
from rad3d.core.findings import SCHEMA, Finding, side_of_sites
from rad3d.core.labels import LABELS
from rad3d.core.types import Diagnosis, FloatArray
from rad3d.synthetic.truth import draw_truth

NODULE = {
    name: 0.1 for label, name in attribute_names() if label == "Lung nodule"
} | {"solid": 0.8, "large": 0.12}  # fmt: skip


def diagnosis(present: set[str], details: FloatArray | None) -> Diagnosis:
    probabilities = np.array([0.9 if label in present else 0.1 for label in LABELS])
    return Diagnosis(
        np.zeros(len(LABELS)), probabilities, np.full(len(LABELS), 0.5), details=details
    )


def test_the_attributes_of_a_phantom_give_its_findings_back() -> None:
    for seed in range(200):
        truth = draw_truth(seed)
        bits = finding_bits(truth.findings)
        found = findings_of(diagnosis({f.label for f in truth.findings}, bits[len(LABELS) :]))
        for seen, true in zip(found, truth.findings, strict=True):
            assert (seen.label, seen.sites, seen.kind, seen.severity) == (
                true.label, true.sites, true.kind, true.severity
            )  # fmt: skip
            assert seen.side == true.side
            assert (seen.count or 1) > 1 or (true.count or 1) == 1
            if true.size_mm and seen.size_mm:
                low, high = SCHEMA[true.label].size_mm or (0, 0)
                assert abs(seen.size_mm - true.size_mm) <= 1 + 0.03 * (high - low)


def test_any_probabilities_give_findings_whose_side_and_places_agree() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        for finding in findings_of(diagnosis(set(LABELS), rng.random(len(attribute_names())))):
            lobes = side_of_sites(finding.sites)
            assert lobes is None or finding.side == lobes, finding
            if finding.side == "bilateral" and finding.count is not None:
                assert finding.count > 1, finding


@pytest.mark.parametrize(
    ("chances", "side", "sites"),
    [
        ({"right": 0.9, "right upper lobe": 0.4, "left upper lobe": 0.45}, "right",
         ("right upper lobe",)),
        ({"left": 0.9, "right": 0.9, "right upper lobe": 0.4, "left upper lobe": 0.45},
         "bilateral", ("right upper lobe", "left upper lobe")),
    ],
)  # fmt: skip
def test_the_side_decides_between_places_that_are_alike(
    chances: dict[str, float], side: str, sites: tuple[str, ...]
) -> None:
    found = likely_finding("Lung nodule", NODULE | chances)
    assert (found.side, found.sites) == (side, sites)
    assert (found.kind, found.size_mm) == ("solid", 8)


def test_without_attributes_findings_are_labels_alone() -> None:
    found = findings_of(diagnosis({"Emphysema", "Lung nodule"}, None))
    assert found == (Finding("Emphysema"), Finding("Lung nodule"))
