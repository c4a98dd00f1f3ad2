"""Prompting by embeddings is right for every family, and decoding keeps its promises."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from close import assert_near
from safetensors.torch import load_file, save_file
from tiny_models import (
    FAMILIES,
    LATENT_DIM,
    OTHERS,
    SIZED,
    grad_of,
    random_model,
    save_language,
    sized_config,
    tiny_language,
    tiny_tokenizer,
)
from tokenizers.processors import TemplateProcessing

from rad3d.core.errors import BadRequest, CorruptWeights, MissingWeights, UnknownName
from rad3d.core.types import GenerationOptions, Strategy
from rad3d.model.identity import weights_hash
from rad3d.model.llm.decoding import Written, decode, decode_batch
from rad3d.model.llm.language import LanguageBundle
from rad3d.model.llm.loading import load_language_model
from rad3d.model.llm.selftest import verify_causal
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.model.variants.variant import VariantConfig

pytestmark = pytest.mark.numeric

TEXT = "Findings: Small left pleural effusion."


QUICK = ("llama", "gpt2")
"""Families of the quick lane."""


@pytest.fixture(
    scope="module",
    params=[
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in (*FAMILIES, *OTHERS)
    ],
)
def language(request: pytest.FixtureRequest) -> LanguageBundle:
    seed = 5 if request.param == "falcon" else 0  # with 0 it repeats one word
    return verify_causal(tiny_language(request.param, seed))


@pytest.fixture(scope="module")
def llama() -> LanguageBundle:
    return tiny_language("llama")


def _ids(language: LanguageBundle) -> torch.Tensor:
    return torch.tensor([[language.bos_id, *language.tokens(TEXT)]])


def _last(language: LanguageBundle, embeds: torch.Tensor, options: GenerationOptions) -> Written:
    *_, last = decode(language, embeds, options)
    return last


@torch.no_grad()
def _embeds(language: LanguageBundle, ids: torch.Tensor) -> torch.Tensor:
    return language.embed(ids)


def _before_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(2)] if 2 in ids else ids


OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "greedy": ({}, {"do_sample": False}),
    "beam": ({"strategy": "beam", "beams": 3}, {"do_sample": False, "num_beams": 3}),
    "repetition": (
        {"repetition_penalty": 1.5, "no_repeat_ngram": 3},
        {"do_sample": False, "repetition_penalty": 1.5, "no_repeat_ngram_size": 3},
    ),
    "beam and repetition": (
        {"strategy": "beam", "beams": 4, "repetition_penalty": 1.3},
        {"do_sample": False, "num_beams": 4, "repetition_penalty": 1.3},
    ),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Passing `:UserWarning")
@pytest.mark.parametrize("name", OPTIONS)
def test_decoding_from_embeddings_equals_transformers_generate(
    language: LanguageBundle, name: str
) -> None:
    ours, theirs = OPTIONS[name]
    embeds = _embeds(language, _ids(language))
    mask = torch.ones(embeds.shape[:2], dtype=torch.long)
    expected = language.model.generate(
        inputs_embeds=embeds, attention_mask=mask, max_new_tokens=25, **theirs
    )[0].tolist()
    options = GenerationOptions(max_new_tokens=25, **ours)
    assert list(_last(language, embeds, options).ids) == _before_end(expected)


def test_generating_from_embeddings_of_known_tokens_equals_generating_from_the_tokens(
    language: LanguageBundle,
) -> None:
    ids = _ids(language)
    expected = language.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=25, do_sample=False
    )[0, ids.shape[1] :].tolist()
    written = _last(language, _embeds(language, ids), GenerationOptions(max_new_tokens=25))
    assert list(written.ids) == _before_end(expected)
    assert len(set(expected)) > 3, "a text that says something"


def test_embeddings_give_the_same_scores_as_tokens(language: LanguageBundle) -> None:
    ids = _ids(language)
    with torch.no_grad():
        by_tokens = language.model(ids).logits
        by_embeddings = language.model(inputs_embeds=language.embed(ids)).logits
    assert_near(by_embeddings, by_tokens)


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [[6] * 7, [6, 2, 9, 6, 1, 4, 9]], ids=["equal", "ragged"])
@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_a_batch_writes_what_one_at_a_time_writes(
    language: LanguageBundle, strategy: Strategy, lengths: list[int]
) -> None:
    generator = torch.Generator().manual_seed(1)
    embeds = [torch.randn(n, language.width, generator=generator) for n in lengths]
    options = GenerationOptions(strategy=strategy, max_new_tokens=40, temperature=1.5, seed=5)
    together = decode_batch(language, embeds, options)
    alone = [_last(language, row[None], options) for row in embeds]
    assert together == alone
    assert len({row.ids for row in together}) > 1


@pytest.mark.slow
def test_rows_that_end_early_leave_the_batch_without_harm(llama: LanguageBundle) -> None:
    embeds = torch.randn(12, 6, llama.width, generator=torch.Generator().manual_seed(2))
    options = GenerationOptions(strategy="sample", max_new_tokens=120, temperature=3.0, seed=1)
    rows = decode_batch(llama, embeds, options)
    assert {row.finish for row in rows} == {"end", "length"}, "the case should hold both"
    assert rows == [_last(llama, row[None], options) for row in embeds]


def test_the_same_seed_gives_the_same_text_with_another_run_in_between(
    llama: LanguageBundle,
) -> None:
    embeds = _embeds(llama, _ids(llama))
    options = GenerationOptions(strategy="sample", max_new_tokens=30, temperature=2.0, seed=11)
    alone = _last(llama, embeds, options)
    first, second = decode(llama, embeds, options), decode(llama, embeds, options)
    pairs = []
    for pair in zip(first, second, strict=True):
        torch.rand(3)  # the global generator plays no part
        pairs.append(pair)
    assert pairs[-1] == (alone, alone)
    other = GenerationOptions(strategy="sample", max_new_tokens=30, temperature=2.0, seed=12)
    assert _last(llama, embeds, other) != alone


@pytest.mark.slow
def test_two_threads_write_what_each_writes_alone(llama: LanguageBundle) -> None:
    embeds = [_embeds(llama, _ids(llama)), torch.randn(1, 5, llama.width)]
    options = GenerationOptions(strategy="sample", max_new_tokens=60, temperature=1.5, seed=3)
    alone = [_last(llama, e, options) for e in embeds]
    together: dict[int, Written] = {}
    threads = [
        threading.Thread(target=lambda i=i: together.update({i: _last(llama, embeds[i], options)}))
        for i in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[0], together[1]] == alone


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_cancel_stops_before_the_next_token(llama: LanguageBundle, strategy: Strategy) -> None:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    handle = llama.model.register_forward_hook(count)
    cancel = threading.Event()
    options = GenerationOptions(strategy=strategy, max_new_tokens=200, temperature=0.05)
    try:
        written = Written(())
        for written in decode(llama, _embeds(llama, _ids(llama)), options, cancel):
            if len(written.ids) == 3:
                cancel.set()
    finally:
        handle.remove()
    assert written.finish == "cancelled"
    assert len(written.ids) == 3
    assert calls == 3


def test_closing_the_iterator_computes_nothing_more(llama: LanguageBundle) -> None:
    calls: list[int] = []
    handle = llama.model.register_forward_hook(lambda *_: calls.append(1))
    steps = decode(llama, _embeds(llama, _ids(llama)), GenerationOptions())
    assert isinstance(steps, Generator)
    next(steps)
    steps.close()
    handle.remove()
    assert len(calls) == 1


@pytest.mark.slow
def test_each_option_changes_the_text(llama: LanguageBundle) -> None:
    embeds = _embeds(llama, _ids(llama))
    base: dict[str, Any] = {
        "strategy": "sample",
        "max_new_tokens": 40,
        "temperature": 1.5,
        "seed": 0,
    }
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"temperature": 2.0},
        {"top_p": 0.3},
        {"seed": 1},
        {"repetition_penalty": 2.0},
        {"no_repeat_ngram": 1},
        {"max_new_tokens": 7},
        {"strategy": "greedy"},
        {"strategy": "beam", "beams": 2},
    )
    texts = [_last(llama, embeds, GenerationOptions(**(base | c))).ids for c in changes]
    assert len(set(texts)) == len(changes)


def test_text_never_outgrows_the_context(llama: LanguageBundle) -> None:
    embeds = torch.randn(1, 250, llama.width)
    options = GenerationOptions(max_new_tokens=100, no_repeat_ngram=1)
    assert len(_last(llama, embeds, options).ids) <= 6
    with pytest.raises(BadRequest, match="at most 256"):
        next(decode(llama, torch.randn(1, 256, llama.width), options))


def test_report_tokens_follow_the_prompt_as_in_one_text(llama: LanguageBundle) -> None:
    ids = llama.report_tokens("\nReport:", TEXT)
    assert llama.tokens("\nReport:") + ids == [*llama.tokens(f"\nReport: {TEXT}"), *llama.eos_ids]
    assert llama.decode(ids) == TEXT


@pytest.mark.slow
def test_saved_model_loads_and_writes_the_same(llama: LanguageBundle, tmp_path: Path) -> None:
    save_language(llama, tmp_path / "llms" / "tiny")
    loaded = load_language_model("llms/tiny", models_dir=tmp_path)
    assert loaded.sha256 == weights_hash(tmp_path / "llms" / "tiny")
    embeds = _embeds(llama, _ids(llama))
    options = GenerationOptions(max_new_tokens=20)
    assert _last(loaded, embeds, options) == _last(llama, embeds, options)


def test_half_precision_is_an_option(llama: LanguageBundle, tmp_path: Path) -> None:
    save_language(llama, tmp_path / "m")
    assert load_language_model(str(tmp_path / "m"), precision="bf16").dtype == torch.bfloat16
    with pytest.raises(UnknownName, match="float32"):
        load_language_model(str(tmp_path / "m"), precision="int3")


def test_unreachable_model_says_what_to_do() -> None:
    with pytest.raises(MissingWeights, match=r"nobody/nothing.*HF_HUB_OFFLINE"):
        load_language_model("nobody/nothing")
    with pytest.raises(MissingWeights, match="rad3d demo build"):
        load_language_model("llms/phantom-s")


def test_truncated_weights_are_named(llama: LanguageBundle, tmp_path: Path) -> None:
    folder = save_language(llama, tmp_path / "m")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CorruptWeights):
        load_language_model(str(folder))
    with pytest.raises(CorruptWeights, match="not the ones"):
        load_language_model(str(folder), sha256="0" * 64)


def test_absent_tensors_are_an_error_not_random_numbers(
    llama: LanguageBundle, tmp_path: Path
) -> None:
    folder = save_language(llama, tmp_path / "m")
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(CorruptWeights, match="up_proj"):
        load_language_model(str(folder))


def test_tensors_of_another_shape_are_an_error(llama: LanguageBundle, tmp_path: Path) -> None:
    folder = save_language(llama, tmp_path / "m")
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"] = tensors["model.norm.weight"][:3].clone()
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(CorruptWeights, match=r"model\.norm"):
        load_language_model(str(folder))


# --- special tokens, padding, positions -----------------------------------------------------------


def _reporter(language: LanguageBundle, mode: str = "v2") -> PrefixReporter:
    torch.manual_seed(5)
    config = VariantConfig(
        llm="gpt2", mode=mode, llm_source="x", latent_dim=LATENT_DIM, prefix_length=4,
        clip_length=3, layers=1, heads=4,
    )  # fmt: skip
    return PrefixReporter(config, language).eval()


def test_what_the_tokenizer_itself_puts_first_starts_a_text() -> None:
    plain, marking = tiny_language("gpt2"), tiny_language("biogpt")
    assert plain.bos_id == plain.tokenizer.bos_token_id == 1
    # As BioGPT and OPT do: </s> begins a text, though another token is called the start token.
    marking.tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<eos> $A", special_tokens=[("<eos>", 2)]
    )
    assert marking.bos_id == 2
    assert 2 not in marking.tokens(TEXT), "no special token inside a text"
    reporter = _reporter(marking)
    first = reporter.conditioning(torch.zeros(1, 4, marking.width))[0, 0]
    assert torch.equal(first, _embeds(marking, torch.tensor([[2]]))[0, 0])


def test_embeddings_are_the_familys_own_with_its_scale_and_prefixes_are_not_scaled() -> None:
    language = tiny_language("biogpt")
    table = language.model.get_input_embeddings().weight
    ids = torch.tensor([[5, 6]])
    torch.testing.assert_close(_embeds(language, ids), table[ids] * language.width**0.5)
    prefix = torch.randn(1, 4, language.width)
    whole = _reporter(language).conditioning(prefix)
    assert torch.equal(whole[:, 1:5], prefix), "start token, then the prefix as it is"


def test_padding_changes_no_loss(language: LanguageBundle) -> None:
    reporter = _reporter(language)
    reports = [reporter.report_ids(text) for text in ("Clear.", f"{TEXT} {TEXT}", TEXT)]
    latents = torch.randn(3, LATENT_DIM, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = reporter.loss(latents, None, *reporter.collate(reports))
        alone = [
            reporter.loss(latents[i : i + 1], None, *reporter.collate([ids])) * len(ids)
            for i, ids in enumerate(reports)
        ]
    expected = torch.stack(alone).sum() / sum(len(ids) for ids in reports)
    assert_near(together, expected)


def test_the_loss_of_a_prefix_of_known_tokens_is_that_of_the_tokens(
    language: LanguageBundle,
) -> None:
    reporter = _reporter(language)
    words = torch.tensor([language.tokens("lungs are clear")[:4]])
    reporter.prefix = lambda *given: _embeds(language, words)  # type: ignore[method-assign]
    report = reporter.report_ids(TEXT)
    with torch.no_grad():
        loss = reporter.loss(torch.zeros(1, LATENT_DIM), None, *reporter.collate([report]))
        head = [language.bos_id, *words[0].tolist(), *language.tokens(reporter.config.prompt)]
        ids = torch.tensor([head + report])
        labels = torch.tensor([[-100] * len(head) + report])
        expected = language.model(ids, labels=labels).loss
    assert_near(loss, expected)


def test_every_family_learns_through_its_prefix_while_it_stays_frozen(
    language: LanguageBundle,
) -> None:
    reporter = _reporter(language, "v3").train()
    batch = reporter.collate([reporter.report_ids(TEXT)])
    reporter.loss(torch.randn(1, LATENT_DIM), torch.randn(1, 18), *batch).backward()
    matrices = [p for p in reporter.projector.parameters() if p.ndim > 1]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in matrices)
    assert all(p.grad is None for p in reporter.llm.parameters())


# --- 8 bit and 4 bit ------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=SIZED)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = random_model(sized_config(request.param, num_hidden_layers=2, vocab_size=320), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.05)
    language = LanguageBundle(model, tiny_tokenizer(), request.param)
    return save_language(language, tmp_path_factory.mktemp(request.param))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "error", "share"),
    [("bf16", 0.02, 0.51), ("8bit", 0.05, 0.36), ("4bit", 0.4, 0.25)],
)
def test_lower_precision_stays_near_takes_less_and_writes(
    stored: Path, precision: str, error: float, share: float
) -> None:
    exact = load_language_model(str(stored))
    less = load_language_model(str(stored), precision=precision)
    assert (less.precision, less.parameters) == (precision, exact.parameters)
    assert less.nbytes < share * exact.nbytes
    ids = torch.tensor([[1, *exact.tokens(TEXT)]])
    with torch.inference_mode():
        expected = exact.model(ids).logits
        scores = less.model(inputs_embeds=less.embed(ids)).logits.float()
    assert torch.linalg.norm(scores - expected) < error * torch.linalg.norm(expected)
    assert torch.linalg.norm(scores - expected) > 0, "it is another precision"
    embeds = _embeds(less, ids)
    written = _last(less, embeds, GenerationOptions(max_new_tokens=12))
    assert written.ids
    assert decode_batch(less, embeds.expand(2, -1, -1), GenerationOptions(max_new_tokens=3))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["8bit", "4bit"])
def test_a_projector_learns_through_a_quantised_model(stored: Path, precision: str) -> None:
    grads = {}
    for name in ("float32", precision):
        reporter = _reporter(load_language_model(str(stored), precision=name, trains=True))
        batch = reporter.collate([reporter.report_ids(TEXT)])
        latent = torch.randn(1, LATENT_DIM, generator=torch.Generator().manual_seed(2))
        reporter.loss(latent, None, *batch).backward()
        grads[name] = torch.cat([grad_of(p).flatten() for p in reporter.projector.parameters()])
    near = torch.nn.functional.cosine_similarity(grads["float32"], grads[precision], dim=0)
    assert near > 0.9


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("precision", ["float32", "bf16", "8bit", "4bit"])
def test_every_precision_loads_and_writes_on_a_gpu(stored: Path, precision: str) -> None:
    language = load_language_model(str(stored), precision=precision, device="cuda")
    assert language.device.type == "cuda"
    embeds = _embeds(language, torch.tensor([[1, *language.tokens(TEXT)]]))
    assert _last(language, embeds, GenerationOptions(max_new_tokens=8)).ids


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_output_layer_gets_its_slice_in_one_piece(
    family: str, rows: int, tmp_path: Path
) -> None:
    save_language(tiny_language(family), tmp_path)
    model = load_language_model(str(tmp_path), precision="bf16").model
    layouts: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    model.get_output_embeddings().register_forward_pre_hook(
        lambda _, inputs: layouts.append((inputs[0].shape, inputs[0].stride()))
    )
    model(input_ids=torch.ones(rows, 7, dtype=torch.long), logits_to_keep=3)
    model(input_ids=torch.ones(rows, 7, dtype=torch.long), logits_to_keep=1)
    width = model.get_input_embeddings().embedding_dim
    assert layouts == [
        ((rows, 3, width), (3 * width, width, 1)),
        ((rows, 1, width), (width, width, 1)),
    ]
