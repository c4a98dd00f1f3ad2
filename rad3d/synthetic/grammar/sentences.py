"""One finding as one sentence, and as the short phrase of an impression."""

from __future__ import annotations

from rad3d.core.findings import Finding
from rad3d.core.labels import PULMONARY_EMBOLISM
from rad3d.synthetic.grammar import phrases
from rad3d.synthetic.grammar.slots import slots_of
from rad3d.synthetic.grammar.template import (
    FREE,
    MODERATE,
    PhraseSampler,
    sentence,
    usable,
    with_article,
)

_OWN_RATE = {FREE: 0.3, MODERATE: 0.2}
_SIZED_IN_IMPRESSION = ("Lung nodule", "Lymphadenopathy")
_FRAMES = {
    (placed, hedged): phrases.FRAMES
    + (phrases.PLACE_FIRST if placed else ())
    + (phrases.HEDGES if hedged else ())
    for placed in (False, True)
    for hedged in (False, True)
}


def finding_sentence(finding: Finding, pen: PhraseSampler) -> str:
    """The finding with all its attributes as one sentence."""
    slots = _slots(finding, pen)
    own = usable(phrases.OWN_SENTENCES.get(finding.label, ()), tuple(slots))
    if own and pen.chance(_OWN_RATE.get(pen.skew, 0.0)):
        return sentence(pen.write(pen.pick(own), slots))
    noun, plural = _noun(finding, slots, pen)
    frame = pen.pick(_FRAMES["loc_first" in slots, finding.label in phrases.HEDGED])
    bare = frame.startswith("{np}") and not pen.chance(0.3)
    words = {**slots, "np": _spelled(noun, bare), "is": "are" if plural else "is"}
    return sentence(pen.write(frame, words))


def finding_phrase(finding: Finding, pen: PhraseSampler) -> str:
    """The finding as a short phrase for an impression; focal lesions keep their size."""
    slots = _slots(finding, pen)
    noun, _ = _noun(finding, slots, pen, with_tail=False)
    size = slots["meas"] if finding.label in _SIZED_IN_IMPRESSION else ""
    text = f"{_spelled(noun, bare=True)}{slots['loc']}{size}"
    tails = phrases.TAILS.get(finding.label)
    if tails and pen.chance(0.25):
        text += pen.pick(tails)
    return sentence(text)


def _slots(finding: Finding, pen: PhraseSampler) -> dict[str, str]:
    """The general slots and those that a single label needs."""
    slots = slots_of(finding, pen)
    if slots["loc"]:
        slots["loc_first"] = slots["loc"].strip()
    if finding.label == "Peribronchial thickening":
        slots["central"] = "central" if "central" in finding.sites else ""
    if finding.label == "Pleural effusion" and "both" in slots and "size" in slots:
        slots["both_size"] = slots["size"]
    if finding.label == PULMONARY_EMBOLISM:
        slots["in_artery"] = _in_artery(finding, pen)
        slots["embolism"] = "pulmonary embolism"
    return slots


def _noun(
    finding: Finding, slots: dict[str, str], pen: PhraseSampler, with_tail: bool = True
) -> tuple[str, bool]:
    """The noun phrase, an ``@`` before it where it takes an article, and whether it is plural."""
    if finding.label == "Medical material":
        kind = finding.kind or "port catheter"
        noun = pen.write_one(phrases.DEVICE_NOUNS[kind], slots)
        if with_tail:
            noun += " " + pen.write(pen.pick(phrases.DEVICE_TAILS[kind]), {})
    else:
        noun = pen.write_one(phrases.NOUNS[finding.label], slots)
    return noun.removeprefix("+").strip(), noun.startswith("+")


def _spelled(noun: str, bare: bool) -> str:
    """The noun phrase with its article written out, or left away."""
    if not noun.startswith("@"):
        return noun
    plain = noun[1:].strip()
    return plain if bare else with_article(plain)


def _in_artery(finding: Finding, pen: PhraseSampler) -> str:
    """The phrase for the pulmonary artery that holds an embolus."""
    if not finding.sites:
        return ""
    site, side = finding.sites[0], finding.side
    if site == "main":
        if side in (None, "bilateral"):
            return " in both main pulmonary arteries"
        return f" in the {side} main pulmonary artery"
    if side in (None, "bilateral"):
        ends = ("of both lungs", "on both sides")
    else:
        ends = (f"of the {side} lung", f"on the {side}")
    return f" in {site} {pen.pick(('pulmonary arteries', 'branches'))} {pen.pick(ends)}"
