"""Shapes of a chest as signed depths (mm, positive inside) in canonical patient coordinates.

Axes are RAS+: +x is the patient's right, +y anterior, +z superior; the origin is the carina.
Every function takes broadcastable coordinate arrays, so it answers for a coarse lattice and for
single points alike.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rad3d.core.findings import LOBES
from rad3d.synthetic.phantom.patient import Patient

Array = np.ndarray
F = np.float32

# z, half width, half depth, centre y of the inner chest wall.
_THORAX = np.array(
    [
        (112, 4, 4, -44), (104, 26, 18, -44), (95, 42, 26, -43), (85, 56, 35, -41),
        (70, 76, 48, -36), (45, 101, 66, -26), (15, 121, 80, -16), (-20, 132, 88, -10),
        (-60, 138, 92, -6), (-100, 140, 94, -4), (-140, 139, 94, -3), (-200, 134, 92, -2),
    ],
    dtype=np.float64,
)  # fmt: skip
# The same for the slim body without its fat.
_BODY = np.array(
    [
        (160, 92, 62, -48), (130, 122, 70, -48), (105, 162, 82, -46), (85, 175, 92, -42),
        (60, 172, 101, -35), (25, 164, 109, -25), (-20, 161, 115, -19), (-60, 159, 118, -15),
        (-100, 158, 119, -12), (-140, 157, 119, -11), (-200, 153, 117, -10),
    ],
    dtype=np.float64,
)  # fmt: skip
_MEDIASTINUM_Y = (-100.0, -60.0, -30.0, 0.0, 30.0, 60.0, 90.0)
# z: half width of the mediastinum at those y, on the left and on the right.
_MEDIASTINUM_LEFT = {
    110: (24, 26, 26, 26, 24, 24, 24),
    70: (20, 24, 28, 28, 26, 18, 12),
    38: (18, 26, 33, 32, 26, 13, 5),
    12: (18, 30, 36, 34, 26, 8, 3),
    -12: (16, 32, 34, 36, 32, 9, 3),
    -45: (16, 31, 28, 28, 26, 9, 4),
    -110: (14, 28, 24, 26, 34, 36, 24),
    -200: (14, 26, 24, 26, 34, 36, 24),
}
_MEDIASTINUM_RIGHT = {
    110: (24, 26, 26, 26, 24, 24, 24),
    70: (18, 22, 26, 30, 30, 18, 12),
    38: (16, 18, 24, 32, 32, 15, 5),
    12: (15, 17, 24, 34, 30, 8, 1),
    -12: (14, 16, 26, 36, 30, 7, 1),
    -45: (13, 15, 22, 28, 22, 6, 1),
    -110: (12, 14, 20, 28, 30, 20, 10),
    -200: (12, 14, 20, 28, 30, 20, 10),
}
HEART_ANCHOR = (-4.0, 4.0, -82.0)
"""The point about which hearts of different size are scaled: on the diaphragm."""
_DEEPER = 1.16
THORAX_TAPER = 0.16
_HEART_WIDTH = 133.5
_THORAX_WIDTH = 277.0


@lru_cache(maxsize=4)
def _profile(name: str) -> tuple[Array, Array]:
    """Knots made smooth: z from 200 down to -260 in 2 mm, and three columns."""
    knots = (_THORAX if name == "thorax" else _BODY)[::-1]
    z = np.arange(-260.0, 202.0, 2.0)
    columns = np.stack([np.interp(z, knots[:, 0], knots[:, i]) for i in (1, 2, 3)])
    for _ in range(14):
        columns[:, 1:-1] = (columns[:, :-2] + 2 * columns[:, 1:-1] + columns[:, 2:]) * 0.25
    return z, columns


def profile_at(name: str, z: Array) -> tuple[Array, Array, Array]:
    """Half width, half depth and centre y of the ``"thorax"`` or slim ``"body"`` at heights z."""
    grid, columns = _profile(name)
    a, b, y0 = (np.interp(z, grid, column).astype(F) for column in columns)
    return a, b, y0


def _superellipse(x: Array, y: Array, a: Array, b: Array, taper: float) -> tuple[Array, Array]:
    """(f, radius): f is 0 in the middle and 1 on the outline, which narrows toward the front."""
    v = y / b
    front = np.minimum(np.maximum(v, F(0)), F(1.2))
    u = x / (a * (F(1) - F(taper) * front * front))
    u, v = u * u, v * v
    f = F(0.62) * np.sqrt(u + v) + F(0.38) * np.sqrt(np.sqrt(u * u + v * v))
    return f + F(1e-6), np.sqrt(x * x + y * y)


def thorax(x: Array, y: Array, z: Array) -> tuple[Array, Array]:
    """Depth below the inner chest wall, and the normalised position f (1 at the wall)."""
    a, b, y0 = profile_at("thorax", z)
    f, r = _superellipse(x, y - y0, a, b, THORAX_TAPER)
    return (F(1) - f) * (r / f), f


def body(p: Patient, x: Array, y: Array, z: Array) -> Array:
    """Depth below the skin."""
    a, b, y0 = profile_at("body", z)
    fat = F(p.fat_mm)
    f, r = _superellipse(x, y - y0, a + fat * F(1.15), b + fat * F(0.75), 0.04)
    d = (F(1) - f) * (r / f)
    # The back is flatter than the front, with a groove over the spinous processes.
    back = y - y0 + b + fat * F(0.75)
    d = np.minimum(d, back - F(5) + F(3) * bump(x, 0, 22))
    if p.female:
        for side in (-1, 1):
            d = np.maximum(d, breast(p, x, y, z, side))
    return d


def wall_points(angle: Array, z: Array, outward_mm: Array | float, side: int) -> Array:
    """Canonical points (N, 3) at a distance outside the inner chest wall.

    ``angle`` is in radians: -pi/2 behind, 0 lateral, pi/2 in front; ``side`` is -1 for left.
    """
    c, s = np.round(np.cos(angle), 6), np.round(np.sin(angle), 6)
    a, b, y0 = (v.astype(float) for v in profile_at("thorax", np.asarray(z, dtype=float)))
    r = np.sqrt(a * b)
    for _ in range(5):
        f, _ = _superellipse(r * c, r * s, a, b, THORAX_TAPER)
        r = r / f
    r = np.round(r, 3) + outward_mm
    return np.stack([side * r * c, y0 + r * s, np.broadcast_to(z, c.shape)], axis=1)


def breast(p: Patient, x: Array, y: Array, z: Array, side: int) -> Array:
    """Depth inside one breast."""
    r = F(46 + p.fat_mm)
    u, v, w = (x - F(82 * side)) / r, (y - F(84 + 0.6 * p.fat_mm)) / (r * F(0.62)), (z + F(62)) / r
    return (F(1) - np.sqrt(u * u + v * v + w * w)) * r * F(0.62)


def bump(x: Array, centre: float, width: float) -> Array:
    """1 at the centre, smoothly 0 beyond ``width``."""
    t = (x - F(centre)) * F(1 / width)
    t = np.maximum(F(1) - t * t, 0)
    return t * t


def step(x: Array, low: float, high: float) -> Array:
    """Smooth step from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((x - F(low)) * F(1 / (high - low)), 0, 1)
    return t * t * (F(3) - F(2) * t)


