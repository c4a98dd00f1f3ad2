"""Sensitivity of a metric to changes of a report whose meaning is known.

A report is scored against itself after a change. A clinical score must not move when sentences
change places, and must fall when one finding is denied, added or left out, or when left and right
are exchanged; how word overlap behaves is shown beside it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from rad3d.core.errors import UnknownName
from rad3d.core.findings import FINDING_NAMES
from rad3d.data.samples import Prediction, PredictionSet, Sample, SampleSet
from rad3d.metrics.scorecard import Scorecard, score
from rad3d.reports.labeller import Mention, find_mentions
from rad3d.reports.labeller.splitter import split_sentences

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
    texts: Sequence[str], change: str, metrics: Sequence[str] = METRICS, draws: int = 200
) -> Scorecard:
    """The scorecard of changed reports against what they were."""
    before, after = changed_reports(texts, change)
    samples = tuple(Sample(str(i), text) for i, text in enumerate(before))
    said = tuple(Prediction(str(i), text) for i, text in enumerate(after))
    return score(
        SampleSet("reports", "Reports", samples),
        PredictionSet(change, "reports", said),
        metrics=metrics,
        draws=draws,
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
