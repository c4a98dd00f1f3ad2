"""Prints the processor time of the labeller per report, on phantom reports and on real ones.

Run from the repository root: ``python benchmarks/labeller_speed.py [--n 300]``.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from pathlib import Path

from rad3d.reports.labeller import label_report
from rad3d.synthetic.grammar import write_report
from rad3d.synthetic.truth import draw_truth


def milliseconds(texts: list[str]) -> list[float]:
    """Processor time of ``label_report`` for each text, in ms, after one call that warms up."""
    label_report(texts[0])
    times = []
    for text in texts:
        start = time.process_time()
        label_report(text)
        times.append((time.process_time() - start) * 1000)
    return times


def show(name: str, texts: list[str]) -> None:
    """One line: how many reports, how long they are, and the time per report."""
    times = sorted(milliseconds(texts))
    words = statistics.mean(len(text.split()) for text in texts)
    print(
        f"{name:16s} n={len(texts)}  {words:.0f} words  "
        f"mean {statistics.mean(times):.2f} ms  median {statistics.median(times):.2f} ms  "
        f"95% {times[int(0.95 * (len(times) - 1))]:.2f} ms  max {times[-1]:.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=300, help="reports per source")
    n = parser.parse_args().n
    show("phantom reports", [write_report(draw_truth(seed)).text for seed in range(n)])
    shared = Path(os.environ.get("RAD3D_SHARED", "../shared"))
    real = shared / "data" / "ct_rate_text" / "train.csv"
    if real.exists():
        with real.open(newline="", encoding="utf-8") as handle:
            show("real reports", [row["report_text"] for row in csv.DictReader(handle)][:n])
    else:
        print("real reports     not at hand")


if __name__ == "__main__":
    main()
