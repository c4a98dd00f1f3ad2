"""Give an encoder a head for labels, or a calibration, from features of labelled scans.

Both lie beside the encoder's weights, and app, report, training and evaluation use them from then
on: `fit` for an encoder without a head, `calibrate` for one whose logits are no probabilities.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rad3d.commands import add_command, add_label_set, print_json, print_table, say
from rad3d.commands.options import add_resamples
from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import BadRequest
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.lookup import lookup
from rad3d.core.settings import Settings

if TYPE_CHECKING:
    from rad3d.model.encoders.calibration import Calibration, HeadState
    from rad3d.model.encoders.head import Head
    from rad3d.model.identity import EncoderIdentity
    from rad3d.train.labelled import Labelled

FIT = """Fit a head for labels on an encoder's embeddings.

A logistic regression for each label, with the strength of L2 that cross-validation over patients
chooses, then Platt scaling and the threshold of the best F1 on held-out patients. What is installed
is measured on further patients: a fifth of them, or --test-labels. A label that fewer than 10
training scans have or lack gets its prevalence, and is named. CT-RATE's names tell the patient
(train_1_a_2 is of train_1); other scans count as one patient each, unless --patient-column says
whose they are.

Features that were made with other weights than those here are refused; of imported ones nobody can
tell, and the head says so.
"""

FIT_EXAMPLE = """
rad3d head fit --encoder colipri --features features --labels train_predicted_labels.csv
rad3d head fit --encoder ct-clip --features features --labels train.csv --test-labels valid.csv
rad3d head fit --encoder colipri --features features --labels labels.csv --patient-column patient
rad3d head fit --encoder colipri --features features --labels own.csv --label-set own.json
"""

CALIBRATE = """Turn the logits of an encoder's own head into probabilities.

Slope and offset of each label (Platt scaling) and the threshold of the best F1, on half of the
patients; measured on the other half, or on --test-labels. A label that fewer than 5 scans have or
lack gets its prevalence, and is named.
"""

CALIBRATE_EXAMPLE = """
rad3d head calibrate --encoder ct-clip --features features --labels valid_predicted_labels.csv
"""

SHOW = """Say what gives an encoder's logits and probabilities, and what was measured."""

SHOW_EXAMPLE = """
rad3d head show phantom-cnn
rad3d head show ct-clip --json
"""

KINDS = {
    "fit": "Head",
    "calibration": "Calibration of the own head",
    "prior": "Correction of the own head, and attributes of findings,",
}
"""How a head was fitted -> what it is called."""

