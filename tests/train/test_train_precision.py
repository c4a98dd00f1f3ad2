"""Training through a frozen language model that is held in few bits, or computed twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from small_variants import small_batch, small_config
from tiny_models import (
    FAMILIES,
    SIZED,
    grad_of,
    random_model,
    save_language,
    sized_config,
    tiny_language,
)
from transformers.pytorch_utils import Conv1D

from rad3d.model.llm import cost
from rad3d.model.llm.language import LanguageBundle, recompute_layers
from rad3d.model.llm.loading import load_language_model
from rad3d.model.variants.reporter import PrefixReporter

pytestmark = pytest.mark.slow

LOAD = cost.Workload(batch_size=3, report_tokens=120, layers=2)


@pytest.fixture(params=FAMILIES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A saved model of each family."""
    return str(save_language(tiny_language(request.param), tmp_path / "llm"))


def gradient(
    language: LanguageBundle, before: Callable[[PrefixReporter, Any], None] | None = None
) -> torch.Tensor:
    """Of the projector, through the frozen language model."""
    torch.manual_seed(0)
    reporter = PrefixReporter(small_config("v3"), language).train()
    data = small_batch(reporter)
    if before is not None:
        before(reporter, data)
    with torch.autocast("cpu", torch.bfloat16):
        loss = reporter.loss(*data)
    loss.backward()
    return torch.cat([grad_of(p).flatten() for p in reporter.projector.parameters()])


def loaded(place: str, precision: str) -> LanguageBundle:
    """As `rad3d train` loads it."""
    return load_language_model(place, precision=precision, trains=True)


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_the_gradient_through_8_bit_weights_is_close_to_that_of_bf16(place: str) -> None:
    exact = gradient(loaded(place, "bf16"))
    assert distance(gradient(loaded(place, "8bit")), exact) < 0.15
    assert distance(gradient(loaded(place, "float32")), exact) < 0.15


def test_the_gradient_through_4_bit_weights_is_that_of_the_same_weights_in_bf16(
    place: str,
) -> None:
    packed, plain = loaded(place, "4bit"), loaded(place, "bf16")
    layers = dict(plain.model.named_modules())
    for name, layer in packed.model.named_modules():
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            state = layer.weight.quant_state  # type: ignore[attr-defined]
            weight = bitsandbytes.functional.dequantize_4bit(layer.weight.data, state)
            transposed = isinstance(layers[name], Conv1D)
            layers[name].weight.data.copy_(weight.T if transposed else weight)
    assert distance(gradient(packed), gradient(plain)) < 1e-3


def measure(reporter: PrefixReporter, data: Any) -> None:
    """As on held-out data."""
    reporter.eval()
    with torch.no_grad():
        reporter.loss(*data)
    reporter.train()


def test_measuring_on_held_out_data_leaves_4_bit_gradients_as_they_are(place: str) -> None:
    alone = gradient(loaded(place, "4bit"))
    assert torch.equal(gradient(loaded(place, "4bit"), measure), alone)


@pytest.mark.parametrize("mode", ["v1", "v3"])
def test_layers_that_are_computed_twice_give_the_same_gradient(place: str, mode: str) -> None:
    gradients = []
    for again in (False, True):
        language = load_language_model(place)
        if again:
            assert recompute_layers(language) == 2
        torch.manual_seed(0)
        reporter = PrefixReporter(small_config(mode), language).train()
        torch.manual_seed(1)  # of V-1's dropout
        reporter.loss(*small_batch(reporter)).backward()
        gradients.append(torch.cat([grad_of(p).flatten() for p in reporter.trainable_parameters()]))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("family", SIZED)
@pytest.mark.parametrize(("mode", "precision"), [("v3", "bf16"), ("v1", "float32")])
def test_the_memory_of_layers_computed_twice_is_counted(
    family: str, mode: str, precision: str
) -> None:
    sizes = sized_config(family, num_hidden_layers=6)
    load = replace(LOAD, checkpointing=True)
    expected = cost.estimate(sizes, mode, precision, load)
    assert expected.activations < 0.5 * cost.estimate(sizes, mode, precision, LOAD).activations
    model = random_model(sizes, cost.training_dtype(mode, precision))
    reporter = cost.random_reporter(model, mode, precision, load)
    recompute_layers(reporter.language)
    batch = cost.random_batch(reporter, load)
    with torch.profiler.profile(profile_memory=True) as profile:
        with cost.autocast(reporter, load, precision):
            loss = reporter(**batch)
        loss.backward()
    events = profile.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held, most = 0, 0
    for _, change in changes:
        held += change
        most = max(most, held)
    counted = expected.activations + expected.scores + expected.gradients
    assert 0.5 * counted < most < 1.1 * counted
