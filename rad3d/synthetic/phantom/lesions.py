"""The table of findings: which function draws which label, and in which order."""

from __future__ import annotations

from collections.abc import Callable

from rad3d.core.findings import Finding, Truth
from rad3d.core.labels import PULMONARY_EMBOLISM
from rad3d.synthetic.phantom import airway_lesions, chest_lesions, devices, lung_lesions
from rad3d.synthetic.phantom.scene import Scene

PAINTERS: dict[str, Callable[[Scene, Finding], None]] = {
    # Diffuse changes of the lung come first, dense things over them, metal last.
    "Mosaic attenuation pattern": lung_lesions.mosaic,
    "Emphysema": lung_lesions.emphysema,
    "Lung opacity": lung_lesions.ground_glass,
    "Interlobular septal thickening": lung_lesions.septal_lines,
    "Bronchiectasis": airway_lesions.bronchiectasis,
    "Peribronchial thickening": airway_lesions.peribronchial_thickening,
    "Pulmonary fibrotic sequela": lung_lesions.fibrotic_sequela,
    "Atelectasis": lung_lesions.atelectasis,
    "Consolidation": lung_lesions.consolidation,
    "Lung nodule": lung_lesions.nodules,
    "Pleural effusion": chest_lesions.drawn_with_anatomy,
    "Cardiomegaly": chest_lesions.drawn_with_anatomy,
    "Pericardial effusion": chest_lesions.drawn_with_anatomy,
    PULMONARY_EMBOLISM: chest_lesions.pulmonary_embolism,
    "Lymphadenopathy": chest_lesions.lymphadenopathy,
    "Hiatal hernia": chest_lesions.hiatal_hernia,
    "Arterial wall calcification": chest_lesions.arterial_calcification,
    "Coronary artery wall calcification": chest_lesions.coronary_calcification,
    "Medical material": devices.medical_material,
}
"""Label -> painter, in the order of painting."""


def draw_findings(scene: Scene, truth: Truth) -> None:
    """Paint every finding of the truth and note its mask."""
    for label, painter in PAINTERS.items():
        finding = truth.get(label)
        if finding is not None:
            painter(scene, finding)
