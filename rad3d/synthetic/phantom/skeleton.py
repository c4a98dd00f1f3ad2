"""Bones: vertebrae, ribs with cartilage, sternum, clavicles, scapulae and humeral heads."""

from __future__ import annotations

import numpy as np

from rad3d.synthetic.phantom import body as anatomy
from rad3d.synthetic.phantom.canvas import Array, Canvas, resample, smooth_path
from rad3d.synthetic.phantom.patient import Patient

CORTEX_HU = 850.0
MARROW_HU = 190.0
CARTILAGE_HU = 95.0
_LEVEL_MM = 22.5
_T1_Z = 90.0
F = np.float32


def draw_bones(canvas: Canvas, p: Patient) -> None:
    """Paint the whole skeleton."""
    rng = p.stream(4)
    density = float(rng.uniform(0.8, 1.15))
    _vertebrae(canvas, density)
    for side in (-1, 1):
        for number in range(12):
            _rib(canvas, number, side, density)
        _shoulder(canvas, side, density)
    _sternum(canvas, density)


def _bone(
    canvas: Canvas, points: Array, radius: Array | float, density: float, cortex_mm: float = 1.7
) -> None:
    """A tube of cortex filled with marrow, world mm."""
    index, depth = canvas.splat(points, radius)
    core = np.clip((depth - F(cortex_mm)) * F(1 / canvas.edge_mm) + F(0.5), 0, 1)
    value = F(CORTEX_HU * density) + core * F((MARROW_HU - CORTEX_HU) * density)
    canvas.blend(index, canvas.soft(depth), value, None)


def _rib(canvas: Canvas, number: int, side: int, density: float) -> None:
    u = np.linspace(0, 1, 40)
    last = (70, 72, 74, 76, 78, 80, 80, 74, 64, 52, 5, -22)[number]
    drop = (34, 48, 60, 70, 78, 84, 88, 86, 78, 66, 42, 26)[number]
    angle = np.radians(-72 + (last + 72) * u)
    z = _T1_Z - _LEVEL_MM * number + 4 - drop * u * (0.55 + 0.45 * u)
    # Cartilages of the lower true ribs climb back to the sternum.
    if 4 <= number <= 9:
        z = z + 34 * np.maximum(u - 0.8, 0) * (number - 3)
    points = anatomy.wall_points(angle, z, 5.0, side)
    head = np.array([[side * 18.0, float(anatomy.spine_y(np.array([z[0]]))[0]) - 10, z[0] + 3]])
    points = np.concatenate([head, points])
    bony = 33 if number < 10 else 41
    for part, is_bone in ((points[:bony], True), (points[bony - 1 :], False)):
        if len(part) < 2:
            continue
        path = canvas.frame.to_world(resample(part, 2.4))
        # Two tubes, one above the other: ribs are taller than thick.
        up = np.array([0.0, 0.0, 2.4])
        path = np.concatenate([path + up, path - up])
        if is_bone:
            _bone(canvas, path, 4.2, density)
        else:
            canvas.tube(path, 4.2, CARTILAGE_HU)


def _sternum(canvas: Canvas, density: float) -> None:
    z = np.arange(62.0, -92.0, -3.0)
    _, b, y0 = (v.astype(float) for v in anatomy.profile_at("thorax", z))
    front = y0 + b + 7
    half = np.interp(z, [-92, -80, -40, 10, 22, 30, 50, 62], [5, 12, 17, 13, 12, 20, 26, 24])
    lines = []
    for t in np.linspace(-1, 1, 13):
        lines.append(np.stack([t * half, front - 2.5 * t * t, z], axis=1))
    _bone(canvas, canvas.frame.to_world(np.concatenate(lines)), 5.6, density)


