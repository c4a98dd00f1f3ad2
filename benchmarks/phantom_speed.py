"""Seconds per synthetic case on one core: ``python benchmarks/phantom_speed.py [--n 10]``."""

from __future__ import annotations

import argparse
import time

from rad3d.synthetic.phantom.acquisition import draw_acquisition
from rad3d.synthetic.phantom.render import render
from rad3d.synthetic.truth import draw_truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10, help="cases per grid")
    parser.add_argument("--matrix", type=int, default=None, help="voxels in plane")
    parser.add_argument("--slices", type=int, default=None, help="number of slices")
    options = parser.parse_args()
    render(draw_truth(0))  # fills the caches
    for domain in ("in", "out"):
        wall, cpu = time.perf_counter(), time.process_time()
        shape = (0, 0, 0)
        for seed in range(options.n):
            acquisition = draw_acquisition(seed, domain, options.matrix, options.slices)
            shape = render(draw_truth(seed, domain), acquisition).hu.shape
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(
            f"{domain:>3}: {wall / options.n:.2f} s per case, {cpu / options.n:.2f} s of one core"
            f" (n={options.n}, last grid {'x'.join(map(str, shape))})"
        )


if __name__ == "__main__":
    main()
