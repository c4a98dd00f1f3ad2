"""The noise of a scan, which tells a rendered phantom from a scanner's image.

A scanner's noise is made by reconstruction: it reaches over several voxels in plane, often over
slices, and tissue has texture of its own. The renderer's noise reaches one voxel in plane and none
across slices, in one of few ways, and its fat and muscle are otherwise smooth. The contents of the
scan hardly matter to what is measured here, and neither do its voxel size, its position or the part
of the chest that it shows. Whatever resamples a scan changes it, so a phantom that was resampled,
or rendered in much larger or smaller voxels than those that were learned, counts as none either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rad3d.core.errors import CorruptWeights
from rad3d.core.files import readable_like
from rad3d.core.types import FloatArray, Novelty
from rad3d.model.encoders.calibration import NoveltyReference

TISSUES_HU: tuple[tuple[float, float], ...] = ((-130.0, -70.0), (10.0, 90.0))
"""Fat and soft tissue: the local mean of a voxel that counts lies in one of these ranges."""

OFFSETS: tuple[tuple[int, int, int], ...] = (
    (1, 0, 0), (2, 0, 0), (3, 0, 0), (0, 1, 0), (0, 2, 0), (0, 3, 0), (1, 1, 0), (0, 0, 1),
    (0, 0, 2),
)  # fmt: skip
"""Offsets from a voxel to the one it is compared with, in voxels along X, Y, Z."""

SLABS, SLAB_SLICES = (3, 10), 4
VOXELS = 2_500_000
"""The number of voxels that determines how many slabs are read, within :data:`SLABS`."""

MIN_PAIRS = 1000
CAP = 3.0
"""Differences count up to this many medians, so that edges and vessels hardly do."""

FARTHEST = 1000.0
"""Largest distance that is stated; also that of a scan in which there is no noise to measure."""

FILE = "noise.json"


def noise_vector(hu: npt.NDArray[Any]) -> FloatArray | None:
    """Measure how much voxels of one tissue differ at each of :data:`OFFSETS`.

    A variogram (Matheron 1963) of fat and one of soft tissue, each relative to its last offset.

    Args:
        hu: (X, Y, Z) in HU, in the voxels that were read.

    Returns:
        (2 * 8 + 1,) logarithms, the last one that of soft tissue over fat; None where there is too
        little of a tissue, or no noise at all.
    """
    tissues: list[list[list[npt.NDArray[np.float32]]]] = [[[] for _ in OFFSETS] for _ in TISSUES_HU]
    for slab in _slabs(hu):
        mean = ndimage.uniform_filter(slab, (5, 5, 3), mode="nearest")
        for tissue, (low, high) in zip(tissues, TISSUES_HU, strict=True):
            inside = (mean >= low) & (mean < high)
            for differences, offset in zip(tissue, OFFSETS, strict=True):
                here = tuple(slice(0, n - k) for n, k in zip(slab.shape, offset, strict=True))
                there = tuple(slice(k, None) for k in offset)
                pairs = inside[here] & inside[there]
                differences.append(np.abs(slab[there][pairs] - slab[here][pairs]))
    levels = np.array([_levels([np.concatenate(d) for d in tissue]) for tissue in tissues])
    if not levels.all():
        return None
    logs = np.log(levels)
    fat, soft = logs[:, :-1] - logs[:, -1:]
    return np.array([*fat, *soft, logs[1, -1] - logs[0, -1]])


def _slabs(hu: npt.NDArray[Any]) -> list[npt.NDArray[np.float32]]:
    """A few slices that follow each other, at evenly spread heights without the ends."""
    x, y, n = hu.shape
    fewest, most = SLABS
    slabs = min(max(VOXELS // (x * y * SLAB_SLICES), fewest), most)
    first = np.linspace(0.1 * n, max(0.1 * n, 0.9 * n - SLAB_SLICES), slabs).astype(int)
    return [hu[:, :, z : z + SLAB_SLICES].astype(np.float32) for z in np.unique(first)]


def _levels(differences: list[npt.NDArray[np.float32]]) -> list[float]:
    """The capped mean for each offset; zeros where it cannot be told."""
    if min(len(d) for d in differences) < MIN_PAIRS:
        return [0.0] * len(differences)
    cap = CAP * max(float(np.median(differences[-1])), 1.0)
    return [float(np.minimum(d, cap).mean(dtype=np.float64)) for d in differences]


def noise_novelty(hu: npt.NDArray[Any], reference: NoveltyReference) -> Novelty:
    """The distance of a scan's noise from that of the reference scans."""
    vector = noise_vector(hu)
    if vector is None:
        return Novelty(FARTHEST, 100.0, reference.limit, "noise")
    novelty = reference.measure(vector)
    return replace(novelty, distance=min(novelty.distance, FARTHEST), measured="noise")


def write_reference(folder: Path, reference: NoveltyReference, facts: Mapping[str, Any]) -> None:
    """Write ``noise.json`` into an encoder's folder; ``facts`` say what it was fitted on."""
    arrays = {
        name: np.round(getattr(reference, name), 6).tolist()
        for name in ("mean", "whitening", "quantiles")
    }
    values = {"limit": round(reference.limit, 4), **arrays, "facts": dict(facts)}
    path = folder / FILE
    path.write_text(json.dumps(values) + "\n", encoding="utf-8")
    readable_like(path, folder / "config.json")


def read_reference(folder: Path) -> NoveltyReference | None:
    """Read the reference that :func:`write_reference` wrote; None where the encoder has none.

    Raises:
        CorruptWeights: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        arrays = {name: np.array(values[name]) for name in ("mean", "whitening", "quantiles")}
        return NoveltyReference(**arrays, limit=float(values["limit"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptWeights(
            f"{folder.name}/{FILE} is damaged.",
            "Restore the file from the repository or make it again with: "
            "rad3d demo build --stage noise",
            code="corrupt_weights",
        ) from error