EXAMPLE = FIT_EXAMPLE + CALIBRATE_EXAMPLE.lstrip() + SHOW_EXAMPLE.lstrip()


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of every part of ``rad3d head``."""
    parts = parser.add_subparsers(metavar="PART", required=True)
    fit = add_command(parts, "fit", FIT, FIT_EXAMPLE)
    _add_sources(fit)
    fit.add_argument("--balanced", action="store_true",
                     help="positive scans of a label weigh as much as negative ones")  # fmt: skip
    fit.add_argument("--folds", type=int, default=5, metavar="N",
                     help="of the cross-validation (default: %(default)s)")  # fmt: skip
    fit.set_defaults(run=run_fit)
    calibrate = add_command(parts, "calibrate", CALIBRATE, CALIBRATE_EXAMPLE)
    _add_sources(calibrate)
    calibrate.set_defaults(run=run_calibrate)
    show = add_command(parts, "show", SHOW, SHOW_EXAMPLE)
    show.add_argument("encoder", choices=list(ENCODERS), help="which encoder")
    show.add_argument("--json", action="store_true", help="JSON instead of a table")
    show.set_defaults(run=run_show)


def _add_sources(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--encoder", required=True, choices=list(ENCODERS), help="which encoder")
    add("--features", required=True, type=Path, metavar="STORE",
        help="a store of `rad3d features`, or one file of features")  # fmt: skip
    add("--labels", required=True, type=Path, metavar="CSV",
        help="VolumeName or id, and the labels as 0 or 1 in columns of their names, as in "
        "CT-RATE's multi_abnormality_labels")  # fmt: skip
    add_label_set(parser, ", or columns: those of the table that name neither scan nor patient")
    add("--test-labels", type=Path, metavar="CSV", help="measure on these scans")
    add("--test-features", type=Path, metavar="STORE",
        help="of the scans of --test-labels (default: --features)")  # fmt: skip
    add("--patient-column", default="", metavar="C", help="of the tables: whose scan a row is")
    add("--seed", type=int, default=0, help="of the division of patients (default: %(default)s)")
    add_resamples(parser)
    add("--replace", action="store_true", help="put it in place of the head that is there")
    add("--out", type=Path, metavar="DIR",
        help="write it there, and not beside the encoder's weights")  # fmt: skip
    add("--json", action="store_true", help="what was fitted and measured as JSON")


def run_fit(args: argparse.Namespace) -> int:
    """Fit, install and print."""
    from rad3d.train.heads import HeadOptions, fit_head

    options = HeadOptions(args.balanced, args.folds, args.seed, args.resamples)
    _check_place(args, ("none",))
    identity, data, test = _sources(args)
    return _install(args, fit_head(identity, data, test, options, say))


def run_calibrate(args: argparse.Namespace) -> int:
    """Calibrate, install and print."""
    from rad3d.train.heads import HeadOptions, calibrate_head

    options = HeadOptions(seed=args.seed, resamples=args.resamples)
    _check_place(args, ("none", "uncalibrated"))
    identity, data, test = _sources(args)
    return _install(args, calibrate_head(identity, data, test, options))


def _check_place(args: argparse.Namespace, free: tuple[HeadState, ...]) -> None:
    """Refuse to replace a head that nobody wanted to replace, before anything is computed."""
    from rad3d.model.encoders.head import head_state

    row = lookup("encoder", ENCODERS, args.encoder)
    state = head_state(row, Settings.from_env().models_dir)
    if args.out is None and not args.replace and state not in free:
        has = "a calibrated head" if state == "calibrated" else "a head of its own"
        raise BadRequest(
            f"{row.name} has {has} here, and variants may have been trained with its logits.",
            "Add --replace to put another in its place"
            + (", or calibrate it with: rad3d head calibrate." if state == "uncalibrated" else "."),
            code="head_exists",
        )


def _sources(args: argparse.Namespace) -> tuple[EncoderIdentity, Labelled, Labelled | None]:
    """Features and labels to fit on, and to be measured on, all of the encoder that is meant."""
    from rad3d.data.layouts import read_label_table
    from rad3d.features.shards import FeatureStore
    from rad3d.train.heads import IMPORTED_NOTE
    from rad3d.train.labelled import join, require_own_features

    if args.test_features and not args.test_labels:
        raise BadRequest("--test-features needs --test-labels.", code="bad_option")
    parts: list[Labelled] = []
    labels_of = None if args.label_set == "columns" else LabelSet.find(args.label_set)
    own: EncoderIdentity | None = None
    for features, labels in (
        (args.features, args.labels),
        (args.test_features or args.features, args.test_labels),
    ):
        if labels is None:
            continue
        store = FeatureStore.open(features)
        identity, table = store.identity, store.table()
        models_dir = None if args.out else Settings.from_env().models_dir
        require_own_features(identity, table, args.encoder, models_dir, like=own)
        own = own or identity
        known = read_label_table(labels, args.patient_column, labels_of)
        parts.append(join(table, known, labels.name))
        data, labels_of = parts[-1], known.label_set
        say(
            f"{labels.name}: {len(data)} scans of {len(set(data.patients))} patients; left out: "
            f"{data.unlabelled} without labels, {data.unseen} without features."
        )
    assert own is not None
    if own.is_imported:
        say(f"warning: {IMPORTED_NOTE}")
    return own, parts[0], parts[1] if len(parts) > 1 else None


def _install(args: argparse.Namespace, head: Head) -> int:
    """Write the head and print it."""
    folder = args.out or Settings.from_env().models_dir / ENCODERS[args.encoder].source
    head.save(folder)
    if args.json:
        print_json({"encoder": args.encoder, **head.facts})
    else:
        _print_head(head)
    from rad3d.model.encoders.head import HEAD_DIR

    say(f"Written to {folder / HEAD_DIR}.")
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print what is there."""
    from rad3d.model.encoders.base import load_encoder
    from rad3d.model.encoders.head import CALIBRATE as CALIBRATE_COMMAND
    from rad3d.model.encoders.head import Head, head_state, no_head

    row = lookup("encoder", ENCODERS, args.encoder)
    models_dir = Settings.from_env().models_dir
    folder = models_dir / row.source
    head = Head.read(folder)
    state = head_state(row, models_dir)
    if head is not None:
        if args.json:
            print_json({"encoder": row.id, "state": state, **head.facts})
        else:
            _print_head(head)
        return 0
    encoder = load_encoder(row, models_dir)  # MissingWeights where it is not here
    if state == "none":
        raise no_head(row.id)
    calibration = encoder.calibration
    if args.json:
        print_json({"encoder": row.id, "state": state, "labels": _parameters(calibration, CT_RATE)})
    elif calibration is None:
        print(f"{row.name} has a head of its own, which is not calibrated.")
        print(f"With labelled scans, run: {CALIBRATE_COMMAND.format(row.id)}")
    else:
        print(f"{row.name} has a head of its own, calibrated on: {calibration.split}.")
        rows = [(label, *_cells(p)) for label, p in _parameters(calibration, CT_RATE).items()]
        print_table(rows, ("label", "slope", "offset", "threshold"))
    return 0


