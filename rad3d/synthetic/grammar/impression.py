"""The impression: the findings that matter, the most important first."""

from __future__ import annotations

from collections.abc import Sequence

from rad3d.core.findings import Finding
from rad3d.core.labels import PULMONARY_EMBOLISM
from rad3d.synthetic.grammar.sentences import finding_phrase
from rad3d.synthetic.grammar.template import PhraseSampler

IMPORTANCE: tuple[str, ...] = (
    PULMONARY_EMBOLISM,
    "Consolidation",
    "Lung nodule",
    "Pleural effusion",
    "Lung opacity",
    "Lymphadenopathy",
    "Pericardial effusion",
    "Cardiomegaly",
    "Interlobular septal thickening",
    "Atelectasis",
    "Bronchiectasis",
    "Emphysema",
    "Mosaic attenuation pattern",
    "Peribronchial thickening",
    "Pulmonary fibrotic sequela",
    "Coronary artery wall calcification",
    "Hiatal hernia",
    "Arterial wall calcification",
    "Medical material",
)
ACUTE: frozenset[str] = frozenset(
    {
        PULMONARY_EMBOLISM,
        "Consolidation",
        "Pleural effusion",
        "Lung opacity",
        "Pericardial effusion",
        "Interlobular septal thickening",
    }
)
_ALWAYS = ACUTE | {"Lung nodule", "Lymphadenopathy"}
_MOST, _LEAST = 4, 2

NORMAL: tuple[str, ...] = (
    "No acute abnormality.",
    "No acute abnormality in the chest.",
    "No acute cardiopulmonary abnormality.",
    "No acute finding.",
)
ALL_NORMAL: tuple[str, ...] = (
    "Normal chest CT.",
    "Unremarkable chest CT.",
    "No abnormality in the chest.",
    *NORMAL,
)


def significant(findings: Sequence[Finding]) -> list[Finding]:
    """The findings of the impression: at most four, the most important first.

    Acute findings, nodules, enlarged nodes and anything severe always qualify; chronic findings
    fill up to two. The choice depends on the findings alone.
    """
    ranked = sorted(findings, key=lambda f: IMPORTANCE.index(f.label))
    chosen = [f for f in ranked if f.label in _ALWAYS or f.severity == "severe"]
    for finding in ranked:
        if len(chosen) < _LEAST and finding not in chosen:
            chosen.append(finding)
    return sorted(chosen, key=lambda f: IMPORTANCE.index(f.label))[:_MOST]


def impression_items(findings: Sequence[Finding], pen: PhraseSampler) -> list[str]:
    """The impression as short sentences."""
    if not findings:
        return [pen.pick(ALL_NORMAL)]
    items = [finding_phrase(finding, pen) for finding in significant(findings)]
    if not any(finding.label in ACUTE for finding in findings):
        items.append(pen.pick(NORMAL))
    return items


def numbered(items: Sequence[str]) -> str:
    """``1. ... 2. ...``; a single item stays without a number."""
    if len(items) == 1:
        return items[0]
    return " ".join(f"{i}. {item}" for i, item in enumerate(items, 1))
