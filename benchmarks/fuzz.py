"""Hostile files over the whole path: upload folder, reading, checks, model grid.

    python benchmarks/fuzz.py [--files 2000] [--dicom 200] [--first 0]
    nice -n 15 python benchmarks/fuzz.py --files 20000 --dicom 1000     # the full run

Every file must be read correctly or refused in a sentence, within 5 s of processor time (that of
the process which decodes DICOM included), without the address space growing by more than the cap;
the other process has a limit of its own. "Correctly" means that an independent reader
(nibabel, where it reads the file at all) finds the same voxels at the same places, and that the
model grid is finite and within its bounds. Prints how many ended how, the slowest file and the
largest rise of memory; exits with 1 and the numbers of the files that broke a rule. ``--show N``
says what is done to file N.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from mutations import Case, make_case

from rad3d.core.errors import Rad3dError
from rad3d.core.types import Volume
from rad3d.volume.checks import AIR_HU
from rad3d.volume.decoded import Limits
from rad3d.volume.grid import GridSpec, to_grid
from rad3d.volume.load import read_volume

LIMIT_S = 5.0
CAP_MB = 1024
LIMITS = Limits(max_bytes=96 * 2**20, max_voxels=16 * 2**20)
SPEC = GridSpec(shape=(28, 24, 24), spacing_mm=(12.0, 12.0, 12.0))
"""The shipped grid at a quarter of its resolution: the same arithmetic, 64 times as fast."""


@dataclass(frozen=True)
class Figures:
    """Of a campaign: the slowest file in seconds and by number, and the peak memory in MB."""

    slowest_s: float
    slowest: str
    peak_mb: float


class Hang(BaseException):
    """A file took too long; no handler of the readers may catch it."""


def main() -> int:
    """Run the files and print what became of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--files", type=int, default=2000, help="damaged NIfTI files and zips")
    parser.add_argument("--dicom", type=int, default=200, help="damaged DICOM series in zips")
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--show", type=int, help="say what is done to one file and how it ends")
    parser.add_argument("--is-dicom", action="store_true", help="--show a DICOM zip")
    args = parser.parse_args()
    if args.show is not None:
        case = make_case(args.show, args.is_dicom)
        print(case.kind, case.name, *case.steps, sep="\n  ")
        with tempfile.TemporaryDirectory() as folder:
            print(run_case(case, Path(folder)))
        return 0
    return report(*campaign(args.first, args.files, args.dicom))


def campaign(
    first: int, files: int, dicom: int, log: Any = sys.stderr
) -> tuple[Counter[str], list[str], Figures]:
    """(outcome -> how often, broken rules, figures) of a number of files."""
    outcomes: Counter[str] = Counter()
    broken: list[str] = []
    slowest = (0.0, "")
    kinds = [(False, files), (True, dicom)]
    with tempfile.TemporaryDirectory(prefix="rad3d-fuzz-") as name:
        folder = Path(name)
        for is_dicom, count in kinds:  # libraries are loaded before memory is capped
            if count:
                run_case(make_case(first, is_dicom), folder)
        torch.zeros(8).sum()
        with capped_memory():
            for is_dicom, count in kinds:
                for number in range(first, first + count):
                    case = make_case(number, is_dicom)
                    began = processor_seconds()
                    outcome = run_case(case, folder)
                    label = f"{'dicom ' if is_dicom else ''}{number}"
                    took = processor_seconds() - began
                    slowest = max(slowest, (took, label))
                    if took > LIMIT_S:
                        outcome = f"BROKEN: over {LIMIT_S:g} s"
                    outcomes[outcome.split(":")[0]] += 1
                    if outcome.startswith("BROKEN"):
                        broken.append(f"{label} ({case.kind}; {'; '.join(case.steps)}): {outcome}")
                        if log:
                            print(broken[-1], file=log, flush=True)
                    if log and (number + 1) % 2000 == 0:
                        print(f"{label}: {len(broken)} broken so far", file=log, flush=True)
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(who).ru_maxrss for who in whose) / 1024
    return outcomes, broken, Figures(*slowest, peak)


def processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def run_case(case: Case, folder: Path) -> str:
    """``read``, ``refused <code>`` or ``BROKEN: why``."""
    path = folder / f"upload{Path(case.name).suffix[:5] if case.name.isprintable() else ''}"
    path.write_bytes(case.data)
    before = set(folder.iterdir())
    signal.signal(signal.SIGPROF, _hang)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        volume = read_volume(path, case.name, LIMITS)
        grid = to_grid(volume, SPEC)
    except Rad3dError as error:
        signal.setitimer(signal.ITIMER_PROF, 0)
        sentence = str(error)
        if not (error.code and sentence.endswith(".") and len(sentence) < 600):
            return f"BROKEN: refused without a sentence: {error.code} {sentence[:200]!r}"
        return f"refused {error.code}"
    except Hang:
        return f"BROKEN: over {LIMIT_S:g} s"
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return f"BROKEN: {type(error).__name__} at {where}: {str(error)[:120]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        path.unlink(missing_ok=True)
        left = set(folder.iterdir()) - before
    problem = wrong_volume(volume) or wrong_grid(grid) or (f"left {left}" if left else "")
    if not problem and "zip" not in case.kind:
        problem = disagreement(case, volume)
    return f"BROKEN: {problem}" if problem else "read"


def _hang(*_: object) -> None:
    raise Hang


def wrong_volume(volume: Volume) -> str:
    """What no accepted volume may be."""
    if not np.isfinite(volume.affine).all() or abs(np.linalg.det(volume.affine)) < 1e-9:
        return "affine not usable"
    if volume.hu.dtype.kind == "f" and not np.isfinite(volume.hu).all():
        return "voxels not finite"
    if min(volume.spacing_mm) < 0.05 or max(volume.extent_mm) > 3000:
        return f"implausible geometry {volume.spacing_mm} {volume.extent_mm}"
    if not volume.name.isprintable():
        return "name not printable"
    return ""


def wrong_grid(grid: Any) -> str:
    """What the encoder must never get."""
    if not np.isfinite(grid.values).all() or np.abs(grid.values).max() > 1:
        return "model grid out of bounds"
    return ""


def disagreement(case: Case, volume: Volume) -> str:
    """How an independent reader sees it otherwise; empty where it agrees or cannot read it."""
    try:
        data = case.data
        if data[:2] == b"\x1f\x8b":
            import gzip

            data = gzip.decompress(data)
        kind = nib.Nifti2Image if b"n+2\0" in data[4:8] else nib.Nifti1Image
        start = kind.header_class(data[: kind.header_class.sizeof_hdr], check=False)["vox_offset"]
        if not start >= kind.header_class.sizeof_hdr:  # nibabel then takes the header for voxels
            return ""
        image = nib.as_closest_canonical(nib.squeeze_image(kind.from_bytes(data)))
        values = np.asarray(image.dataobj, np.float64)
        affine = image.affine
    except Exception:
        return ""
    if values.shape != volume.shape:
        return f"shape {volume.shape}, but {values.shape} elsewhere"
    usable = np.isfinite(values) & (np.abs(values) < 2**31)
    if any(note.code == "padding" for note in volume.notes):
        usable &= volume.hu != AIR_HU  # as the note says
    off = np.abs(values - volume.hu)[usable]
    scale = max(1.0, float(np.abs(volume.hu).max()))
    if off.size and off.max() > 1e-3 * scale:
        return f"voxels differ by up to {off.max():g}"
    if np.isfinite(affine).all() and not any(n.code == "spacing_unit" for n in volume.notes):
        extent = float(np.abs(affine).max()) or 1.0
        if np.abs(affine - volume.affine).max() > 1e-3 * extent:
            return "affine differs"
    return ""


@contextmanager
def capped_memory() -> Iterator[None]:
    """Address space may grow by :data:`CAP_MB`; beyond it an allocation fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(
        resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + CAP_MB * 2**20, hard)
    )
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def report(outcomes: Counter[str], broken: list[str], figures: Figures) -> int:
    """Print the summary; 1 where a rule was broken."""
    total = sum(outcomes.values())
    print(f"{total} files: {outcomes['read']} read, "
          f"{sum(n for o, n in outcomes.items() if o.startswith('refused'))} refused, "
          f"{len(broken)} broke a rule")  # fmt: skip
    for outcome, count in outcomes.most_common():
        print(f"  {count:6d}  {outcome}")
    print(f"slowest {figures.slowest_s:.2f} s (file {figures.slowest}); "
          f"peak memory {figures.peak_mb:.0f} MB; cap {CAP_MB} MB above the start")  # fmt: skip
    for line in broken[:50]:
        print(line)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
