"""Published checkpoints: the full-size manifest, and what is taken, left out and refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ctclip_states import SMALL, lipro_state, published_shapes
from safetensors.torch import save_file
from torch import Tensor

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.labels import LABELS
from rad3d.model.encoders.ctclip.checkpoint import build, sort_checkpoint
from rad3d.model.encoders.ctclip.config import CtClipConfig
from rad3d.model.encoders.ctclip.network import CtClip
from rad3d.model.tensor_files import open_tensors


@pytest.fixture(scope="module")
def manifest(shared_dir: Path) -> dict[str, Any]:
    return json.loads(
        (shared_dir / "reference/ctclip_full_manifest.json").read_text(encoding="utf-8")
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CTCLIP", "LiPro"])
def test_the_full_size_manifest_matches_key_by_key(name: str, manifest: dict[str, Any]) -> None:
    listed = manifest[name]
    state = {k: torch.empty(v["shape"], device="meta") for k, v in listed.items()}
    checkpoint = sort_checkpoint(state)
    classes = manifest["config"]["num_classes"] if name == "LiPro" else 0
    assert checkpoint.config == CtClipConfig(**manifest["config"]["vit"], num_classes=classes)
    plain = {k.removeprefix("trained_model."): v for k, v in listed.items()}
    read = {k for k, v in plain.items() if v["read_in_image_inference"]}
    assert set(checkpoint.read) == read
    assert set(checkpoint.unread) == set(plain) - read
    assert checkpoint.text == ()
    with torch.device("meta"):
        network = CtClip(checkpoint.config)
    own = {k: list(v.shape) for k, v in network.state_dict().items()}
    assert own == {k: plain[k]["shape"] for k in read}


def test_only_the_elements_of_inference_are_kept(manifest: dict[str, Any]) -> None:
    state = {k: torch.empty(v["shape"], device="meta") for k, v in manifest["LiPro"].items()}
    counts = manifest["counts"]
    assert (
        sort_checkpoint(state).elements
        == counts["elements_read_in_image_inference_incl_classifier"]
    )
    assert (
        sum(v.numel() for v in state.values()) == counts["lipro_all_elements_without_text_encoder"]
    )


def test_the_default_sizes_are_the_published_ones(manifest: dict[str, Any]) -> None:
    config = CtClipConfig()
    assert config.dim_image == manifest["config"]["clip"]["dim_image"]
    assert list(config.grid_thw) == manifest["config"]["grid_t_h_w"]
    assert list(config.grid().layout_shape) == manifest["config"]["input"][2:]
    assert list(LABELS) == manifest["class_order_of_the_18_logits"]


def test_a_state_dict_with_the_prefix_loads_strictly_and_round_trips() -> None:
    checkpoint = sort_checkpoint(lipro_state(), frames=16)
    network = CtClip(SMALL)
    network.load_state_dict(checkpoint.read, strict=True)
    back = network.state_dict()
    assert set(back) == set(published_shapes(SMALL))
    assert all(torch.equal(back[k], v) for k, v in checkpoint.read.items())


def test_the_text_encoder_and_what_is_not_read_are_named() -> None:
    checkpoint = sort_checkpoint(lipro_state())
    assert set(checkpoint.text) == {
        "text_transformer.embeddings.position_ids",
        "text_transformer.pooler.dense.weight",
    }
    assert "temperature" in checkpoint.unread
    assert not any("text_transformer" in key for key in checkpoint.unread)


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "module.trained_model.", "trained_model.", "_orig_mod.", "model.trained_model.",
     "module._orig_mod.trained_model.", "trained_model._orig_mod.", "ema_model.trained_model."],
)  # fmt: skip
def test_prefixes_do_not_matter(prefix: str) -> None:
    plain = {k.removeprefix("trained_model."): v for k, v in lipro_state().items()}
    checkpoint = sort_checkpoint({prefix + k: v for k, v in plain.items()})
    assert set(checkpoint.read) == set(published_shapes(SMALL))


def test_keys_that_vary_with_library_versions_are_accepted_in_every_form() -> None:
    codebook = "trained_model.visual_transformer.vq._codebook."
    for extra in (
        {},
        {f"{codebook}embed_avg": torch.zeros(1, 24, 16)},
        {f"{codebook}initted": torch.tensor(True)},
    ):
        assert sort_checkpoint(lipro_state() | extra).config.codebook_size == 24


Change = Callable[[dict[str, Tensor]], None]


def _without(key: str) -> Change:
    return lambda state: state.__delitem__(f"trained_model.{key}")


def _with(key: str, value: Tensor) -> Change:
    return lambda state: state.update({key: value})


VIT = "visual_transformer."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without(f"{VIT}to_patch_emb.3.bias"), "lacks visual_transformer.to_patch_emb.3.bias"),
        (_without(f"{VIT}vq._codebook.embed"), "embed is missing"),
        (_without("to_visual_latent.weight"), "to_visual_latent.weight is missing"),
        (_with("trained_model.surprise", torch.zeros(1)), "unexpected tensors: surprise"),
        (_with("trained_model.to_visual_latent.bias", torch.zeros(12)), "unexpected tensors"),
        (_with(f"trained_model.{VIT}enc_spatial_transformer.layers.7.1.to_q.weight",
               torch.zeros(8, 16)), "lacks"),
        (_with(f"trained_model.{VIT}enc_temporal_transformer.layers.0.1.null_kv",
               torch.zeros(2, 2, 4)), "unexpected shapes"),
        (_with(f"trained_model.{VIT}vq._codebook.initted", torch.zeros(1)), "not yet in use"),
        (_with("temperature", torch.zeros(())), "twice"),
        (_with("classifier.bias", torch.zeros(5)), "unexpected shapes"),
    ],
)  # fmt: skip
def test_anything_unexpected_is_an_error_that_names_it(change: Change, message: str) -> None:
    state = lipro_state()
    change(state)
    with pytest.raises(BadRequest, match=message):
        sort_checkpoint(state)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code was run",))


@pytest.mark.parametrize("content", [Trap(), {"a": Trap()}, {"state_dict": {}}, [1], {1: 2}])
def test_a_file_with_more_than_tensors_is_refused(
    content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.pt"
    torch.save(content, path)
    with pytest.raises(BadRequest):
        open_tensors(path)
    assert "code was run" not in capsys.readouterr().out


@pytest.mark.filterwarnings("error")
def test_damaged_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    torch.save(lipro_state(), tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for name, content in {
        "cut.pt": whole[: len(whole) // 2],
        "empty.pt": b"",
        "page.pt": b"<html>sign in</html>",
        "pickle.pt": pickle.dumps(Trap()),
        "cut.safetensors": b"\x10\0\0\0",
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(BadRequest, match=name):
            open_tensors(path)


@pytest.mark.slow
def test_changed_bytes_never_end_in_anything_but_a_sentence(tmp_path: Path) -> None:
    state = {k: v.contiguous() for k, v in lipro_state().items()}
    torch.save(state, tmp_path / "new.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "plain.safetensors")
    rng = np.random.default_rng(0)
    refused = 0
    for name in ("new.pt", "old.pt", "plain.safetensors"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(40):
            content = bytearray(whole)
            for place in rng.integers(0, rng.choice([3000, len(content)]), 6):
                content[place] = rng.integers(256)
            path = tmp_path / f"changed-{name}"
            path.write_bytes(content)
            try:
                sort_checkpoint(open_tensors(path), frames=16)
            except BadRequest:
                refused += 1
    assert refused > 60


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype: torch.dtype) -> None:
    state = lipro_state()
    for key, value in state.items():
        state[key] = value.to(dtype) if value.is_floating_point() else value
    checkpoint = sort_checkpoint(state, frames=16)
    x = torch.rand(1, 1, 16, 32, 32) * 2 - 1
    rounded = sort_checkpoint({k: v.float() for k, v in state.items()}, frames=16)
    expected = build(SMALL, rounded.read)(x)
    assert torch.equal(build(SMALL, checkpoint.read)(x).latent, expected.latent)


@pytest.mark.slow
@pytest.mark.parametrize("key", [k for k, s in published_shapes(SMALL).items() if len(s) > 1])
def test_every_tensor_must_have_its_shape_and_hold_numbers(key: str) -> None:
    state = {k.removeprefix("trained_model."): v for k, v in lipro_state().items()}
    last = key.split(".")[-1]
    for shape in ((), (0,), (0, 0), (2, 3), (*state[key].shape, 1)):
        with pytest.raises(BadRequest):
            sort_checkpoint(state | {key: torch.zeros(shape)}, frames=16)
    for value in (state[key].to(torch.int8), state[key] / 0):
        with pytest.raises(BadRequest, match=last):
            sort_checkpoint(state | {key: value}, frames=16)


def test_every_problem_is_named_at_once() -> None:
    state = lipro_state()
    state["trained_model.visual_transformer.enc_spatial_transformer.layers.x.0.bias"] = state.pop(
        "classifier.bias"
    )
    with pytest.raises(BadRequest, match=r"lacks classifier\.bias.*unexpected.*layers\.x\.0"):
        sort_checkpoint(state, SMALL)


@pytest.mark.parametrize(
    "sizes",
    [
        {"frames": "16"}, {"frames": 16.0}, {"frames": None}, {"frames": True}, {"frames": [16]},
        {"frames": 17}, {"channels": 0}, {"channels": 3}, {"patch_size": 0}, {"patch_size": [8]},
        {"patch_size": "88"}, {"patch_size": [8, 0]}, {"image_size": {}}, {"image_size": 32.0},
        {"image_size": [[1, 2], [3, 4]]}, {"depth": 3},
    ],
)  # fmt: skip
def test_sizes_that_cannot_be_are_refused(sizes: dict[str, Any]) -> None:
    with pytest.raises((BadRequest, UnknownName)):
        sort_checkpoint(lipro_state(), **({"frames": 16} | sizes))
