"""Augmentation by MONAI: another scanner, kernel, dose, slice thickness, patient size.

Only training imports MONAI: it takes 5 CPU seconds and 313 MB to load, which a process that writes
reports would pay for nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_obj import set_track_meta
from monai.transforms.compose import Compose
from monai.transforms.intensity.array import (
    RandGaussianSharpen,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandShiftIntensity,
)
from monai.transforms.spatial.array import RandSimulateLowResolution
from monai.transforms.transform import RandomizableTransform
from torch import Tensor

from rad3d.core.types import FloatArray
from rad3d.model.encoders.phantom_clip import scan_planes

NOISE_HU = 45.0
"""Largest standard deviation of added noise."""


AUGMENTED = 0.6
"""Share of the scans that are augmented."""


@lru_cache(maxsize=1)
def unit_noise() -> FloatArray:
    """Unit noise to cut pieces from; drawing fresh noise for every scan costs more than a step."""
    return np.random.default_rng(5).standard_normal(8_000_000, dtype=np.float32)


class RandStoredNoise(RandomizableTransform):
    """Gaussian noise of random strength, cut from :func:`unit_noise`."""

    def __call__(self, image: Tensor) -> Tensor:
        """A noisier copy of an image in HU / 1000."""
        self.randomize(None)
        if not self._do_transform:
            return image
        noise = unit_noise()
        start = int(self.R.randint(0, noise.size - image.numel()))
        piece = torch.from_numpy(noise[start : start + image.numel()]).view(image.shape)
        return torch.add(image, piece, alpha=float(self.R.uniform(0, NOISE_HU)) / 1000)


def scanner_augmentation() -> Compose:
    """The transforms for an image (1, X, Y, Z) in HU / 1000.

    Kernels (smoothing, sharpening), thick slices (smoothing along z), low resolution, calibration
    and contrast (scale and shift of HU), dose (noise).
    """
    set_track_meta(False)
    return Compose(
        [
            RandGaussianSmooth((0.2, 0.7), (0.2, 0.7), (0.2, 1.3), prob=0.25),
            RandGaussianSharpen(
                sigma1_x=(0.2, 0.5), sigma1_y=(0.2, 0.5), sigma1_z=(0.2, 0.5), alpha=(0.3, 1.5),
                prob=0.15,
            ),
            RandSimulateLowResolution(prob=0.15, zoom_range=(0.6, 0.95)),
            RandScaleIntensity(0.03, prob=0.5),
            RandShiftIntensity(0.01, prob=0.5),
            RandStoredNoise(0.5),
        ]
    )  # fmt: skip


def augmented_planes(hu: npt.NDArray[np.int16], seed: int) -> npt.NDArray[np.int16]:
    """The planes of a scan on the model grid, or of an augmented copy if the seed says so.

    Made once for each scan: augmentation, opening and closing take longer than a step of training.

    Args:
        hu: (X, Y, Z).
        seed: decides everything.

    Returns:
        (5, X/2, Y/2, Z/2) of :func:`rad3d.model.encoders.phantom_clip.scan_planes`.
    """
    x = torch.from_numpy(hu.astype(np.float32)).div_(1000)
    rng = np.random.default_rng([seed, 6])
    if rng.random() < AUGMENTED:
        augment = scanner_augmentation()
        augment.set_random_state(seed=int(rng.integers(2**31)))
        x = augment(x[None])[0].clamp(-1, 1)
    found: npt.NDArray[np.int16] = scan_planes(x).numpy()
    return found


def part(
    values: npt.NDArray[Any], start: npt.NDArray[Any], size: tuple[int, ...], fill: float
) -> npt.NDArray[Any]:
    """A box of (..., X, Y, Z) values from ``start``; ``fill`` where it reaches outside."""
    shape = values.shape[-3:]
    low = np.maximum(start, 0)
    high = np.minimum(np.add(start, size), shape)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    inside = values[..., x, y, z]
    if inside.shape[-3:] == tuple(size):
        return inside
    found = np.full((*values.shape[:-3], *size), fill, values.dtype)
    pairs = zip(low - start, high - start, strict=True)
    x, y, z = (slice(int(a), int(b)) for a, b in pairs)
    found[..., x, y, z] = inside
    return found
