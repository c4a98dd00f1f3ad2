"""A phantom case: what is true of it, its volume, and its report; and cases on disk.

A case is written as ``<id>.nii.gz`` (int16 HU, RAS+, millimetres) and ``<id>.json``:

=============== ===================================================================
``schema``      ``"rad3d-phantom/1"``
``id``          ``"in-000007"``: domain and seed
``seed``        integer; with the domain and the grid it fixes everything below
``domain``      ``"in"`` or ``"out"``
``findings``    list of findings as :meth:`rad3d.core.findings.Finding.to_dict` gives them
``labels``      the 18 label names in published order -> 0 or 1
``report``      ``{"findings": text, "impression": text}``
``acquisition`` fields of :class:`rad3d.synthetic.phantom.acquisition.Acquisition`
``sha256``      :func:`rad3d.core.types.volume_hash` of the volume as rendered
=============== ===================================================================
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rad3d.core.findings import Truth
from rad3d.core.labels import LABELS
from rad3d.core.types import Volume, volume_hash
from rad3d.reports.sections import ReportText
from rad3d.synthetic.grammar import write_report
from rad3d.synthetic.phantom.acquisition import Acquisition, draw_acquisition
from rad3d.synthetic.phantom.render import RenderedPhantom, render, write_nifti
from rad3d.synthetic.truth import draw_truth

SCHEMA_ID = "rad3d-phantom/1"


@dataclass(frozen=True)
class Case:
    """One phantom: truth, scan and report belong together by construction."""

    truth: Truth
    acquisition: Acquisition
    phantom: RenderedPhantom
    report: ReportText

    @property
    def id(self) -> str:
        """Domain and seed, such as ``"in-000007"``."""
        return case_id(self.truth.seed, self.truth.domain)

    @property
    def volume(self) -> Volume:
        """The scan as the pipeline takes it."""
        return Volume.from_array(self.phantom.hu, self.phantom.affine, name=self.id)

    def to_dict(self) -> dict[str, Any]:
        """The JSON side of the case, as the module describes it."""
        return {
            "schema": SCHEMA_ID,
            "id": self.id,
            "seed": self.truth.seed,
            "domain": self.truth.domain,
            "findings": [finding.to_dict() for finding in self.truth.findings],
            "labels": dict(zip(LABELS, self.truth.labels(), strict=True)),
            "report": asdict(self.report),
            "acquisition": asdict(self.acquisition),
            "sha256": volume_hash(self.phantom.hu, self.phantom.affine),
        }


def case_id(seed: int, domain: str) -> str:
    """``7, "in" -> "in-000007"``."""
    return f"{domain}-{seed:06d}"


def seed_of(case: str) -> int:
    """``"in-000007" -> 7``."""
    return int(case.rpartition("-")[2])


def make_case(
    seed: int, domain: str = "in", matrix: int | None = None, slices: int | None = None
) -> Case:
    """The case of a seed: the same voxels, labels and text on every machine.

    Args:
        seed: non-negative integer.
        domain: ``"in"`` or ``"out"``; also the style of the report.
        matrix, slices: voxels in plane and slices; the acquisition's own where not given.
    """
    truth = draw_truth(seed, domain)
    acquisition = draw_acquisition(seed, domain, matrix, slices)
    return Case(truth, acquisition, render(truth, acquisition), write_report(truth, style=domain))


def write_case(case: Case, directory: Path) -> Path:
    """Write ``<id>.nii.gz`` and ``<id>.json``; the path of the scan."""
    scan = directory / f"{case.id}.nii.gz"
    write_nifti(case.phantom, scan)
    text = json.dumps(case.to_dict(), indent=2, ensure_ascii=False)
    scan.with_name(f"{case.id}.json").write_text(text + "\n", encoding="utf-8")
    return scan


def write_cohort(
    directory: Path,
    seeds: Sequence[int],
    domain: str = "in",
    matrix: int | None = None,
    slices: int | None = None,
    jobs: int = 1,
) -> Iterator[Path]:
    """Make and write the case of every seed; yields each scan's path once it is on disk, in order.

    Args:
        directory: an existing folder.
        seeds: non-negative integers.
        domain, matrix, slices: see :func:`make_case`.
        jobs: worker processes; the files do not depend on it.
    """
    one = partial(_make_and_write, directory, domain, matrix, slices)
    if jobs == 1 or len(seeds) == 1:
        yield from map(one, seeds)
        return
    # Workers are started afresh: forking a process that holds threads (BLAS, torch) may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(seeds)), mp_context=context) as pool:
        yield from pool.map(one, seeds)


def _make_and_write(
    directory: Path, domain: str, matrix: int | None, slices: int | None, seed: int
) -> Path:
    return write_case(make_case(seed, domain, matrix, slices), directory)
