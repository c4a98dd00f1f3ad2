"""The healthy chest: skin, fat, muscle, organs and lungs, painted slab by slab."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rad3d.synthetic.phantom import body as anatomy
from rad3d.synthetic.phantom.canvas import Array, Canvas, lattice_noise
from rad3d.synthetic.phantom.coarse_grid import Lattice
from rad3d.synthetic.phantom.patient import Patient
from rad3d.synthetic.phantom.vessels import BLOOD_HU, contrast_hu

F = np.float32
FAT_HU, MUSCLE_HU, SKIN_HU, LIVER_HU, SPLEEN_HU, FLUID_HU = -102.0, 52.0, 20.0, 60.0, 50.0, 9.0
EFFUSION, PERICARDIUM, CARDIOMEGALY = "Pleural effusion", "Pericardial effusion", "Cardiomegaly"


_ALWAYS = ("body", "wall", "muscle", "texture", "y", "belly")
"""Fields that every slab needs; the others matter only in the slabs that their organ reaches."""


def draw_soft_tissue(canvas: Canvas, p: Patient) -> None:
    """Paint everything that is larger than a few millimetres, lungs included.

    Fields are evaluated on a coarse lattice and interpolated to the voxels, one slab of constant
    x at a time so that the working set stays in cache. The canvas's ``lung`` is filled in.
    """
    lattice = Lattice(canvas)
    fields = _coarse_fields(canvas, p, lattice)
    names = list(fields)
    stack = np.stack([fields[name] for name in names], axis=1)
    paint = _slab_painter(canvas, p)
    margin = 8 + 4 * canvas.edge_mm + p.pericardial_mm
    for i in range(canvas.hu.shape[0]):
        plane = lattice.plane(stack, i)
        rows = lattice.rows(plane[names.index("body")], -canvas.edge_mm)
        if rows.stop == 0:
            continue
        wanted = [k for k, name in enumerate(names) if name in _ALWAYS or plane[k].max() > -margin]
        slab = lattice.refine(plane[wanted], rows)
        paint(i, rows, {names[k]: field for k, field in zip(wanted, slab, strict=True)})


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
        "liver": _liver(x, y, belly) + F(0.8) * wobble,
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
        fields["gland"] = (
            np.maximum(anatomy.breast(p, x, y, z, -1), anatomy.breast(p, x, y, z, 1))
            - F(14)
            + F(9) * (wobble + fine)
        )
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


def _liver(x: Array, y: Array, belly: Array) -> Array:
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


def _slab_painter(canvas: Canvas, p: Patient) -> Callable[[int, slice, dict[str, Array]], None]:
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
        np.maximum(out, 0, out=out)
        return np.minimum(out, 1, out=out)

    def blend(hu: Array, a: Array, value: Array | np.floating) -> None:
        a *= value - hu
        hu += a

    def paint(i: int, rows: slice, f: dict[str, Array]) -> None:
        inside = f["body"]
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
            cavity(i, rows, f, hu, texture)
            lungs(i, rows, f, hu)
        a = alpha(inside)
        hu += F(1000)
        hu *= a
        hu -= F(1000)
        canvas.hu[i, rows] = hu

    def cavity(i: int, rows: slice, f: dict[str, Array], hu: Array, texture: Array) -> None:
        a = alpha(f["wall"])
        if "spine" in f:
            a *= F(1) - alpha(f["spine"])
        # Between lung and belly lies the diaphragm muscle; the rest is fat.
        muscle = alpha(f["belly"] + F(2.5)) - alpha(f["belly"])
        blend(hu, a, F(FAT_HU + 6) + F(145) * muscle + F(5) * texture)
        if "liver" in f:
            blend(hu, alpha(f["liver"]), F(LIVER_HU) + organ + F(4) * texture)
        if "spleen" in f:
            blend(hu, alpha(f["spleen"]), F(SPLEEN_HU) + organ + F(3) * texture)
        if "stomach" in f and (f["stomach"] > -2).any():
            stomach = f["stomach"]
            blend(hu, alpha(stomach), F(45))
            gas = alpha(f["y"] - F(34))
            blend(hu, alpha(stomach - F(4)), F(28) - gas * F(1000))
        if "heart" in f:
            heart = f["heart"]
            if "sac" in f:
                # Fluid rests on the diaphragm; it does not reach through it.
                around = np.minimum(f["sac"], F(4) - f["belly"])
                around = np.minimum(around, f["wall"])
                blend(hu, alpha(around), F(FLUID_HU))
                blend(hu, alpha(heart + F(1.2)), F(FAT_HU))
                canvas.mask(PERICARDIUM)[i, rows] = (around > 0) & (heart < -1)
            if p.heart_ratio > p.normal_ratio:
                grown = (heart > 0) & (f["wall"] > 0)
                if "usual heart" in f:
                    grown &= f["usual heart"] < 0
                canvas.mask(CARDIOMEGALY)[i, rows] = grown
            blend(hu, alpha(heart), F(FAT_HU + 10))
            blend(hu, alpha(heart - F(3) + F(2.5) * texture), myocardium + F(2) * texture)
            if "chamber" in f:
                blend(hu, alpha(f["chamber"]), chamber)

    def lungs(i: int, rows: slice, f: dict[str, Array], hu: Array) -> None:
        if "lung" not in f:
            return
        a = alpha(f["lung"])
        air = lung_hu - F(0.32) * f["y"] + F(9) * f["texture"]
        if "effusion" in f:
            wet = alpha(f["effusion"])
            canvas.mask(EFFUSION)[i, rows] = (wet > 0.5) & (a > 0.5)
            air += wet * (F(FLUID_HU) - air)
            canvas.lung[i, rows] = a * (F(1) - wet)
        else:
            canvas.lung[i, rows] = a
        blend(hu, a, air)

    return paint
