"""The table of language models is true: every count is the count of the model itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from tiny_models import SIZED, random_model, sized_config
from transformers import AutoConfig

from rad3d.core.errors import UnknownName
from rad3d.core.language_models import LANGUAGE_MODELS, PRECISIONS, LanguageModel, language_model
from rad3d.core.variant_ids import split_variant_id
from rad3d.model.llm.architectures import count, meta_model

PUBLISHED = [row for row in LANGUAGE_MODELS.values() if not row.shipped]


@pytest.mark.slow
@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.id)
def test_every_parameter_count_is_that_of_the_model_built_from_the_rows_sizes(
    row: LanguageModel,
) -> None:
    size = count(meta_model(AutoConfig.for_model(**row.config)))
    assert (size.total, size.linear) == (row.parameters, row.linear_parameters)


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.id)
def test_every_published_row_says_where_its_weights_are_and_on_what_terms(
    row: LanguageModel,
) -> None:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", row.source)
    assert re.fullmatch(r"[0-9a-f]{40}", row.revision or "")
    assert row.licence
    assert row.gated == row.source.startswith(("meta-llama/", "google/"))


def test_the_table_holds_the_sizes_that_the_paper_compares() -> None:
    named = {"distilgpt2", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "biogpt", "biogpt-large"}
    assert named | {"llama-3.2-1b", "deepseek-r1-8b", "llama-2-7b-chat"} <= set(LANGUAGE_MODELS)
    sizes = [row.parameters for row in PUBLISHED]
    assert sizes == sorted(sizes)
    assert (min(sizes), max(sizes)) == (81_912_576, 8_030_261_248)


def test_the_papers_rule_changes_at_one_billion_parameters() -> None:
    advice = {row.id: row.paper_advice for row in PUBLISHED}
    assert {advice[name] for name in ("distilgpt2", "biogpt", "gpt2-large")} == {"fine-tune"}
    assert {advice[name] for name in ("pythia-1b", "llama-3.2-1b", "gpt2-xl")} == {"freeze"}


def test_memory_shrinks_with_the_precision_and_embeddings_do_not() -> None:
    llama = language_model("llama-3.2-1b")
    assert llama.memory_bytes("float32") == 4 * llama.parameters
    assert llama.memory_bytes("bf16") == llama.memory_bytes("float16") == 2 * llama.parameters
    linear, embeddings = 973_078_528, 128_256 * 2048
    assert llama.linear_parameters == linear
    assert llama.memory_bytes("8bit") == linear + 2 * (llama.parameters - linear)
    assert 2 * embeddings + linear // 2 < llama.memory_bytes("4bit") < llama.memory_bytes("8bit")
    with pytest.raises(UnknownName, match="float32, bf16"):
        llama.memory_bytes("int3")
    assert {p.id for p in PRECISIONS.values() if p.quantised} == {"8bit", "4bit"}


@pytest.mark.parametrize("family", SIZED)
def test_a_random_model_has_the_size_of_its_meta_twin_and_gives_finite_scores(family: str) -> None:
    config = sized_config(family, num_hidden_layers=2)
    model = random_model(config, torch.float32, seed=3)
    assert count(model) == count(meta_model(config))
    ids = torch.arange(10)[None]
    with torch.inference_mode():
        scores = model(ids).logits
        again = random_model(config, torch.float32, seed=3)(ids).logits
    assert torch.isfinite(scores).all()
    assert scores.std() > 0
    assert torch.equal(scores, again)
    assert random_model(config, torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "id_", "source"),
    [
        ("gpt2", "gpt2", "openai-community/gpt2"),
        ("openai-community/gpt2", "gpt2", "openai-community/gpt2"),
        ("Qwen/Qwen3-0.6B", "Qwen--Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("Qwen--Qwen3-0.6B", "Qwen--Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("local--mine", "local--mine", "llms/mine"),
        ("local--data--llms--mine", "local--data--llms--mine", "llms/data--llms--mine"),
    ],
)
def test_any_hub_id_or_folder_is_a_language_model_with_an_id_fit_for_a_folder(
    name: str, id_: str, source: str
) -> None:
    row = language_model(name)
    assert (row.id, row.source) == (id_, source)
    assert LANGUAGE_MODELS[row.id] == row
    assert split_variant_id(f"{name}/v3") == (row, split_variant_id("gpt2/v3")[1])
    assert len(list(LANGUAGE_MODELS)) == len(PUBLISHED) + 3, "looking up adds no row"


@pytest.mark.parametrize(
    ("path", "id_"),
    [("/data/llms/mine", "local--mine"), ("/a--b/My Model_2", "local--my-model-2")],
)
def test_a_path_is_a_language_model_with_a_short_name_of_its_own(path: str, id_: str) -> None:
    row = language_model(path)
    assert (row.id, row.source) == (id_, path)
    assert language_model(row.id).source == f"llms/{id_.removeprefix('local--')}"
    assert split_variant_id(f"{path}/v3")[0] == row


@pytest.mark.parametrize(
    "name",
    [
        "",
        "gpt9",
        "..",
        "a/b/c",
        "../../etc",
        "a--..--b",
        "owner/..",
        "local--..",
        "a b/c",
    ],
)
def test_a_name_that_cannot_be_a_model_is_refused_with_the_known_ones(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "../../etc":  # a path: allowed to name any directory, never to leave the models'
        assert ".." not in language_model(name).id
        assert "/" not in language_model(name).id
        return
    with pytest.raises(UnknownName, match="phantom-s"):
        language_model(name)
