"""`rad3d convert --clipcap`: a variant from the state dict of somebody's projector."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from close import assert_near
from safetensors.torch import load_file, save_file
from tiny_models import tiny_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from rad3d import cli
from rad3d.core.language_models import language_model
from rad3d.model.variants.projector import LinearProjector, TransformerProjector
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.model.variants.variant import VariantConfig, variant_directory

pytestmark = pytest.mark.numeric

WIDTH = 64


def llm(directory: Path) -> Any:
    """A saved language model whose tokens are as wide as those of the reference mapper."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=256, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return model


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    llm(tmp_path / "llm")
    return tmp_path


def mapper(inputs: int = 530, width: int = WIDTH) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return TransformerProjector(inputs, width, layers=2).state_dict()


def convert(place: Path, state: Any, *more: str) -> int:
    torch.save(state, place / "mapper.pt")
    return cli.main(
        ["convert", "--clipcap", str(place / "mapper.pt"), "--llm", str(place / "llm"), *more]
    )


def variant(place: Path, mode: str = "v3") -> PrefixReporter:
    name = f"{language_model(str(place / 'llm')).id}/{mode}"
    folder = variant_directory(place / "models", name)
    return PrefixReporter.from_pretrained(folder, models_dir=place / "models")


@pytest.mark.parametrize("prefix", ["", "clip_project.", "module.clip_project."])
def test_the_published_mapper_gives_the_published_prefix(
    place: Path, shared_dir: Path, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = load_file(shared_dir / "reference" / "clipcap_mapper.safetensors")
    state = {
        prefix + key.removeprefix("weights/"): value
        for key, value in reference.items()
        if key.startswith("weights/")
    }
    assert convert(place, state) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["encoder"] == "ct-clip"
    reporter = variant(place)
    latent, logits = reference["io/input"].split((512, 18), dim=1)
    with torch.no_grad():
        found = reporter.prefix(latent, logits)
    assert_near(found, reference["io/output"])
    assert reporter.conditioning_length == 10, "ClipCap has no start token and no prompt"


WRAPPED: dict[str, Any] = {
    "compiled": lambda m: {f"_orig_mod.{k}": v for k, v in m.items()},
    "compiled and distributed": lambda m: {f"module._orig_mod.{k}": v for k, v in m.items()},
    "Lightning's key": lambda m: {f"model.clip_project.{k}": v for k, v in m.items()},
    "a compiled part": lambda m: {f"clip_project._orig_mod.{k}": v for k, v in m.items()},
    "a distributed part": lambda m: {f"model.clip_project.module.{k}": v for k, v in m.items()},
    "FSDP": lambda m: {f"_fsdp_wrapped_module.clip_project.{k}": v for k, v in m.items()},
    "a Lightning checkpoint": lambda m: {
        "state_dict": {f"model.{k}": v for k, v in m.items()},
        "epoch": 3, "optimizer_states": [{"state": {}}], "hyper_parameters": {"lr": 1.0},
    },
    "a training checkpoint": lambda m: {"model_state_dict": m, "optimizer_state_dict": {}},
    "DeepSpeed": lambda m: {"module": m, "global_steps": 7},
    "one table of another name": lambda m: {"projector": m, "step": 7},
    "an average beside it": lambda m: {
        **m, **{f"ema_model.{k}": v * 0 for k, v in m.items()}, "step": torch.tensor(3),
    },
    "a word of their own": lambda m: {f"captioner.clip_project.{k}": v for k, v in m.items()},
    "an average alone": lambda m: {f"ema.{k}": v for k, v in m.items()},
    "torch's average": lambda m: {"n_averaged": torch.tensor(3),
                                  **{f"module.{k}": v for k, v in m.items()}},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("how", WRAPPED)
def test_what_wrappers_put_around_a_mapper_does_not_matter(place: Path, how: str) -> None:
    state = mapper()
    assert convert(place, WRAPPED[how](state)) == 0
    found = variant(place).projector.state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items())


def test_what_is_left_of_a_training_checkpoint_is_told(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = mapper()
    averages = {f"ema.{k}": v for k, v in ours.items()}
    state = {"state_dict": ours | averages, "state_dict_ema": mapper(), "epoch": 3}
    assert convert(place, state) == 0
    err = capsys.readouterr().err
    assert "Read state_dict of mapper.pt; left out: state_dict_ema, epoch." in err
    assert f"Left out: {len(ours)} tensors of a moving average, such as ema." in err


def test_an_adapter_is_never_ignored(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = "gpt.base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"
    assert convert(place, mapper() | {key: torch.zeros(4, 8)}) == 1
    assert "has a PEFT adapter (1 tensors" in capsys.readouterr().err
    (place / "llm" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    for mode in ("v3", "v1"):
        assert convert(place, mapper(), "--mode", mode) == 1
        assert "A PEFT adapter (adapter_config.json) lies beside" in capsys.readouterr().err
    assert not list((place / "models").rglob("variant.json"))


FOREIGN: dict[str, tuple[bytes, str]] = {
    "p.gguf": (b"GGUF\x03\0\0\0", "is no checkpoint: it is a GGUF file.*convert --gguf"),
    "p.pt": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer.*git lfs pull"),
    "q.pt": (b"<html><body>Log in</body></html>", "a web page"),
    "p.safetensors": (b"", "it is empty"),
    "model.safetensors.index.json": (b'{"weight_map": {"a": "b"}}', "the index of weights in sev"),
    "p.h5": (b"\x89HDF\r\n", "an HDF5 file.*Give a .safetensors or .pt file"),
    "p.zip": (b"PK\x03\x04" + bytes(22) + b"\x04\0\0\0p.pt", "a zip archive.*Unpack it"),
    "p.csv": (b"id,report\n", "it is text"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_checkpoint_is_called_what_it_is(
    place: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content, said = FOREIGN[name]
    (place / name).write_bytes(content)
    for line in (["convert", "--clipcap", str(place / name), "--llm", str(place / "llm")],
                 ["convert", str(place / name)]):  # fmt: skip
        assert cli.main(line) == 1
        assert re.search(said, capsys.readouterr().err)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_mapper_in_another_precision_becomes_float32(place: Path, dtype: torch.dtype) -> None:
    state = {key: value.to(dtype) for key, value in mapper().items()}
    assert convert(place, state) == 0
    found = variant(place).projector.state_dict()
    assert all(torch.equal(found[key], value.float()) for key, value in state.items())


def test_the_variant_says_what_it_is_and_what_it_needs(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(place, mapper(), "--prompt", "Report:", "--start-token") == 0
    config = variant(place).config
    assert config.preprocessing == "lps-480x480x240-0.75x0.75x1.5mm-5a82a74a"
    assert not config.standardised
    assert (config.latent_weight, config.logits_weight, config.layers) == (1, 1, 2)
    assert (config.prompt, config.bos_first) == ("Report:", True)
    assert config.training["imported"] == "mapper.pt"
    assert config.llm_sha256, "the frozen language model is known by its weights"
    capsys.readouterr()
    assert cli.main(["variants", "--json"]) == 0
    statuses = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert "needs the encoder ct-clip" in statuses[config.id]["reason"]


def test_safetensors_and_the_other_modes_are_taken_too(place: Path) -> None:
    save_file(mapper(512), place / "mapper.safetensors")
    line = ["convert", "--clipcap", str(place / "mapper.safetensors"), "--llm", str(place / "llm")]
    assert cli.main([*line, "--mode", "v2"]) == 0
    assert variant(place, "v2").config.logits_dim == 0
    assert convert(place, LinearProjector(530, WIDTH).state_dict(), "--mode", "linear") == 0
    assert variant(place, "linear").prefix(torch.zeros(1, 512), torch.zeros(1, 18)).shape[1] == 10


def test_a_whole_model_becomes_a_v1_with_its_own_language_model(place: Path) -> None:
    tuned = llm(place / "other")
    with torch.no_grad():
        tuned.model.embed_tokens.weight.add_(1.0)
    own = {f"gpt.{key}": value for key, value in tuned.state_dict().items()}
    own |= {"gpt.model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(8)}
    whole = own | {f"clip_project.{key}": value for key, value in mapper(512).items()}
    assert convert(place, whole, "--mode", "v1") == 0
    found = variant(place, "v1").language.model.state_dict()
    for key, value in tuned.state_dict().items():
        assert torch.equal(found[key], value), key


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "more", "said"),
    [
        (lambda: mapper() | {"surprise": torch.zeros(1)}, [], r"surprise"),
        (lambda: {k: v for k, v in mapper().items() if k != "linear.bias"}, [], "linear.bias"),
        (lambda: {k: v for k, v in mapper().items() if k != "prefix_const"}, [], "prefix_const"),
        (lambda: mapper() | {"linear.weight": torch.zeros(630, 530)}, [], "linear"),
        (lambda: {"model.0.weight": torch.zeros(2, 2)}, [], "no ClipCap transformer mapper"),
        (dict, [], "no ClipCap transformer mapper"),
        (lambda: mapper() | {"linear.bias": torch.ones(10 * WIDTH) / 0}, [], "linear.bias (inf"),
        (lambda: mapper() | {"prefix_const": torch.ones(10, WIDTH).int()}, [], "of torch.int32"),
        (lambda: mapper(512), [], "takes 512 numbers, and V-3"),
        (lambda: mapper(), ["--mode", "v2"], "takes 530 numbers, and V-2"),
        (lambda: mapper(width=32), [], "tokens of 32 numbers"),
        (lambda: mapper(512), ["--mode", "v1"], "holds no language model"),
        (lambda: mapper(), ["--mode", "linear"], "no linear mapper"),
        (lambda: mapper(), ["--heads", "7"], "cannot have 7 heads"),
        (lambda: mapper(), ["--heads", "0"], "--heads must be at least 1"),
        (lambda: {"a": mapper(), "b": mapper()}, [], "not a plain table of tensors (found: a, b)"),
        (lambda: [print], [], "cannot be read as a checkpoint"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(
    place: Path, state: Any, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(place, state(), *more) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err
    assert not list((place / "models").rglob("variant.json"))


def test_a_variant_that_is_there_is_not_overwritten_unasked(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(place, mapper()) == 0
    assert convert(place, mapper()) == 1
    assert "Add --replace" in capsys.readouterr().err
    assert convert(place, mapper(), "--replace") == 0


@pytest.mark.parametrize(
    "line", [["convert"], ["convert", "a.pt", "--clipcap", "b.pt"], ["convert", "--clipcap", "b"]]
)
def test_convert_is_told_what_to_convert(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(line) == 1
    assert capsys.readouterr().err.startswith("rad3d: ")


def test_a_configuration_is_read_back_as_it_was_written(place: Path) -> None:
    assert convert(place, mapper()) == 0
    config = variant(place).config
    assert VariantConfig.from_json(config.to_json()) == config
