"""The projectors against the published code's numbers, and the scaling of their input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from close import assert_near
from safetensors.torch import load_file
from tiny_models import tiny_language

from rad3d.core.details import finding_bits
from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.modes import MODES
from rad3d.model.variants.projector import (
    InputScaling,
    LinearProjector,
    TransformerProjector,
    clipcap_state_dict,
    new_projector,
    projector_from_clipcap,
)
from rad3d.model.variants.variant import VariantConfig
from rad3d.model.variants.word_projectors import prefix_positions

pytestmark = pytest.mark.numeric


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("dim_input", "width", "parameters"),
    [(512, 2048, 279_093_248), (530, 2048, 279_461_888), (512, 768, 41_745_408)],
)
def test_transformer_has_the_published_number_of_parameters(
    dim_input: int, width: int, parameters: int
) -> None:
    with torch.device("meta"):
        assert _count(TransformerProjector(dim_input, width)) == parameters


def test_linear_ablation_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        assert _count(LinearProjector(530, 2048)) == 10_874_880


@pytest.fixture(scope="module")
def reference(shared_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(shared_dir / "reference" / "clipcap_mapper.safetensors")


def _weights(reference: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    return {
        prefix + key.removeprefix("weights/"): value
        for key, value in reference.items()
        if key.startswith("weights/")
    }


@pytest.fixture
def published(reference: dict[str, torch.Tensor]) -> TransformerProjector:
    projector = TransformerProjector(530, 64, layers=2)
    projector.load_state_dict(_weights(reference), strict=True)
    return projector.requires_grad_(False)


def test_output_equals_the_published_mapper(
    published: TransformerProjector, reference: dict[str, torch.Tensor]
) -> None:
    output = published(reference["io/input"])
    assert_near(output, reference["io/output"])


def test_every_layer_equals_the_published_one(
    published: TransformerProjector, reference: dict[str, torch.Tensor]
) -> None:
    # The recorded intermediates belong to each other, but to another linear.bias than the stored
    # one (their linear_out differs from it by a constant); so each layer starts from them.
    tokens = reference["io/linear_out"].view(3, 10, 64)
    x = torch.cat((tokens, published.prefix_const.expand(3, -1, -1)), dim=1)
    for i, layer in enumerate(published.transformer.layers):
        x = layer(x)
        assert_near(x, reference[f"io/layer{i}_out"])


def test_a_whole_clipcap_state_dict_loads_strictly(reference: dict[str, torch.Tensor]) -> None:
    whole = _weights(reference, "clip_project.") | {"gpt.lm_head.weight": torch.zeros(1)}
    projector = TransformerProjector(530, 64, layers=2)
    projector.load_state_dict(clipcap_state_dict(whole), strict=True)
    torch.testing.assert_close(projector.prefix_const.data, reference["weights/prefix_const"])


def test_sizes_are_told_by_a_clipcap_state_dict(reference: dict[str, torch.Tensor]) -> None:
    for prefix in ("", "clip_project."):
        projector = projector_from_clipcap(_weights(reference, prefix))
        output = projector(reference["io/input"]).detach()
        assert_near(output, reference["io/output"])
    other = TransformerProjector(20, 32, prefix_length=5, clip_length=3, layers=4, heads=2)
    again = projector_from_clipcap(other.state_dict(), heads=2)
    x = torch.randn(2, 20)
    assert_near(again(x).detach(), other(x).detach())


def test_what_is_no_clipcap_mapper_is_refused(reference: dict[str, torch.Tensor]) -> None:
    state = _weights(reference)
    for wrong in (
        {},
        {"model.0.weight": torch.zeros(2, 2)},
        state | {"surprise": torch.zeros(1)},
        {k: v for k, v in state.items() if k != "transformer.layers.1.norm2.bias"},
        state | {"linear.weight": torch.zeros(630, 530)},
    ):
        with pytest.raises(BadRequest, match="ClipCap"):
            projector_from_clipcap(wrong)


@pytest.mark.parametrize(
    ("dim_input", "width", "layers"), [(530, 1024, 8), (512, 4096, 8), (530, 1600, 8), (30, 64, 3)]
)
def test_parameters_follow_the_closed_form(dim_input: int, width: int, layers: int) -> None:
    with torch.device("meta"):
        found = _count(TransformerProjector(dim_input, width, layers=layers))
    assert found == 10 * width * (dim_input + 1) + 10 * width + layers * (8 * width**2 + 8 * width)


def test_a_missing_key_is_not_forgiven(reference: dict[str, torch.Tensor]) -> None:
    state = clipcap_state_dict(_weights(reference))
    del state["linear.bias"]
    with pytest.raises(RuntimeError, match=r"linear\.bias"):
        TransformerProjector(530, 64, layers=2).load_state_dict(state, strict=True)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_has_a_projector_that_gives_prefix_by_width(mode: str) -> None:
    row, language = MODES[mode], tiny_language()
    config = VariantConfig(
        "x", mode, "x", projector=row.projector, token_dim=6, prefix_length=row.prefix_length,
        clip_length=3, layers=1, heads=4,
    )  # fmt: skip
    projector: Any = new_projector(config, language)
    given = {
        "condition": torch.randn(2, config.condition_dim),
        "tokens": torch.randn(2, row.prefix_length, 6),
        "bits": torch.from_numpy(finding_bits(())).expand(2, -1),
    }[projector.reads]
    found = projector(given)
    assert found.shape == (2, projector.prefix_length, 32)
    assert projector.prefix_length == prefix_positions(config, language)


def test_unknown_projector_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="transformer, linear"):
        new_projector(VariantConfig("x", "v3", "x", projector="conv"), tiny_language())


def test_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(BadRequest):
        TransformerProjector(20, 30, heads=8)


def test_default_scaling_is_plain_concatenation() -> None:
    latent, logits = torch.randn(3, 7), torch.randn(3, 18)
    torch.testing.assert_close(
        InputScaling(7, 18)(latent, logits), torch.cat((latent, logits), dim=1)
    )


def test_fitted_scaling_standardises_each_dimension_and_weighs_it() -> None:
    latent = torch.randn(200, 7) * torch.arange(1, 8) + 3
    logits = torch.randn(200, 18) * 20 - 5
    scaling = InputScaling(7, 18, latent=2.0, logits=0.5)
    scaling.fit(latent, logits)
    condition = scaling(latent, logits)
    torch.testing.assert_close(condition.mean(0), torch.zeros(25), atol=1e-4, rtol=0)
    expected = torch.cat((torch.full((7,), 2.0), torch.full((18,), 0.5)))
    torch.testing.assert_close(condition.std(0), expected, atol=1e-4, rtol=0)


def test_variant_with_logits_asks_for_them() -> None:
    with pytest.raises(BadRequest, match="logits"):
        InputScaling(7, 18)(torch.randn(1, 7))
