"""Branching airways and vessels, and the named large tubes, in canonical coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rad3d.core.findings import LOBES
from rad3d.synthetic.phantom import body as anatomy
from rad3d.synthetic.phantom.canvas import smooth_path
from rad3d.synthetic.phantom.patient import Patient

Array = np.ndarray

LOBAR_BRONCHUS = {
    "right upper lobe": ((24, -24, -10), (40, -22, 0), (56, -20, 14)),
    "right middle lobe": ((30, -25, -20), (42, -18, -40), (58, 4, -54)),
    "right lower lobe": ((30, -25, -20), (42, -26, -42), (50, -40, -66)),
    "left upper lobe": ((-26, -25, -17), (-46, -20, -14), (-58, -8, 0)),
    "left lower lobe": ((-26, -25, -17), (-45, -32, -34), (-54, -46, -60)),
}
_ROOT_RADIUS_MM = {"airway": 4.3, "artery": 5.2, "vein": 4.6}


@dataclass(frozen=True)
class Interior:
    """Random points inside the lungs, shared by trees and lesions.

    Attributes:
        points: (N, 3) canonical mm.
        depth: (N,) distance from the pleura in mm.
        lobe: (N,) index into ``LOBES``.
    """

    points: Array
    depth: Array
    lobe: Array

    def where(self, lobes: tuple[str, ...], low: float = 0, high: float = 1e3) -> Array:
        """Indices of points in any of the lobes whose depth lies in [low, high]."""
        wanted = np.isin(self.lobe, [LOBES.index(name) for name in lobes])
        return np.flatnonzero(wanted & (self.depth >= low) & (self.depth <= high))


def draw_interior(p: Patient, n: int = 9000) -> Interior:
    """About half of ``n`` candidates lie in the lungs."""
    rng = p.stream(2)
    candidates = rng.uniform((-142, -104, -170), (142, 92, 110), (n, 3))
    depth = anatomy.at_points(p, candidates)["lung"]
    keep = depth > 1.0
    points = candidates[keep]
    return Interior(points, depth[keep].astype(float), anatomy.lobe_of(points))


@dataclass(frozen=True)
class Tree:
    """Segments from parent to child: (M, 3) starts and ends, (M,) radii in mm, (M,) lobe index."""

    start: Array
    end: Array
    radius: Array
    lobe: Array

    def chain(self, step_mm: float, chosen: Array | None = None) -> tuple[Array, Array]:
        """Points along the (chosen) segments about ``step_mm`` apart, with their radii."""
        start, end, radius = self.start, self.end, self.radius
        if chosen is not None:
            start, end, radius = start[chosen], end[chosen], radius[chosen]
        if len(start) == 0:
            return np.zeros((0, 3)), np.zeros(0)
        delta = end - start
        counts = np.ceil(np.sqrt((delta * delta).sum(axis=1)) / step_mm).astype(int) + 1
        owner = np.repeat(np.arange(len(counts)), counts)
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        t = (np.arange(counts.sum()) - first[owner]) / counts[owner]
        # Segments sag a little so that branches curve.
        sag = (t * (1 - t))[:, None] * np.stack([delta[:, 1], -delta[:, 0], delta[:, 0]], 1)[owner]
        return start[owner] + t[:, None] * delta[owner] + 0.12 * sag, radius[owner]


def grow(root: Array, targets: Array, root_radius: float, least: float, lobe: int) -> Tree:
    """A tree from ``root`` reaching every target: each joins the node that bends it least.

    Radii follow Murray's law over the number of tips behind a segment.
    """
    order = np.argsort(((targets - root[-1]) ** 2).sum(axis=1), kind="stable")
    nodes = np.concatenate([root, targets[order]])
    n, k = len(nodes), len(root)
    parent = np.arange(-1, n - 1)
    path = np.zeros(n)
    for i in range(1, n):
        if i < k:
            delta = nodes[i] - nodes[i - 1]
            path[i] = path[i - 1] + float(np.sqrt((delta * delta).sum()))
            continue
        delta = nodes[k - 1 : i] - nodes[i]
        distance = np.sqrt((delta * delta).sum(axis=1))
        best = int(np.argmin(distance + 0.45 * path[k - 1 : i]))
        parent[i] = k - 1 + best
        path[i] = path[parent[i]] + distance[best]
    tips = np.ones(n)
    for i in range(n - 1, 0, -1):
        tips[parent[i]] += tips[i]
    share = tips[1:] / tips[1]
    # Cube root without a transcendental: two Newton steps from a square-root guess suffice here.
    guess = np.sqrt(share)
    for _ in range(6):
        guess = (2 * guess + share / (guess * guess)) / 3
    radius = np.maximum(root_radius * guess, least)
    return Tree(nodes[parent[1:]], nodes[1:], radius, np.full(n - 1, lobe))


def join(trees: list[Tree]) -> Tree:
    """Several trees as one."""
    return Tree(
        *(
            np.concatenate([getattr(t, f) for t in trees])
            for f in ("start", "end", "radius", "lobe")
        )
    )


def pulmonary_trees(p: Patient, interior: Interior) -> dict[str, Tree]:
    """``airway``, ``artery`` and ``vein`` trees of both lungs."""
    rng = p.stream(3)
    out: dict[str, list[Tree]] = {"airway": [], "artery": [], "vein": []}
    for number, name in enumerate(LOBES):
        inside = interior.where((name,), 5)
        if len(inside) < 30:
            inside = interior.where((name,))
        root = np.array(LOBAR_BRONCHUS[name], dtype=float)
        side = 1.0 if name.startswith("right") else -1.0
        chosen = rng.permutation(inside)
        big = name != "right middle lobe"
        n_air, n_art, n_vein = (20, 110, 75) if big else (12, 60, 40)
        air = interior.points[chosen[:n_air]]
        # Airways fade before the outer third: their tips are drawn back toward the root.
        air = root[-1] + 0.78 * (air - root[-1])
        out["airway"].append(grow(root, air, _ROOT_RADIUS_MM["airway"], 1.1, number))
        artery_root = root + np.array([3.0 * side, 5.0, 4.0])
        tips = interior.points[chosen[n_air : n_air + n_art]]
        beside = air + np.array([2.5 * side, 2.5, 1.5])
        targets = np.concatenate([beside, tips])
        out["artery"].append(grow(artery_root, targets, _ROOT_RADIUS_MM["artery"], 0.65, number))
        vein_root = np.array([[18 * side, -16, -42], [34 * side, -12, -40], root[-1] + [0, 8, -8]])
        tips = interior.points[chosen[n_air + n_art : n_air + n_art + n_vein]]
        out["vein"].append(grow(vein_root, tips, _ROOT_RADIUS_MM["vein"], 0.65, number))
    return {name: join(trees) for name, trees in out.items()}


def large_vessels(p: Patient) -> dict[str, Array]:
    """Named tubes: (N, 4) of canonical x, y, z and radius in mm."""
    g = p.aorta
    hx, hy, hz = (
        c - d for c, d in zip(anatomy.heart_point(p, (0, 20, -34)), (0, 20, -34), strict=True)
    )

    def root(x: float, y: float, z: float, r: float) -> tuple[float, float, float, float]:
        return x + 0.6 * hx, y + 0.6 * hy, z + 0.4 * hz, r

    knots: dict[str, list[tuple[float, float, float, float]]] = {
        "aorta": [
            root(2, 16, -42, 15 * g),
            root(10, 24, -22, 16 * g),
            (15, 23, 2, 15.5 * g),
            (11, 13, 24, 14.5 * g),
            (-2, -2, 33, 13.5 * g),
            (-17, -22, 30, 13 * g),
            (-26, -42, 14, 12.5 * g),
            (-28, -50, -15, 12.3 * g),
            (-27, -53, -50, 12 * g),
            (-22, -54, -95, 11.5 * g),
            (-12, -48, -135, 11 * g),
            (-6, -42, -215, 10 * g),
        ],
        "pulmonary trunk": [
            root(-14, 42, -36, 13),
            root(-20, 36, -16, 14),
            (-20, 18, -5, 13.5),
            (-24, 2, -1, 12),
        ],
        "left pulmonary artery": [
            (-22, 6, -2, 11.5),
            (-34, -8, 2, 11),
            (-46, -20, -4, 9.5),
            (-50, -30, -18, 7.5),
            (-52, -36, -34, 6),
        ],
        "right pulmonary artery": [
            (-18, 14, -7, 11),
            (2, 2, -12, 11),
            (24, -4, -15, 10.5),
            (40, -8, -18, 9.5),
            (50, -18, -26, 7.5),
            (52, -26, -40, 6),
        ],
        "superior vena cava": [
            root(26, 14, -42, 10),
            (26, 15, -5, 9.5),
            (25, 14, 25, 9),
            (24, 14, 48, 8.5),
            (30, 10, 72, 7),
            (52, 4, 92, 6),
            (92, -4, 100, 5.5),
        ],
        "left brachiocephalic vein": [
            (22, 16, 44, 7),
            (4, 28, 50, 6.5),
            (-20, 26, 60, 6.5),
            (-34, 14, 76, 6),
            (-58, 4, 92, 6),
            (-96, -4, 100, 5.5),
        ],
        "brachiocephalic artery": [
            (8, 10, 30, 6.5),
            (12, 8, 52, 6),
            (20, 2, 78, 5.5),
            (24, 0, 130, 4.5),
        ],
        "left carotid artery": [(-4, -2, 38, 4.5), (-12, -2, 70, 4.2), (-22, -2, 130, 4)],
        "left subclavian artery": [
            (-14, -16, 36, 5),
            (-24, -18, 70, 4.8),
            (-44, -16, 94, 4.5),
            (-90, -12, 102, 4),
        ],
        "inferior vena cava": [
            root(24, 4, -72, 11.5),
            (24, -6, -100, 11.5),
            (24, -12, -140, 11),
            (20, -20, -215, 10),
        ],
        "azygos vein": [(6, -42, -120, 3), (8, -44, -20, 3.6), (12, -40, 10, 4), (22, -8, 18, 4)],
    }
    return {name: smooth_path(points) for name, points in knots.items()}


def central_airways() -> Array:
    """Trachea and main bronchi, (N, 4) with the outer radius."""
    trachea = smooth_path(
        [
            (0, -12, 150, 9.5),
            (1, -14, 110, 10),
            (2, -18, 60, 10),
            (3, -23, 14, 10),
            (3, -24, 3, 9.5),
        ]
    )
    right = smooth_path(
        [(4, -24, 4, 8.5), (14, -25, -8, 8), (26, -25, -15, 7.5), (34, -25, -24, 6.5)]
    )
    left = smooth_path(
        [(2, -24, 4, 8), (-12, -25, -9, 7.2), (-28, -26, -17, 6.6), (-40, -27, -24, 6)]
    )
    return np.concatenate([trachea, right, left])


def oesophagus() -> Array:
    """(N, 4) of canonical x, y, z and outer radius."""
    return smooth_path(
        [
            (-2, -28, 150, 6),
            (-5, -32, 90, 6.5),
            (-7, -36, 40, 7),
            (-5, -40, 0, 7),
            (-4, -41, -50, 7),
            (-10, -36, -95, 7.5),
            (-22, -24, -122, 8),
            (-38, -10, -132, 9),
        ]
    )
