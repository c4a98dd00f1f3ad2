"""Prints how long reports take through every metric that needs no weights, intervals included.

Run from the repository root: ``python benchmarks/eval_speed.py [--n 200] [--resamples 1000]``. The
reports are real ones where they are at hand (RAD3D_SHARED), each scored against another one; else
those of phantoms. Every metric is also timed by itself; metrics that share their statistics share
the time.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from pathlib import Path

from rad3d.data.samples import Prediction, PredictionSet, Sample, SampleSet
from rad3d.metrics.compare import compare
from rad3d.metrics.registry import default_metrics
from rad3d.metrics.scorecard import score
from rad3d.synthetic.grammar import write_report
from rad3d.synthetic.truth import draw_truth


def reports(n: int) -> tuple[str, list[str]]:
    """Where the reports come from, and twice ``n`` of them."""
    shared = Path(os.environ.get("RAD3D_SHARED", "../shared"))
    real = shared / "data" / "ct_rate_text" / "train.csv"
    if real.exists():
        with real.open(newline="", encoding="utf-8") as handle:
            return "real", [row["report_text"] for row in csv.DictReader(handle)][: 2 * n]
    return "phantom", [write_report(draw_truth(seed)).text for seed in range(2 * n)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200, help="reports (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=1000, help="default: %(default)s")
    args = parser.parse_args()
    source, texts = reports(args.n)
    n = len(texts) // 2
    samples = SampleSet("s", "s", tuple(Sample(str(i), texts[i]) for i in range(n)))
    first, second = (
        PredictionSet(name, "s", tuple(Prediction(str(i), said[i]) for i in range(n)))
        for name, said in (("next", texts[n:]), ("same", texts[:n]))
    )
    names = default_metrics()
    marks: list[tuple[str, float]] = []
    start, start_cpu = time.perf_counter(), time.process_time()
    card = score(
        samples,
        first,
        resamples=args.resamples,
        progress=lambda text, _: marks.append((text, time.perf_counter())),
    )
    end, cpu = time.perf_counter(), time.process_time() - start_cpu
    print(f"{n} {source} reports, {len(names)} metrics, {args.resamples} resamples")
    for (text, at), (_, then) in zip(marks, [*marks[1:], ("", end)], strict=True):
        print(f"  {text:24s}{then - at:7.2f} s")
    print(f"one scorecard: {end - start:.2f} s ({cpu:.2f} s of processor time)")
    other = score(samples, second, resamples=args.resamples)
    start = time.perf_counter()
    compare(card, other, resamples=args.resamples)
    print(f"comparing two in {len(names)} metrics: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
