"""Write synthetic chest CTs with known truth and a matching report.

Each case is CASE.nii.gz and CASE.json (truth, 18 labels, report, acquisition; see
rad3d.synthetic.phantom.cohort). Seeds run from --seed upwards; the same seed gives the same voxels,
labels and text. Domain "in" is what the shipped models learn from; "out" is contrast-enhanced,
thicker, noisier, reported in another style, and contains pulmonary embolism. Written paths go to
stdout.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rad3d.commands import say
from rad3d.core.errors import BadRequest
from rad3d.core.findings import DOMAINS

EXAMPLE = """
rad3d phantom --n 10 --out phantoms
rad3d phantom --n 50 --seed 1000 --domain out --jobs 2 --out phantoms/out
rad3d phantom --matrix 512 --slices 250 --out one-large-phantom
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rad3d phantom``."""
    add = parser.add_argument
    add("--n", type=int, default=1, help="how many cases (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of the first case (default: %(default)s)")
    add("--domain", choices=DOMAINS, default="in", help="default: %(default)s")
    add("--out", type=Path, required=True, metavar="DIR", help="folder, made if absent")
    add("--matrix", type=int, metavar="N", help="voxels in plane, N x N (default: 192)")
    add("--slices", type=int, metavar="N", help="slices (default: 128; fewer and thick in 'out')")
    add("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Render, write, count."""
    if args.n < 1 or args.jobs < 1 or args.seed < 0:
        raise BadRequest("--n and --jobs must be at least 1, and --seed at least 0.")

    from rad3d.synthetic.phantom.cohort import write_cohort

    args.out.mkdir(parents=True, exist_ok=True)
    seeds = range(args.seed, args.seed + args.n)
    began = time.monotonic()
    written = write_cohort(args.out, seeds, args.domain, args.matrix, args.slices, args.jobs)
    for done, path in enumerate(written, start=1):
        print(path, flush=True)
        rate = (time.monotonic() - began) / done
        left = rate * (args.n - done)
        say(f"{done}/{args.n} {path.name} ({rate:.1f} s per case, {left:.0f} s left)")
    return 0
