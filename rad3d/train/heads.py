"""A head for labels, or the calibration of one, from features of labelled scans.

Patients are divided once, by seed: the head is trained on one part, calibrated on a second, and
what is installed is measured on a third, or on a set of its own. No patient is in two parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from rad3d import __version__
from rad3d.core.errors import BadRequest
from rad3d.core.plain import to_plain
from rad3d.core.types import FloatArray
from rad3d.metrics.bootstrap import Estimate, bootstrap
from rad3d.metrics.classifier import calibration_error, classifier_card, rows_by_patient
from rad3d.metrics.clinical import macro_auroc
from rad3d.model.encoders.calibration import NoveltyReference
from rad3d.model.encoders.head import Head
from rad3d.model.identity import EncoderIdentity
from rad3d.train.fit_calibration import MIN_CASES, calibrate, novelty_reference
from rad3d.train.labelled import Labelled, divide
from rad3d.train.logistic import Rows, fit_regressions

MIN_TRAINING = 10
"""Training cases with a label, and without it, below which nothing is fitted for it."""

MIN_REFERENCE = 100
"""Scans below which no reference is made that others are compared with."""

IMPORTED_NOTE = "The features were imported: nothing proves that they are of the weights here."


@dataclass(frozen=True)
class HeadOptions:
    """Options for fitting and measuring a head.

    Attributes:
        balanced: positive cases of a label weigh as much as negative ones in training.
        folds: of the cross-validation that chooses the strength of L2.
        seed: of the division of patients, the folds and the bootstrap.
        resamples: of the bootstrap behind every interval.
    """

    balanced: bool = False
    folds: int = 5
    seed: int = 0
    resamples: int = 1000

    def __post_init__(self) -> None:
        if self.folds < 2 or self.resamples < 1 or self.seed < 0:
            raise BadRequest(
                "A head needs at least 2 folds, 1 resample and a seed of 0 or more.",
                code="bad_option",
            )


def fit_head(
    encoder: EncoderIdentity,
    data: Labelled,
    test: Labelled | None = None,
    options: HeadOptions = HeadOptions(),
    tell: Callable[[str], None] = lambda _: None,
) -> Head:
    """Fit a logistic regression of each label on the embedding, calibrate and measure them.

    Args:
        encoder: whose features these are.
        data: for training (3/4, or 3/5 where there is no ``test``) and calibration.
        test: to be measured on; a fifth of ``data`` by default.
        options: how.
        tell: receives lines.

    Raises:
        BadRequest: a patient is in both tables, or no label occurs often enough.
    """
    parts = _parts(data, test, (3, 1, 1), options.seed)
    training, held_out = parts["training"], parts["calibration"]
    usable = _often(training, MIN_TRAINING) & _often(held_out, MIN_CASES)
    if not usable.any():
        raise BadRequest(
            f"No label has {MIN_TRAINING} cases with it and {MIN_TRAINING} without it among "
            f"{len(training)} training scans, and {MIN_CASES} among {len(held_out)} held-out ones.",
            "Give more labelled scans.",
            code="too_few",
        )
    shares = [1.0] * options.folds
    folds = divide(training.patients, shares, options.seed + 1)
    everything = np.arange(len(training))
    regressions = fit_regressions(
        training.embedding,
        training.labels[:, usable].astype(np.float64),
        [(np.setdiff1d(everything, fold), fold) for fold in folds],
        options.balanced,
        tell,
    )
    n_labels = len(data.label_set)
    weight, bias = np.zeros((n_labels, data.embedding.shape[1])), np.zeros(n_labels)
    weight[usable], bias[usable] = regressions.weight, regressions.bias
    strengths = dict(
        zip(
            np.array(data.label_set.names)[usable].tolist(),
            regressions.strength.tolist(),
            strict=True,
        )
    )
    tell("calibrating and measuring")
    return finished(
        Head(
            encoder,
            calibrate(
                held_out.embedding @ weight.T + bias, held_out.labels, _name(held_out), usable
            ),
            weight,
            bias,
            _reference(training, held_out),
            {"kind": "fit", "balanced": options.balanced, "strength": strengths},
            label_set=data.label_set,
        ),
        parts,
        options,
    )


def calibrate_head(
    encoder: EncoderIdentity,
    data: Labelled,
    test: Labelled | None = None,
    options: HeadOptions = HeadOptions(),
) -> Head:
    """Slope, offset and threshold of an encoder's own logits, measured on other patients.

    Args:
        encoder: whose features these are.
        data: for calibration (half of it where there is no ``test``).
        test: to be measured on.
        options: how.

    Raises:
        BadRequest: the features have no logits, or a patient is in both tables.
    """
    if data.logits is None or (test is not None and test.logits is None):
        raise BadRequest(
            f"These features of {encoder.id} have no logits to calibrate for {data.label_set}.",
            "Fit a head with: rad3d head fit",
            code="no_head",
        )
    parts = _parts(data, test, (0, 1, 1), options.seed)
    held_out = parts["calibration"]
    assert held_out.logits is not None
    head = Head(
        encoder,
        calibrate(held_out.logits, held_out.labels, _name(held_out)),
        reference=_reference(held_out, parts["test"]),
        facts={"kind": "calibration"},
        label_set=data.label_set,
    )
    return finished(head, parts, options)


def _parts(
    data: Labelled, test: Labelled | None, shares: tuple[int, int, int], seed: int
) -> dict[str, Labelled]:
    """Training, calibration and test, by shares of the patients; without the parts of share 0."""
    if test is not None:
        data.label_set.require_same(test.label_set, data.name, test.name)
        both = sorted(set(data.patients) & set(test.patients))
        if both:
            raise BadRequest(
                f"{len(both)} patients are in {data.name} and in {test.name}, such as {both[0]}.",
                "Measure on patients whom the head has not learned from.",
                code="same_patients",
            )
    names = ("training", "calibration", "test")
    wanted = {n: s for n, s in zip(names, shares, strict=True) if s and (n != "test" or not test)}
    rows = divide(data.patients, list(wanted.values()), seed)
    parts = {name: data.part(part) for name, part in zip(wanted, rows, strict=True)}
    return parts | ({"test": test} if test is not None else {})


def _often(data: Labelled, least: int) -> npt.NDArray[np.bool_]:
    """(L,) whether a label is there, and absent, in at least so many cases."""
    positives = data.labels.sum(axis=0)
    enough: npt.NDArray[np.bool_] = np.minimum(positives, len(data) - positives) >= least
    return enough


def _name(held_out: Labelled) -> str:
    return f"{len(held_out)} held-out scans of {held_out.name}"


def _reference(known: Labelled, held_out: Labelled) -> NoveltyReference | None:
    if min(len(known), len(held_out)) < MIN_REFERENCE:
        return None
    return novelty_reference(known.embedding, held_out.embedding)


def finished(head: Head, parts: Mapping[str, Labelled], options: HeadOptions) -> Head:
    """The head with what it reaches on the test part, and where everything came from."""
    test = parts["test"]
    own, fitted = test.logits, head.logits(test.embedding)
    logits = own if fitted is None else fitted
    assert logits is not None
    facts: dict[str, Any] = {
        **head.facts,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "rad3d": __version__,
        "seed": options.seed,
        "label_set": head.label_set.to_plain(),
        "parts": {name: part.facts for name, part in parts.items()},
        "rare": [
            label
            for label, slope in zip(head.label_set.names, head.calibration.slope, strict=True)
            if not slope
        ],
        "measured": _measured(head, logits, test, options),
        "notes": [IMPORTED_NOTE] if head.encoder.is_imported else [],
    }
    if own is not None and fitted is not None:
        facts["own_head_auroc"] = vars(_auroc(own, test, options))
    elif own is not None:
        plain = 1 / (1 + np.exp(-own))
        facts["before"] = {
            "brier": float(((plain - test.labels) ** 2).mean()),
            "calibration_error": calibration_error(test.labels, plain),
        }
    return replace(head, facts=facts)


def _measured(
    head: Head, logits: FloatArray, test: Labelled, options: HeadOptions
) -> dict[str, Any]:
    calibration = head.calibration
    card = classifier_card(
        "head",
        test.name,
        test.labels,
        calibration.probabilities(head.corrected(logits, test.embedding)),
        calibration.threshold,
        calibration.split,
        options.resamples,
        options.seed,
        test.patients,
        test.label_set,
    )
    return to_plain(card)


def _auroc(logits: FloatArray, test: Labelled, options: HeadOptions) -> Estimate:
    """Macro AUROC of other logits on the same scans; patients are drawn."""
    groups = rows_by_patient(test.patients)

    def statistic(drawn: Rows) -> float:
        rows = np.concatenate([groups[g] for g in drawn])
        return macro_auroc(test.labels[rows], logits[rows])

    estimate = bootstrap(statistic, len(groups), options.resamples, options.seed)
    return replace(estimate, n=len(test))
