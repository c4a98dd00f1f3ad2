"""A language model that is loaded continues a prefix as it continues tokens, or is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_language, tiny_language, tiny_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from rad3d.core.errors import BadRequest, CorruptWeights, MissingWeights, Rad3dError
from rad3d.core.types import GenerationOptions
from rad3d.model.llm.decoding import decode, decode_batch
from rad3d.model.llm.language import LanguageBundle
from rad3d.model.llm.loading import load_language_model, outline
from rad3d.model.llm.selftest import verify_causal


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_language(tiny_language(), tmp_path_factory.mktemp("llama"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A good model, to be broken."""
    return Path(shutil.copytree(saved, tmp_path / "llm"))


def _configure(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


def _bundle(family: str, vocabulary: int = 320, **sizes: Any) -> LanguageBundle:
    config = AutoConfig.for_model(
        family, vocab_size=vocabulary, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, **sizes,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.2)
    return LanguageBundle(model, tiny_tokenizer(), family)


def test_a_family_whose_tokens_see_those_after_them_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"bert does not continue a prefix.*not causal"):
        verify_causal(_bundle("bert"))
    assert verify_causal(_bundle("bert", is_decoder=True)).caches, (
        "the same weights, read from the left"
    )


@pytest.mark.slow
def test_a_family_without_a_cache_is_read_again_for_each_token_and_says_so() -> None:
    language = verify_causal(
        replace(tiny_language("openai-gpt"), reason="float32 on the processor.")
    )
    assert not language.caches
    assert language.reason.startswith("float32 on the processor. It keeps no cache")
    ids = torch.tensor([[1, *language.tokens("Findings: Small left pleural effusion.")]])
    with torch.no_grad():
        embeds = language.embed(ids)
        for options, theirs in (
            (GenerationOptions(max_new_tokens=15), {}),
            (GenerationOptions("beam", max_new_tokens=15, beams=3), {"num_beams": 3}),
        ):
            whole = language.model.generate(ids, max_new_tokens=15, do_sample=False, **theirs)
            expected = whole[0, ids.shape[1] :].tolist()
            *_, last = decode(language, embeds, options)
            assert list(last.ids) == expected[: expected.index(2) if 2 in expected else 15]
    rows = torch.randn(3, 6, language.width)
    options = GenerationOptions("sample", max_new_tokens=30, temperature=3.0)
    alone = [[*decode(language, row[None], options)][-1] for row in rows]
    assert decode_batch(language, rows, options) == alone


def test_a_model_that_reads_embeddings_otherwise_than_tokens_is_refused() -> None:
    language = tiny_language()
    language.model.get_input_embeddings().register_forward_hook(lambda *args: 3 * args[2])
    first = language.model.model.forward

    def twice(input_ids: Any = None, inputs_embeds: Any = None, **others: Any) -> Any:
        """As a family would that scales its embeddings only where it makes them itself."""
        if inputs_embeds is None:
            inputs_embeds = language.model.get_input_embeddings().weight[input_ids]
        return first(inputs_embeds=inputs_embeds, **others)

    language.model.model.forward = twice
    with pytest.raises(BadRequest, match="does not continue a prefix"):
        verify_causal(language)


def test_weights_that_are_no_numbers_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CorruptWeights, match="no number"):
        load_language_model(str(folder))


def test_the_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"knows 320 tokens, and the model 100"):
        verify_causal(_bundle("llama", 100))


def test_a_padding_token_that_the_model_has_no_row_for_is_not_used(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    language = load_language_model(str(folder))
    assert language.tokenizer.pad_token_id == language.vocabulary
    assert language.pad_id == language.eos_ids[0]


def quantised(folder: Path) -> None:
    _configure(folder, quantization_config={"quant_method": "gptq", "bits": 4})


def encoder_decoder(folder: Path) -> None:
    _configure(folder, model_type="t5", is_encoder_decoder=True)


def an_image_model(folder: Path) -> None:
    _configure(folder, model_type="clip")


def unknown_family(folder: Path) -> None:
    _configure(folder, model_type="brand-new")


def text_for_a_number(folder: Path) -> None:
    _configure(folder, hidden_size="many")


def no_heads(folder: Path) -> None:
    _configure(folder, num_attention_heads=0)


def less_than_no_words(folder: Path) -> None:
    _configure(folder, vocab_size=-5)


def unknown_activation(folder: Path) -> None:
    _configure(folder, hidden_act="nonsense")


def a_list(folder: Path) -> None:
    (folder / "config.json").write_text("[]", encoding="utf-8")


def cut_off(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type":', encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (quantised, "quantised in its files.*RAD3D_PRECISION=8bit"),
        (encoder_decoder, "an encoder and a decoder"),
        (an_image_model, "no causal language model that can be used"),
        (unknown_family, "`brand-new`"),
        (text_for_a_number, "'hidden_size': TypeError"),
        (no_heads, "no causal language model that can be used"),
        (less_than_no_words, "vocab_size"),
        (unknown_activation, "KeyError 'nonsense'"),
        (a_list, "model_type"),
        (cut_off, "not a valid JSON"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused_in_a_sentence(
    damage: Callable[[Path], None], said: str, folder: Path
) -> None:
    damage(folder)
    for read in (lambda: load_language_model(str(folder)), lambda: outline("it", folder)):
        with pytest.raises((BadRequest, MissingWeights), match=said) as caught:
            read()
        assert caught.value.remedy
        assert "\n" not in str(caught.value)


def empty_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")


def a_page_in_place_of_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_text("<html>Log in</html>", encoding="utf-8")


def a_pointer_in_place_of_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs", encoding="utf-8")


def an_index_that_is_a_list(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text("[1]", encoding="utf-8")


def a_shard_is_missing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def a_folder_in_place_of_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("token*"):
        path.unlink()


@pytest.mark.parametrize(
    "damage",
    [empty_pickle, a_page_in_place_of_weights, a_pointer_in_place_of_weights,
     an_index_that_is_a_list, a_shard_is_missing, a_folder_in_place_of_weights, no_tokenizer],
)  # fmt: skip
def test_files_that_are_not_what_their_names_say_end_in_a_sentence(
    damage: Callable[[Path], None], folder: Path
) -> None:
    damage(folder)
    with pytest.raises(Rad3dError) as caught:
        load_language_model(str(folder))
    assert caught.value.remedy
    assert "weights_only" not in str(caught.value), "no advice to run what is in a pickle"


def test_a_precision_that_a_model_cannot_be_held_in_is_named(folder: Path) -> None:
    with pytest.raises(BadRequest, match=r"cannot be used in 4bit.*another precision"):
        load_language_model(str(folder), precision="4bit")  # 32 wide: less than one block


def test_a_family_whose_layers_stay_as_they_are_is_not_loaded_as_8_bit(tmp_path: Path) -> None:
    save_language(tiny_language("falcon"), tmp_path)
    with pytest.raises(BadRequest, match="no layers that 8bit makes smaller"):
        load_language_model(str(tmp_path), precision="8bit")


def test_running_out_of_memory_is_not_taken_for_a_bad_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("rad3d.model.llm.loading.AutoModelForCausalLM.from_pretrained", fail)
    with pytest.raises(RuntimeError, match="allocate memory"):
        load_language_model(str(folder))
