"""Features of a scan, and the identity of the encoder that made them."""

from __future__ import annotations

from rad3d.core.errors import Rad3dError
from rad3d.core.registry import ENCODERS, lookup
from rad3d.core.types import Volume
from rad3d.features.table import FloatArray, Row
from rad3d.model.encoders.base import LoadedEncoder
from rad3d.model.engine import Engine
from rad3d.model.identity import EncoderIdentity, weights_sha256
from rad3d.model.llm.failures import OUR_FAULT, plain_errors
from rad3d.model.store import ModelStore


def encoder_identity(store: ModelStore, encoder_id: str) -> EncoderIdentity:
    """Id, weights and grid of an encoder; raises MissingWeights where it is not here."""
    folder = store.models_dir / lookup("encoder", ENCODERS, encoder_id).source
    return EncoderIdentity(encoder_id, weights_sha256(folder), store.encoder(encoder_id).grid.id)


def encode(engine: Engine, volume: Volume, encoder_id: str) -> Row:
    """The features of a scan; no logits where the encoder has no head."""
    pooled = engine.features(volume, encoder_id).pooled
    return pooled, logits_of(engine.store.encoder(encoder_id), pooled)


def logits_of(encoder: LoadedEncoder, pooled: FloatArray) -> FloatArray | None:
    """(D,) embedding -> (L,) logits; None where the encoder has no head."""
    try:
        with plain_errors("run the classifier", remedy=OUR_FAULT):
            return encoder.diagnose(pooled).logits
    except Rad3dError as error:
        if error.code != "no_head":
            raise
        return None
