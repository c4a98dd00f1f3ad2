"""Whole reports: the in-domain style, the free variations, and the out-of-domain style."""

from __future__ import annotations

from collections.abc import Sequence

from rad3d.core.errors import UnknownName
from rad3d.core.findings import DOMAINS, Finding, Truth
from rad3d.core.labels import LABELS, PULMONARY_EMBOLISM
from rad3d.reports.sections import ReportText
from rad3d.synthetic.grammar import negatives as neg
from rad3d.synthetic.grammar.impression import impression_items, numbered
from rad3d.synthetic.grammar.sentences import finding_sentence
from rad3d.synthetic.grammar.template import CANONICAL, FREE, MODERATE, PhraseSampler

REPORT_ORDER: tuple[str, ...] = (
    *(name for name in LABELS if name != "Pleural effusion"),
    "Pleural effusion",
)
"""Order of the findings in an ordered report: as published, but the pleura after the lungs."""

MAX_WORDS = 160
_DENIAL_SCALES = (1.0, 0.6, 0.3, 0.0)
_POSITION = {name: i for i, name in enumerate((PULMONARY_EMBOLISM, *REPORT_ORDER))}
_SECTION = dict.fromkeys(neg.HEART, "heart") | dict.fromkeys(neg.LUNGS, "lungs")
_SECTION |= {"Pleural effusion": "pleura"}
_ORDER = ("heart", "lungs", "pleura")
_OTHER_ORDERS = (
    ("lungs", "pleura", "heart"),
    ("pleura", "heart", "lungs"),
    ("lungs", "heart", "pleura"),
)
_HEADINGS: dict[str, tuple[str, ...]] = {
    "vessels": ("Pulmonary arteries", "Pulmonary vasculature"),
    "lungs": ("Lungs", "Lungs and airways"),
    "pleura": ("Pleura", "Pleural space"),
    "heart": ("Heart and mediastinum", "Cardiovascular and mediastinum"),
    "other": ("Upper abdomen and bones", "Other"),
}


def write_report(truth: Truth, seed: int | None = None, style: str = "in") -> ReportText:
    """A report of the truth.

    Args:
        truth: what is present; everything present is stated, nothing absent is asserted.
        seed: of the wording; by default the truth's own seed.
        style: ``"in"`` for the in-domain style (fixed order, moderate variety of wording),
            ``"out"`` for the out-of-domain style (CT pulmonary angiogram, headings, numbered
            impression).
    """
    if style not in DOMAINS:
        raise UnknownName("report style", style, DOMAINS)
    number = truth.seed if seed is None else seed
    if style == "out":
        return structured_report(truth.findings, f"report out {number}", angiogram=True)
    return prose_report(truth.findings, f"report in {number}", MODERATE)


def in_report_order(findings: Sequence[Finding]) -> list[Finding]:
    """The findings in the order in which an ordered report mentions them."""
    return sorted(findings, key=lambda f: _POSITION[f.label])


def prose_report(
    findings: Sequence[Finding], seed: str | int, skew: int = MODERATE, reorder: bool = False
) -> ReportText:
    """A report in running sentences.

    Args:
        findings: what is present.
        seed: of the wording.
        skew: one of ``CANONICAL``, ``MODERATE``, ``FREE``.
        reorder: also vary the order of sections and sentences.
    """
    for denial_scale in _DENIAL_SCALES:
        plainer = skew if denial_scale else CANONICAL
        report = _prose(
            findings, PhraseSampler(seed, plainer), reorder, denial_scale * _room(findings)
        )
        if len(report.text.split()) <= MAX_WORDS:
            break
    return report


def _room(findings: Sequence[Finding]) -> float:
    """The share of denials and normal anatomy that the findings leave room for; 1 is all."""
    return 1.0 if len(findings) <= 4 else max(0.3, 1.0 - 0.15 * (len(findings) - 4))


def _prose(
    findings: Sequence[Finding], pen: PhraseSampler, reorder: bool, denial_scale: float
) -> ReportText:
    sections = _sections(findings, pen, denial_scale, reorder)
    order = pen.any_of(_OTHER_ORDERS) if reorder and pen.chance(0.5) else _ORDER
    sentences = [text for name in order for text in sections[name]]
    sentences += sections["other"]
    items = impression_items(in_report_order(findings), pen)
    impression = numbered(items) if reorder and pen.chance(0.2) else " ".join(items)
    return ReportText(findings=" ".join(sentences), impression=impression)


