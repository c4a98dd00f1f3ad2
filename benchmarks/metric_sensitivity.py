"""Prints what each metric does to reports that are changed in one known way.

Run from the repository root: ``python benchmarks/metric_sensitivity.py [--n 200]``. The reports are
real ones where they are at hand (RAD3D_SHARED), else those of phantoms.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

from rad3d.metrics.sensitivity import CHANGES, METRICS, score_change
from rad3d.synthetic.grammar import write_report
from rad3d.synthetic.truth import draw_truth


def reports(n: int) -> tuple[str, list[str]]:
    """Where the reports come from, and the reports."""
    shared = Path(os.environ.get("RAD3D_SHARED", "../shared"))
    real = shared / "data" / "ct_rate_text" / "train.csv"
    if real.exists():
        with real.open(newline="", encoding="utf-8") as handle:
            return "real reports", [row["report_text"] for row in csv.DictReader(handle)][:n]
    return "phantom reports", [write_report(draw_truth(seed)).text for seed in range(n)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200, help="reports (default: %(default)s)")
    source, texts = reports(parser.parse_args().n)
    print(f"{len(texts)} {source}; n is how many allow the change; value against the unchanged one")
    print(f"{'':24s}{'n':>5s}" + "".join(f"{name:>12s}" for name in METRICS))
    for change in CHANGES:
        card = score_change(texts, change)
        values = "".join(f"{card.estimates[name].value:12.4f}" for name in METRICS)
        print(f"{change:24s}{card.n:5d}{values}")


if __name__ == "__main__":
    main()