def _parameters(calibration: Calibration | None, labels: LabelSet) -> dict[str, dict[str, float]]:
    if calibration is None:
        return {}
    numbers = zip(
        labels.names, calibration.slope, calibration.offset, calibration.threshold, strict=True
    )
    return {
        label: {"slope": float(slope), "offset": float(offset), "threshold": float(threshold)}
        for label, slope, offset, threshold in numbers
    }


def _cells(parameters: dict[str, float]) -> tuple[str, ...]:
    return tuple(f"{value:.3f}" for value in parameters.values())


def _print_head(head: Head) -> None:
    """Print what was fitted, on which scans, and the figures that it reaches."""
    facts = head.facts
    kind = KINDS[facts["kind"]]
    print(
        f"{kind} of {ENCODERS[head.encoder.id].name}, fitted {facts['made']}, seed {facts['seed']}"
    )
    print(f"labels: {head.label_set}")
    for name, part in facts["parts"].items():
        print(f"{name}: {part['scans']} scans of {part['patients']} patients, {part['labels']}")
    measured, test = facts["measured"], facts["parts"]["test"]
    shown = {"auroc": "macro AUROC", "f1": "macro F1", "calibration_error": "calibration error"}
    for key, name in shown.items():
        print(f"{name}: {_estimate(measured['macro'][key])}{_before(facts, key)}")
    parameters = _parameters(head.calibration, head.label_set)
    rows = [
        (
            label,
            f"{test['positives'][label] / test['scans']:.3f}",
            _estimate(estimates["auroc"]),
            _estimate(estimates["f1"]),
            *_cells(parameters[label]),
            "too rare: prevalence only" if label in facts["rare"] else "",
        )
        for label, estimates in measured["labels"].items()
    ]
    head_row = ("label", "prevalence", "AUROC", "F1", "slope", "offset", "threshold", "")
    print_table(rows, head_row)
    for note in facts["notes"]:
        print(f"note: {note}")


def _before(facts: Any, key: str) -> str:
    """The same figure for the head or the probabilities before, where it is known."""
    if key == "auroc" and "own_head_auroc" in facts:
        return f" (own head on the same scans: {_estimate(facts['own_head_auroc'])})"
    if key == "calibration_error" and "before" in facts:
        return f" (of plain sigmoids: {facts['before'][key]:.3f})"
    return ""


def _estimate(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "-"
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