@lru_cache(maxsize=2)
def _mediastinum_table(left: bool) -> Array:
    rows = _MEDIASTINUM_LEFT if left else _MEDIASTINUM_RIGHT
    zs = sorted(rows)
    z, y = np.arange(-260.0, 202.0, 2.0), np.arange(-140.0, 142.0, 2.0)
    by_z = np.stack([np.interp(z, zs, [rows[k][i] for k in zs]) for i in range(7)])
    table = np.stack([np.interp(y, _MEDIASTINUM_Y, by_z[:, i]) for i in range(len(z))], axis=1)
    for _ in range(10):
        table[1:-1] = (table[:-2] + 2 * table[1:-1] + table[2:]) * 0.25
        table[:, 1:-1] = (table[:, :-2] + 2 * table[:, 1:-1] + table[:, 2:]) * 0.25
    return table.astype(F)


def mediastinum(p: Patient, x: Array, y: Array, z: Array) -> Array:
    """Depth inside the mediastinum without the heart."""
    iy = np.clip(np.rint((y + F(140)) * F(0.5)), 0, 140).astype(np.int64)
    iz = np.clip(np.rint((z + F(260)) * F(0.5)), 0, 230).astype(np.int64)
    shifted = x - F(p.shift_mm) * step(z, 60, -20)
    left = _mediastinum_table(True)[iy, iz] + shifted
    right = _mediastinum_table(False)[iy, iz] - shifted
    return np.minimum(left, right)