def structured_report(
    findings: Sequence[Finding], seed: str | int, skew: int = FREE, angiogram: bool = False
) -> ReportText:
    """A report with a heading for each organ and a numbered impression.

    Args:
        angiogram: also report on pulmonary embolism, present or not.
    """
    for denial_scale in _DENIAL_SCALES:
        plainer = skew if denial_scale else CANONICAL
        scale = denial_scale * _room(findings)
        report = _structured(findings, PhraseSampler(seed, plainer), angiogram, scale)
        if len(report.text.split()) <= MAX_WORDS:
            break
    return report


def _structured(
    findings: Sequence[Finding], pen: PhraseSampler, angiogram: bool, denial_scale: float
) -> ReportText:
    sections = _sections(findings, pen, denial_scale, reorder=True)
    embolism = [f for f in findings if f.label == PULMONARY_EMBOLISM]
    order = ["lungs", "pleura", "heart", "other"]
    if angiogram:
        sections["vessels"] = [_pulmonary_arteries(embolism, pen)]
        order.insert(0, "vessels")
    parts = [
        f"{pen.pick(_HEADINGS[name])}: {' '.join(sections[name])}"
        for name in order
        if sections[name]
    ]
    items = impression_items(in_report_order(findings), pen)
    if angiogram and not embolism:
        no_embolism = pen.pick(("No pulmonary embolism.", "No evidence of pulmonary embolism."))
        items = [no_embolism, *items]
    opening = "CT pulmonary angiogram. " if angiogram else ""
    return ReportText(findings=opening + " ".join(parts), impression=numbered(items))


def _pulmonary_arteries(embolism: Sequence[Finding], pen: PhraseSampler) -> str:
    if embolism:
        return finding_sentence(embolism[0], pen)
    return neg.normal(
        (
            "No pulmonary embolism.",
            "No filling defect in the pulmonary arteries; no pulmonary embolism.",
            "No evidence of pulmonary embolism.",
            "The pulmonary arteries are well opacified without pulmonary embolism.",
        ),
        pen,
    )


def _sections(
    findings: Sequence[Finding], pen: PhraseSampler, denial_scale: float, reorder: bool
) -> dict[str, list[str]]:
    """The sentences of each section: what is there, then what is not."""
    present = frozenset(f.label for f in findings)
    listed = pen.shuffled(findings) if reorder else in_report_order(findings)
    sections: dict[str, list[str]] = {"heart": [], "lungs": [], "pleura": [], "other": []}
    for finding in listed:
        if finding.label in _SECTION:
            sections[_SECTION[finding.label]].append(finding_sentence(finding, pen))
    denied = neg.choose_denied(present, pen, denial_scale)
    _add_denials(sections, present, denied, pen)
    _add_normal_anatomy(sections, pen, denial_scale)
    return sections


def _add_denials(
    sections: dict[str, list[str]], present: frozenset[str], denied: list[str], pen: PhraseSampler
) -> None:
    """Denials at the end of their sections; both effusions are denied together."""
    heart = [name for name in denied if name in neg.HEART]
    lungs = [name for name in denied if name in neg.LUNGS]
    pleura = [name for name in denied if name == "Pleural effusion"]
    if pleura and "Pericardial effusion" in heart:
        heart.remove("Pericardial effusion")
        pleura.append("Pericardial effusion")
    if not present & set(neg.LUNGS) and pen.chance(0.7):
        sections["lungs"].append(neg.clear_lungs(pen))
    sections["heart"] += neg.denials(heart, pen)
    sections["lungs"] += neg.denials(lungs, pen)
    sections["pleura"] += neg.denials(pleura, pen)


def _add_normal_anatomy(sections: dict[str, list[str]], pen: PhraseSampler, scale: float) -> None:
    """Normal anatomy that no label touches, less of it where there is much else to say."""
    extras = (
        ("heart", neg.NORMAL_VESSELS, 0.35, True),
        ("lungs", neg.NORMAL_AIRWAYS, 0.4, True),
        ("pleura", neg.NO_PNEUMOTHORAX, 0.4, False),
        ("other", neg.NORMAL_ABDOMEN, 0.55, False),
        ("other", neg.NORMAL_BONES, 0.5, False),
    )
    for name, table, rate, first in extras:
        if pen.chance(rate * min(scale, 1.0)):
            text = neg.normal(table, pen)
            sections[name].insert(0 if first else len(sections[name]), text)
