"""What `rad3d cost` says is what a model takes: counts, memory against the allocator, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_models import CACHELESS, OTHERS, SIZED, random_model, sized_config
from transformers import AutoConfig

from rad3d import cli
from rad3d.core.errors import BadRequest
from rad3d.core.language_models import LANGUAGE_MODELS, language_model
from rad3d.core.modes import MODES
from rad3d.model.llm import cost
from rad3d.model.llm.cost import Workload, estimate

LOAD = Workload(batch_size=3, report_tokens=120, layers=2)


def config_of(llm: str) -> Any:
    return AutoConfig.for_model(**language_model(llm).config)


def llama() -> Any:
    return config_of("llama-3.2-1b")


@pytest.fixture(scope="module")
def published() -> dict[str, cost.Cost]:
    load = Workload(1, 8)
    return {mode: estimate(llama(), mode, "bf16", load) for mode in MODES}


@pytest.mark.slow
def test_trainable_parameters_are_those_that_the_paper_published(
    published: dict[str, cost.Cost],
) -> None:
    found = {m: found.trainable for m, found in published.items() if MODES[m].is_published}
    assert found == {
        "v1": 279_093_248 + 1_235_814_400,  # "1.51B"
        "v2": 279_093_248,
        "v3": 279_461_888,
        "linear": 10_874_880,
    }
    assert published["text"].trainable == 0
    assert published["r2gengpt"].trainable == (512 + 1) * 2048
    # Rank 16 in the seven linear layers of 16 layers.
    widths = 4 * 2048 + 2 * (2048 + 512) + 3 * (2048 + 8192)
    assert published["lora"].trainable == 279_461_888 + 16 * 16 * widths
    assert published["v3"].total == 279_461_888 + 1_235_814_400


@pytest.mark.slow
def test_memory_follows_from_the_parameters(published: dict[str, cost.Cost]) -> None:
    v3, v1 = published["v3"], published["v1"]
    assert v3.weights == 2 * 1_235_814_400 + 4 * v3.trainable
    assert v1.weights == 4 * v1.trainable, "what is trained is held in float32"
    for found in (v3, v1):
        assert found.gradients == 4 * found.trainable
        assert found.optimiser == 8 * found.trainable
        assert found.scores == 4 * 8 * 128_256
        parts = (found.weights, found.gradients, found.optimiser, found.activations, found.scores)
        assert found.training == sum(parts)
    # Keys and values of 16 layers with 8 heads of 64, for start token, prefix, prompt and report.
    assert v3.writing - v3.weights == 2 * 16 * 8 * 64 * 2 * (1 + 10 + 2 + 8)


@pytest.mark.slow
def test_activations_grow_with_the_batch_and_less_precision_shrinks_them() -> None:
    config = sized_config("llama")
    one, two = (estimate(config, "v3", "bf16", replace(LOAD, batch_size=n)) for n in (2, 4))
    assert 1.8 < two.activations / one.activations < 2.0, "all but the casts of weights"
    exact = estimate(config, "v3", "float32", replace(LOAD, batch_size=2))
    assert one.activations < 0.8 * exact.activations
    tuned = estimate(config, "v1", "float32", replace(LOAD, batch_size=2))
    assert tuned.activations > exact.activations, "gradients of weights need their inputs"


@pytest.mark.slow
@pytest.mark.parametrize("family", SIZED)
@pytest.mark.parametrize(
    ("mode", "precision"),
    [("v2", "float32"), ("v3", "bf16"), ("v1", "bf16"), ("linear", "float32")],
)
def test_counted_activations_are_what_the_allocator_hands_out(
    family: str, mode: str, precision: str
) -> None:
    config = sized_config(family)
    expected = estimate(config, mode, precision, LOAD)
    model = random_model(config, cost.training_dtype(mode, precision))
    reporter = cost.random_reporter(model, mode, precision, LOAD)
    batch = cost.random_batch(reporter, LOAD)
    with (
        torch.profiler.profile(profile_memory=True) as profile,
        cost.autocast(reporter, LOAD, precision),
    ):
        loss = reporter(**batch)
    kept = sum(event.self_cpu_memory_usage for event in profile.key_averages())
    assert 0.95 < expected.activations / kept < 1.2
    loss.backward()
    grads = [p.grad for p in reporter.parameters() if p.grad is not None]
    assert sum(4 * grad.numel() for grad in grads) == expected.gradients
    held = [p.numel() * p.element_size() for p in reporter.parameters()]
    assert sum(held) == expected.weights


@pytest.mark.slow
def test_counting_takes_no_memory_of_the_models_size() -> None:
    row = LANGUAGE_MODELS["deepseek-r1-8b"]
    found = estimate(config_of(row.id), "linear", "4bit", Workload(1, 8))
    assert found.total == row.parameters + (512 + 18 + 1) * 10 * 4096
    assert row.memory_bytes("4bit") < found.writing < row.memory_bytes("4bit") + 2 * 10**8


def test_training_quantised_weights_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"4bit weights cannot be trained.*frozen"):
        estimate(sized_config("gpt2"), "v1", "4bit", LOAD)
    with pytest.raises(BadRequest, match="batch_size must be at least 1"):
        Workload(batch_size=0)


@pytest.mark.slow
def test_every_family_is_counted_or_refused_in_a_sentence() -> None:
    load, sizes = Workload(1, 8, 1), {**OTHERS, **CACHELESS}
    configs = {
        f: AutoConfig.for_model(f, vocab_size=300, pad_token_id=0, **s) for f, s in sizes.items()
    }
    for family, config in configs.items():
        found = estimate(config, "v3", "bf16", load)
        cached = found.writing - 2 * (found.total - found.trainable) - 4 * found.trainable
        assert (cached > 0) == (family not in CACHELESS), family
    with pytest.raises(BadRequest, match="family falcon has no layers that 8bit makes smaller"):
        estimate(configs["falcon"], "v3", "8bit", load)
    with pytest.raises(BadRequest, match="family minimax takes cannot be counted"):
        estimate(AutoConfig.for_model("minimax", **OTHERS["mistral"]), "v3", "bf16", load)


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_cost_prints_parameters_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["cost", "--llm", "llama-3.2-1b", "--mode", "v3", "--precision", "bf16"]
    assert cli.main([*line, "--batch-size", "1"]) == 0
    out = capsys.readouterr().out
    assert "1,515,276,288" in out
    assert "279,461,888" in out
    for part in ("weights", "gradients", "optimiser", "activations", "writing one report"):
        assert f"\n{part}" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [["--mode", "v1"], ["--precision", "8bit"], ["--batch-size", "2"], ["--report-tokens", "20"],
     ["--layers", "2"], ["--llm", "gpt2"], ["--gradient-checkpointing"]],
)  # fmt: skip
def test_every_option_of_cost_changes_the_figures(
    change: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["cost", "--llm", "distilgpt2", "--batch-size", "1", "--report-tokens", "10", "--json"]
    facts = []
    for arguments in (line, [*line, *change]):
        assert cli.main(arguments) == 0
        facts.append(json.loads(capsys.readouterr().out)["cost"])
    assert facts[0] != facts[1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--llm", "gpt9"], "no language model called 'gpt9'"),
        (["--llm", "gpt2", "--batch-size", "0"], "batch_size must be at least 1"),
        (["--llm", "gpt2", "--mode", "v1", "--precision", "8bit"], "cannot be trained"),
        (["--llm", "/nowhere"], "no language model in /nowhere"),
    ],
)
def test_cost_refuses_with_one_sentence(
    line: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["cost", *line]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len(err.strip().splitlines()) == 1