def spine_y(z: Array) -> Array:
    """Front-to-back position of the vertebral bodies: a gentle kyphosis."""
    t = (z + F(20)) * F(1 / 120)
    return F(-65) + F(8) * t * t


def spine(x: Array, y: Array, z: Array) -> Array:
    """Depth inside the spine with its paravertebral tissue."""
    u, v = x * F(1 / 25), (y - spine_y(z) + F(8)) * F(1 / 29)
    return (F(1) - np.sqrt(u * u + v * v)) * F(25)


def ellipsoid(
    x: Array, y: Array, z: Array, centre: tuple[float, ...], radii: tuple[float, ...]
) -> Array:
    """Approximate depth inside an axis-aligned ellipsoid."""
    u, v, w = ((c - F(m)) * F(1 / r) for c, m, r in zip((x, y, z), centre, radii, strict=True))
    return (F(1) - np.sqrt(u * u + v * v + w * w)) * F(min(radii))


_AXIS = (-0.72, 0.43, -0.545)


def heart(p: Patient, x: Array, y: Array, z: Array, ratio: float | None = None) -> Array:
    """Depth inside the heart (epicardial surface), before the diaphragm flattens it."""
    s, s_y, s_z = _stretch(p, ratio)
    x = (x - F(HEART_ANCHOR[0] + p.shift_mm)) * F(1 / s) + F(HEART_ANCHOR[0])
    y = (y - F(HEART_ANCHOR[1])) * F(1 / s_y) + F(HEART_ANCHOR[1])
    z = (z - F(HEART_ANCHOR[2])) * F(1 / s_z) + F(HEART_ANCHOR[2])
    dx, dy, dz = x + F(18), y - F(26), z + F(70)
    along = dx * F(_AXIS[0]) + dy * F(_AXIS[1]) + dz * F(_AXIS[2])
    across = dx * dx + dy * dy + dz * dz - along * along
    t = along * F(1 / 66)
    # Fuller at the base than at the apex.
    width = F(45) - F(7) * t
    ventricles = (F(1) - np.sqrt(t * t + np.maximum(across, 0) / (width * width))) * F(43)
    atrium = ellipsoid(x, y, z, (28, 14, -54), (33, 36, 44))
    left_atrium = ellipsoid(x, y, z, (4, -20, -44), (38, 22, 27))
    base = ellipsoid(x, y, z, (2, 26, -28), (33, 24, 26))
    d = smooth_max(smooth_max(ventricles, atrium, 8), smooth_max(left_atrium, base, 6), 6)
    return d * F(s)


def heart_scale(p: Patient, ratio: float | None = None) -> float:
    """Size of the heart relative to the drawn shape."""
    return (p.heart_ratio if ratio is None else ratio) * _THORAX_WIDTH / _HEART_WIDTH


def _stretch(p: Patient, ratio: float | None = None) -> tuple[float, float, float]:
    """Scale of the heart along x, y and z: it grows mostly sideways."""
    s = heart_scale(p, ratio)
    return s, _DEEPER * (1 + 0.75 * (s - 1)), 1 + 0.65 * (s - 1)


def pericardium(p: Patient, y: Array, z: Array) -> Array:
    """Thickness of the pericardial fluid: most in front and below, none at the arch."""
    thin_behind = F(0.4) + F(0.6) * step(y, -45, 5)
    return F(p.pericardial_mm) * thin_behind * (F(1) - F(0.9) * step(z, -30, 20))


def heart_point(p: Patient, point: tuple[float, float, float]) -> tuple[float, float, float]:
    """Map a point of the standard heart into this patient's scaled and shifted heart."""
    out = [a + (c - a) * k for c, a, k in zip(point, HEART_ANCHOR, _stretch(p), strict=True)]
    return out[0] + p.shift_mm, out[1], out[2]


