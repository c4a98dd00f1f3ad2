"""Reports of an evaluation, written in batches against one case at a time: time and equal text.

    .venv/bin/python benchmarks/generation_batch.py [--variant phantom-l/v3] [--cases 64]

Both write greedily from the same features, with the machine's own number of threads. The batches
are those of an evaluation (rad3d.evaluation.generate): reports that will be about equally
long together, finished ones leaving the batch. Exit status 1 where a text differs.
"""

from __future__ import annotations

import argparse
import os
import threading
import time

from rad3d.commands.eval_study import open_evaluations
from rad3d.core.encoders import SHIPPED_ENCODER
from rad3d.core.types import GenerationOptions
from rad3d.data.sample_sets import SAMPLE_SETS
from rad3d.evaluation.ablations import conditions
from rad3d.evaluation.generate import ReportWriter
from rad3d.model.engine import BATCH_ROWS, Engine

BEST = 3.0
"""What an evaluation aims at."""


def main() -> int:
    """Time both and compare the texts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", action="append", metavar="ID")
    parser.add_argument("--cases", type=int, default=64)
    args = parser.parse_args()
    evaluations = open_evaluations()
    samples = SAMPLE_SETS["phantom-in"].sample_set(args.cases)
    source = evaluations.feature_source
    for done in source.encode(samples.id, samples.samples, SHIPPED_ENCODER):
        print(f"encoded {done} scans", end="\r", flush=True)
    seen = source.features(samples.id, samples.samples, SHIPPED_ENCODER)
    given = [row.input for row in conditions("", seen, None)]
    variants = args.variant or [s.id for s in evaluations.variants() if s.ready]
    different = 0
    print(f"{len(given)} reports, {os.cpu_count()} cores, batches of {BATCH_ROWS}")
    print(f"{'variant':20} {'one by one':>12} {'batched':>12} {'ratio':>7}  same text")
    for variant in variants:
        engine, options = Engine(evaluations.store), GenerationOptions()
        next(engine.generate_batches(given[:1], variant, options))  # loads the model
        began = time.perf_counter()
        alone = [next(engine.generate_batches([each], variant, options))[0].text for each in given]
        one = time.perf_counter() - began
        writer = ReportWriter(engine, variant, options, None)
        began = time.perf_counter()
        for _ in writer.write(given, threading.Event()):
            pass
        batched = time.perf_counter() - began
        texts = [p.text for p in writer.predictions(seen.ids, given)]
        same = sum(a == b for a, b in zip(alone, texts, strict=True))
        different += len(given) - same
        short = "" if one / batched >= BEST else f"  below {BEST:g}"
        print(
            f"{variant:20} {one:10.1f} s {batched:10.1f} s {one / batched:6.1f}x  "
            f"{same} of {len(given)}{short}",
            flush=True,
        )
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())
