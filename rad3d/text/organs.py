"""Short synthetic reports of other organs and modalities, for language model pretraining.

They give a base model words and habits beyond the chest CT. Each exam is a table of structures
with normal sentences and findings; a finding is a key (for key-value lists), a sentence template
and an impression template with the slots ``{side}``, ``{mm}`` and ``{sev}``.
"""

from __future__ import annotations

from dataclasses import dataclass

from rad3d.text.grammar.pen import Pen, sentence
from rad3d.text.sections import ReportText


@dataclass(frozen=True)
class Abnormality:
    """One thing a structure can have.

    Attributes:
        key: short name in summaries.
        text: sentence template.
        impression: phrase template.
        mm: smallest and largest size; None where no size is stated.
    """

    key: str
    text: str
    impression: str
    mm: tuple[int, int] | None = None


@dataclass(frozen=True)
class Structure:
    """A part of an exam with its normal sentences and what it can have."""

    name: str
    normal: str
    abnormal: tuple[Abnormality, ...]
    paired: bool = False


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


def _a(key: str, text: str, impression: str, mm: tuple[int, int] | None = None) -> Abnormality:
    return Abnormality(key, text, impression, mm)


def _s(name: str, normal: str, *abnormal: Abnormality, paired: bool = False) -> Structure:
    return Structure(name, normal, abnormal, paired)


