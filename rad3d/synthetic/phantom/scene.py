"""The scene that all painters of findings share: canvas, patient and placement in the chest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rad3d.core.findings import LOBES, Finding
from rad3d.core.labels import LABELS
from rad3d.synthetic.phantom import body as anatomy
from rad3d.synthetic.phantom.canvas import Array, Box, Canvas, lattice_noise, resample
from rad3d.synthetic.phantom.patient import Patient
from rad3d.synthetic.phantom.trees import Interior, Tree

F = np.float32


@dataclass(frozen=True)
class Scene:
    """A drawn healthy chest, ready for findings."""

    canvas: Canvas
    patient: Patient
    interior: Interior
    tree: dict[str, Tree]

    def stream(self, finding: Finding) -> np.random.Generator:
        """The random stream of one finding."""
        return self.patient.stream(7, number_of(finding))

    def noise(self, finding: Finding, cell_mm: float, box: Box) -> Array:
        """A smooth field in about [-1, 1] over a box, of its own for each finding and scale."""
        seed = [self.patient.seed, self.patient.domain_code, 8, number_of(finding), int(cell_mm)]
        return lattice_noise(seed, cell_mm, *self.canvas.world(box))

    def world(self, points: Array) -> Array:
        """Canonical to world mm."""
        return self.canvas.frame.to_world(points)

    def ball(
        self, centre_mm: Array, radii_mm: float | tuple[float, float, float], margin: float = 3.0
    ) -> tuple[Box, Array]:
        """A box around an ellipsoid at a world point, and the approximate depth inside it."""
        radii = np.broadcast_to(np.asarray(radii_mm, dtype=float), 3)
        box = self.canvas.box(centre_mm, radii + margin)
        x, y, z = self.canvas.world(box)
        c = [F(v) for v in centre_mm]
        u, v, w = ((a - m) * F(1 / r) for a, m, r in zip((x, y, z), c, radii, strict=True))
        return box, (F(1) - np.sqrt(u * u + v * v + w * w)) * F(radii.min())

    def lobe(self, box: Box, lobe: str) -> Array:
        """Soft membership (0 to 1) of a lobe in a box."""
        return self.canvas.soft(anatomy.lobe_depth(lobe, *self.canvas.canonical(box)))

    def pick(
        self,
        rng: np.random.Generator,
        lobes: tuple[str, ...],
        n: int,
        low: float = 5,
        high: float = 1e3,
        apart_mm: float = 0.0,
    ) -> Array:
        """Canonical points (n, 3) in any of the lobes at a depth from the pleura."""
        candidates = self.interior.where(lobes, low, high)
        if len(candidates) == 0:
            candidates = self.interior.where(lobes)
        order = rng.permutation(candidates)
        chosen: list[int] = []
        for index in order:
            point = self.interior.points[index]
            near = [float(((point - self.interior.points[k]) ** 2).sum()) for k in chosen]
            if not near or min(near) >= apart_mm * apart_mm:
                chosen.append(int(index))
            if len(chosen) == n:
                break
        while len(chosen) < n:
            chosen.append(int(order[len(chosen) % len(order)]))
        return self.interior.points[chosen]

    def strand(
        self,
        start: Array,
        end: Array,
        radius_mm: float,
        value: float,
        label: str,
        bend: Array | None = None,
    ) -> None:
        """A line of tissue inside the lung between canonical points, thinner at its ends."""
        middle = (start + end) / 2 + (0 if bend is None else bend)
        path = resample(np.stack([start, middle, end]), 1.2)
        self.canvas.tube(self.world(path), radius_mm, value, label, within=self.canvas.lung)


def number_of(finding: Finding) -> int:
    """The finding's position in the published order; pulmonary embolism comes last."""
    return LABELS.index(finding.label) if finding.label in LABELS else len(LABELS)


def sides(side: str | None) -> tuple[int, ...]:
    """Signs of x on the stated sides: -1 left, +1 right."""
    return {"left": (-1,), "right": (1,)}.get(side or "", (-1, 1))


def lobes_of(side: str | None, *words: str) -> tuple[str, ...]:
    """Lobes on a side whose name holds one of the words (all of them without words)."""
    return tuple(
        lobe
        for lobe in LOBES
        if (side in (None, "bilateral") or lobe.startswith(str(side)))
        and (not words or any(word in lobe for word in words))
    )
