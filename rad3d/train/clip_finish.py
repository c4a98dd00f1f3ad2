"""From a trained network to the second shipped encoder: features of a split, calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from rad3d.core.findings import Truth
from rad3d.core.types import FloatArray
from rad3d.model.encoders.base import visual_tokens
from rad3d.model.encoders.calibration import novelty_vector
from rad3d.model.encoders.phantom_clip import (
    ClipEncoder,
    ClipNetwork,
    readout_cells,
)
from rad3d.train.attribute_targets import attribute_targets
from rad3d.train.fit_calibration import MIN_CASES, calibrate, novelty_reference, platt

Features = dict[str, FloatArray]


@torch.inference_mode()
def encode_planes(network: ClipNetwork, planes: npt.NDArray[np.int16]) -> Features:
    """What the trunk and the heads make of a scan, before the read-out.

    Args:
        network: trained.
        planes: (5, X/2, Y/2, Z/2) of :func:`rad3d.model.encoders.phantom_clip.scan_planes`.

    Returns:
        ``cells`` (S, C) float16 for the read-out, ``readings`` (L + A,), ``tokens`` (64, C) and
        ``novelty`` (F,).
    """
    tokens, coarse = network.trunk(torch.from_numpy(np.array(planes))[None])
    readings, _ = network.heads(tokens)
    grid = tokens[0].float().numpy()
    return {
        "cells": readout_cells(tokens, coarse)[0].half().numpy(),
        "readings": readings[0].float().numpy(),
        "tokens": visual_tokens(grid),
        "novelty": novelty_vector(grid),
    }


@torch.inference_mode()
def read_out(network: ClipNetwork, cells: FloatArray, batch: int = 64) -> FloatArray:
    """(N, S, C) cells of :func:`encode_planes` -> (N, D) float32 embeddings."""
    parts = (cells[i : i + batch] for i in range(0, len(cells), batch))
    found = [network.readout(torch.from_numpy(np.asarray(p, np.float32))) for p in parts]
    embeddings: FloatArray = torch.cat(found).numpy()
    return embeddings


def finish_clip(
    encoder_id: str,
    network: ClipNetwork,
    known: FloatArray,
    calibration: Features,
    truths: Sequence[Truth],
    split: str,
) -> ClipEncoder:
    """Calibrate labels and details on a held-out split and put the encoder together.

    Args:
        encoder_id: its id.
        network: trained.
        known: (N, F) ``novelty`` vectors of scans like those it has learned from.
        calibration: features of the held-out split.
        truths: of the same scans.
        split: its name.
    """
    labels = np.array([truth.labels() for truth in truths])
    logits, details = np.split(
        calibration["readings"].astype(np.float64), [labels.shape[1]], axis=1
    )
    return ClipEncoder(
        encoder_id,
        network,
        calibrate(logits, labels, split),
        calibrate_details(details, truths),
        novelty_reference(known, calibration["novelty"]),
    )


def calibrate_details(logits: FloatArray, truths: Sequence[Truth]) -> FloatArray:
    """(N, A) logits -> (2, A) slopes and offsets, from the scans where a detail is known.

    A detail that too few of them have or lack keeps its own logit.
    """
    target, known = (np.stack(a) for a in zip(*map(attribute_targets, truths), strict=True))
    found = np.stack((np.ones(logits.shape[1]), np.zeros(logits.shape[1])))
    for j in range(logits.shape[1]):
        rows = known[:, j] > 0
        having = float(target[rows, j].sum())
        if min(having, rows.sum() - having) >= MIN_CASES:
            found[:, j] = platt(logits[rows, j], target[rows, j].astype(np.float64))
    return found
