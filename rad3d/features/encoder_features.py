"""Features of a scan, and the identity of the encoder that made them."""

from __future__ import annotations

from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import Rad3dError
from rad3d.core.lookup import lookup
from rad3d.core.types import Volume
from rad3d.features.table import FloatArray, Row
from rad3d.model.encoders.base import LoadedEncoder, visual_tokens
from rad3d.model.engine import Engine
from rad3d.model.identity import EncoderIdentity, weights_sha256
from rad3d.model.llm.failures import OUR_FAULT, plain_errors
from rad3d.model.store import ModelStore


def encoder_identity(store: ModelStore, encoder_id: str) -> EncoderIdentity:
    """Id, weights and grid of an encoder; raises MissingWeights where it is not here."""
    folder = store.models_dir / lookup("encoder", ENCODERS, encoder_id).source
    return EncoderIdentity(encoder_id, weights_sha256(folder), store.encoder(encoder_id).grid.id)


def encode(engine: Engine, volume: Volume, encoder_id: str, with_tokens: bool = False) -> Row:
    """The features of a scan; no logits where the encoder has no head.

    Args:
        engine: encodes.
        volume: the scan.
        encoder_id: which encoder.
        with_tokens: keep visual tokens as well, which are many times larger than the embedding.
    """
    seen, encoder = engine.features(volume, encoder_id), engine.store.encoder(encoder_id)
    return Row(
        seen.pooled,
        logits_of(encoder, seen.pooled, seen.readings),
        None if seen.readings is None else seen.readings[len(encoder.label_set) :],
        visual_tokens(seen.tokens) if with_tokens and seen.tokens is not None else None,
    )


def logits_of(
    encoder: LoadedEncoder, pooled: FloatArray, readings: FloatArray | None = None
) -> FloatArray | None:
    """(L,) logits of an embedding or of readings; None where the encoder has no head."""
    try:
        with plain_errors("run the classifier", remedy=OUR_FAULT):
            return encoder.diagnose(pooled, readings).logits
    except Rad3dError as error:
        if error.code != "no_head":
            raise
        return None
