"""Measure how well the evidence of an encoder shows where findings are, on phantoms.

    .venv/bin/python scripts/measure_where.py                  # the shipped encoder, 600 phantoms
    .venv/bin/python scripts/measure_where.py --n 20 --out x.json

Counted are phantoms that have a finding and in which the classifier sees it, as in the app. A cell
is right where it holds part of the finding, so the tolerance is half a cell along each axis:

* pointing game: the share of phantoms whose strongest cell is right;
* Dice of the cells that are shown and the cells that are right.

Both are compared with what always points at, or shows, the likeliest cells. Thresholds and these
constant guesses are chosen on the calibration phantoms, figures come from the test phantoms.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rad3d.core.encoders import ENCODERS, SHIPPED_ENCODER
from rad3d.core.evidence import Evidence, Localisation
from rad3d.core.labels import LABELS
from rad3d.core.settings import Settings
from rad3d.core.types import FloatArray
from rad3d.metrics.bootstrap import bootstrap
from rad3d.model.engine import Engine
from rad3d.model.evidence import FILE, SCHEMA_ID, find_evidence
from rad3d.model.identity import EncoderIdentity, weights_sha256
from rad3d.model.store import ModelStore
from rad3d.synthetic.phantom.cohort import make_case
from rad3d.synthetic.phantom.render import RenderedPhantom
from rad3d.train.demo_plan import FULL
from rad3d.train.phantoms import Split

Cells = npt.NDArray[np.bool_]
SHOWN = "test-in"
"""The set whose figures the app shows, and by which labels are offered."""

THRESHOLDS = np.round(np.arange(0.05, 1.0, 0.05), 2)
RESAMPLES = 1000


@dataclass(frozen=True)
class Seen:
    """One finding that is there and seen: strength of the cells, and which of them are right."""

    strength: FloatArray
    right: Cells


@dataclass(frozen=True)
class Guess:
    """What is known of a label without looking: its likeliest cell, and cells to show always."""

    peak: int
    shown: Cells


def seen_in(split: Split, engine: Engine, encoder_id: str, n: int) -> dict[str, list[Seen]]:
    """The findings of the first phantoms of a split, by label."""
    found: dict[str, list[Seen]] = {}
    for seed in range(split.first, split.first + min(n, split.n)):
        case = make_case(seed, split.domain)
        volume = case.volume
        diagnosis = engine.diagnose(engine.features(volume, encoder_id))
        for row in diagnosis.to_rows():
            label = row["label"]
            if row["present"] and case.truth.get(label) is not None:
                evidence = find_evidence(engine, volume, label, encoder_id)
                right = cells_with(case.phantom, label, evidence)
                if right.any():
                    found.setdefault(label, []).append(Seen(evidence.strength, right))
        engine.forget(volume.sha256)
    return found


def cells_with(phantom: RenderedPhantom, label: str, evidence: Evidence) -> Cells:
    """The cells that hold part of a finding."""
    cells = np.zeros(evidence.strength.shape, bool)
    to_cell = np.linalg.inv(evidence.affine) @ phantom.affine
    places = np.argwhere(phantom.masks[label]) @ to_cell[:3, :3].T + to_cell[:3, 3]
    index = np.rint(places).astype(int)
    inside = ((index >= 0) & (index < cells.shape)).all(axis=1)
    cells[tuple(index[inside].T)] = True
    return cells


def dice(shown: Cells, right: Cells) -> float:
    """2 |A and B| / (|A| + |B|)."""
    return float(2 * (shown & right).sum() / max(1, shown.sum() + right.sum()))


def best_threshold(score: Callable[[float], float]) -> float:
    """The one of :data:`THRESHOLDS` with the highest score."""
    return float(max(THRESHOLDS, key=score))


def learned(cases: Sequence[Seen]) -> tuple[float, Guess]:
    """The threshold of a label, and its constant guess, with the best mean Dice."""
    threshold = best_threshold(
        lambda t: float(np.mean([dice(c.strength >= t, c.right) for c in cases]))
    )
    often = np.mean([c.right for c in cases], axis=0)
    limit = best_threshold(lambda t: float(np.mean([dice(often >= t, c.right) for c in cases])))
    return threshold, Guess(int(often.argmax()), often >= limit)


def measured(cases: Sequence[Seen], threshold: float, guess: Guess) -> Localisation:
    """The figures of a label on other phantoms than it was learned on."""
    hits = np.array([c.right.flat[int(c.strength.argmax())] for c in cases], float)
    guesses = np.array([c.right.flat[guess.peak] for c in cases], float)
    overlaps = np.array([dice(c.strength >= threshold, c.right) for c in cases])
    constant = np.array([dice(guess.shown, c.right) for c in cases])

    def mean(values: FloatArray) -> tuple[float, float, float]:
        e = bootstrap(lambda index: float(values[index].mean()), len(values), RESAMPLES)
        return round(e.value, 4), round(e.low, 4), round(e.high, 4)

    return Localisation(
        threshold, len(cases), mean(hits), mean(hits - guesses), mean(overlaps),
        mean(overlaps - constant),
    )  # fmt: skip


def figures(
    calibration: dict[str, list[Seen]], tests: dict[str, dict[str, list[Seen]]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each label with its figures on every test set that has it."""
    for label in sorted(calibration, key=LABELS.index):
        threshold, guess = learned(calibration[label])
        yield (
            label,
            {
                name: _plain(measured(found[label], threshold, guess))
                for name, found in tests.items()
                if found.get(label)
            },
        )


def _plain(found: Localisation) -> dict[str, Any]:
    """Without what follows from the other sets."""
    return {name: value for name, value in asdict(found).items() if name != "holds"}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--encoder", default=SHIPPED_ENCODER, choices=list(ENCODERS))
    parser.add_argument("--n", type=int, default=200, help="phantoms of each set")
    parser.add_argument("--out", type=Path, help="by default where the app looks for it")
    options = parser.parse_args()
    store = ModelStore(Settings.from_env())
    engine, folder = Engine(store), store.models_dir / ENCODERS[options.encoder].source
    grid = store.encoder(options.encoder).grid
    splits = {s.name: s for s in (FULL.calibration_split, *FULL.test_splits)}
    found = {
        name: seen_in(split, engine, options.encoder, options.n) for name, split in splits.items()
    }
    calibration = found.pop("calibration")
    result = {
        "schema": SCHEMA_ID,
        "encoder": asdict(EncoderIdentity(options.encoder, weights_sha256(folder), grid.id)),
        "made": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        "sets": {
            name: {"domain": s.domain, "first": s.first, "n": min(options.n, s.n)}
            for name, s in splits.items()
        },
        "shown": SHOWN,
        "labels": dict(figures(calibration, found)),
    }
    path = options.out or folder / FILE
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
