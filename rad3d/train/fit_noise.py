"""Fit the noise reference of phantoms, which tells other scans from them.

Fitted on phantoms in the voxels in which they are rendered, not on the model grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from rad3d.core.types import FloatArray
from rad3d.model.encoders.calibration import NoveltyReference
from rad3d.model.encoders.noise import noise_vector
from rad3d.synthetic.phantom.acquisition import draw_acquisition
from rad3d.synthetic.phantom.render import render
from rad3d.synthetic.truth import draw_truth
from rad3d.train.fit_calibration import novelty_reference
from rad3d.train.loop import Progress
from rad3d.train.phantoms import Split

MARGIN = 2.0
"""Phantoms out of domain lie at up to 1.6 times the percentile, real scans at 5 times or more."""


def noise_reference(
    fitted: Split, held_out: Split, jobs: int = 1, progress: Progress | None = None
) -> tuple[NoveltyReference, dict[str, Any]]:
    """Fit on one split, a mean for each kernel, with the limit from another.

    Returns:
        The reference, and how many of the held-out phantoms lie beyond its limit.
    """
    kernels = [draw_acquisition(t.seed, t.domain).kernel for t in fitted.truths]
    training, calibration = (
        np.stack(list(_vectors(split, jobs, progress))) for split in (fitted, held_out)
    )
    reference = novelty_reference(training, calibration, np.array(kernels), MARGIN)
    beyond = int((reference.distance(calibration) > reference.limit).sum())
    facts = {"fitted": fitted.n, "held_out": held_out.n, "beyond_limit": beyond}
    return reference, facts


def _vectors(split: Split, jobs: int, progress: Progress | None) -> Iterator[FloatArray]:
    seeds = range(split.first, split.first + split.n)
    work = partial(_vector, domain=split.domain)
    if jobs <= 1:
        vectors = map(work, seeds)
        yield from _told(vectors, split, progress)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from _told(pool.map(work, seeds, chunksize=4), split, progress)


def _told(
    vectors: Iterator[FloatArray], split: Split, progress: Progress | None
) -> Iterator[FloatArray]:
    for i, vector in enumerate(vectors, start=1):
        if progress is not None and (i % 20 == 0 or i == split.n):
            progress(f"noise {split.name}: {i}/{split.n}", i / split.n)
        yield vector


def _vector(seed: int, domain: str) -> FloatArray:
    vector = noise_vector(render(draw_truth(seed, domain)).hu)
    assert vector is not None, f"phantom {seed} has no noise"
    return vector
