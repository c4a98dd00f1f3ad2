"""Turns the attributes of a finding into words: side, place, size, severity, number."""

from __future__ import annotations

from rad3d.core.findings import LOBES, Finding
from rad3d.core.words import joined
from rad3d.synthetic.grammar.template import PhraseSampler, with_article

SEVERITY_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "sev": {
        "mild": ("mild", "slight", "minor"),
        "moderate": ("moderate",),
        "severe": ("severe", "marked"),
    },
    "adv": {
        "mild": ("mildly", "slightly"),
        "moderate": ("moderately",),
        "severe": ("severely", "markedly"),
    },
    "size": {
        "mild": ("small", "mild"),
        "moderate": ("moderate", "moderate-sized"),
        "severe": ("large",),
    },
    "ext": {
        "mild": ("mild", "limited"),
        "moderate": ("moderate",),
        "severe": ("extensive", "severe"),
    },
}
NUMBERS: tuple[str, ...] = ("no", "one", "two", "three", "four", "five", "six")

_DIAMETER = (
    "[, measuring|, measuring up to|, up to|, with a diameter of] {mm} mm",
    ", {mm} mm[| across]",
    ", {mm} mm in [diameter|size|largest dimension]",
    ", [measured at|with a size of] {mm} mm",
)
_LARGEST = (
    ", [the largest measuring|the largest|measuring up to] {mm} mm",
    ", up to {mm} mm[| in diameter| in size]",
    ", with the largest [measuring|at|of] {mm} mm",
)
_THICKNESS = (
    ", [measuring|measuring up to|up to|with a depth of] {mm} mm",
    ", {mm} mm [thick|in thickness|in depth]",
    " with a [thickness|maximum thickness] of {mm} mm",
    ", [measured at|reaching] {mm} mm[| in thickness]",
)
_SHORT_AXIS = (
    ", [measuring|up to|measuring up to] {mm} mm[ in short axis|]",
    ", {mm} mm in short axis",
    " with a short axis of {mm} mm",
)
_EFFUSIONS = ("Pleural effusion", "Pericardial effusion")


def slots_of(finding: Finding, pen: PhraseSampler) -> dict[str, str]:
    """The slots of the phrase tables that this finding can fill; absent attributes are left out.

    ``loc`` (place, with a leading space) and ``meas`` (size, with a leading comma or space) are
    always there and empty where nothing is to be said.
    """
    slots = {"loc": place(finding, pen), "meas": measure(finding, pen)}
    if finding.severity:
        for name, words in SEVERITY_WORDS.items():
            slots[name] = pen.pick(words[finding.severity])
    if finding.side:
        slots["side"] = finding.side
        slots["one_side" if finding.side != "bilateral" else "both"] = finding.side
        slots["bilateral" if finding.side == "bilateral" else "unilateral"] = ""
    several = len(finding.sites) > 1 or finding.side == "bilateral"
    slots["multifocal" if several else "focal"] = ""
    if finding.kind:
        slots["kind"] = finding.kind
    if finding.size_mm:
        slots["mm"] = str(finding.size_mm)
        slots["a_mm"] = with_article(f"{finding.size_mm} mm")
    if (finding.count or 1) == 1:
        slots["single"] = ""
    else:
        slots["n"] = NUMBERS[min(finding.count or 1, len(NUMBERS) - 1)]
    if finding.sites:
        slots["sites"] = joined(_site_words(finding))
        slots["artery"] = "artery" if len(finding.sites) == 1 else "territories"
    return slots


def measure(finding: Finding, pen: PhraseSampler) -> str:
    """The size as a phrase that follows the noun, such as ``", measuring 8 mm"``."""
    if finding.size_mm is None:
        return ""
    if finding.label in _EFFUSIONS:
        table: tuple[str, ...] = _THICKNESS
    elif finding.label == "Lymphadenopathy":
        table = _SHORT_AXIS
    else:
        table = _LARGEST if (finding.count or 1) > 1 else _DIAMETER
    chosen = pen.write(pen.pick(table), {"mm": str(finding.size_mm)})
    return chosen if chosen.startswith(",") else f" {chosen}"


