"""Variants: what is trained, what the loss sees, and what lies on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from close import assert_near
from safetensors.torch import load_file
from small_variants import KNOWN, TEXTS, small_batch, small_config
from tiny_models import FAMILIES, LATENT_DIM, save_language, tiny_language

from rad3d.core.details import finding_bits
from rad3d.core.errors import BadRequest, CorruptWeights, MissingWeights, UnknownName
from rad3d.core.labels import LABELS
from rad3d.core.modes import MODES
from rad3d.model.variants.adapters import adapter_parameters
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.model.variants.variant import VariantConfig

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("mode", MODES)
def test_a_step_moves_exactly_what_the_mode_trains(mode: str) -> None:
    reporter = PrefixReporter(small_config(mode), tiny_language("gpt2")).train()
    before = {k: v.clone() for k, v in reporter.state_dict().items()}
    trainable = list(reporter.trainable_parameters())
    assert {id(p) for p in trainable} == {id(p) for p in reporter.parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(trainable, lr=0.5)
    loss = reporter.loss(*small_batch(reporter))
    if not MODES[mode].trains:
        assert not sum(parameter.numel() for parameter in trainable)
        return
    loss.backward()
    optimizer.step()
    state = reporter.state_dict().items()
    moved = {k.split(".")[0] for k, v in state if not v.equal(before[k])}
    tuned = MODES[mode].trains_llm or MODES[mode].adapter
    assert moved == ({"projector", "llm"} if tuned else {"projector"})
    if MODES[mode].adapter:
        changed = {k for k, v in state if not v.equal(before[k]) and k.startswith("llm.")}
        assert all(".lora_" in k for k in changed), "what was pretrained stays as it is"
    assert reporter.llm.training == MODES[mode].trains_llm, "a frozen model has no dropout"


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_is_that_of_the_report_tokens_alone(family: str) -> None:
    reporter = PrefixReporter(small_config(), tiny_language(family)).eval()
    latent, logits, ids = small_batch(reporter, TEXTS[1:])[:3]
    with torch.no_grad():
        head = reporter.conditioning(reporter.prefix(latent, logits))
        embeds = torch.cat((head, reporter.language.embed(ids)), dim=1)
        odds = reporter.llm(inputs_embeds=embeds).logits.log_softmax(-1)
        picked = [odds[0, head.shape[1] - 1 + i, t] for i, t in enumerate(ids[0].tolist())]
        loss = reporter.loss(latent, logits, ids, ids)
    assert_near(loss, -torch.stack(picked).mean())


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_does_not_change_the_loss(family: str) -> None:
    reporter = PrefixReporter(small_config(), tiny_language(family)).eval()
    latent, logits, ids, labels = small_batch(reporter)[:4]
    with torch.no_grad():
        together = reporter.loss(latent, logits, ids, labels)
        each = [
            (reporter.loss(latent[i : i + 1], logits[i : i + 1], row[None], row[None]), len(row))
            for i, row in enumerate(torch.tensor(reporter.report_ids(text)) for text in TEXTS)
        ]
    expected = sum(loss * n for loss, n in each) / sum(n for _, n in each)
    assert_near(together, expected)


@pytest.mark.slow
def test_a_few_steps_learn_to_tell_two_conditions_apart() -> None:
    torch.manual_seed(0)
    reporter = PrefixReporter(small_config("v1"), tiny_language("llama")).train()
    data = small_batch(reporter)
    optimizer = torch.optim.Adam(reporter.trainable_parameters(), lr=3e-3)
    first = float(reporter.loss(*data).detach())
    for _ in range(60):
        optimizer.zero_grad()
        loss = reporter.loss(*data)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05 * first


def test_sequence_is_start_token_then_prefix_then_prompt() -> None:
    reporter = PrefixReporter(small_config(prompt="\nReport:"), tiny_language("llama"))
    prefix = torch.randn(2, 4, reporter.language.width)
    embeds = reporter.conditioning(prefix).detach()
    prompt = reporter.language.tokens("\nReport:")
    around = reporter.language.embed(torch.tensor([[1, *prompt]])).detach()
    assert embeds.shape[1] == reporter.conditioning_length == 1 + 4 + len(prompt)
    assert embeds[1, 0].equal(around[0, 0])
    assert embeds[:, 1:5].equal(prefix)
    assert embeds[1, 5:].equal(around[0, 1:])
    bare = PrefixReporter(small_config(bos_first=False, prompt=""), tiny_language("llama"))
    assert bare.conditioning(prefix).equal(prefix)


def test_too_long_a_report_is_refused() -> None:
    reporter = PrefixReporter(small_config(), tiny_language("llama"))
    with pytest.raises(BadRequest, match="room for"):
        reporter.collate([[5] * 300])


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_saved_variant_loads_and_makes_the_same_prefix(mode: str, tmp_path: Path) -> None:
    language = tiny_language("gpt2")
    save_language(language, tmp_path / "llms" / "phantom-s")
    reporter = PrefixReporter(small_config(mode), language)
    reporter.scaling.fit(torch.randn(9, LATENT_DIM), torch.randn(9, 18))
    with torch.no_grad():
        for parameter in reporter.trainable_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    saved = reporter.save_pretrained(tmp_path / "v", dtype=torch.float32)
    adapter = {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    assert set(saved.files) == {"projector.safetensors"} | (
        {"llm/model.safetensors"} if MODES[mode].trains_llm else set()
    ) | (adapter if MODES[mode].adapter else set())
    modes = {(tmp_path / "v" / name).stat().st_mode for name in ("variant.json", *saved.files)}
    assert len(modes) == 1, "a server of another user can read all or nothing"
    loaded = PrefixReporter.from_pretrained(tmp_path / "v", models_dir=tmp_path)
    assert loaded.config == saved
    assert not loaded.training
    latent, logits, *_, tokens, bits = data = small_batch(reporter)
    with torch.no_grad():
        given = (latent, logits, tokens, bits)
        assert_near(loaded.prefix(*given), reporter.prefix(*given))
        assert_near(loaded.loss(*data), reporter.eval().loss(*data))


def test_half_precision_storage_keeps_scaling_exact_and_ties_tied(tmp_path: Path) -> None:
    reporter = PrefixReporter(small_config("v1"), tiny_language("gpt2"))
    reporter.scaling.fit(torch.randn(9, LATENT_DIM) * 1e5)
    reporter.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "projector.safetensors")
    assert tensors["linear.weight"].dtype == torch.float16
    assert tensors["scaling.latent_mean"].equal(reporter.scaling.latent_mean)
    stored = load_file(tmp_path / "llm" / "model.safetensors")
    assert sum(t.numel() for t in stored.values()) == reporter.language.parameters
    loaded = PrefixReporter.from_pretrained(tmp_path)
    assert loaded.language.dtype == torch.float32
    assert loaded.language.parameters == reporter.language.parameters


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    language = tiny_language("llama")
    folder = save_language(language, tmp_path / "llms" / "phantom-s")
    PrefixReporter(small_config(), language).save_pretrained(tmp_path / "v")
    assert folder.is_dir()
    return tmp_path


def test_a_flipped_byte_is_found_and_the_file_named(saved: Path) -> None:
    weights = saved / "v" / "projector.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CorruptWeights, match=r"phantom-s/v3/projector\.safetensors"):
        PrefixReporter.from_pretrained(saved / "v", models_dir=saved)


def test_a_missing_file_is_named(saved: Path) -> None:
    (saved / "v" / "projector.safetensors").unlink()
    with pytest.raises(MissingWeights, match=r"projector\.safetensors"):
        PrefixReporter.from_pretrained(saved / "v", models_dir=saved)


def test_another_language_model_than_in_training_is_refused(saved: Path) -> None:
    path = saved / "v" / "variant.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"llm_sha256": "0" * 64}))
    with pytest.raises(CorruptWeights, match="llms/phantom-s"):
        PrefixReporter.from_pretrained(saved / "v", models_dir=saved)


def test_a_projector_of_another_shape_is_refused(saved: Path) -> None:
    path = saved / "v" / "variant.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layers": 2}))
    with pytest.raises(CorruptWeights, match="does not fit"):
        PrefixReporter.from_pretrained(saved / "v", models_dir=saved)


def test_configuration_round_trips_and_refuses_unknown_keys() -> None:
    original = small_config(training={"steps": 3}, files={"a": "b"})
    assert VariantConfig.from_json(original.to_json()) == original
    with pytest.raises(BadRequest, match="colour"):
        VariantConfig.from_json(json.dumps({"llm": "x", "mode": "v1", "colour": 1}))
    with pytest.raises(UnknownName, match="v1, v2, v3, linear"):
        replace(small_config(), mode="v9")


def test_no_variant_in_a_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights):
        PrefixReporter.from_pretrained(tmp_path)


@pytest.mark.parametrize("mode", ["lora", "dora"])
def test_peft_reads_the_files_of_an_adapter(mode: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    save_language(tiny_language("llama"), tmp_path / "llms" / "phantom-s")
    reporter = PrefixReporter(small_config(mode), tiny_language("llama")).eval()
    with torch.no_grad():
        for parameter in adapter_parameters(reporter.llm):
            parameter.add_(0.1 * torch.randn_like(parameter))
    reporter.save_pretrained(tmp_path / "v", dtype=torch.float32)
    plain = tiny_language("llama")
    tuned = peft.PeftModel.from_pretrained(plain.model, tmp_path / "v" / "adapter").eval()
    ids = torch.tensor([plain.tokens(TEXTS[1])])
    with torch.no_grad():
        assert_near(tuned(ids).logits, reporter.llm(ids).logits)
    described = json.loads((tmp_path / "v" / "adapter" / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == "llms/phantom-s"
    names = load_file(tmp_path / "v" / "adapter" / "adapter_model.safetensors")
    assert not [name for name in names if "embed" in name or "lm_head" in name]


def test_an_adapter_leaves_the_language_model_that_others_share_alone(tmp_path: Path) -> None:
    language = tiny_language("llama")
    PrefixReporter(small_config("lora"), tiny_language("llama")).save_pretrained(tmp_path / "v")
    ids = torch.tensor([language.tokens(TEXTS[1])])
    with torch.no_grad():
        before = language.model(ids).logits
    loaded = PrefixReporter.from_pretrained(tmp_path / "v", language=language)
    own = {name: p for name, p in loaded.llm.named_parameters() if ".lora_" not in name}
    shared = {p.data_ptr() for p in language.model.parameters()}
    assert {p.data_ptr() for p in own.values()} == shared, "the weights are in memory once"
    with torch.no_grad():
        assert language.model(ids).logits.equal(before)
    assert not [name for name, _ in language.model.named_modules() if "lora" in name]


@pytest.mark.parametrize("mode", ["slots", "words"])
def test_a_prefix_of_findings_begins_at_the_models_own_words(mode: str) -> None:
    language = tiny_language("llama")
    reporter = PrefixReporter(small_config(mode), language)
    bits = torch.from_numpy(finding_bits(KNOWN))[None]
    prefix = reporter.prefix(torch.zeros(1, LATENT_DIM), bits=bits)[0].detach()
    words = "Summary:" if mode == "slots" else "Exam: chest CT"
    first = language.embed(torch.tensor(language.tokens(words))).detach()
    n = min(len(first), len(prefix))
    assert_near(prefix[:n], first[:n])
    if mode == "slots":
        name = language.embed(torch.tensor(language.tokens(" emphysema"))).sum(0).detach()
        slot = len(first) + 2 * LABELS.index("Emphysema")
        assert_near(prefix[slot], name)


def test_findings_as_words_stand_between_prefix_and_report_and_are_not_predicted() -> None:
    reporter = PrefixReporter(small_config("words"), tiny_language("llama"))
    ids, labels = small_batch(reporter)[2:4]
    context = reporter.context(KNOWN)
    assert reporter.language.decode(context) == (
        "Summary: emphysema; left pleural effusion, mild, 12 mm\nReport:"
    )
    assert ids[0, : len(context)].tolist() == context
    assert (labels[:, : len(context)] == -100).all()
    assert labels[0, len(context)] == ids[0, len(context)]


def test_a_prefix_can_have_the_scale_of_the_models_words() -> None:
    language = tiny_language("llama")
    reporter = PrefixReporter(small_config("v3", prefix_scale="words"), language)
    latent, logits = small_batch(reporter)[:2]
    words = language.embed(torch.arange(language.vocabulary)).square().mean().sqrt()
    lengths = reporter.prefix(latent, logits).square().mean(-1).sqrt().detach()
    assert_near(lengths, words.detach().expand_as(lengths))
