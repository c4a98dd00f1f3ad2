"""The 18 CT-RATE abnormalities, in their published order (arXiv 2403.17834).

Every array of 18 numbers in this project (logits, probabilities, label vectors)
follows this order. The names are typed out here and nowhere else.
"""

LABELS: tuple[str, ...] = (
    "Medical material",
    "Arterial wall calcification",
    "Cardiomegaly",
    "Pericardial effusion",
    "Coronary artery wall calcification",
    "Hiatal hernia",
    "Lymphadenopathy",
    "Emphysema",
    "Atelectasis",
    "Lung nodule",
    "Lung opacity",
    "Pulmonary fibrotic sequela",
    "Pleural effusion",
    "Mosaic attenuation pattern",
    "Peribronchial thickening",
    "Consolidation",
    "Bronchiectasis",
    "Interlobular septal thickening",
)

N_LABELS: int = len(LABELS)
LABEL_INDEX: dict[str, int] = {name: i for i, name in enumerate(LABELS)}

PULMONARY_EMBOLISM = "Pulmonary embolism"
"""Drawn only in the out-of-domain phantoms; no shipped model is trained on it."""
