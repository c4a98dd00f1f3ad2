"""Negative statements: grouped denials of the 18 labels, and normal anatomy without a label."""

from __future__ import annotations

from collections.abc import Sequence

from rad3d.core.labels import LABELS, PULMONARY_EMBOLISM
from rad3d.core.words import joined
from rad3d.synthetic.grammar.template import PhraseSampler, sentence

DENIAL_RATE: dict[str, float] = {
    "Medical material": 0.15,
    "Arterial wall calcification": 0.25,
    "Cardiomegaly": 0.7,
    "Pericardial effusion": 0.7,
    "Coronary artery wall calcification": 0.25,
    "Hiatal hernia": 0.25,
    "Lymphadenopathy": 0.75,
    "Emphysema": 0.2,
    "Atelectasis": 0.2,
    "Lung nodule": 0.6,
    "Lung opacity": 0.35,
    "Pulmonary fibrotic sequela": 0.1,
    "Pleural effusion": 0.8,
    "Mosaic attenuation pattern": 0.1,
    "Peribronchial thickening": 0.1,
    "Consolidation": 0.65,
    "Bronchiectasis": 0.25,
    "Interlobular septal thickening": 0.15,
}
"""Probability that a report denies an absent finding."""

DENIED_NOUNS: dict[str, tuple[str, ...]] = {
    "Medical material": ("medical device", "medical material"),
    "Arterial wall calcification": ("aortic calcification", "aortic wall calcification"),
    "Cardiomegaly": ("cardiomegaly", "cardiac enlargement"),
    "Pericardial effusion": ("pericardial effusion",),
    "Coronary artery wall calcification": (
        "coronary calcification",
        "coronary artery calcification",
    ),
    "Hiatal hernia": ("hiatal hernia",),
    "Lymphadenopathy": ("lymphadenopathy", "enlarged lymph nodes"),
    "Emphysema": ("emphysema", "emphysematous change"),
    "Atelectasis": ("atelectasis",),
    "Lung nodule": ("nodule", "pulmonary nodule", "lung nodule"),
    "Lung opacity": ("ground-glass opacity",),
    "Pulmonary fibrotic sequela": ("fibrotic sequelae", "fibrotic change"),
    "Pleural effusion": ("pleural effusion",),
    "Mosaic attenuation pattern": ("mosaic attenuation",),
    "Peribronchial thickening": ("peribronchial thickening", "bronchial wall thickening"),
    "Consolidation": ("consolidation", "airspace consolidation"),
    "Bronchiectasis": ("bronchiectasis",),
    "Interlobular septal thickening": ("interlobular septal thickening",),
    PULMONARY_EMBOLISM: ("pulmonary embolism",),
}

_DENIALS = (
    "no {list}",
    "there {first_is} no {list}",
    "no {list} {is} [seen|identified|present|noted]",
    "no evidence of {list}",
    "negative for {list}",
)
_NORMAL_HEART = (
    "the heart is normal in size",
    "heart size is normal",
    "normal heart size",
    "the heart is not enlarged",
    "no {list}",
)
_CLEAR_LUNGS = (
    "the lungs are clear",
    "both lungs are clear",
    "clear lungs",
)
_PLURALS = ("enlarged lymph nodes", "fibrotic sequelae")
_MOST_TOGETHER = 3

NORMAL_VESSELS: tuple[str, ...] = (
    "The thoracic aorta is normal in caliber.",
    "The great vessels are normal in caliber.",
    "The mediastinal vessels are [normal|unremarkable].",
    "Normal caliber of the [aorta|great vessels].",
)
NORMAL_AIRWAYS: tuple[str, ...] = (
    "The trachea and main bronchi are [patent|open].",
    "The central airways are [patent|open|clear].",
    "Patent [central airways|trachea and main bronchi].",
)
NO_PNEUMOTHORAX: tuple[str, ...] = (
    "No pneumothorax.",
    "There is no pneumothorax.",
    "No pneumothorax is [seen|identified].",
)
NORMAL_ABDOMEN: tuple[str, ...] = (
    "The [visualized |imaged |]upper abdomen is [unremarkable|normal].",
    "The [visualized |]upper abdominal organs are [unremarkable|normal].",
    "[Liver and spleen|The liver, spleen and adrenal glands] are [unremarkable|normal].",
)
NORMAL_BONES: tuple[str, ...] = (
    "No destructive bone lesion.",
    "The bones are [intact|unremarkable].",
    "No [acute fracture|aggressive bone lesion].",
    "Bone structures are [normal|intact].",
)

HEART = LABELS[:7]
LUNGS = tuple(name for name in LABELS[7:] if name != "Pleural effusion")


def choose_denied(present: frozenset[str], pen: PhraseSampler, scale: float = 1.0) -> list[str]:
    """Absent labels that the report will deny, in published order."""
    return [
        name
        for name in LABELS
        if pen.chance(min(1.0, scale * DENIAL_RATE[name])) and name not in present
    ]


def denials(labels: Sequence[str], pen: PhraseSampler) -> list[str]:
    """Sentences that deny the labels, up to three of them grouped in one."""
    sentences = []
    rest = list(labels)
    if "Cardiomegaly" in rest:
        rest.remove("Cardiomegaly")
        noun = pen.pick(DENIED_NOUNS["Cardiomegaly"])
        sentences.append(sentence(pen.write(pen.pick(_NORMAL_HEART), {"list": noun})))
    for start in range(0, len(rest), _MOST_TOGETHER):
        sentences.append(deny(rest[start : start + _MOST_TOGETHER], pen))
    return sentences


def deny(labels: Sequence[str], pen: PhraseSampler) -> str:
    """One sentence that denies all the labels."""
    nouns = [pen.pick(DENIED_NOUNS[name]) for name in labels]
    if {"Pleural effusion", "Pericardial effusion"} <= set(labels):
        nouns = ["pleural or pericardial effusion"] + [
            noun
            for name, noun in zip(labels, nouns, strict=True)
            if name not in ("Pleural effusion", "Pericardial effusion")
        ]
    words = {"list": joined(nouns, "or"), **_verbs(nouns)}
    return sentence(pen.write(pen.pick(_DENIALS), words))


def _verbs(nouns: Sequence[str]) -> dict[str, str]:
    """The verb after the list agrees with its last noun, the verb before it with its first."""
    is_, first_is = ("are" if nouns[i] in _PLURALS else "is" for i in (-1, 0))
    return {"is": is_, "first_is": first_is}


def clear_lungs(pen: PhraseSampler) -> str:
    """Return a sentence on clear lungs; used only if no label of the lungs is present."""
    return sentence(pen.pick(_CLEAR_LUNGS))


def normal(table: tuple[str, ...], pen: PhraseSampler) -> str:
    """A sentence on normal anatomy."""
    return sentence(pen.write(pen.pick(table), {}))
