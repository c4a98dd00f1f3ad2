"""The healthy chest: soft tissue, organs and lungs slab by slab, then vessels and airways."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rad3d.phantom import anatomy, trees
from rad3d.phantom.canvas import Array, Canvas, lattice_noise, resample
from rad3d.phantom.patient import Patient

F = np.float32
LATTICE_MM = 5.0
FAT_HU, MUSCLE_HU, SKIN_HU, LIVER_HU, SPLEEN_HU, FLUID_HU = -102.0, 52.0, 20.0, 60.0, 50.0, 9.0
BLOOD_HU = 42.0
EFFUSION, PERICARDIUM, CARDIOMEGALY = "Pleural effusion", "Pericardial effusion", "Cardiomegaly"


def contrast_hu(p: Patient) -> dict[str, float]:
    """HU of blood by vessel group; an angiogram is brightest in the pulmonary arteries."""
    if not p.contrast:
        return dict.fromkeys(("pulmonary", "aorta", "vein", "chamber", "organ"), BLOOD_HU)
    rng = p.stream(5)
    pulmonary = float(rng.uniform(300, 420))
    return {
        "pulmonary": pulmonary,
        "aorta": pulmonary * float(rng.uniform(0.6, 0.85)),
        "vein": pulmonary * float(rng.uniform(0.9, 1.15)),
        "chamber": pulmonary * float(rng.uniform(0.7, 0.95)),
        "organ": BLOOD_HU + 30,
    }


def draw_soft_tissue(canvas: Canvas, p: Patient, extra: dict[str, Array] | None = None) -> None:
    """Paint everything that is larger than a few millimetres, lungs included.

    Fields are evaluated on a coarse lattice and interpolated to the voxels, one slab of constant
    x at a time so that the working set stays in cache. The canvas's ``lung`` is filled in.
    """
    lattice = Lattice(canvas)
    fields = _coarse_fields(canvas, p, lattice)
    names = list(fields)
    stack = np.stack([fields[name] for name in names], axis=1)
    paint = _slab_painter(canvas, p)
    for i in range(canvas.hu.shape[0]):
        slab = lattice.slab(stack, i)
        paint(i, dict(zip(names, slab, strict=True)))


class Lattice:
    """A coarse grid over the canvas, and linear interpolation from it."""

    def __init__(self, canvas: Canvas) -> None:
        self.axes: list[Array] = []
        self.index: list[Array] = []
        self.weight: list[Array] = []
        for axis in canvas.axes_mm:
            n = int((axis[-1] - axis[0]) / LATTICE_MM) + 2
            nodes = axis[0] + F(LATTICE_MM) * np.arange(n, dtype=F)
            u = (axis - axis[0]) * F(1 / LATTICE_MM)
            index = np.minimum(u.astype(np.int64), n - 2)
            self.axes.append(nodes)
            self.index.append(index)
            self.weight.append((u - index).astype(F))

    def world(self) -> tuple[Array, Array, Array]:
        """World coordinates of the nodes, broadcastable."""
        x, y, z = self.axes
        return x[:, None, None], y[None, :, None], z[None, None, :]

    def slab(self, stack: Array, i: int) -> Array:
        """Fields (F, Y, Z) at voxel column ``i``, from a stack of nodes (Xc, F, Yc, Zc)."""
        k, w = int(self.index[0][i]), self.weight[0][i]
        plane = stack[k] + w * (stack[k + 1] - stack[k])
        plane = self._refine(plane, 2, self.weight[2])
        return self._refine(plane, 1, self.weight[1][:, None])

    def _refine(self, field: Array, axis: int, weight: Array) -> Array:
        index = self.index[axis]
        low = np.take(field, index, axis=axis, mode="clip")
        high = np.take(field, index + 1, axis=axis, mode="clip")
        high -= low
        high *= weight
        high += low
        return high


def _coarse_fields(canvas: Canvas, p: Patient, lattice: Lattice) -> dict[str, Array]:
    wx, wy, wz = lattice.world()
    x, y, z = canvas.frame.to_canonical(wx, wy, wz)
    shapes = anatomy.chest(p, x, y, z)
    shape = shapes["lung"].shape
    wobble = lattice_noise([p.seed, p.domain_code, 11], 17.0, wx, wy, wz)
    fine = lattice_noise([p.seed, p.domain_code, 12], 9.0, wx, wy, wz)
    belly, wall = shapes["belly"], shapes["wall"]
    fields = {
        "body": shapes["body"],
        "wall": wall,
        "lung": shapes["lung"] + F(0.4) * wobble,
        "heart": shapes["heart"],
        "muscle": _muscle(p, x, y, z, shapes, wobble),
        "spine": np.broadcast_to(anatomy.spine(x, y, z), shape),
        "belly": belly,
        "liver": _liver(x, y, z, belly) + F(0.8) * wobble,
        "spleen": np.minimum(
            anatomy.ellipsoid(x, y, z, (-96, -48, -142), (36, 44, 48)), belly - F(2)
        ),
        "stomach": np.minimum(
            anatomy.ellipsoid(x, y, z, (-62, 12, -140), (46, 50, 40)), belly - F(3)
        ),
        "texture": wobble + fine,
        "y": np.broadcast_to(y, shape),
        "chamber": _chambers(p, x, y, z, shapes["heart"]),
    }
    if p.female:
        fields["gland"] = np.maximum(
            anatomy.breast(p, x, y, z, -1), anatomy.breast(p, x, y, z, 1)
        ) - F(14) + F(9) * (wobble + fine)
    if p.heart_ratio > p.normal_ratio:
        fields["usual heart"] = anatomy.heart(p, x, y, z, ratio=p.normal_ratio)
    if p.pericardial_mm > 0:
        fields["sac"] = shapes["sac"]
    if max(p.effusion_mm) > 0:
        fields["effusion"] = pleural_fluid(p, x, y, z, shapes)
    return {name: np.broadcast_to(v, shape).astype(F, copy=False) for name, v in fields.items()}


def _muscle(
    p: Patient, x: Array, y: Array, z: Array, shapes: dict[str, Array], wobble: Array
) -> Array:
    """Depth inside the muscles of the chest: thick behind, at the shoulders and in front."""
    m = F(p.muscle_mm)
    side = np.abs(x)
    behind = anatomy.step(y, -35, -80)
    thick = F(12) + F(0.3) * m + behind * (F(20) + m - F(10) * anatomy.step(side, 70, 125))
    pectoral = anatomy.step(y, 25, 60) * anatomy.step(z, -45, 0) * anatomy.bump(side, 70, 62)
    thick = thick + (F(13) + m) * pectoral
    flank = anatomy.bump(y, -42, 55) * anatomy.step(z, -90, 10) * anatomy.step(side, 70, 115)
    thick = thick + (F(20) + m) * flank + F(34) * anatomy.step(z, 35, 95)
    depth = shapes["wall"] + thick + F(1.6) * wobble
    for s in (-1, 1):
        deltoid = anatomy.ellipsoid(x, y, z, (160 * s, -40, 100), (40, 36, 40))
        depth = np.maximum(depth, deltoid)
    depth = np.minimum(depth, shapes["body"] - F(3 + 0.5 * p.fat_mm))
    # The axilla is fat between the pectoral muscles and the blade.
    for s in (-1, 1):
        axilla = anatomy.ellipsoid(x, y, z, (128 * s, 2, 54), (20, 22, 44))
        depth = np.minimum(depth, F(1) - axilla)
    return depth


def _liver(x: Array, y: Array, z: Array, belly: Array) -> Array:
    """Depth inside the liver: the right side below the diaphragm, a thin left lobe in front."""
    d = np.minimum(belly + F(1.5), (x + F(52)) * F(0.8))
    d = np.minimum(d, (y + F(26) + F(0.85) * x) * F(0.75))
    return smooth_min(d, (y + F(78)) * F(1), 10)


def smooth_min(a: Array, b: Array, k: float) -> Array:
    """Intersection of two depths with a rounded edge."""
    return -anatomy.smooth_max(-a, -b, k)


def _chambers(p: Patient, x: Array, y: Array, z: Array, outer: Array) -> Array:
    """Depth inside the blood pool of the heart: all but the left ventricular wall and septum."""
    s = anatomy.heart_scale(p)
    cx, cy, cz = anatomy.heart_point(p, (-30, 22, -72))
    dx, dy, dz = x - F(cx), y - F(cy), z - F(cz)
    along = dx * F(-0.72) + dy * F(0.43) + dz * F(-0.545)
    across = np.sqrt(np.maximum(dx * dx + dy * dy + dz * dz - along * along, 0))
    u, v = along * F(1 / (46 * s)), across * F(1 / (31 * s))
    wall = (F(1) - np.sqrt(u * u + v * v)) * F(31 * s)
    cavity = wall - F(9)
    return np.maximum(cavity, np.minimum(outer - F(5), -wall - F(1)))


def pleural_fluid(p: Patient, x: Array, y: Array, z: Array, shapes: dict[str, Array]) -> Array:
    """Depth inside pleural fluid: a crescent that is deepest behind and low, with a meniscus."""
    out = np.full(shapes["lung"].shape, -50, dtype=F)
    for side, depth in zip((-1, 1), p.effusion_mm, strict=True):
        if depth <= 0:
            continue
        behind = anatomy.step(y, 30 + 0.5 * depth, -62)
        low = anatomy.step(z, 25 + 0.9 * depth, -70)
        distance = np.minimum(shapes["wall"], shapes["lung"] + F(30))
        fluid = F(depth) * behind * (F(0.12) + F(0.88) * low) - distance
        # The recess between lung and diaphragm fills from behind.
        recess = F(0.5 * depth) * anatomy.step(y, 0, -60) * anatomy.step(z, -80, -125)
        fluid = np.maximum(fluid, recess - shapes["lung"])
        fluid = np.where(behind * low > F(0.02), fluid, F(-50))
        out = np.where(x * F(side) > 0, fluid, out)
    return out


def _slab_painter(canvas: Canvas, p: Patient) -> Callable[[int, dict[str, Array]], None]:
    """A function that paints one slab of constant x from its interpolated fields."""
    inv = F(1 / canvas.edge_mm)
    half = F(0.5)
    blood = contrast_hu(p)
    chamber, organ = F(blood["chamber"]), F(blood["organ"] - BLOOD_HU)
    myocardium = F(50 + (70 if p.contrast else 0))
    lung_hu = F(p.lung_hu)

    def alpha(depth: Array) -> Array:
        out = depth * inv
        out += half
        return np.clip(out, 0, 1, out=out)

    def blend(hu: Array, a: Array, value: Array | np.floating) -> None:
        a *= value - hu
        hu += a

    def paint(i: int, f: dict[str, Array]) -> None:
        inside = f["body"]
        if not (inside > -3).any():
            return
        texture = f["texture"]
        hu = np.full(inside.shape, SKIN_HU, dtype=F)
        blend(hu, alpha(inside - F(2.0)), F(FAT_HU) + F(6) * texture)
        if "gland" in f:
            blend(hu, F(0.7) * alpha(np.minimum(f["gland"], inside - F(8)) * F(0.3)), F(30))
        muscle = alpha(f["muscle"])
        seam = np.maximum(F(1.5) - np.abs(f["wall"] + F(14)), 0) * F(0.55) * (f["wall"] < 0)
        muscle *= F(1) - np.minimum(seam, 1)
        blend(hu, muscle, F(MUSCLE_HU) + F(9) * texture)
        wall = f["wall"]
        if (wall > -2).any():
            cavity(i, f, hu, texture)
            lungs(i, f, hu)
        a = alpha(inside)
        hu += F(1000)
        hu *= a
        hu -= F(1000)
        canvas.hu[i] = hu

    def cavity(i: int, f: dict[str, Array], hu: Array, texture: Array) -> None:
        a = alpha(f["wall"])
        a *= F(1) - alpha(f["spine"])
        # Between lung and belly lies the diaphragm muscle; the rest is fat.
        muscle = alpha(f["belly"] + F(2.5)) - alpha(f["belly"])
        blend(hu, a, F(FAT_HU + 6) + F(145) * muscle + F(5) * texture)
        blend(hu, alpha(f["liver"]), F(LIVER_HU) + organ + F(4) * texture)
        blend(hu, alpha(f["spleen"]), F(SPLEEN_HU) + organ + F(3) * texture)
        stomach = f["stomach"]
        if (stomach > -2).any():
            blend(hu, alpha(stomach), F(45))
            gas = alpha(f["y"] - F(34))
            blend(hu, alpha(stomach - F(4)), F(28) - gas * F(1000))
        heart = f["heart"]
        if (heart > -40).any():
            if "sac" in f:
                # Fluid rests on the diaphragm; it does not reach through it.
                around = np.minimum(f["sac"], F(4) - f["belly"])
                around = np.minimum(around, f["wall"])
                blend(hu, alpha(around), F(FLUID_HU))
                blend(hu, alpha(heart + F(1.2)), F(FAT_HU))
                canvas.mask(PERICARDIUM)[i] = (around > 0) & (heart < -1)
            if "usual heart" in f:
                grown = (heart > 0) & (f["usual heart"] < 0) & (f["wall"] > 0)
                canvas.mask(CARDIOMEGALY)[i] = grown
            blend(hu, alpha(heart), F(FAT_HU + 10))
            blend(hu, alpha(heart - F(3) + F(2.5) * texture), myocardium + F(2) * texture)
            blend(hu, alpha(f["chamber"]), chamber)

    def lungs(i: int, f: dict[str, Array], hu: Array) -> None:
        a = alpha(f["lung"])
        if not a.any():
            return
        air = lung_hu - F(0.32) * f["y"] + F(9) * f["texture"]
        if "effusion" in f:
            wet = alpha(f["effusion"])
            canvas.mask(EFFUSION)[i] = (wet > 0.5) & (a > 0.5)
            air += wet * (F(FLUID_HU) - air)
            canvas.lung[i] = a * (F(1) - wet)
        else:
            canvas.lung[i] = a
        blend(hu, a, air)

    return paint


def draw_large_tubes(canvas: Canvas, p: Patient) -> None:
    """Great vessels, oesophagus and central airways."""
    blood = contrast_hu(p)
    group = {
        "brachiocephalic artery": "aorta", "left carotid artery": "aorta",
        "left subclavian artery": "aorta", "pulmonary trunk": "pulmonary",
        "left pulmonary artery": "pulmonary", "right pulmonary artery": "pulmonary",
    }  # fmt: skip
    to_world = canvas.frame.to_world
    for name, tube in trees.large_vessels(p).items():
        if name == "aorta":
            continue
        path = resample(tube, 2.5)
        hu = blood[group.get(name, "vein")]
        if p.contrast and name in ("inferior vena cava", "azygos vein"):
            hu = 0.35 * hu
        world = to_world(path[:, :3])
        # The wall shows against fat, not inside the heart.
        index, depth = canvas.splat(world, path[:, 3] + 1.0)
        canvas.blend(index, canvas.soft(depth) * (canvas.hu.reshape(-1)[index] < 30), 45.0, None)
        canvas.tube(world, path[:, 3], hu)
    gullet = resample(trees.oesophagus(), 2.5)
    canvas.tube(to_world(gullet[:, :3]), gullet[:, 3], 38.0)
    gas = gullet[:, 2] > 10 + 50 * p.stream(6).random()
    canvas.tube(to_world(gullet[gas, :3]), 2.0, -700.0)
    airway = resample(trees.central_airways(), 2.5)
    world = to_world(airway[:, :3])
    canvas.tube(world, airway[:, 3], 20.0)
    canvas.tube(world, airway[:, 3] - 1.8, -990.0)


def draw_aorta(canvas: Canvas, p: Patient) -> None:
    """The aorta; painted after the bronchi, which it may touch but never lets through."""
    path = resample(trees.large_vessels(p)["aorta"], 2.5)
    world = canvas.frame.to_world(path[:, :3])
    index, depth = canvas.splat(world, path[:, 3] + 1.0)
    canvas.blend(index, canvas.soft(depth) * (canvas.hu.reshape(-1)[index] < 30), 45.0, None)
    canvas.tube(world, path[:, 3], contrast_hu(p)["aorta"])


def draw_trees(canvas: Canvas, p: Patient, tree: dict[str, trees.Tree]) -> None:
    """Vessels and airways inside the lungs."""
    blood = contrast_hu(p)
    to_world = canvas.frame.to_world
    step_mm = 1.3
    for name, hu in (("artery", blood["pulmonary"]), ("vein", blood["vein"])):
        points, radius = tree[name].chain(step_mm)
        thin = radius < 1.2
        for part, width in ((thin, 1.9), (~thin, 9.0)):
            index, depth = canvas.splat(to_world(points[part]), radius[part])
            # Vessels thinner than a voxel fill it in part.
            alpha = canvas.soft(depth) * F(min(1.0, width / canvas.edge_mm))
            canvas.blend(index, alpha * canvas.lung.reshape(-1)[index], hu, None)
    points, radius = tree["airway"].chain(step_mm)
    world = to_world(points)
    index, depth = canvas.splat(world, radius + 0.6)
    canvas.blend(index, canvas.soft(depth) * F(0.7), -300.0, None)
    wide = radius > 1.2
    index, depth = canvas.splat(world[wide], radius[wide])
    canvas.blend(index, canvas.soft(depth), -965.0, None)
    points = _fissure_points(p)
    index, depth = canvas.splat(to_world(points), 0.9)
    alpha = canvas.soft(depth) * F(min(1.0, 1.8 / canvas.edge_mm))
    canvas.blend(index, alpha * canvas.lung.reshape(-1)[index], -640.0, None)


def _fissure_points(p: Patient) -> Array:
    """Points on the fissures inside the lungs, about 2 mm apart."""
    x = np.concatenate([np.arange(-136.0, -20, 1.7), np.arange(20.0, 137, 1.7)])
    y = np.arange(-100.0, 92, 1.7)
    gx, gy = (g.reshape(-1) for g in np.meshgrid(x, y, indexing="ij"))
    t = gx / 130
    oblique = np.stack([gx, gy, 42 - 1.2 * (gy + 84) + 22 * t * t - 8], axis=1)
    t = (gx - 70) / 60
    level = np.stack([gx, gy, -22 - 0.12 * gy - 5 * t * t], axis=1)
    right = level[:, 0] > 0
    in_front = anatomy.oblique_fissure(*(level[:, i] for i in range(3))) > 0
    # Lines are thinned over z: the oblique fissure is steep, so points are doubled along it.
    half = np.array([0.0, 0.85, -1.02])
    points = np.concatenate([oblique, oblique + half, level[right & in_front]])
    return points[anatomy.at_points(p, points)["lung"] > 0]
