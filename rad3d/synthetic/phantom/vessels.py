"""Great vessels, oesophagus, airways and the branching trees of the lungs; fissures."""

from __future__ import annotations

import numpy as np

from rad3d.synthetic.phantom import body as anatomy
from rad3d.synthetic.phantom import trees
from rad3d.synthetic.phantom.canvas import Array, Canvas, resample
from rad3d.synthetic.phantom.patient import Patient

F = np.float32
BLOOD_HU = 42.0


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
        _vessel(canvas, path, hu)
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
    _vessel(canvas, path, contrast_hu(p)["aorta"])


def _vessel(canvas: Canvas, path: Array, hu: float) -> None:
    """A blood vessel along (N, 4) canonical points with radii; its wall shows against fat."""
    world = canvas.frame.to_world(path[:, :3])
    index, depth = canvas.splat(world, path[:, 3] + 1.0)
    canvas.blend(index, canvas.soft(depth) * (canvas.hu.reshape(-1)[index] < 30), 45.0, None)
    canvas.tube(world, path[:, 3], hu)


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