def place(finding: Finding, pen: PhraseSampler) -> str:
    """Place of a finding, as ``" in the left upper lobe"``; empty where the noun implies it."""
    where = _where(finding, pen)
    return f" {where}" if where else ""


def _where(finding: Finding, pen: PhraseSampler) -> str:
    label, sites, side = finding.label, finding.sites, finding.side
    if sites and sites[0] in LOBES:
        return f"{pen.pick(('in', 'in', 'within'))} {lobes(sites, pen)}"
    if label == "Pulmonary fibrotic sequela" and sites:
        return apical(side, pen)
    if label in ("Peribronchial thickening", "Interlobular septal thickening") and sites:
        return _parts_of_lungs(sites, side, pen)
    if label in ("Emphysema", "Mosaic attenuation pattern"):
        return pen.pick(("in both lungs", "bilaterally", "throughout both lungs"))
    if label in (
        "Lung nodule",
        "Lung opacity",
        "Atelectasis",
        "Consolidation",
        "Bronchiectasis",
        "Pulmonary fibrotic sequela",
        "Peribronchial thickening",
        "Interlobular septal thickening",
    ):
        return in_lung(side, pen)
    return ""


def in_lung(side: str | None, pen: PhraseSampler) -> str:
    """A whole lung or both."""
    if side is None:
        return ""
    if side == "bilateral":
        return pen.pick(("in both lungs", "bilaterally"))
    return pen.pick((f"in the {side} lung", f"on the {side}"))


def lobes(sites: tuple[str, ...], pen: PhraseSampler) -> str:
    """``the right upper and left lower lobes``, ``both lower lobes`` and the like."""
    names = [site.removesuffix(" lobe") for site in sites]
    if len(names) == 1:
        return f"the {sites[0]}"
    for part in ("upper", "lower"):
        if names == [f"right {part}", f"left {part}"]:
            return pen.pick((f"both {part} lobes", f"the right and left {part} lobes"))
    return pen.pick((f"the {joined(names)} lobes", f"the {joined(sites)}"))


def apical(side: str | None, pen: PhraseSampler) -> str:
    """An apex or both."""
    if side == "bilateral":
        return pen.pick(("in both apices", "at both lung apices"))
    if side is None:
        return "in the apical region"
    return pen.pick(
        (f"in the {side} apex", f"at the {side} lung apex", f"in the {side} apical region")
    )


def _parts_of_lungs(sites: tuple[str, ...], side: str | None, pen: PhraseSampler) -> str:
    """Lobes that are named without a side (``upper lobe``) or ``central``, with the side added."""
    names = [site.removesuffix(" lobe") for site in sites if site != "central"]
    if not names:
        return in_lung(side, pen)
    both = joined(names)
    if side in (None, "bilateral"):
        if len(names) == 1:
            return pen.pick((f"in both {both} lobes", f"in the {both} lobes of both lungs"))
        return pen.pick((f"in the {both} lobes of both lungs", f"in both {both} lobes"))
    return f"in the {side} {both} {'lobe' if len(names) == 1 else 'lobes'}"


def _site_words(finding: Finding) -> list[str]:
    """Sites as they stand inside a noun phrase."""
    if finding.label == "Coronary artery wall calcification":
        short = {
            "left anterior descending artery": "left anterior descending",
            "circumflex artery": "circumflex",
            "right coronary artery": "right coronary",
        }
        return [short[site] for site in finding.sites]
    if finding.label == "Lymphadenopathy" and finding.side:
        sided = ("hilar", "axillary")
        return [f"{finding.side} {s}" if s in sided else s for s in finding.sites]
    return list(finding.sites)
