"""Findings of heart, vessels, nodes, oesophagus and pleura."""

from __future__ import annotations

import numpy as np

from rad3d.core.findings import Finding
from rad3d.synthetic.phantom import body as anatomy
from rad3d.synthetic.phantom import trees
from rad3d.synthetic.phantom.canvas import Array, resample, smooth_path
from rad3d.synthetic.phantom.patient import level
from rad3d.synthetic.phantom.scene import Scene

F = np.float32


def drawn_with_anatomy(scene: Scene, finding: Finding) -> None:
    """The finding was painted and masked together with the soft tissue."""
    scene.canvas.mask(finding.label)


_AORTA_PART = {
    # Share of the aortic centreline.
    "ascending aorta": (0.08, 0.26),
    "aortic arch": (0.28, 0.52),
    "descending aorta": (0.56, 0.92),
}


def arterial_calcification(scene: Scene, finding: Finding) -> None:
    """Crescents of calcium in the wall of the stated part of the aorta."""
    rng = scene.stream(finding)
    grade = level(finding)
    path = resample(trees.large_vessels(scene.patient)["aorta"], 1.5)
    for site in finding.sites or ("aortic arch",):
        low, high = (int(len(path) * s) for s in _AORTA_PART[site])
        n = (4, 8, 14)[grade] + (4 if site == "descending aorta" else 0)
        for _ in range(n):
            middle = int(rng.integers(low, high))
            _plaque(scene, finding, rng, path, middle, grade)