EXAMS: dict[str, tuple[Structure, ...]] = {
    "abdomen CT": (
        _s("liver", "the liver is [normal|unremarkable|normal in size and density]",
           _a("cyst", "[there is|note is made of] a {mm} mm cyst in the liver",
              "liver cyst, {mm} mm", (5, 60)),
           _a("steatosis", "{sev} steatosis of the liver", "{sev} hepatic steatosis"),
           _a("hemangioma", "a {mm} mm hemangioma is [seen|present] in the liver",
              "hepatic hemangioma", (8, 50))),
        _s("gallbladder", "the gallbladder is [normal|unremarkable]",
           _a("stones", "[multiple |]gallbladder stones up to {mm} mm", "cholelithiasis", (3, 20)),
           _a("wall edema", "{sev} wall edema of the gallbladder",
              "findings suggestive of cholecystitis")),
        _s("pancreas", "the pancreas is [normal|unremarkable]",
           _a("cyst", "a {mm} mm cyst in the [head|tail] of the pancreas", "pancreatic cyst",
              (4, 30)),
           _a("edema", "{sev} edema around the pancreas", "{sev} acute pancreatitis")),
        _s("kidneys", "[both |the ]kidneys are [normal|unremarkable]",
           _a("stone", "a {mm} mm stone is [seen|noted] in the {side} kidney",
              "{side} renal stone, {mm} mm", (2, 15)),
           _a("hydronephrosis", "{sev} {side} hydronephrosis", "{sev} {side} hydronephrosis"),
           _a("cyst", "simple cyst of the {side} kidney, {mm} mm", "{side} renal cyst", (6, 70)),
           paired=True),
        _s("spleen", "the spleen is [normal|normal in size]",
           _a("splenomegaly", "the spleen is enlarged, {mm} mm", "splenomegaly", (131, 200))),
        _s("bowel", "the bowel is [normal|unremarkable]",
           _a("diverticulosis", "{sev} diverticulosis of the [sigmoid colon|colon]",
              "{sev} diverticulosis"),
           _a("obstruction", "dilated small bowel loops up to {mm} mm",
              "small bowel obstruction", (31, 60))),
        _s("appendix", "the appendix is normal",
           _a("appendicitis", "the appendix is dilated to {mm} mm with fat stranding",
              "acute appendicitis", (9, 18))),
    ),
    "brain MR": (
        _s("ventricles", "the ventricles are [normal in size|normal]",
           _a("hydrocephalus", "{sev} enlargement of the ventricles", "{sev} hydrocephalus")),
        _s("white matter", "the white matter is [normal|unremarkable]",
           _a("small vessel disease", "{sev} white matter changes", "{sev} small vessel disease"),
           _a("demyelination", "multiple demyelinating lesions up to {mm} mm",
              "findings suggestive of multiple sclerosis", (4, 20))),
        _s("cortex", "the cortex is [normal|intact]",
           _a("infarct", "restricted diffusion in the {side} hemisphere, {mm} mm",
              "acute {side} infarct", (6, 80)),
           _a("tumor", "an enhancing tumor in the {side} hemisphere, {mm} mm",
              "{side} brain tumor, {mm} mm", (8, 60)),
           paired=True),
        _s("sinuses", "the sinuses are clear",
           _a("sinusitis", "{sev} mucosal swelling of the {side} maxillary sinus",
              "{side} sinusitis"), paired=True),
        _s("hemorrhage", "no [intracranial |]hemorrhage",
           _a("subdural hematoma", "{side} subdural hematoma, {mm} mm",
              "{side} subdural hematoma", (4, 25)), paired=True),
    ),
    "chest X-ray": (
        _s("heart", "the heart is normal in size",
           _a("cardiomegaly", "the heart is {sev_adv} enlarged", "{sev} cardiomegaly")),
        _s("lungs", "the lungs are clear",
           _a("consolidation", "{sev} consolidation in the {side} lower zone",
              "{side} consolidation, suggestive of pneumonia"),
           _a("nodule", "a {mm} mm nodule in the {side} upper zone", "{side} lung nodule",
              (6, 30)), paired=True),
        _s("pleura", "no pleural effusion or pneumothorax",
           _a("pleural effusion", "{sev} {side} pleural effusion",
              "{sev} {side} pleural effusion"),
           _a("pneumothorax", "{sev} {side} pneumothorax", "{sev} {side} pneumothorax"),
           paired=True),
        _s("bones", "the bones are [intact|unremarkable]",
           _a("rib fracture", "fracture of a {side} rib", "{side} rib fracture"), paired=True),
    ),
    "lumbar spine MR": (
        _s("alignment", "alignment is [normal|preserved]",
           _a("listhesis", "{sev} anterior slip of L4 on L5, {mm} mm", "{sev} listhesis of L4",
              (2, 12))),
        _s("discs", "the discs are [normal|normal in height]",
           _a("herniation", "{side} disc herniation at L5-S1, {mm} mm",
              "{side} disc herniation at L5-S1", (3, 12)),
           _a("bulge", "{sev} disc bulge at L4-L5", "{sev} disc bulge at L4-L5"), paired=True),
        _s("canal", "the spinal canal is [normal|wide]",
           _a("stenosis", "{sev} stenosis of the spinal canal at L3-L4",
              "{sev} spinal stenosis")),
        _s("vertebrae", "the vertebrae are normal in height",
           _a("fracture", "{sev} compression fracture of L1", "{sev} fracture of L1")),
    ),
    "knee MR": (
        _s("menisci", "both menisci are [intact|normal]",
           _a("tear", "tear of the [medial|lateral] meniscus", "meniscal tear")),
        _s("ligaments", "the [cruciate |]ligaments are intact",
           _a("rupture", "complete rupture of the anterior cruciate ligament",
              "anterior cruciate ligament rupture")),
        _s("cartilage", "the cartilage is [preserved|normal]",
           _a("cartilage loss", "{sev} cartilage loss of the patella",
              "{sev} osteoarthritis")),
        _s("joint", "no joint effusion",
           _a("joint effusion", "{sev} joint effusion", "{sev} joint effusion"),
           _a("cyst", "popliteal cyst, {mm} mm", "popliteal cyst", (10, 60))),
    ),
    "thyroid ultrasound": (
        _s("lobes", "both thyroid lobes are normal in size",
           _a("thyroid nodule", "a {mm} mm nodule in the {side} thyroid lobe",
              "{side} thyroid nodule, {mm} mm", (4, 40)),
           _a("goiter", "{sev} enlargement of the {side} thyroid lobe", "{side} goiter"),
           paired=True),
        _s("texture", "the texture is homogeneous",
           _a("thyroiditis", "{sev} heterogeneous texture", "findings suggestive of thyroiditis")),
        _s("neck nodes", "normal neck nodes",
           _a("enlarged node", "enlarged {side} neck node, {mm} mm", "enlarged {side} neck node",
              (11, 30)), paired=True),
    ),
    "kidney ultrasound": (
        _s("kidneys", "both kidneys are normal in size",
           _a("hydronephrosis", "{sev} {side} hydronephrosis", "{sev} {side} hydronephrosis"),
           _a("stone", "a {mm} mm stone in the {side} kidney", "{side} renal stone", (3, 20)),
           _a("cyst", "{side} renal cyst, {mm} mm", "{side} renal cyst", (6, 70)), paired=True),
        _s("bladder", "the bladder is [normal|unremarkable]",
           _a("bladder stone", "a {mm} mm stone in the bladder", "bladder stone", (4, 25)),
           _a("wall swelling", "{sev} swelling of the bladder wall",
              "findings suggestive of cystitis")),
        _s("prostate", "the prostate is normal in size",
           _a("enlarged prostate", "{sev} enlargement of the prostate",
              "{sev} prostate enlargement")),
    ),
    "shoulder MR": (
        _s("rotator cuff", "the rotator cuff is intact",
           _a("tear", "[full|partial] tear of the supraspinatus tendon, {mm} mm",
              "supraspinatus tear", (4, 30)),
           _a("tendinosis", "{sev} tendinosis of the supraspinatus", "{sev} tendinosis")),
        _s("labrum", "the labrum is intact", _a("labral tear", "tear of the labrum",
                                                "labral tear")),
        _s("bursa", "no fluid in the bursa",
           _a("bursitis", "{sev} fluid in the bursa", "{sev} bursitis")),
    ),
}
_ADVERBS = {"mild": "mildly", "moderate": "moderately", "severe": "severely"}


def draw_exam(pen: Pen) -> tuple[str, list[ExamFact]]:
    """An exam and what is found in each of its structures."""
    exam = pen.any_of(tuple(EXAMS))
    return exam, [_draw_fact(structure, pen) for structure in EXAMS[exam]]


def _draw_fact(structure: Structure, pen: Pen) -> ExamFact:
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


def exam_summary(facts: list[ExamFact], pen: Pen) -> str:
    """The abnormal facts as a short list."""
    found = [f"{f.structure.name} {f.value}" for f in facts if f.abnormality]
    return "; ".join(pen.shuffled(found)) if found else "no abnormality"


def exam_keys(facts: list[ExamFact]) -> str:
    """All facts as a key-value list."""
    return "; ".join(f"{fact.structure.name} = {fact.value}" for fact in facts)


def exam_report(facts: list[ExamFact], pen: Pen) -> ReportText:
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
