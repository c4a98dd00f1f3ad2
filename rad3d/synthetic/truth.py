"""Draws what is wrong with a phantom: which findings, and with which attributes.

Findings co-occur as they do in practice through a latent disease picture (heart failure,
infection, obstructive disease, ...) on top of an independent background rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rad3d.core.findings import SCHEMA, SEVERITIES, Finding, Truth, has_side, side_of_sites
from rad3d.core.labels import LABELS, PULMONARY_EMBOLISM

PICTURES: dict[str, dict[str, float]] = {
    "normal": {},
    "background": {},
    "heart failure": {
        "Cardiomegaly": 0.85,
        "Pleural effusion": 0.7,
        "Interlobular septal thickening": 0.7,
        "Pericardial effusion": 0.35,
        "Atelectasis": 0.4,
        "Lung opacity": 0.3,
        "Medical material": 0.35,
    },
    "infection": {
        "Consolidation": 0.75,
        "Lung opacity": 0.65,
        "Peribronchial thickening": 0.4,
        "Pleural effusion": 0.3,
        "Lymphadenopathy": 0.3,
    },
    "airways": {
        "Emphysema": 0.65,
        "Bronchiectasis": 0.5,
        "Peribronchial thickening": 0.55,
        "Mosaic attenuation pattern": 0.5,
    },
    "malignancy": {
        "Lung nodule": 0.85,
        "Lymphadenopathy": 0.65,
        "Pleural effusion": 0.3,
        "Medical material": 0.3,
    },
    "old age": {
        "Arterial wall calcification": 0.8,
        "Coronary artery wall calcification": 0.75,
        "Hiatal hernia": 0.45,
        "Pulmonary fibrotic sequela": 0.5,
        "Cardiomegaly": 0.3,
        "Atelectasis": 0.3,
    },
}
"""Disease picture -> probability of each finding it adds."""


@dataclass(frozen=True)
class Prevalence:
    """Probabilities of findings and attributes in a domain.

    Attributes:
        pictures: weight of each disease picture; the weights are normalised.
        background: probability with which any finding appears on its own, one per label.
    """

    pictures: dict[str, float]
    background: dict[str, float] = field(default_factory=dict)


PREVALENCE: dict[str, Prevalence] = {
    "in": Prevalence(
        pictures={
            "normal": 0.08,
            "background": 0.12,
            "heart failure": 0.16,
            "infection": 0.16,
            "airways": 0.16,
            "malignancy": 0.16,
            "old age": 0.16,
        },
        background=dict.fromkeys(LABELS, 0.12),
    ),
    "out": Prevalence(
        pictures={
            "normal": 0.2,
            "background": 0.1,
            "heart failure": 0.3,
            "infection": 0.1,
            "airways": 0.05,
            "malignancy": 0.15,
            "old age": 0.1,
        },
        background={**dict.fromkeys(LABELS, 0.07), PULMONARY_EMBOLISM: 0.35},
    ),
}


def draw_truth(seed: int, domain: str = "in", prevalence: Prevalence | None = None) -> Truth:
    """The findings of phantom ``seed``; the same seed and domain give the same truth.

    Args:
        seed: non-negative integer.
        domain: ``"in"`` or ``"out"``.
        prevalence: overrides :data:`PREVALENCE` of that domain.
    """
    rates = prevalence or PREVALENCE[domain]
    rng = np.random.default_rng([seed, 1 if domain == "in" else 2, 0])
    names = list(rates.pictures)
    weights = np.array([rates.pictures[name] for name in names], dtype=float)
    picture = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    findings = []
    for label in (*LABELS, PULMONARY_EMBOLISM):
        background = 0.0 if picture == "normal" else rates.background.get(label, 0.0)
        rate = 1 - (1 - background) * (1 - PICTURES[picture].get(label, 0.0))
        if rng.random() < rate:
            findings.append(_draw_finding(label, rng))
    return Truth(seed=seed, domain=domain, findings=tuple(findings))


def _draw_finding(label: str, rng: np.random.Generator) -> Finding:
    """One finding with attributes that fit together."""
    schema = SCHEMA[label]
    severity = str(rng.choice(SEVERITIES, p=(0.4, 0.35, 0.25))) if schema.severities else None
    kind = str(rng.choice(schema.kinds)) if schema.kinds else None
    sites = _draw_sites(schema.sites, schema.max_sites, rng)
    count = None
    if schema.count is not None:
        count = int(rng.integers(max(schema.count[0], len(sites)), schema.count[1] + 1))
        if rng.random() < 0.45:
            count, sites = 1, sites[:1]
    side = side_of_sites(sites)
    if side is None and schema.sides:
        side = str(rng.choice(schema.sides))
    if not has_side(label, kind, sites):
        side = None
    elif label == "Lymphadenopathy" and side == "bilateral":
        count = max(count or 2, 2)
    return Finding(
        label=label,
        side=side,
        sites=sites,
        kind=kind,
        severity=severity,
        size_mm=_draw_size(schema.size_mm, severity, rng),
        count=count,
    )


def _draw_sites(sites: tuple[str, ...], most: int, rng: np.random.Generator) -> tuple[str, ...]:
    if not sites:
        return ()
    n = 1 + int(rng.binomial(most - 1, 0.35))
    chosen = set(rng.choice(len(sites), size=n, replace=False).tolist())
    if sites[0] == "apical" and 0 in chosen and len(chosen) > 1:
        chosen = {0}
    return tuple(site for i, site in enumerate(sites) if i in chosen)


def _draw_size(
    bounds: tuple[int, int] | None, severity: str | None, rng: np.random.Generator
) -> int | None:
    """A size in mm; a severe finding is drawn from the top third of the range."""
    if bounds is None:
        return None
    low, high = bounds
    if severity is None:
        return int(round(low + (high - low) * rng.beta(1.2, 2.0)))
    third = SEVERITIES.index(severity)
    return int(round(low + (high - low) * (third + rng.random()) / 3))
