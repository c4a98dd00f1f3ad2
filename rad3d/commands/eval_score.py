"""The work of ``rad3d eval score``: read the files, score, compare, judge, print."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

from rad3d.commands import print_json, print_table, say
from rad3d.core.errors import BadRequest
from rad3d.core.labels import LabelSet
from rad3d.core.plain import to_plain
from rad3d.core.settings import Settings
from rad3d.data.predictions import Columns, read_predictions, read_references
from rad3d.data.samples import dropped_sentence
from rad3d.metrics.bootstrap import Estimate
from rad3d.metrics.cases import Places
from rad3d.metrics.compare import Difference, compare_all
from rad3d.metrics.registry import METRICS, metric_row, metrics_of
from rad3d.metrics.scorecard import Scorecard, score

BELOW_REQUIRED = 3
INCOMPLETE = 4

DIFFERENCE_HEAD = ("metric", "difference", "value", "p", "p, Holm", "significantly better")


def run(args: argparse.Namespace) -> int:
    """Score every file and print the figures; the exit status of the command."""
    metrics = args.metric or list(metrics_of((f"overlap-{args.profile}", "clinical")))
    required = [_requirement(text, metrics) for text in args.require]
    cards = _scorecards(args, metrics)
    differences: tuple[Difference, ...] = ()
    if len(cards) > 1:
        differences = compare_all(
            cards, baseline=cards[0].name, metrics=metrics, resamples=args.resamples, seed=args.seed
        )
    if args.json:
        scores = [_summary(card) for card in cards]
        print_json(to_plain({"scores": scores, "differences": differences}))
    else:
        _print_tables(cards, differences)
    return _status(args, cards, required)


def _scorecards(args: argparse.Namespace, metrics: Sequence[str]) -> list[Scorecard]:
    places = Places.of(Settings.from_env())
    columns = Columns(
        args.id_column, args.reference_column, args.prediction_column,
        label_set=LabelSet.find(args.label_set),
    )  # fmt: skip
    samples = read_references(args.references, columns=columns) if args.references else None
    cards: list[Scorecard] = []
    for path in args.predictions:
        name = path.stem if sum(p.stem == path.stem for p in args.predictions) == 1 else str(path)
        cases, predictions = read_predictions(path, columns=columns, samples=samples, name=name)
        card = score(
            cases,
            predictions,
            metrics=metrics,
            resamples=args.resamples,
            seed=args.seed,
            places=places,
        )
        say(f"{card.name}: n {card.n}, failures {card.failures}, dropped {len(card.dropped)}")
        for note in (dropped_sentence(card.dropped), *card.settings["notes"]):
            if note:
                say(f"{card.name}: {note}")
        cards.append(card)
    return cards


def _requirement(text: str, metrics: Sequence[str]) -> tuple[str, float]:
    name, _, value = text.partition("=")
    metric_row(name)
    if name not in metrics:
        raise BadRequest(f"--require names {name}, which is not scored.", f"Add --metric {name}.")
    try:
        return name, float(value)
    except ValueError:
        raise BadRequest(
            f"--require needs NAME=VALUE, not {text!r}.", "Such as f1_macro=0.5."
        ) from None


def _status(
    args: argparse.Namespace, cards: Sequence[Scorecard], required: Sequence[tuple[str, float]]
) -> int:
    worse = False
    for name, bound in required:
        value = cards[0].estimates[name].value
        higher = metric_row(name).higher_is_better
        if not (value >= bound if higher else value <= bound):
            say(f"{name} is {value:.4f}, which is worse than the required {bound:g}")
            worse = True
    if worse:
        return BELOW_REQUIRED
    if args.strict and any(card.failures or card.dropped for card in cards):
        say("Rows or reports are missing, which --strict does not allow")
        return INCOMPLETE
    return 0


def _print_tables(cards: Sequence[Scorecard], differences: Sequence[Difference]) -> None:
    rows = [
        (row.name, row.family, *(estimate_cell(card.estimates[row.id]) for card in cards))
        for row in map(metric_row, cards[0].estimates)
    ]
    print_table(rows, ("metric", "family", *(card.name for card in cards)))
    labels = [
        (label, f"{values['support']:.0f}", *(_number(c.per_label[label]["f1"]) for c in cards))
        for label, values in cards[0].per_label.items()
    ]
    print()
    print_table(labels, ("label", "occurs", *(f"F1 {card.name}" for card in cards)))
    if differences:
        print()
        print_table(map(difference_cells, differences), DIFFERENCE_HEAD)


def estimate_cell(estimate: Estimate | None) -> str:
    """A figure with its interval; a dash where there is none."""
    return "-" if estimate is None or math.isnan(estimate.value) else str(estimate)


def difference_cells(difference: Difference) -> tuple[str, ...]:
    """A row below :data:`DIFFERENCE_HEAD`."""
    return (
        METRICS[difference.metric].name,
        f"{difference.b} - {difference.a}",
        str(Estimate(difference.value, difference.low, difference.high, difference.n)),
        _number(difference.p_randomisation),
        _number(difference.p_adjusted),
        difference.better or "-",
    )


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _summary(card: Scorecard) -> dict[str, Any]:
    """A scorecard without what only programs of this package need."""
    return {
        "name": card.name,
        "n": card.n,
        "failures": card.failures,
        "dropped": card.dropped,
        "estimates": card.estimates,
        "per_label": card.per_label,
        "signature": card.signature,
        "settings": card.settings,
    }
