"""Effects of the scanner: couch, blur of thick slices, noise, and rounding to whole HU."""

from __future__ import annotations

import numpy as np

from rad3d.synthetic.phantom.body import profile_at
from rad3d.synthetic.phantom.canvas import Array, Canvas
from rad3d.synthetic.phantom.patient import Patient

F = np.float32


def draw_table(canvas: Canvas, p: Patient) -> None:
    """A curved couch behind the back, where the acquisition has one."""
    if not canvas.acquisition.table:
        return
    _, b, y0 = profile_at("body", np.array([-60.0]))
    back = float(y0[0] - b[0]) - 0.75 * p.fat_mm - 8
    low = canvas.frame.to_world(np.array([0.0, back, -30.0]))[1]
    x, y, _ = canvas.axes_mm
    u = (x - F(canvas.frame.offset[0])) * F(1 / 240)
    surface = (F(low) + F(22) * u * u)[:, None]
    depth = surface - y[None, :]
    edge = F(1 / canvas.edge_mm)
    shell = np.clip((F(1.1) - np.abs(depth - F(1.5))) * edge + F(0.5), 0, 1)
    floor = depth - F(30) + F(26) * (u * u)[:, None]
    under = np.clip((F(1.1) - np.abs(floor)) * edge + F(0.5), 0, 1)
    inside = np.clip(np.minimum(depth, -floor) * edge, 0, 1)
    plane = np.maximum(inside * F(55), np.maximum(shell, under) * F(620))
    rows = np.flatnonzero(plane.any(axis=0))
    if len(rows) == 0:
        return
    part = canvas.hu[:, rows[0] : rows[-1] + 1]
    np.maximum(part, (plane[:, rows[0] : rows[-1] + 1] - F(1000))[:, :, None], out=part)


def scan(canvas: Canvas, seed: int) -> Array:
    """Blur, noise and rounding; returns int16 HU (X, Y, Z)."""
    acq = canvas.acquisition
    hu = canvas.hu
    if acq.kernel == "soft":
        _smooth(hu, 0, 0.12)
        _smooth(hu, 1, 0.12)
    if acq.spacing_mm[2] > 2.9:
        _smooth(hu, 2, 0.15)
    rng = np.random.default_rng([seed, 2 if acq.contrast else 1, 20])
    noise = rng.standard_normal(hu.shape, dtype=F)
    gain = {"soft": 0.42, "medium": 0.2, "sharp": -0.18}[acq.kernel]
    for axis in (0, 1):
        _smooth_forward(noise, axis, gain)
    # Each pass leaves a standard deviation of sqrt(1 + gain^2).
    noise *= F(acq.noise_hu / (1 + gain * gain))
    # Shoulders and upper abdomen absorb more than the lungs.
    z = canvas.axes_mm[2]
    rise = np.clip((np.abs(z + F(20)) - F(60)) * F(1 / 60), 0, 1.2)
    noise *= F(1) + F(0.45) * rise
    hu += noise
    np.clip(hu, -1024, 3071, out=hu)
    return np.rint(hu, out=hu).astype(np.int16)


def _smooth(values: Array, axis: int, weight: float) -> None:
    """Filter in place along an axis with weights (w, 1 - 2w, w); the border keeps its value."""
    v = np.moveaxis(values, axis, 0)
    left, right = v[:-2] * F(weight), v[2:] * F(weight)
    v[1:-1] *= F(1 - 2 * weight)
    v[1:-1] += left
    v[1:-1] += right


def _smooth_forward(values: Array, axis: int, gain: float) -> None:
    """Add gain * v[i + 1] to each v[i] in place, which correlates or sharpens noise."""
    v = np.moveaxis(values, axis, 0)
    for i in range(len(v) - 1):
        v[i] += F(gain) * v[i + 1]
