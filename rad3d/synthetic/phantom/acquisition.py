"""The acquisition of a phantom: grid, noise, kernel, contrast, table; drawn from the seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.findings import DOMAINS

KERNELS: tuple[str, ...] = ("soft", "medium", "sharp")
DEFAULT_SHAPE_XYZ: tuple[int, int, int] = (192, 192, 128)
MATRIX_RANGE: tuple[int, int] = (48, 512)
SLICES_RANGE: tuple[int, int] = (16, 400)


@dataclass(frozen=True)
class Acquisition:
    """The scanner's side of a phantom.

    Attributes:
        shape_xyz: voxels toward the patient's right, anterior and superior.
        spacing_mm: distance of voxel centres along the same axes.
        origin_mm: world position (RAS+ mm) of voxel (0, 0, 0).
        noise_hu: standard deviation of the noise in soft tissue.
        kernel: a name of :data:`KERNELS`; sets how the noise is correlated and edges look.
        contrast: True for a pulmonary angiogram (arteries of 250 to 450 HU).
        table: whether the couch lies in the field of view.
    """

    shape_xyz: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    noise_hu: float
    kernel: str
    contrast: bool
    table: bool

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise UnknownName("kernel", self.kernel, KERNELS)
        if min(self.shape_xyz) < 1 or not all(0.3 <= s <= 12 for s in self.spacing_mm):
            raise BadRequest("A phantom needs voxels of 0.3 to 12 mm.", code="bad_acquisition")

    @property
    def affine(self) -> np.ndarray:
        """The (4, 4) float64 voxel-to-world matrix in mm, RAS+."""
        affine = np.diag([*self.spacing_mm, 1.0])
        affine[:3, 3] = self.origin_mm
        return affine


def draw_acquisition(
    seed: int, domain: str = "in", matrix: int | None = None, slices: int | None = None
) -> Acquisition:
    """The acquisition of phantom ``seed``; the field of view does not depend on the grid.

    Args:
        seed: non-negative integer.
        domain: ``"in"`` or ``"out"``; "out" has contrast, more noise, other kernels, a larger
            field of view and thick slices.
        matrix: voxels in plane, 192 unless told (512 gives 0.6 to 0.9 mm).
        slices: number of slices, 128 unless told (thick slices: fewer in the "out" domain).
    """
    if domain not in DOMAINS:
        raise UnknownName("domain", domain, DOMAINS)
    outside = domain == "out"
    rng = np.random.default_rng([seed, 2 if outside else 1, 1])
    fov = rng.uniform(365, 430) if outside else rng.uniform(325, 395)
    length = rng.uniform(300, 330) if outside else rng.uniform(285, 312)
    thick_slices = int(rng.integers(60, 101))
    noise = rng.uniform(24, 42) if outside else rng.uniform(6, 16)
    kernel = KERNELS[int(rng.choice(3, p=(0.1, 0.2, 0.7) if outside else (0.45, 0.45, 0.1)))]
    table = bool(rng.random() < 0.9)
    centre = rng.uniform(-6, 6, 3)
    n = _bounded("matrix", matrix or DEFAULT_SHAPE_XYZ[0], MATRIX_RANGE)
    default_slices = thick_slices if outside else DEFAULT_SHAPE_XYZ[2]
    nz = _bounded("slices", slices or default_slices, SLICES_RANGE)
    spacing = (round(fov / n, 4), round(fov / n, 4), round(length / nz, 4))
    shape = (n, n, nz)
    return Acquisition(
        shape_xyz=shape,
        spacing_mm=spacing,
        origin_mm=_origin(centre, shape, spacing),
        noise_hu=round(float(noise), 2),
        kernel=kernel,
        contrast=outside,
        table=table,
    )


def draw_wide_acquisition(seed: int) -> Acquisition:
    """An acquisition from a wide range: any contrast, noise, kernel, field of view and thickness.

    Half of the phantoms that an encoder learns from are scanned like this, so that it does not take
    one scanner for the world. The ranges cover those of both domains of :func:`draw_acquisition`.
    """
    rng = np.random.default_rng([seed, 3, 1])
    n = DEFAULT_SHAPE_XYZ[0]
    fov, length = rng.uniform(320, 435), rng.uniform(280, 332)
    nz = DEFAULT_SHAPE_XYZ[2] if rng.random() < 0.3 else int(rng.integers(56, 129))
    centre = rng.uniform(-10, 10, 3)
    spacing = (round(fov / n, 4), round(fov / n, 4), round(length / nz, 4))
    return Acquisition(
        shape_xyz=(n, n, nz),
        spacing_mm=spacing,
        origin_mm=_origin(centre, (n, n, nz), spacing),
        noise_hu=round(float(np.exp(rng.uniform(np.log(6), np.log(46)))), 2),
        kernel=KERNELS[int(rng.integers(3))],
        contrast=bool(rng.random() < 0.6),
        table=bool(rng.random() < 0.9),
    )


def _origin(
    centre: np.ndarray, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> tuple[float, float, float]:
    """World position of voxel (0, 0, 0) of a scan from the apices to the upper abdomen.

    The patient frame has its origin at the carina.
    """
    middle = (centre[0], centre[1] - 20, centre[2] / 3 - 32)
    x, y, z = (
        round(float(m) - (k - 1) / 2 * s, 4) for m, k, s in zip(middle, shape, spacing, strict=True)
    )
    return x, y, z


def _bounded(name: str, value: int, bounds: tuple[int, int]) -> int:
    if not bounds[0] <= value <= bounds[1]:
        raise BadRequest(
            f"{name} {value} is outside {bounds[0]} to {bounds[1]}.", code="bad_acquisition"
        )
    return value
