"""Short synthetic reports of other organs and modalities, for language model pretraining.

They give a base model words and habits beyond the chest CT; the tables are in
:mod:`rad3d.synthetic.exams`.
"""

from __future__ import annotations

from dataclasses import dataclass

from rad3d.reports.sections import ReportText
from rad3d.synthetic.exams import EXAMS, Abnormality, Structure
from rad3d.synthetic.grammar.template import PhraseSampler, sentence


@dataclass(frozen=True)
class ExamFact:
    """A structure of one exam with the abnormality drawn for it, or None where normal."""

    structure: Structure
    abnormality: Abnormality | None
    slots: dict[str, str]

    @property
    def value(self) -> str:
        """The fact as the value of a key-value list."""
        if self.abnormality is None:
            return "normal"
        parts = (self.slots["side"], self.slots["sev"], self.abnormality.key)
        size = f", {self.slots['mm']} mm" if self.abnormality.mm else ""
        return " ".join(part for part in parts if part) + size


INDICATIONS: tuple[str, ...] = (
    "cough",
    "cough and fever",
    "shortness of breath",
    "chest pain",
    "weight loss",
    "staging of a tumor",
    "follow-up",
    "before surgery",
    "after surgery",
    "smoker, screening",
    "suspected infection",
    "abnormal chest X-ray",
    "known heart failure",
    "hemoptysis",
    "occupational exposure",
    "trauma",
)
TECHNIQUES: tuple[str, ...] = (
    "axial images without contrast",
    "axial images with 1 mm slices",
    "thin slices in lung and soft tissue windows",
    "low dose protocol without contrast",
    "helical acquisition with coronal reformats",
    "images after intravenous contrast",
)
_ADVERBS = {"mild": "mildly", "moderate": "moderately", "severe": "severely"}


def draw_exam(pen: PhraseSampler) -> tuple[str, list[ExamFact]]:
    """Draw an exam with an abnormality or none for each of its structures."""
    exam = pen.any_of(tuple(EXAMS))
    return exam, [_draw_fact(structure, pen) for structure in EXAMS[exam]]


def _draw_fact(structure: Structure, pen: PhraseSampler) -> ExamFact:
    if not pen.chance(0.45):
        return ExamFact(structure, None, {})
    abnormality = pen.any_of(structure.abnormal)
    used = abnormality.text + abnormality.impression
    severity = pen.any_of(tuple(_ADVERBS)) if "{sev" in used else ""
    low, high = abnormality.mm or (0, 0)
    slots = {
        "side": pen.any_of(("left", "right")) if "{side}" in used else "",
        "sev": severity,
        "sev_adv": _ADVERBS.get(severity, ""),
        "mm": str(pen.any_of(range(low, high + 1))) if abnormality.mm else "",
    }
    return ExamFact(structure, abnormality, slots)


def exam_summary(facts: list[ExamFact], pen: PhraseSampler) -> str:
    """The abnormal facts as a short list."""
    abnormalities = [f"{f.structure.name} {f.value}" for f in facts if f.abnormality]
    return "; ".join(pen.shuffled(abnormalities)) if abnormalities else "no abnormality"


def exam_keys(facts: list[ExamFact]) -> str:
    """All facts as a key-value list."""
    return "; ".join(f"{fact.structure.name} = {fact.value}" for fact in facts)


def exam_report(facts: list[ExamFact], pen: PhraseSampler) -> ReportText:
    """The exam as a report."""
    sentences, items = [], []
    for fact in facts:
        if fact.abnormality is None:
            sentences.append(sentence(pen.write(fact.structure.normal, {})))
            continue
        sentences.append(sentence(pen.write(fact.abnormality.text, fact.slots)))
        items.append(sentence(pen.write(fact.abnormality.impression, fact.slots)))
    if not items:
        items = [pen.pick(("Normal examination.", "No abnormality.", "No acute finding."))]
    return ReportText(findings=" ".join(sentences), impression=" ".join(items))
