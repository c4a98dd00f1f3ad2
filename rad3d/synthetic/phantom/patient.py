"""The patient: build, pose and the findings that change the anatomy itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rad3d.core.findings import SEVERITIES, Finding, Truth
from rad3d.core.labels import PULMONARY_EMBOLISM
from rad3d.synthetic.phantom.canvas import Frame

_ENLARGED_RATIO: tuple[tuple[float, float], ...] = ((0.545, 0.575), (0.59, 0.63), (0.64, 0.68))
_NORMAL_RATIO: tuple[float, float] = (0.39, 0.45)


@dataclass(frozen=True)
class Patient:
    """Everything about a person that the anatomy needs.

    Attributes:
        seed: of the phantom, with ``domain_code`` the root of every random stream.
        female: adds breasts and a smaller build.
        fat_mm: thickness of the subcutaneous fat added to a slim person.
        muscle_mm: thickness of chest wall muscle added to a slim person.
        heart_ratio: transverse heart diameter / inner thoracic width (cardiothoracic ratio).
        normal_ratio: the ratio this heart would have without cardiomegaly.
        pericardial_mm: thickness of the pericardial effusion.
        dome_mm: height added to the (left, right) diaphragm dome.
        effusion_mm: depth of the pleural effusion on the (left, right).
        lung_hu: mean density of the lungs.
        aorta: factor on the calibre of the aorta.
    """

    seed: int
    domain_code: int
    female: bool
    fat_mm: float
    muscle_mm: float
    heart_ratio: float
    normal_ratio: float
    pericardial_mm: float
    dome_mm: tuple[float, float]
    effusion_mm: tuple[float, float]
    lung_hu: float
    aorta: float
    shift_mm: float
    contrast: bool
    frame: Frame

    def stream(self, *purpose: int) -> np.random.Generator:
        """The random stream of one purpose; purposes do not disturb each other."""
        return np.random.default_rng([self.seed, self.domain_code, 10, *purpose])


def level(finding: Finding) -> int:
    """0, 1 or 2 for mild, moderate, severe (1 where the finding has no severity)."""
    return SEVERITIES.index(finding.severity) if finding.severity else 1


def draw_patient(truth: Truth, contrast: bool) -> Patient:
    """The patient of a truth: the build comes from the seed, the disease from the findings."""
    code = 1 if truth.domain == "in" else 2
    rng = np.random.default_rng([truth.seed, code, 10, 0])
    female = bool(rng.random() < 0.5)
    size = rng.uniform(0.93, 1.01) if female else rng.uniform(0.98, 1.07)
    scale = tuple(round(float(size * rng.uniform(0.965, 1.035)), 4) for _ in range(3))
    fat = rng.uniform(4, 24) * (1.15 if female else 0.9)
    muscle = rng.uniform(0, 6) + (0 if female else 3)
    normal_ratio = rng.uniform(*_NORMAL_RATIO)
    domes = rng.uniform(-7, 7, 2) + rng.uniform(-5, 5)
    angle = math.radians(rng.uniform(-5, 5))
    tilt = rng.uniform(-0.04, 0.04, 2)
    offset = rng.uniform(-6, 6, 3)
    lung_hu = rng.uniform(-880, -835)
    aorta = rng.uniform(0.9, 1.1)
    disease = np.random.default_rng([truth.seed, code, 10, 1])
    big = truth.get("Cardiomegaly")
    ratio = disease.uniform(*_ENLARGED_RATIO[level(big)]) if big else normal_ratio
    fluid = truth.get("Pericardial effusion")
    left, right = (float(v) for v in domes)
    emphysema = truth.get("Emphysema")
    if emphysema:
        left, right = left - 4 - 5 * level(emphysema), right - 4 - 5 * level(emphysema)
    collapse, shift = _collapse(truth.get("Atelectasis"))
    left += sum(9 * amount for lobe, amount in collapse if lobe.startswith("left"))
    right += sum(9 * amount for lobe, amount in collapse if lobe.startswith("right"))
    frame = Frame(
        scale=(scale[0], scale[1], scale[2]),
        cos=round(math.cos(angle), 6),
        sin=round(math.sin(angle), 6),
        tilt=(round(float(tilt[0]), 4), round(float(tilt[1]), 4)),
        offset=(round(float(offset[0]), 3), round(float(offset[1]), 3), round(float(offset[2]), 3)),
    )
    return Patient(
        seed=truth.seed,
        domain_code=code,
        female=female,
        fat_mm=float(fat),
        muscle_mm=float(muscle),
        heart_ratio=float(ratio),
        normal_ratio=float(normal_ratio),
        pericardial_mm=float(fluid.size_mm or 10) if fluid else 0.0,
        dome_mm=(left, right),
        effusion_mm=_effusion(truth.get("Pleural effusion"), disease),
        lung_hu=float(lung_hu) - (12 if emphysema else 0),
        aorta=float(aorta),
        shift_mm=shift,
        contrast=contrast or truth.get(PULMONARY_EMBOLISM) is not None,
        frame=frame,
    )


def _effusion(finding: Finding | None, rng: np.random.Generator) -> tuple[float, float]:
    """Depth of fluid on the (left, right); the stated depth is that of the larger side."""
    other = float(rng.uniform(0.6, 0.95))
    first = bool(rng.random() < 0.5)
    if finding is None:
        return 0.0, 0.0
    size = float(finding.size_mm or 20)
    if finding.side == "left":
        return size, 0.0
    if finding.side == "right":
        return 0.0, size
    return (size, max(size * other, 8.0)) if first else (max(size * other, 8.0), size)


def _collapse(finding: Finding | None) -> tuple[tuple[tuple[str, float], ...], float]:
    """Collapsed lobes with their degree, and the shift of the heart toward them in mm."""
    if finding is None or finding.kind != "lobar":
        return (), 0.0
    amount = (0.5, 0.7, 0.9)[level(finding)]
    sign = {"left": -1.0, "right": 1.0}.get(finding.side or "", 0.0)
    return tuple((site, amount) for site in finding.sites), sign * 9 * amount
