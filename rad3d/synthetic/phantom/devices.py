"""Medical material: pacemaker, port, sternal wires, gastric tube, chest tube."""

from __future__ import annotations

import numpy as np

from rad3d.core.findings import Finding
from rad3d.synthetic.phantom import body as anatomy
from rad3d.synthetic.phantom import trees
from rad3d.synthetic.phantom.canvas import resample, smooth_path
from rad3d.synthetic.phantom.scene import Scene

F = np.float32
METAL_HU = 2800.0
LEAD_HU = 2400.0
CATHETER_HU = 900.0


def medical_material(scene: Scene, finding: Finding) -> None:
    """Draw the device of the stated kind on the stated side."""
    sign = -1 if finding.side == "left" else 1
    kind = finding.kind or "pacemaker"
    if kind == "pacemaker":
        _pacemaker(scene, finding.label, sign)
    elif kind == "port catheter":
        _port(scene, finding.label, sign)
    elif kind == "sternal wires":
        _wires(scene, finding.label)
    elif kind == "nasogastric tube":
        path = resample(trees.oesophagus()[:, :3], 1.2)
        stomach = smooth_path([tuple(path[-1]), (-55, 4, -136), (-70, 12, -146)])
        path = np.concatenate([path, resample(stomach, 1.2)])
        _line(scene, path, 2.3, CATHETER_HU, finding.label)
    else:
        _chest_tube(scene, finding.label, sign)


def _line(scene: Scene, points: np.ndarray, radius: float, hu: float, label: str) -> None:
    scene.canvas.tube(scene.world(points), radius, hu, label)


def _pocket(scene: Scene, sign: int) -> np.ndarray:
    """A canonical point in the fat in front of the pectoral muscle."""
    y = np.arange(60.0, 175, 1.0)
    points = np.stack([np.full(len(y), sign * 72.0), y, np.full(len(y), 32.0)], axis=1)
    depth = anatomy.body(scene.patient, *(points[:, i].astype(F) for i in range(3)))
    inside = np.flatnonzero(depth > 9)
    return points[inside[-1] if len(inside) else 0]


def _to_heart(sign: int, start: np.ndarray, tip: tuple[float, float, float]) -> np.ndarray:
    """Path of a lead from a pocket under the skin through the subclavian vein and vena cava."""
    x, y, z = (float(v) for v in start)
    knots: list[tuple[float, ...]] = [(x, y, z), (sign * 80.0, y - 22, 66), (sign * 62.0, 4, 92)]
    if sign < 0:
        knots += [(-34.0, 14, 76), (-20, 26, 60), (4, 28, 50)]
    else:
        knots += [(40.0, 8, 82)]
    knots += [(24.0, 14, 30), (25, 14, 0), (26, 12, -30), tip]
    return resample(smooth_path(knots), 1.0)


def _pacemaker(scene: Scene, label: str, sign: int) -> None:
    canvas = scene.canvas
    pocket = _pocket(scene, sign)
    centre = scene.world(pocket)
    box = canvas.box(centre, np.array([30.0, 16.0, 28.0]))
    x, y, z = canvas.world(box)
    dx, dy, dz = (np.abs(a - F(c)) for a, c in zip((x, y, z), centre, strict=True))
    u, v = dx * F(1 / 24), dz * F(1 / 21)
    u, v = u * u, v * v
    oval = (F(1) - np.sqrt(np.sqrt(u * u + v * v))) * F(21)
    depth = np.minimum(oval, F(5) - dy)
    canvas.paint(box, canvas.soft(depth), METAL_HU, label)
    tip = anatomy.heart_point(scene.patient, (-42, 34, -92))
    path = _to_heart(sign, pocket, anatomy.heart_point(scene.patient, (22, 18, -66)))
    end = resample(np.array([path[-1], tip]), 1.0)
    _line(scene, np.concatenate([path, end]), 1.25, LEAD_HU, label)


def _port(scene: Scene, label: str, sign: int) -> None:
    canvas = scene.canvas
    pocket = _pocket(scene, sign)
    centre = scene.world(pocket)
    box, _ = scene.ball(centre, 17.0, 2)
    x, y, z = canvas.world(box)
    dx, dy, dz = (a - F(c) for a, c in zip((x, y, z), centre, strict=True))
    disc = np.minimum(F(14) - np.sqrt(dx * dx + dz * dz), F(5.5) - np.abs(dy))
    canvas.paint(box, canvas.soft(disc), 1700.0, label)
    canvas.paint(box, canvas.soft(disc - F(3)), 250.0, label)
    path = _to_heart(sign, pocket, (26.0, 12.0, -38.0))
    _line(scene, path, 1.5, 1300.0, label)


def _wires(scene: Scene, label: str) -> None:
    """Six loops around the sternum."""
    _, b, y0 = anatomy.profile_at("thorax", np.arange(45.0, -76.0, -22.0))
    angle = np.linspace(0, 2 * np.pi, 44)
    c, s = np.round(np.cos(angle), 6), np.round(np.sin(angle), 6)
    for k, z in enumerate(np.arange(45.0, -76.0, -22.0)):
        front = float(y0[k] + b[k]) + 7
        loop = np.stack([19 * c, front + 9.5 * s, z + 2.5 * c], axis=1)
        _line(scene, resample(loop, 0.9), 1.05, LEAD_HU, label)
        knot = np.array([[3.0, front + 10.5, z], [-3.0, front + 11.5, z + 2]])
        _line(scene, resample(knot, 0.8), 1.6, LEAD_HU, label)


def _chest_tube(scene: Scene, label: str, sign: int) -> None:
    """A drain through the lateral chest wall, up behind the lung."""
    angle = np.radians([12.0, 2, -12, -30, -46])
    z = np.array([-66.0, -48, -20, 18, 48])
    inner = anatomy.wall_points(angle, z, -7.0, sign)
    outer = anatomy.wall_points(angle[:1] + 0.1, z[:1] - 22, 42.0, sign)
    path = resample(smooth_path([tuple(p) for p in np.concatenate([outer, inner])]), 1.2)
    _line(scene, path, 4.2, 750.0, label)
    _line(scene, path, 2.2, -850.0, label)
