"""Findings of the lung itself: nodules, opacities, consolidation, collapse, scars, emphysema."""

from __future__ import annotations

import numpy as np

from rad3d.core.findings import Finding
from rad3d.synthetic.phantom import body as anatomy
from rad3d.synthetic.phantom.canvas import Array
from rad3d.synthetic.phantom.patient import level
from rad3d.synthetic.phantom.scene import Scene, lobes_of, sides

F = np.float32


def share(count: int, groups: int) -> list[int]:
    """``count`` items dealt to groups, each at least one."""
    return [max(1, count // groups + (1 if i < count % groups else 0)) for i in range(groups)]


def nodules(scene: Scene, finding: Finding) -> None:
    """Round foci; the largest has the stated diameter."""
    rng = scene.stream(finding)
    size = float(finding.size_mm or 10)
    sites = finding.sites or lobes_of(finding.side)
    first = True
    for site, n in zip(sites, share(finding.count or 1, len(sites)), strict=False):
        # Away from the hilum, where a nodule would be taken for a vessel.
        points = scene.pick(rng, (site,), n, 0.5 * size + 2.5, 0.5 * size + 22, 1.3 * size)
        for point in points:
            diameter = size if first else max(5.0, size * float(rng.uniform(0.6, 1.0)))
            first = False
            _nodule(scene, finding, rng, scene.world(point), diameter)


def _nodule(
    scene: Scene, finding: Finding, rng: np.random.Generator, centre: Array, diameter: float
) -> None:
    canvas = scene.canvas
    squash = rng.uniform(0.93, 1.05, 3)
    r = 0.53 * diameter
    radii = (r * squash[0], r * squash[1], r * squash[2])
    box, depth = scene.ball(centre, radii, 6)
    if depth.size == 0:
        return
    if diameter > 9:
        depth = depth + F(0.06 * diameter) * scene.noise(finding, 8.0, box)
    # A nodule smaller than a few voxels still fills the voxel it lies in.
    alpha = canvas.soft(depth + F(0.15 * canvas.edge_mm * min(1.0, 6 / diameter)))
    if finding.kind == "calcified":
        canvas.paint(box, alpha, 520.0, finding.label)
    elif finding.kind == "ground-glass":
        value = F(-410) + F(40) * scene.noise(finding, 8.0, box)
        alpha = alpha * (canvas.hu[box] < value)
        canvas.paint(box, alpha, value, finding.label)
    else:
        canvas.paint(box, alpha, 60.0, finding.label)


def ground_glass(scene: Scene, finding: Finding) -> None:
    """Hazy patches through which vessels remain visible."""
    rng = scene.stream(finding)
    canvas = scene.canvas
    grade = level(finding)
    for site in finding.sites or lobes_of(finding.side):
        points = scene.pick(rng, (site,), (2, 3, 4)[grade], 4, 40, 24)
        for point in points:
            radii = rng.uniform((20, 25, 31)[grade], (27, 34, 44)[grade], 3)
            centre = scene.world(point)
            box, depth = scene.ball(centre, (radii[0], radii[1], radii[2]), 14)
            if depth.size == 0:
                continue
            depth = depth + F(9) * scene.noise(finding, 18.0, box)
            alpha = np.clip(depth * F(1 / 9), 0, 1) * canvas.lung[box] * scene.lobe(box, site)
            grain = F(1) + F(0.16) * scene.noise(finding, 8.0, box)
            haze = F((250, 290, 330)[grade]) * alpha * grain
            air = np.clip((F(-250) - canvas.hu[box]) * F(1 / 400), 0, 1)
            canvas.add(box, haze * air, finding.label)


def consolidation(scene: Scene, finding: Finding) -> None:
    """Dense airspace filling with air bronchograms, bounded by fissures and pleura."""
    rng = scene.stream(finding)
    size = float(finding.size_mm or 40)
    for number, site in enumerate(finding.sites or lobes_of(finding.side)[:1]):
        wide = size if number == 0 else max(20.0, size * float(rng.uniform(0.65, 1.0)))
        centre = scene.pick(rng, (site,), 1, 0.12 * wide, 0.36 * wide)[0]
        _consolidate(scene, finding, rng, site, centre, wide)


def _consolidate(
    scene: Scene, finding: Finding, rng: np.random.Generator, site: str, point: Array, wide: float
) -> None:
    canvas = scene.canvas
    stretch = rng.uniform(0.9, 1.1, 3) * wide / 2
    box, depth = scene.ball(scene.world(point), (stretch[0], stretch[1], stretch[2]), 12)
    if depth.size == 0:
        return
    depth = depth + F(0.14 * wide) * scene.noise(finding, 19.0, box)
    depth = depth + F(3.0) * scene.noise(finding, 8.0, box)
    lung = canvas.lung[box] * scene.lobe(box, site)
    halo = np.clip((depth + F(7)) * F(1 / 9), 0, 1) * lung * F(0.35)
    air = np.clip((F(-300) - canvas.hu[box]) * F(1 / 400), 0, 1)
    canvas.paint(box, halo * air, -350.0, finding.label)
    canvas.paint(box, canvas.soft(depth) * lung, 38.0, finding.label)
    # Air bronchograms fan out from the hilar side.
    hilum = np.array([44.0 if site.startswith("right") else -46.0, -20, -20])
    inward = hilum - point
    inward = inward / np.sqrt((inward * inward).sum())
    for _ in range(3 + int(wide / 16)):
        start = point + inward * wide * 0.42 + rng.uniform(-0.12, 0.12, 3) * wide
        end = point - inward * wide * 0.2 + rng.uniform(-0.36, 0.36, 3) * wide
        radius = float(rng.uniform(1.2, 1.8))
        scene.strand(start, end, radius, -880.0, finding.label, rng.uniform(-3, 3, 3))


def atelectasis(scene: Scene, finding: Finding) -> None:
    """Plates of collapsed lung, or a lobe folded against the mediastinum or diaphragm."""
    rng = scene.stream(finding)
    for site in finding.sites or lobes_of(finding.side)[:1]:
        if finding.kind == "lobar":
            _lobar_collapse(scene, finding, site)
        else:
            _plates(scene, finding, rng, site)


def _plates(scene: Scene, finding: Finding, rng: np.random.Generator, site: str) -> None:
    canvas = scene.canvas
    grade = level(finding)
    inside = scene.interior.where((site,), 4, 30)
    height = scene.interior.points[inside, 2]
    low = inside[height <= np.sort(height)[len(height) // 2]]
    for _ in range((3, 4, 6)[grade]):
        point = scene.interior.points[int(rng.choice(low))]
        length = float(rng.uniform(24, 34)) + 5 * grade
        radii = (length, float(rng.uniform(14, 22)), 40.0)
        centre = scene.world(point)
        box, _ = scene.ball(centre, (length, length, 18.0), 2)
        x, y, z = canvas.world(box)
        dx, dy, dz = (a - F(c) for a, c in zip((x, y, z), centre, strict=True))
        slope = rng.uniform(-0.3, 0.3, 2)
        sheet = dz - F(slope[0]) * dx - F(slope[1]) * dy + F(1.5) * scene.noise(finding, 21.0, box)
        u, v = dx * F(1 / radii[0]), dy * F(1 / radii[1])
        extent = np.clip((F(1) - np.sqrt(u * u + v * v)) * F(4), 0, 1)
        depth = F((2.1, 2.6, 3.2)[grade]) - np.abs(sheet)
        alpha = canvas.soft(depth) * extent * canvas.lung[box] * scene.lobe(box, site)
        canvas.paint(box, alpha, 15.0, finding.label)


_COLLAPSE_TO = {
    # Where a collapsed lobe lies: a canonical point, and the direction in which it is thin.
    "right upper lobe": ((34.0, -4.0, 52.0), (0.85, 0.25, -0.46)),
    "right middle lobe": ((52.0, 42.0, -62.0), (0.25, -0.35, 0.9)),
    "right lower lobe": ((34.0, -62.0, -90.0), (0.86, 0.5, 0.0)),
    "left upper lobe": ((-44.0, 52.0, 6.0), (-0.35, -0.94, 0.0)),
    "left lower lobe": ((-36.0, -64.0, -90.0), (-0.86, 0.5, 0.0)),
}


def _lobar_collapse(scene: Scene, finding: Finding, site: str) -> None:
    """A dense wedge with a straight edge: the lobe has lost volume and drawn its fissure along."""
    canvas = scene.canvas
    grade = level(finding)
    point, normal = _COLLAPSE_TO[site]
    reach = (30.0, 36.0, 42.0)[grade]
    half = np.array([72.0, 72.0, 78.0])
    box = canvas.box(scene.world(np.array(point)), half)
    x, y, z = canvas.canonical(box)
    dx, dy, dz = (a - F(c) for a, c in zip((x, y, z), point, strict=True))
    along = dx * F(normal[0]) + dy * F(normal[1]) + dz * F(normal[2])
    across = np.sqrt(np.maximum(dx * dx + dy * dy + dz * dz - along * along, 0))
    thick = (14.0, 18.0, 23.0)[grade]
    wedge = np.minimum(F(thick) - along - across * F(0.12), F(reach + 30) - across)
    wedge = wedge + F(1.5) * scene.noise(finding, 26.0, box)
    # The collapsed lobe may pass its old fissure by a little, never the midline.
    own_side = x if site.startswith("right") else -x
    within = np.minimum(anatomy.lobe_depth(site, x, y, z) + F(14), own_side)
    inside = canvas.lung[box] * canvas.soft(within)
    canvas.paint(box, canvas.soft(wedge) * inside, 62.0, finding.label)


def fibrotic_sequela(scene: Scene, finding: Finding) -> None:
    """Scar: spiky bands running to a thickened, drawn-in pleura, with specks of calcium."""
    rng = scene.stream(finding)
    grade = level(finding)
    for site in finding.sites or ("apical",):
        if site == "apical":
            for s in sides(finding.side):
                _scar(scene, finding, rng, _apex(scene, s), 17 + 3 * grade)
        else:
            depth = scene.pick(rng, (site,), 1, 5, 12)[0]
            _scar(scene, finding, rng, depth, 21 + 4 * grade)


def _apex(scene: Scene, side: int) -> Array:
    points = scene.interior.points
    high = np.flatnonzero((points[:, 0] * side > 0) & (points[:, 2] > 55))
    top = high[np.argsort(-points[high, 2], kind="stable")[:40]]
    return points[top[len(top) // 2]] + np.array([0, -4, -6])


def _scar(
    scene: Scene,
    finding: Finding,
    rng: np.random.Generator,
    point: Array,
    radius: float,
) -> None:
    canvas = scene.canvas
    grade = level(finding)
    normal = anatomy.pleural_normal(scene.patient, point[None])[0]
    centre = scene.world(point)
    box, depth = scene.ball(centre, radius * 1.25, 8)
    if depth.size == 0:
        return
    # Pleural cap: lung close to the wall turns to scar.
    x, y, z = canvas.canonical(box)
    sign = 1.0 if point[0] > 0 else -1.0
    pleura = anatomy.chest(scene.patient, x, y, z)["lung"]
    depth = np.minimum(depth, F(sign) * x)
    cap = F(4 + 2.5 * grade) + F(2.5) * scene.noise(finding, 8.0, box) - pleura
    alpha = canvas.soft(np.minimum(cap, depth)) * canvas.lung[box]
    canvas.paint(box, alpha, 40.0, finding.label)
    net = np.abs(scene.noise(finding, 9.0, box)) < F(0.16)
    canvas.paint(
        box, net * canvas.soft(depth * F(0.4)) * canvas.lung[box] * F(0.6), -250.0, finding.label
    )
    for _ in range((6, 9, 13)[grade]):
        tip = point + normal * rng.uniform(0.7, 1.7) * radius + rng.uniform(-0.75, 0.75, 3) * radius
        foot = point - normal * 0.5 * radius + rng.uniform(-0.9, 0.9, 3) * radius * 0.8
        for end in (tip, foot):
            end[0] = sign * max(sign * end[0], 5.0)
        scene.strand(
            foot, tip, float(rng.uniform(1.3, 2.3)), 30.0, finding.label, rng.uniform(-4, 4, 3)
        )
    specks = point + rng.uniform(-0.6, 0.6, (3 + 2 * grade, 3)) * radius
    specks[:, 0] = sign * np.maximum(sign * specks[:, 0], 4)
    canvas.tube(scene.world(specks), 1.6, 420.0, finding.label, within=canvas.lung)


def emphysema(scene: Scene, finding: Finding) -> None:
    """Air-filled holes: scattered in the upper lobes, or rows of cysts under the pleura."""
    rng = scene.stream(finding)
    canvas = scene.canvas
    grade = level(finding)
    points = scene.interior.points
    upper = 0.35 + 0.65 * np.clip((points[:, 2] + 70) / 90, 0, 1)
    if finding.kind == "paraseptal":
        near = np.flatnonzero((scene.interior.depth < 11) & (rng.random(len(points)) < upper))
        chosen = rng.permutation(near)[: (140, 220, 320)[grade]]
        centre = points[chosen]
        radius = rng.uniform((4.5, 5.5, 6.5)[grade], (8.5, 10.5, 13)[grade], len(chosen))
        index, depth = canvas.splat(scene.world(centre), radius)
        lung = canvas.lung.reshape(-1)[index]
        wall = canvas.soft(depth) * lung
        canvas.blend(index, wall, -620.0, finding.label)
        canvas.blend(index, canvas.soft(depth - F(1.3)) * lung, -992.0, finding.label)
        return
    deep = np.flatnonzero((scene.interior.depth > 4) & (rng.random(len(points)) < upper))
    chosen = rng.permutation(deep)[: (700, 1200, 1800)[grade]]
    radius = rng.uniform((3.8, 4.4, 5.0)[grade], (6.0, 7.5, 9.5)[grade], len(chosen))
    index, depth = canvas.splat(scene.world(points[chosen]), radius)
    lung = canvas.lung.reshape(-1)[index] * (canvas.hu.reshape(-1)[index] < -600)
    canvas.blend(index, canvas.soft(depth) * lung, -985.0, finding.label)


def mosaic(scene: Scene, finding: Finding) -> None:
    """Sharply bounded dark and bright territories."""
    canvas = scene.canvas
    grade = level(finding)
    part = [np.flatnonzero(canvas.lung.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if min(len(axis) for axis in part) == 0:
        return
    box = tuple(slice(int(a[0]), int(a[-1]) + 1) for a in part)
    box3 = (box[0], box[1], box[2])
    noise = scene.noise(finding, 27.0, box3)
    noise += F(0.35) * scene.noise(finding, 13.0, box3)
    bright = np.clip((noise + F(0.02)) * F(9), 0, 1)
    low, high = F((-35, -50, -65)[grade]), F((85, 115, 150)[grade])
    delta = (low + (high - low) * bright) * canvas.lung[box3]
    delta *= canvas.hu[box3] < -500
    canvas.add(box3, delta, finding.label)


def septal_lines(scene: Scene, finding: Finding) -> None:
    """Thickened interlobular septa: plates at right angles to the pleura that meet in polygons."""
    rng = scene.stream(finding)
    canvas = scene.canvas
    grade = level(finding)
    words = [site.split()[0] for site in finding.sites] or ["upper", "lower"]
    if "upper" in words:
        words.append("middle")
    lobes = lobes_of(finding.side, *words)
    near = scene.interior.where(lobes, 1.5, 11)
    per_lobe = (64, 90, 125)[grade]
    chosen = rng.permutation(near)[: per_lobe * len(lobes)]
    feet = scene.interior.points[chosen]
    normal = anatomy.pleural_normal(scene.patient, feet)
    other = rng.standard_normal(normal.shape)
    other -= (other * normal).sum(axis=1, keepdims=True) * normal
    other /= np.maximum(np.sqrt((other * other).sum(axis=1, keepdims=True)), 1e-3)
    u = np.arange(-9.0, 18.0, 1.5)[None, :, None, None]
    v = np.arange(-7.5, 7.6, 1.5)[None, None, :, None]
    sheet = feet[:, None, None] + u * normal[:, None, None] + v * other[:, None, None]
    points = scene.world(sheet.reshape(-1, 3))
    index, depth = canvas.splat(points, (1.0, 1.15, 1.35)[grade])
    alpha = canvas.soft(depth) * canvas.lung.reshape(-1)[index]
    alpha = alpha * F(min(1.0, 2.4 / canvas.edge_mm))
    canvas.blend(index, alpha, -20.0, finding.label)
