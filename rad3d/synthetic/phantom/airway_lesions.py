"""Findings of the airways: thick bronchial walls and dilated bronchi."""

from __future__ import annotations

import numpy as np

from rad3d.core.findings import LOBES, Finding
from rad3d.synthetic.phantom import trees
from rad3d.synthetic.phantom.canvas import Array, resample
from rad3d.synthetic.phantom.patient import level
from rad3d.synthetic.phantom.scene import Scene, lobes_of, sides

F = np.float32


def _bronchi(
    scene: Scene, lobes: tuple[str, ...], least_mm: float, step_mm: float = 1.3
) -> tuple[Array, Array]:
    """World points and lumen radii along the airways of some lobes."""
    tree = scene.tree["airway"]
    wanted = np.isin(tree.lobe, [LOBES.index(name) for name in lobes]) & (tree.radius >= least_mm)
    points, radius = tree.chain(step_mm, np.flatnonzero(wanted))
    return scene.world(points), radius


def _cuffs(
    scene: Scene, label: str, world: Array, lumen: Array, wall_mm: float, value: float
) -> None:
    """Airways with a wall of stated thickness, painted as wall and then lumen."""
    if len(world) == 0:
        return
    canvas = scene.canvas
    index, depth = canvas.splat(world, lumen + wall_mm)
    canvas.blend(index, canvas.soft(depth), value, label)
    index, depth = canvas.splat(world, lumen)
    canvas.blend(index, canvas.soft(depth), -975.0, label)


def peribronchial_thickening(scene: Scene, finding: Finding) -> None:
    """Thick bright walls around bronchi: near the hila, or throughout the lower lobes."""
    grade = level(finding)
    wall = (2.6, 3.2, 4.0)[grade]
    if "lower lobe" in finding.sites:
        world, radius = _bronchi(scene, lobes_of(finding.side, "lower"), 1.15)
    else:
        world, radius = _bronchi(scene, lobes_of(finding.side), 2.0)
        main = resample(trees.central_airways(), 1.5)
        for sign in sides(finding.side):
            far = main[(main[:, 0] * sign > 20) & (main[:, 2] < -8)]
            _cuffs(scene, finding.label, scene.world(far[:, :3]), far[:, 3] - 1.8, wall + 1, 35.0)
    _cuffs(scene, finding.label, world, np.maximum(radius, 1.8), wall, 50.0)


def bronchiectasis(scene: Scene, finding: Finding) -> None:
    """Dilated airways to the periphery (tram tracks), or clusters of thin-walled cysts."""
    rng = scene.stream(finding)
    grade = level(finding)
    sites = finding.sites or lobes_of(finding.side)[:1]
    for site in sites:
        if finding.kind == "cystic":
            _cysts(scene, finding, rng, site)
            continue
        world, radius = _bronchi(scene, (site,), 1.05)
        wide = np.maximum(radius * 1.3, (3.7, 4.5, 5.5)[grade])
        _cuffs(scene, finding.label, world, wide, 1.5, 20.0)


def _cysts(scene: Scene, finding: Finding, rng: np.random.Generator, site: str) -> None:
    """Grape-like cysts about a few bronchi; some hold fluid."""
    canvas = scene.canvas
    grade = level(finding)
    middle = scene.pick(rng, (site,), (2, 2, 3)[grade], 9, 26, 30)
    n = (9, 12, 15)[grade]
    spread = (15.0, 18.0, 21.0)[grade]
    centres = np.concatenate([m + rng.uniform(-1, 1, (n, 3)) * spread for m in middle])
    radius = rng.uniform(4.8, (7.5, 8.5, 10.0)[grade], len(centres))
    world = scene.world(centres)
    index, depth = canvas.splat(world, radius + 1.5)
    lung = canvas.lung.reshape(-1)[index]
    canvas.blend(index, canvas.soft(depth) * lung, 15.0, finding.label)
    index, depth = canvas.splat(world, radius)
    lung = canvas.lung.reshape(-1)[index]
    canvas.blend(index, canvas.soft(depth) * lung, -985.0, finding.label)
    for centre, r in zip(world[::4], radius[::4], strict=True):
        box, depth = scene.ball(centre, float(r), 2)
        if depth.size == 0:
            continue
        below = canvas.soft(F(centre[1] - 0.25 * r) - canvas.world(box)[1])
        canvas.paint(box, canvas.soft(depth) * below * canvas.lung[box], 10.0, finding.label)
