"""A prior with place: what an embedding says of labels and of where and what each finding is.

An encoder's own head has learned the labels from the scans of the encoder. Here it learns from the
paired scans as well, as a correction to its logits, and logistic regressions on the embedding learn
the attributes of each finding: its side, places, kind, severity and size. Both take seconds and are
kept as a :class:`rad3d.model.encoders.head.Head`, whose logits stay those of the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rad3d.core.findings import Truth
from rad3d.core.types import FloatArray
from rad3d.model.encoders.calibration import Calibration
from rad3d.model.encoders.head import Head
from rad3d.model.identity import EncoderIdentity
from rad3d.train.attribute_targets import attribute_targets
from rad3d.train.fit_calibration import MIN_CASES, calibrate
from rad3d.train.heads import HeadOptions, finished
from rad3d.train.labelled import Labelled
from rad3d.train.logistic import fit_ridge

FOLDS = 4
LABEL_RIDGE = 30.0
"""Of the correction: the less of it, the better on scans from elsewhere (dev/LOG.md)."""

DETAIL_RIDGES = (1.0, 3.0, 10.0, 30.0)
"""The attributes' common ridge is the one of the least loss on the held-out scans."""


def fit_prior(
    encoder: EncoderIdentity,
    own: Calibration,
    embedding: FloatArray,
    logits: FloatArray,
    truths: Sequence[Truth],
    held_out: int,
    name: str,
) -> Head:
    """Fit the correction of the labels and the attributes on scans whose findings are known.

    Args:
        encoder: whose features these are.
        own: calibration of its logits.
        embedding: (N, D).
        logits: (N, 18) of its own head.
        truths: N of them.
        held_out: the last so many scans are not learned from; what the head reaches is measured
            on them.
        name: of the scans.
    """
    data = Labelled(
        name,
        tuple(str(truth.seed) for truth in truths),
        embedding.astype(np.float64),
        logits.astype(np.float64),
        np.array([truth.labels() for truth in truths]),
    )
    cut = len(data) - held_out
    training, test = data.part(np.arange(cut)), data.part(np.arange(cut, len(data)))
    correction, calibration = _correct(own, training)
    details, ridge, loss = _fit_details(training.embedding, test.embedding, truths)
    head = Head(
        encoder,
        calibration,
        correction=correction,
        details=details,
        facts={"kind": "prior", "detail_ridge": ridge, "detail_loss": round(loss, 4)},
    )
    return finished(head, {"training": training, "test": test}, HeadOptions())


def _correct(own: Calibration, training: Labelled) -> tuple[FloatArray, Calibration]:
    """(18, D) correction of the logits, and their calibration on scans it has not learned from."""
    assert training.logits is not None
    x, labels = training.embedding, training.labels.astype(np.float64)
    slope = np.where(own.slope > 0, own.slope, 1.0)
    known = slope * training.logits + own.offset
    unseen = np.zeros_like(known)
    for fold in range(FOLDS):
        held_out = np.arange(len(x)) % FOLDS == fold
        rows = ~held_out
        found = fit_ridge(x[rows], labels[rows], LABEL_RIDGE, offset=known[rows])
        unseen[held_out] = known[held_out] + found.logits(x[held_out])
    final = fit_ridge(x, labels, LABEL_RIDGE, offset=known)
    fitted = calibrate(unseen, training.labels, f"{FOLDS} folds of {training.name}")
    offset = fitted.slope * (own.offset + final.bias) + fitted.offset
    calibration = Calibration(fitted.slope * slope, offset, fitted.threshold, fitted.split)
    return final.weight / slope[:, None], calibration


def _fit_details(
    x: FloatArray, unseen: FloatArray, truths: Sequence[Truth]
) -> tuple[FloatArray, float, float]:
    """(A, D + 1) weights and biases, the ridge that was best on ``unseen``, and its loss there.

    An attribute is learned from the scans where it is known. One that too few of them have or lack
    gets its prevalence.
    """
    targets, known = (
        np.stack(part).astype(np.float64)
        for part in zip(*map(attribute_targets, truths), strict=True)
    )
    n = len(x)
    found = {r: fit_ridge(x, targets[:n], r, known[:n]) for r in DETAIL_RIDGES}
    losses = {r: _loss(each.logits(unseen), targets[n:], known[n:]) for r, each in found.items()}
    best = min(losses, key=losses.__getitem__)
    details = np.column_stack((found[best].weight, found[best].bias))
    total, often = known[:n].sum(axis=0), (known * targets)[:n].sum(axis=0)
    rare = np.minimum(often, total - often) < MIN_CASES
    details[rare] = 0.0
    details[rare, -1] = np.log((often + 1) / (total - often + 1))[rare]
    return details, best, losses[best]


def _loss(logits: FloatArray, targets: FloatArray, known: FloatArray) -> float:
    """Mean cross-entropy of what is known."""
    losses = np.logaddexp(0, logits) - targets * logits
    return float((losses * known).sum() / known.sum())
