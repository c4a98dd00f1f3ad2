"""Findings as a compact text: what a base language model learns to read before it is frozen."""

from __future__ import annotations

from collections.abc import Sequence

from rad3d.core.errors import UnknownName
from rad3d.core.findings import LOBES, Finding
from rad3d.core.labels import PULMONARY_EMBOLISM
from rad3d.core.words import joined
from rad3d.synthetic.grammar.prose import in_report_order
from rad3d.synthetic.grammar.template import PhraseSampler

STYLES: tuple[str, ...] = ("plain", "terse", "keyed", "short")
ORDERS: tuple[str, ...] = ("fixed", "shuffled")
NOTHING = "no abnormality"

NAMES: dict[str, str] = {
    "Arterial wall calcification": "aortic calcification",
    "Cardiomegaly": "cardiomegaly",
    "Pericardial effusion": "pericardial effusion",
    "Coronary artery wall calcification": "coronary calcification",
    "Hiatal hernia": "hiatal hernia",
    "Lymphadenopathy": "lymphadenopathy",
    "Emphysema": "emphysema",
    "Atelectasis": "atelectasis",
    "Lung nodule": "nodule",
    "Lung opacity": "ground-glass opacity",
    "Pulmonary fibrotic sequela": "fibrotic sequelae",
    "Pleural effusion": "pleural effusion",
    "Mosaic attenuation pattern": "mosaic attenuation",
    "Peribronchial thickening": "peribronchial thickening",
    "Consolidation": "consolidation",
    "Bronchiectasis": "bronchiectasis",
    "Interlobular septal thickening": "interlobular septal thickening",
    PULMONARY_EMBOLISM: "pulmonary embolism",
}
_TERSE_NAMES = {
    **NAMES,
    "Arterial wall calcification": "aorta",
    "Cardiomegaly": "heart",
    "Pericardial effusion": "pericardium",
    "Coronary artery wall calcification": "coronary",
    "Hiatal hernia": "hernia",
    "Lymphadenopathy": "nodes",
    "Lung opacity": "opacity",
    "Pulmonary fibrotic sequela": "sequelae",
    "Pleural effusion": "effusion",
    "Mosaic attenuation pattern": "mosaic",
    "Peribronchial thickening": "peribronchial",
    "Interlobular septal thickening": "septa",
}
_TERSE_SITES = {
    **{lobe: "".join(word[0] for word in lobe.split()).upper() for lobe in LOBES},
    "left anterior descending artery": "LAD",
    "circumflex artery": "LCX",
    "right coronary artery": "RCA",
    "aortic arch": "arch",
    "ascending aorta": "ascending",
    "descending aorta": "descending",
    "upper lobe": "upper",
    "lower lobe": "lower",
}
_ALWAYS_BOTH = ("Emphysema", "Mosaic attenuation pattern")
SHORT_SITES = {
    "left anterior descending artery": "left anterior descending",
    "circumflex artery": "circumflex",
    "right coronary artery": "right coronary",
    "aortic arch": "arch",
    "ascending aorta": "ascending",
    "descending aorta": "descending",
}


def write_summary(
    findings: Sequence[Finding], seed: str | int = 0, style: str = "plain", order: str = "fixed"
) -> str:
    """The findings with their attributes, separated by semicolons.

    Args:
        findings: what is present; none gives ``"no abnormality"``.
        seed: of the order where that is shuffled.
        style: ``"plain"`` (``right pleural effusion, moderate, 32 mm``), ``"keyed"``
            (``pleural effusion: right, moderate, 32 mm``), ``"terse"``
            (``effusion right moderate 32``) or ``"short"`` (name, side and severity only).
        order: ``"fixed"`` as in an ordered report, or ``"shuffled"``.
    """
    if style not in STYLES:
        raise UnknownName("summary style", style, STYLES)
    if order not in ORDERS:
        raise UnknownName("summary order", order, ORDERS)
    if not findings:
        return NOTHING
    listed = in_report_order(findings)
    if order == "shuffled":
        listed = PhraseSampler(f"summary {seed}").shuffled(listed)
    return "; ".join(summary_item(finding, style) for finding in listed)


def summary_item(finding: Finding, style: str = "plain") -> str:
    """One finding of a summary."""
    name = summary_name(finding)
    side = finding.side or ""
    if style == "terse":
        return _terse(finding)
    if style == "short":
        return " ".join(word for word in (finding.severity, side, name) if word)
    details = _details(finding)
    if style == "keyed":
        parts = [part for part in (side if not _side_in_sites(finding) else "", *details) if part]
        return f"{name}: {', '.join(parts)}" if parts else name
    head = name if not side or _side_in_sites(finding) else f"{side} {name}"
    return ", ".join([head, *details])


def _terse(finding: Finding) -> str:
    """All attributes in as few words as possible; the number of lesions stands as ``x3``."""
    if finding.label == "Medical material":
        words = [summary_name(finding)]
    else:
        words = [_TERSE_NAMES[finding.label], finding.kind or ""]
    if not _side_in_sites(finding) and finding.label not in _ALWAYS_BOTH:
        words.append(finding.side or "")
    words += [_TERSE_SITES.get(site, site) for site in finding.sites]
    words.append(finding.severity or "")
    words.append(str(finding.size_mm) if finding.size_mm else "")
    words.append(f"x{finding.count}" if (finding.count or 1) > 1 else "")
    return " ".join(word for word in words if word)


def summary_name(finding: Finding) -> str:
    """The finding's name with its kind; a device is called by its kind alone."""
    if finding.label == "Medical material":
        return finding.kind or "port catheter"
    name = NAMES[finding.label]
    return f"{finding.kind} {name}" if finding.kind else name


def _side_in_sites(finding: Finding) -> bool:
    return bool(finding.sites) and finding.sites[0] in LOBES


def _details(finding: Finding) -> list[str]:
    """Site, severity, size and number, those that are known."""
    details = []
    if finding.sites:
        details.append(joined([SHORT_SITES.get(site, site) for site in finding.sites]))
    if finding.severity:
        details.append(finding.severity)
    if finding.size_mm:
        details.append(f"{finding.size_mm} mm")
    if (finding.count or 1) > 1:
        details.append(f"number {finding.count}")
    return details