def _plaque(
    scene: Scene,
    finding: Finding,
    rng: np.random.Generator,
    path: Array,
    middle: int,
    grade: int,
) -> None:
    length = int(rng.integers(3, 7 + 2 * grade))
    rows = path[max(middle - length // 2, 1) : middle + (length + 1) // 2]
    if len(rows) < 2:
        return
    tangent = rows[-1, :3] - rows[0, :3]
    tangent = tangent / np.sqrt((tangent * tangent).sum())
    start = np.cross(tangent, rng.uniform(-1, 1, 3))
    start = start / np.sqrt((start * start).sum())
    other = np.cross(tangent, start)
    width = rng.uniform(0.5, 0.9 + 0.35 * grade)
    angle = np.linspace(-width, width, 5 + 3 * grade)
    ring = np.round(np.cos(angle), 6)[:, None] * start + np.round(np.sin(angle), 6)[:, None] * other
    points = rows[:, None, :3] + ring[None] * (rows[:, None, 3:4] - 0.2)
    radius = float(rng.uniform(1.3, 1.7 + 0.25 * grade))
    scene.canvas.tube(
        scene.world(points.reshape(-1, 3)), radius, float(rng.uniform(620, 950)), finding.label
    )


_CORONARY = {
    # Directions from the heart's middle along the vessel; points are found on the surface.
    "left anterior descending artery": (
        (-0.30, 0.80, 0.62), (-0.50, 0.82, 0.30), (-0.68, 0.74, 0.0), (-0.82, 0.56, -0.25),
    ),
    "circumflex artery": (
        (-0.52, 0.40, 0.80), (-0.82, -0.02, 0.55), (-0.90, -0.40, 0.20), (-0.80, -0.62, -0.1),
    ),
    "right coronary artery": (
        (0.38, 0.80, 0.50), (0.66, 0.76, 0.15), (0.76, 0.62, -0.25), (0.55, 0.45, -0.6),
    ),
}  # fmt: skip


def coronary_path(scene: Scene, name: str) -> Array:
    """World points along a coronary artery, a few mm under the heart's surface."""
    p = scene.patient
    middle = np.array(anatomy.heart_point(p, (-8, 14, -58)))
    directions = smooth_path(list(_CORONARY[name]), 10)
    directions /= np.sqrt((directions * directions).sum(axis=1, keepdims=True))
    low, high = np.zeros(len(directions)), np.full(len(directions), 130.0)
    for _ in range(12):
        t = (low + high) / 2
        at = middle + directions * t[:, None]
        inside = anatomy.heart(p, *(at[:, i].astype(F) for i in range(3))) > 2.0
        low, high = np.where(inside, t, low), np.where(inside, high, t)
    points = middle + directions * np.round(low, 2)[:, None]
    return resample(scene.world(points), 1.0)


def coronary_calcification(scene: Scene, finding: Finding) -> None:
    """Lines and beads of calcium along the stated coronary arteries."""
    rng = scene.stream(finding)
    grade = level(finding)
    for site in finding.sites or tuple(_CORONARY)[:1]:
        path = coronary_path(scene, site)
        wanted = (0.4, 0.6, 0.85)[grade] * len(path)
        used = np.zeros(len(path), dtype=bool)
        while used.sum() < wanted:
            start = int(rng.integers(0, max(1, int(len(path) * 0.85))))
            used[start : start + int(rng.integers(6, 12 + 5 * grade))] = True
        radius = (2.1, 2.5, 3.0)[grade] * rng.uniform(0.85, 1.15)
        scene.canvas.tube(path[used], float(radius), float(rng.uniform(750, 1000)), finding.label)


def hiatal_hernia(scene: Scene, finding: Finding) -> None:
    """Stomach behind the heart: a thick-walled sac with an air-fluid level."""
    rng = scene.stream(finding)
    canvas = scene.canvas
    r = float(finding.size_mm or 40) / 2
    centre = np.array([-8.0 + rng.uniform(-4, 4), -34 + 0.2 * r, -98 + 0.55 * r])
    world = scene.world(centre)
    box, depth = scene.ball(world, (r, r * 0.85, r * 1.05), 3)
    depth = depth + F(0.05 * r) * scene.noise(finding, 16.0, box)
    canvas.paint(box, canvas.soft(depth), 45.0, finding.label)
    wall = 3.0 + 0.04 * r
    surface = F(world[1] + rng.uniform(-0.1, 0.25) * r)
    gas = canvas.soft(canvas.world(box)[1] - surface)
    canvas.paint(box, canvas.soft(depth - F(wall)), F(22) - gas * F(985), finding.label)
    neck = smooth_path([(-8, -34, -98), (-14, -28, -114), (-30, -16, -128)])
    canvas.tube(scene.world(resample(neck, 2)), max(7.0, 0.5 * r), 42.0, finding.label)


_STATION = {
    "paratracheal": ((19.0, -12, 26), (20, -6, 44), (16, -24, 12), (-16, -16, 50)),
    "subcarinal": ((3.0, -32, -18), (12, -34, -28), (-8, -34, -26)),
    "aortopulmonary": ((-27.0, 4, 14), (-32, 14, 20), (-30, -6, 8)),
}


def _node_places(finding: Finding, site: str, rng: np.random.Generator) -> Array:
    if site in _STATION:
        return np.array(_STATION[site])
    base = (
        [(50.0, -14, -12), (54, -20, -30), (48, -22, 4), (60, -10, -22)]
        if site == "hilar"
        else [(130.0, -10, 54), (126, 2, 38), (134, -18, 70), (128, -14, 24)]
    )
    right = np.array(base)
    left = right * [-1, 1, 1]
    if finding.side == "right":
        return right
    if finding.side == "left":
        return left
    return (
        np.stack([left, right], axis=1).reshape(-1, 3)
        if rng.random() < 0.5
        else np.stack([right, left], axis=1).reshape(-1, 3)
    )


def lymphadenopathy(scene: Scene, finding: Finding) -> None:
    """Oval nodes at the stated stations; the largest has the stated short axis."""
    rng = scene.stream(finding)
    canvas = scene.canvas
    size = float(finding.size_mm or 14)
    sites = finding.sites or ("paratracheal",)
    count = max(finding.count or 1, len(sites))
    first = True
    for k, site in enumerate(sites):
        n = count // len(sites) + (1 if k < count % len(sites) else 0)
        places = _node_places(finding, site, rng)
        for i in range(n):
            short = size if first else max(10.0, size * float(rng.uniform(0.7, 1.0)))
            first = False
            place = places[i % len(places)] + rng.uniform(-2, 2, 3)
            if i >= len(places):
                place = place + rng.uniform(-1, 1, 3) * 0.7 * size
            if site in ("hilar", "paratracheal", "aortopulmonary"):
                # Large nodes bulge outward into the lung rather than over the trachea.
                place[0] += np.sign(place[0]) * 0.22 * short
            long = short * rng.uniform(1.15, 1.5)
            radii = (short / 2, short * 0.55, long / 2)
            box, depth = scene.ball(scene.world(place), radii, 3)
            if depth.size == 0:
                continue
            # A rim of fat keeps a node apart from the vessels beside it.
            rim = canvas.soft(depth + F(2.8)) * (np.abs(canvas.hu[box] - F(40)) < 120)
            canvas.paint(box, rim, -80.0, finding.label)
            canvas.paint(box, canvas.soft(depth), 90.0, finding.label)


def pulmonary_embolism(scene: Scene, finding: Finding) -> None:
    """Dark filling defects in the opacified pulmonary arteries."""
    rng = scene.stream(finding)
    canvas = scene.canvas
    grade = level(finding)
    site = (finding.sites or ("lobar",))[0]
    vessels = trees.large_vessels(scene.patient)
    for name, side in (("right pulmonary artery", "right"), ("left pulmonary artery", "left")):
        if finding.side not in (side, "bilateral", None):
            continue
        path = resample(vessels[name], 1.5)
        if site in ("main", "lobar"):
            low = 0.15 if site == "main" else 0.55
            part = path[int(low * len(path)) : int((low + 0.3 + 0.1 * grade) * len(path))]
            canvas.tube(
                scene.world(part[:, :3]), part[:, 3] * (0.5 + 0.08 * grade), 45.0, finding.label
            )
        tree = scene.tree["artery"]
        sign = 1 if side == "right" else -1
        wide = (1.9, 4.6) if site != "segmental" else (1.4, 3.2)
        fits = (tree.radius > wide[0]) & (tree.radius < wide[1]) & (tree.end[:, 0] * sign > 0)
        chosen = rng.permutation(np.flatnonzero(fits))[: (3, 6, 10)[grade]]
        points, radius = tree.chain(1.2, chosen)
        canvas.tube(scene.world(points), np.maximum(radius * 0.75, 1.2), 45.0, finding.label)
