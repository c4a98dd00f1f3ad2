"""A configuration that asks for a model of no end is refused at once, whatever kind it is of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_language, tiny_language

from rad3d.core.errors import BadRequest
from rad3d.model.encoders.ctclip.config import CtClipConfig
from rad3d.model.llm.loading import directory_size
from rad3d.model.variants.variant import VariantConfig


@pytest.mark.parametrize(
    ("key", "size"),
    [("n_layer", 10**6), ("n_embd", 10**9), ("vocab_size", 10**12), ("n_layer", -1)],
)
def test_a_language_model_of_no_end_is_refused(tmp_path: Path, key: str, size: Any) -> None:
    save_language(tiny_language("gpt2"), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: size}), encoding="utf-8")
    with pytest.raises(BadRequest, match="whole number from 1 to"):
        directory_size("the model", tmp_path)


@pytest.mark.parametrize("key", ["layers", "latent_dim", "prefix_length", "clip_length"])
def test_a_projector_of_no_end_is_refused(key: str) -> None:
    with pytest.raises(BadRequest, match=f"variant phantom-s/v3 has {key} = 1000000"):
        VariantConfig("phantom-s", "v3", "llms/phantom-s", **{key: 10**6})  # type: ignore[arg-type]


def test_an_encoder_of_no_end_is_refused() -> None:
    with pytest.raises(BadRequest, match="whole number from 1 to 1,000"):
        CtClipConfig.from_dict({"spatial_depth": 10**6})
