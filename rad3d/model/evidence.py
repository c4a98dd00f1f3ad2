"""Where an encoder found its evidence for a label.

An encoder that rates the tokens of a scan for each label says so itself. Of any other one it is not
known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from rad3d.core.encoders import ENCODERS, SHIPPED_ENCODER
from rad3d.core.errors import BadRequest, CorruptWeights, UnknownName
from rad3d.core.evidence import Evidence, Localisation
from rad3d.core.types import FloatArray, Volume
from rad3d.model.encoders.base import LoadedEncoder
from rad3d.model.encoders.head import HeadedEncoder
from rad3d.model.engine import Engine
from rad3d.model.identity import weights_sha256
from rad3d.model.llm.failures import OUR_FAULT, plain_errors

FILE = "where.json"
SCHEMA_ID = "rad3d-where/1"
UNMEASURED_THRESHOLD = 0.5


@runtime_checkable
class RatesTokens(Protocol):
    """An encoder that rates every token for every label on its way to the diagnosis."""

    def token_logits(self, tokens: FloatArray) -> FloatArray:
        """(C, X, Y, Z) tokens -> (L, X, Y, Z) logits."""


def token_logits(encoder: LoadedEncoder, tokens: FloatArray | None) -> FloatArray | None:
    """(L, X, Y, Z) logits of the labels for each token.

    None where the encoder does not rate tokens, or another head than its own gives the labels.
    """
    if isinstance(encoder, HeadedEncoder):
        if encoder.head.weight is not None:
            return None
        encoder = encoder.encoder
    if tokens is None or not isinstance(encoder, RatesTokens):
        return None
    return encoder.token_logits(tokens)


def cell_affine(affine: FloatArray, shape: tuple[int, ...], cells: tuple[int, ...]) -> FloatArray:
    """(4, 4) index of a cell's centre -> mm, where cells divide a grid evenly.

    Args:
        affine: (4, 4) index of the grid -> mm.
        shape: voxels of the grid along x, y, z.
        cells: cells along x, y, z.
    """
    size = np.array(shape) / np.array(cells)
    to_grid = np.diag([*size, 1.0])
    to_grid[:3, 3] = (size - 1) / 2
    found: FloatArray = affine @ to_grid
    return found


def find_evidence(
    engine: Engine,
    volume: Volume,
    label: str,
    encoder_id: str = SHIPPED_ENCODER,
    known: Localisation | None = None,
) -> Evidence:
    """Find the cells of a scan that speak for a label.

    Args:
        engine: has the encoder, and keeps what it computes of the scan.
        volume: the scan.
        label: of the encoder's label set.
        encoder_id: the encoder.
        known: how well places of this label are known, see :func:`measured`.

    Raises:
        UnknownName: there is no such encoder or label.
        BadRequest: the encoder does not say where its evidence lies.
        MissingWeights, CorruptWeights: the encoder cannot be used.
    """
    encoder = engine.store.encoder(encoder_id)
    if label not in encoder.label_set.index:
        raise UnknownName("finding", label, encoder.label_set.names)
    features = engine.features(volume, encoder_id)
    grid = engine.grid(volume, encoder_id)
    with plain_errors("find the evidence", remedy=OUR_FAULT):
        logits = token_logits(encoder, features.tokens)
        if logits is None:
            raise BadRequest(
                f"{ENCODERS[encoder_id].name} does not say in which part of a scan its evidence "
                f"for {label.lower()} lies.",
                "Use a variant with the shipped encoder and its own classifier.",
                code="no_evidence",
            )
        strength = 1 / (1 + np.exp(-logits[encoder.label_set.index[label]]))
    affine = cell_affine(grid.affine, grid.spec.shape, strength.shape)
    cell = max(np.linalg.norm(affine[:3, :3], axis=0))
    return Evidence(
        label,
        strength.astype(np.float32),
        affine,
        known.threshold if known else UNMEASURED_THRESHOLD,
        f"On its way to the diagnosis the encoder rates each cell of {cell:.0f} mm for this "
        "finding.",
        known,
    )


def measured(models_dir: Path, encoder_id: str, grid_id: str) -> Mapping[str, Localisation]:
    """How well places are known, by label; empty where these weights were not measured.

    Raises:
        CorruptWeights: the file is damaged.
    """
    folder = models_dir / ENCODERS[encoder_id].source
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        made_for = stored["encoder"]["sha256"], stored["encoder"]["preprocessing"]
        if stored["schema"] != SCHEMA_ID or made_for != (weights_sha256(folder), grid_id):
            return {}
        return {
            label: Localisation.of(row, stored["shown"])
            for label, row in stored["labels"].items()
            if stored["shown"] in row
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptWeights(
            f"{folder.name}/{FILE} is damaged.",
            "Restore the file from the repository, or make it again with: "
            "python scripts/measure_where.py",
            code="corrupt_weights",
        ) from error
