"""Phantoms on the model grid, made once and kept on disk for training and scoring.

A split is a range of seeds in one domain. Each phantom goes through the same path as an uploaded
scan (:func:`rad3d.volume.grid.to_grid`), so training sees what serving sees.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rad3d.core.errors import BadRequest
from rad3d.core.findings import Truth
from rad3d.core.labels import LABEL_INDEX, N_LABELS
from rad3d.core.types import Volume
from rad3d.model.encoders.phantom_cnn import TOKEN_STRIDE
from rad3d.synthetic.phantom.acquisition import draw_wide_acquisition
from rad3d.synthetic.phantom.render import RenderedPhantom, render
from rad3d.synthetic.truth import draw_truth
from rad3d.train.loop import Progress
from rad3d.volume.grid import GridSpec, to_grid


@dataclass(frozen=True)
class Split:
    """A set of phantoms: seeds ``first`` to ``first + n - 1`` of a domain.

    Every second one of a ``wide`` split is scanned by any scanner instead of one of the domain
    (:func:`rad3d.synthetic.phantom.acquisition.draw_wide_acquisition`).
    """

    name: str
    domain: str
    first: int
    n: int
    wide: bool = False

    @property
    def truths(self) -> list[Truth]:
        """The truth of every phantom, in order."""
        return [draw_truth(self.first + i, self.domain) for i in range(self.n)]

    def phantom(self, seed: int) -> RenderedPhantom:
        """The scan of one of its seeds."""
        wide = self.wide and seed % 2 == 1
        return render(draw_truth(seed, self.domain), draw_wide_acquisition(seed) if wide else None)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(N, 18) 0/1."""
        return np.array([truth.labels() for truth in self.truths], dtype=np.int64)


@dataclass(frozen=True)
class PhantomArrays:
    """The phantoms of a split on the model grid, memory mapped.

    Attributes:
        hu: (N, X, Y, Z) int16; or (N, 5, X/2, Y/2, Z/2), where planes were wanted.
        cells: (N, 18, x, y, z) uint8, 1 where a finding lies in a token's cell.
    """

    split: Split
    hu: npt.NDArray[np.int16]
    cells: npt.NDArray[np.uint8]


def build_split(
    split: Split,
    grid: GridSpec,
    directory: Path,
    jobs: int,
    progress: Progress | None = None,
    planes: bool = False,
) -> PhantomArrays:
    """Make the phantoms of a split, or go on where an earlier run stopped.

    Args:
        split: which phantoms.
        grid: the model grid, shape a multiple of 8.
        directory: receives ``<name>.hu.npy``, ``<name>.cells.npy`` and ``<name>.json``.
        jobs: worker processes.
        progress: receives a line now and then.
        planes: keep what the second encoder reads of an augmented scan instead of its voxels
            (:func:`rad3d.train.scanners.augmented_planes`).
    """
    directory.mkdir(parents=True, exist_ok=True)
    state = directory / f"{split.name}.json"
    wanted = {"domain": split.domain, "first": split.first, "n": split.n, "grid": grid.id}
    cells_shape = tuple(n // TOKEN_STRIDE for n in grid.shape)
    if state.is_file():
        recorded = json.loads(state.read_text())
        if {k: recorded[k] for k in wanted} != wanted:
            raise BadRequest(f"{state} describes another split.", "Remove it to build again.")
        done, mode = int(recorded["done"]), "r+"
    else:
        done, mode = 0, "w+"
    shape = (5, *(n // 2 for n in grid.shape)) if planes else grid.shape
    hu = _array(directory / f"{split.name}.hu.npy", mode, np.int16, (split.n, *shape))
    cells = _array(
        directory / f"{split.name}.cells.npy", mode, np.uint8, (split.n, N_LABELS, *cells_shape)
    )
    made = rendered(split, grid, jobs, done, planes)
    for i, (voxels, marks) in enumerate(made, start=done):
        hu[i], cells[i] = voxels, marks
        if (i + 1) % 20 == 0 or i + 1 == split.n:
            hu.flush()
            cells.flush()
            state.write_text(json.dumps(wanted | {"done": i + 1}) + "\n")
            if progress is not None:
                progress(f"phantoms {split.name}: {i + 1}/{split.n}", (i + 1) / split.n)
    return PhantomArrays(split, hu, cells)


def _array(path: Path, mode: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    return np.lib.format.open_memmap(path, mode=mode, dtype=dtype, shape=shape)


def rendered(
    split: Split, grid: GridSpec, jobs: int, done: int = 0, planes: bool = False
) -> Iterator[tuple[Any, Any]]:
    """Voxels (or planes) and token cells of each phantom of a split after the first ``done``."""
    seeds = range(split.first + done, split.first + split.n)
    work = partial(_render_one, split, grid, planes)
    if jobs <= 1:
        yield from map(work, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for start in range(0, len(seeds), 64):
            yield from pool.map(work, seeds[start : start + 64], chunksize=4)


def _render_one(split: Split, grid: GridSpec, planes: bool, seed: int) -> tuple[Any, Any]:
    phantom = split.phantom(seed)
    model_grid = to_grid(Volume.from_array(phantom.hu, phantom.affine), grid)
    low, high = grid.hu_range
    hu = np.rint((model_grid.values + 1) / 2 * (high - low) + low).astype(np.int16)
    cells = token_cells(phantom, model_grid.affine, grid)
    if planes:
        from rad3d.train.scanners import augmented_planes  # MONAI takes seconds to load

        return augmented_planes(hu, seed), cells
    return hu, cells


def token_cells(
    phantom: RenderedPhantom, grid_affine: npt.NDArray[np.floating[Any]], grid: GridSpec
) -> npt.NDArray[np.uint8]:
    """(18, x, y, z): which findings lie in which token's cell."""
    shape = tuple(n // TOKEN_STRIDE for n in grid.shape)
    cells = np.zeros((N_LABELS, *shape), dtype=np.uint8)
    to_cell = np.linalg.inv(grid_affine) @ phantom.affine
    for label, mask in phantom.masks.items():
        if label not in LABEL_INDEX:
            continue
        voxels = np.argwhere(mask)
        index = np.rint(voxels @ to_cell[:3, :3].T + to_cell[:3, 3]).astype(int) // TOKEN_STRIDE
        inside = ((index >= 0) & (index < np.array(shape))).all(axis=1)
        x, y, z = index[inside].T
        cells[LABEL_INDEX[label], x, y, z] = 1
    return cells