def smooth_max(a: Array, b: Array, k: float) -> Array:
    """Union of two depths with the crease rounded over ``k`` mm."""
    h = np.maximum(F(k) - np.abs(a - b), 0) * F(1 / k)
    return np.maximum(a, b) + h * h * F(k * 0.25)


def diaphragm(p: Patient, x: Array, y: Array, z: Array, f: Array) -> Array:
    """Height above the diaphragm in mm; ``f`` is the position from :func:`thorax`."""
    to_right = step(x, -25, 25)
    left, right = F(-100 + p.dome_mm[0]), F(-88 + p.dome_mm[1])
    top = left + (right - left) * to_right - F(9) * bump(x, 0, 45)
    g = f * f
    drop = (F(54) - F(0.22) * y) * g * g
    slope = F(0.022) * g * f * F(110)
    return (z - top + drop) / np.sqrt(F(1) + slope * slope)


def chest(p: Patient, x: Array, y: Array, z: Array) -> dict[str, Array]:
    """All large shapes at once.

    Returns depths in mm: ``body``, ``wall`` (inner chest wall), ``lung``, ``heart`` (flattened
    by the diaphragm), ``sac`` (with pericardial fluid), ``belly`` (below the diaphragm), ``f``.
    """
    wall, f = thorax(x, y, z)
    above = diaphragm(p, x, y, z, f)
    d_heart = np.minimum(heart(p, x, y, z), above + F(3))
    lung = np.minimum(wall, above)
    lung = np.minimum(lung, -mediastinum(p, x, y, z) - F(1))
    lung = np.minimum(lung, -spine(x, y, z))
    sac = d_heart + pericardium(p, y, z) if p.pericardial_mm > 0 else d_heart
    lung = np.minimum(lung, -sac - F(1))
    return {
        "body": body(p, x, y, z),
        "wall": wall,
        "lung": lung,
        "heart": d_heart,
        "sac": sac,
        "belly": np.minimum(wall, -above - F(2.5)),
        "f": f,
    }


def oblique_fissure(x: Array, y: Array, z: Array) -> Array:
    """Distance in front of and above the oblique fissure; the lower lobe is where it is < 0."""
    t = x * F(1 / 130)
    plane = (z - F(42)) + F(1.2) * (y + F(84)) - F(22) * t * t + F(8)
    return plane * F(0.64)


def horizontal_fissure(x: Array, y: Array, z: Array) -> Array:
    """Distance above the horizontal fissure of the right lung."""
    t = (x - F(70)) * F(1 / 60)
    return z + F(22) + F(0.12) * y + F(5) * t * t


def lobe_depth(name: str, x: Array, y: Array, z: Array) -> Array:
    """Depth inside a lobe as bounded by fissures and the midline only (not by the pleura)."""
    oblique, level = oblique_fissure(x, y, z), horizontal_fissure(x, y, z)
    side = x if name.startswith("right") else -x
    parts = {
        "right upper lobe": (oblique, level),
        "right middle lobe": (oblique, -level),
        "right lower lobe": (-oblique,),
        "left upper lobe": (oblique,),
        "left lower lobe": (-oblique,),
    }[name]
    depth = side
    for part in parts:
        depth = np.minimum(depth, part)
    return depth


def lobe_of(points: Array) -> Array:
    """Index into :data:`LOBES` for canonical points (N, 3)."""
    x, y, z = (points[:, i].astype(F) for i in range(3))
    depths = np.stack([lobe_depth(name, x, y, z) for name in LOBES])
    return np.argmax(depths, axis=0)


def at_points(p: Patient, points: Array) -> dict[str, Array]:
    """:func:`chest` at canonical points (N, 3)."""
    return chest(p, *(np.asarray(points)[:, i].astype(F) for i in range(3)))


def pleural_normal(p: Patient, points: Array) -> Array:
    """Unit vectors (N, 3) pointing into the lung, by finite differences of the depth."""
    out = np.empty((len(points), 3))
    for axis in range(3):
        offset = np.zeros(3)
        offset[axis] = 2.0
        out[:, axis] = at_points(p, points + offset)["lung"] - at_points(p, points - offset)["lung"]
    norm = np.sqrt((out * out).sum(axis=1, keepdims=True))
    return out / np.maximum(norm, 1e-3)
