"""Prints what each metric does to reports that are changed in one known way.

Run from the repository root: ``python benchmarks/metric_sensitivity.py [--n 200]``. The reports are
real ones where they are at hand (RAD3D_SHARED), else those of phantoms.

A report is scored against itself after a change. A clinical score must not move when sentences
change places, and must fall when one finding is denied, added or left out, or when left and right
are exchanged; how word overlap behaves is shown beside it.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from rad3d.core.errors import UnknownName
from rad3d.core.findings import FINDING_NAMES
from rad3d.data.samples import Prediction, PredictionSet, Sample, SampleSet
from rad3d.metrics.scorecard import Scorecard, score
from rad3d.reports.labeller import Mention, find_mentions
from rad3d.reports.labeller.splitter import split_sentences
from rad3d.synthetic.grammar import write_report
from rad3d.synthetic.truth import draw_truth

METRICS: tuple[str, ...] = (
    "f1_macro",
    "crg",
    "factuality",
    "hf_bleu_4",
    "hf_rouge_l",
    "hf_meteor",
)
"""The metrics in the table."""

_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}


def sentences_of(text: str) -> list[str]:
    """The sentences of a report, each with its full stop."""
    found = [sentence.text for sentence in split_sentences(text)]
    return [text if text[-1] in ".!?" else f"{text}." for text in found]


def shuffled(sentences: Sequence[str], rng: random.Random) -> list[str] | None:
    """The same sentences in another order."""
    mixed = list(sentences)
    rng.shuffle(mixed)
    return mixed if mixed != list(sentences) else None


def negated(sentences: Sequence[str], rng: random.Random) -> list[str] | None:
    """One finding denied wherever it was stated."""
    label = _label_alone(sentences, rng)
    if label is None:
        return None
    return [f"No {label.lower()}." if _states(s, label) else s for s in sentences]


def without_one(sentences: Sequence[str], rng: random.Random) -> list[str] | None:
    """One finding left out."""
    label = _label_alone(sentences, rng)
    if label is None:
        return None
    return [s for s in sentences if not _states(s, label)]


def with_another(sentences: Sequence[str], rng: random.Random) -> list[str] | None:
    """One finding more than there was."""
    named = {m.label for m in find_mentions(" ".join(sentences)) if m.present}
    absent = [label for label in FINDING_NAMES if label not in named]
    if not absent:
        return None
    place = rng.randrange(len(sentences) + 1)
    return [*sentences[:place], f"There is {rng.choice(absent).lower()}.", *sentences[place:]]


def mirrored(sentences: Sequence[str], rng: random.Random) -> list[str] | None:
    """Left and right exchanged; None where no finding has one side."""
    if not any(m.present and m.side in ("left", "right") for s in sentences for m in _stated(s)):
        return None
    return [_SIDE.sub(lambda found: _OTHER.get(found[0], found[0]), s) for s in sentences]


CHANGES: dict[str, Callable[[Sequence[str], random.Random], list[str] | None]] = {
    "sentences shuffled": shuffled,
    "one finding negated": negated,
    "left and right swapped": mirrored,
    "one finding inserted": with_another,
    "one finding deleted": without_one,
}
"""Changes of a report by name; each gives None for a report that does not allow it."""


def changed_reports(
    texts: Sequence[str], change: str, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Reports and the same reports after one change, those left out that do not allow it."""
    if change not in CHANGES:
        raise UnknownName("change", change, list(CHANGES))
    before, after = [], []
    for i, text in enumerate(texts):
        sentences = sentences_of(text)
        made = CHANGES[change](sentences, random.Random(f"{seed} {i}")) if sentences else None
        if made is not None:
            before.append(" ".join(sentences))
            after.append(" ".join(made))
    return before, after


def score_change(
    texts: Sequence[str], change: str, metrics: Sequence[str] = METRICS, resamples: int = 200
) -> Scorecard:
    """The scorecard of changed reports against what they were."""
    before, after = changed_reports(texts, change)
    samples = tuple(Sample(str(i), text) for i, text in enumerate(before))
    said = tuple(Prediction(str(i), text) for i, text in enumerate(after))
    return score(
        SampleSet("reports", "Reports", samples),
        PredictionSet(change, "reports", said),
        metrics=metrics,
        resamples=resamples,
    )


def _stated(sentence: str) -> tuple[Mention, ...]:
    return find_mentions(sentence)


def _states(sentence: str, label: str) -> bool:
    return any(m.label == label and m.present for m in _stated(sentence))


def _label_alone(sentences: Sequence[str], rng: random.Random) -> str | None:
    """A finding whose sentences state nothing else, so that changing them changes it only."""
    by_label: dict[str, bool] = {}
    for sentence in sentences:
        labels = {m.label for m in _stated(sentence) if m.present}
        for label in labels:
            by_label[label] = by_label.get(label, True) and len(labels) == 1
    alone = sorted(label for label, is_alone in by_label.items() if is_alone)
    return rng.choice(alone) if alone else None


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