def _shoulder(canvas: Canvas, side: int, density: float) -> None:
    to_world = canvas.frame.to_world
    clavicle = smooth_path(
        [(side * 20, 26, 62), (side * 50, 26, 80), (side * 95, -8, 98), (side * 142, -34, 108)]
    )
    _bone(canvas, to_world(resample(clavicle, 2.4)), 5.4, density)
    # The blade follows the back of the chest; arms up turn it outward.
    rows = np.linspace(0, 1, 50)
    width = 0.95 * (1 - 0.75 * rows)
    count = np.maximum(4, (48 * width).astype(int))
    across = np.concatenate([np.linspace(0, 0.85, n) for n in count])
    t, width = np.repeat(rows, count), np.repeat(width, count)
    angle = np.radians(-18 - 14 * t) - width * across
    blade = anatomy.wall_points(angle, 96.0 - 130.0 * t, 21.0 - 4 * t, side)
    _bone(canvas, to_world(blade), 2.3, density, cortex_mm=3.0)
    knots = [(side * 70.0, -112, 62), (side * 110.0, -104, 84), (side * 150.0, -62, 104)]
    _bone(canvas, to_world(resample(np.array(knots), 2.4)), 4.5, density)
    _bone(canvas, to_world(np.array([[side * 143.0, -46, 92]])), 14.0, density, 2.2)
    _bone(canvas, to_world(np.array([[side * 166.0, -38, 100]])), 23.0, density, 2.0)
    shaft = np.array([(side * 168, -36, 104), (side * 178, -30, 170)], dtype=float)
    _bone(canvas, to_world(resample(shaft, 6)), 13.0, density, 4.0)


def _vertebrae(canvas: Canvas, density: float) -> None:
    frame = canvas.frame
    centre = frame.to_world(np.array([0.0, -92.0, -30.0]))
    box = canvas.box(centre, np.array([52.0, 62.0, 400.0]))
    x, y, z = canvas.canonical(box)
    if 0 in np.broadcast_shapes(x.shape, y.shape, z.shape):
        return
    v = y - anatomy.spine_y(z)
    cycle = (F(_T1_Z + 400 * _LEVEL_MM) - z) * F(1 / _LEVEL_MM)
    t = cycle - np.floor(cycle)  # 0 at the top of a body, 0.78 at its lower end plate
    soft = canvas.soft
    waist = F(1) - F(0.1) * anatomy.bump(t, 0.39, 0.4)
    r = np.sqrt((x * F(1 / 17.5)) ** 2 + (v * F(1 / 15.5)) ** 2)
    radial = (waist - r) * F(16)
    ends = np.minimum(t, F(0.78) - t) * F(_LEVEL_MM)
    block = np.minimum(radial, ends)
    canvas.paint(box, soft(radial), 85.0)
    core = np.clip((block - F(1.8)) * F(1 / canvas.edge_mm) + F(0.5), 0, 1)
    bone = F(620 * density) + core * F((175 - 620) * density)
    canvas.paint(box, soft(block), bone)
    ring_y = v + F(26)
    ring = np.sqrt(x * x + (ring_y * F(1.1)) ** 2)
    arch_z = np.minimum(t - F(0.08), F(0.92) - t) * F(_LEVEL_MM)
    arch = np.minimum(F(16) - ring, arch_z)
    arch = np.maximum(arch, _process(x, v, t))
    core = np.clip((arch - F(2.0)) * F(1 / canvas.edge_mm) + F(0.5), 0, 1)
    canvas.paint(box, soft(arch), F(600 * density) + core * F(-260 * density))
    canvas.paint(box, soft(F(10.5) - ring), -50.0)
    canvas.paint(box, soft(F(8.5) - ring), 25.0)


def _process(x: Array, v: Array, t: Array) -> Array:
    """Depth inside the spinous and transverse processes."""
    lean = F(1) - np.abs(t - F(0.55) + F(0.006) * (v + F(40))) * F(2.4)
    spinous = np.minimum(F(3.6) * lean - np.abs(x) * F(0.9), np.minimum(v + F(58), -v - F(34)))
    side = np.abs(x)
    arm_v = v + F(24) + F(0.28) * (side - F(12))
    across = np.sqrt(arm_v * arm_v + ((t - F(0.4)) * F(_LEVEL_MM)) ** 2)
    transverse = np.minimum(F(5.2) - across, F(36) - side)
    return np.maximum(spinous, transverse)
