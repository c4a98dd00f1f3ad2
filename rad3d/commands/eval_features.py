"""The work behind ``rad3d eval features``."""

from __future__ import annotations

import argparse

from rad3d.commands import say
from rad3d.commands.eval_study import open_evaluations
from rad3d.core.registry import SHIPPED_ENCODER

SAY_EVERY = 20
"""Scans between two lines of progress."""


def run(args: argparse.Namespace) -> int:
    """Write one file for each set and print its path."""
    from rad3d.data.sample_sets import PHANTOM_SPLITS
    from rad3d.evaluation.service import STUDY_DIR
    from rad3d.features.table import write_features

    source = open_evaluations().feature_source
    directory = args.out or STUDY_DIR / "features"
    for row in PHANTOM_SPLITS.values():
        samples = row.scans()
        for done in source.encode(row.id, samples, SHIPPED_ENCODER):
            if done % SAY_EVERY == 0:
                say(f"{row.id}: {done} scans encoded")
        found = source.features(row.id, samples, SHIPPED_ENCODER)
        path = directory / f"{row.id}.safetensors"
        write_features(path, found, source.identity(SHIPPED_ENCODER), half=row.split != "test")
        say(f"{row.id}: {len(found.ids)} cases")
        print(path)
    return 0
