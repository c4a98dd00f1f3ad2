"""Our CT-CLIP against the published code's numbers, and against its formulae written out slowly."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from close import assert_near
from ctclip_states import published_shapes, random_state
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from rad3d.core.errors import BadRequest, MissingWeights
from rad3d.model.encoders.ctclip import layers
from rad3d.model.encoders.ctclip.checkpoint import build, sort_checkpoint
from rad3d.model.encoders.ctclip.config import CtClipConfig
from rad3d.model.encoders.ctclip.network import CtClip, Quantiser

pytestmark = pytest.mark.numeric

STAGES = (
    "patch_tokens",
    "rel_pos_bias",
    *(
        f"{part}.{layer}.after_{step}"
        for part in ("spatial", "temporal")
        for layer in (0, 1)
        for step in ("peg", "attn", "ff")
    ),
    "after_spatial",
    "after_temporal",
    "encoded_tokens",
    "pooled",
    "image_latent_raw",
    "image_latent",
)


@pytest.fixture(scope="module")
def tiny(shared_dir: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    folder = shared_dir / "reference"
    facts = json.loads((folder / "ctclip_tiny.json").read_text(encoding="utf-8"))
    return load_file(folder / "ctclip_tiny.safetensors"), facts


@pytest.fixture(scope="module")
def network(tiny: tuple[dict[str, Tensor], dict[str, Any]]) -> CtClip:
    tensors, _ = tiny
    weights = {k.removeprefix("weights/"): v for k, v in tensors.items() if "weights/" in k}
    checkpoint = sort_checkpoint(weights, frames=40)
    return build(checkpoint.config, checkpoint.read)


@pytest.fixture(scope="module")
def stages(tiny: tuple[dict[str, Tensor], dict[str, Any]], network: CtClip) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    out = network(tiny[0]["io/volume"], lambda name, value: seen.update({name: value.clone()}))
    return seen | {"vq_indices": out.codes, "lipro_logits": network.classify(out.latent)}


def test_sizes_are_told_by_the_tensors(
    tiny: tuple[dict[str, Tensor], dict[str, Any]], network: CtClip
) -> None:
    expected = tiny[1]["config"]["vit"]
    assert network.config == CtClipConfig(**expected, dim_latent=32, num_classes=18, frames=40)
    assert network.config.dim_image == tiny[1]["config"]["dim_image"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_equals_the_published_code(
    stage: str,
    stages: dict[str, Tensor],
    tiny: tuple[dict[str, Tensor], dict[str, Any]],
) -> None:
    expected = tiny[0][f"io/{stage}"]
    found = stages[stage].reshape(expected.shape)
    assert_near(found, expected, name=stage)


def test_codes_are_the_published_ones(
    stages: dict[str, Tensor], tiny: tuple[dict[str, Tensor], dict[str, Any]]
) -> None:
    assert torch.equal(stages["vq_indices"], tiny[0]["io/vq_indices"])


def test_logits_and_probabilities_equal_the_published_code(
    stages: dict[str, Tensor], tiny: tuple[dict[str, Tensor], dict[str, Any]]
) -> None:
    logits = stages["lipro_logits"]
    assert_near(logits, tiny[0]["io/lipro_logits"])
    assert_near(logits.sigmoid(), tiny[0]["io/lipro_probs"])


def test_every_tensor_that_is_read_moves_an_output(
    tiny: tuple[dict[str, Tensor], dict[str, Any]], network: CtClip
) -> None:
    moving = {k.removeprefix("trained_model.") for k in tiny[1]["keys_that_move_an_output"]}
    assert set(network.state_dict()) == moving == set(published_shapes(network.config))


def test_the_example_in_the_docs_gives_the_published_numbers(
    tiny: tuple[dict[str, Tensor], dict[str, Any]], shared_dir: Path
) -> None:
    page = (Path(__file__).parent.parent.parent / "docs/published.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    clipcap = load_file(shared_dir / "reference/clipcap_mapper.safetensors")
    weights, mapper = (
        {k.removeprefix("weights/"): v for k, v in file.items() if k.startswith("weights/")}
        for file in (tiny[0], clipcap)
    )
    names: dict[str, Any] = {
        "weights": weights, "video": tiny[0]["io/volume"], "mapper": mapper,
        "condition": clipcap["io/input"],
        "scan": shared_dir / "data/ct/lungdx_A0002_chest_8mm_dcm2niix.nii.gz",
    }  # fmt: skip
    exec(example, names)
    assert_near(names["logits"], tiny[0]["io/lipro_logits"])
    assert_near(names["prefix"].detach(), clipcap["io/output"])
    assert names["values"].shape == (40, 80, 80)
    listed = {stage for stage in STAGES if "." not in stage}
    assert all(f"`{stage}`" in page for stage in listed)
    assert set(names["stages"]) == set(STAGES)


# Other sizes and seeds, against the reference's formulae written as plainly as they can be.

CONFIGS = {
    "unequal sides, deep in time": CtClipConfig(
        dim=24, codebook_size=37, image_size=(12, 20), patch_size=(4, 5), temporal_patch_size=3,
        spatial_depth=1, temporal_depth=3, dim_head=8, heads=3, dim_latent=10, frames=15,
    ),
    "more slices than the image is wide": CtClipConfig(
        dim=40, codebook_size=512, image_size=16, patch_size=8, temporal_patch_size=2,
        spatial_depth=3, temporal_depth=1, dim_head=4, heads=5, dim_latent=7, num_classes=4,
        frames=14,
    ),
    "two channels, one layer of patches": CtClipConfig(
        dim=16, codebook_size=5, image_size=(6, 4), patch_size=2, temporal_patch_size=4,
        spatial_depth=2, temporal_depth=2, dim_head=16, heads=1, channels=2, dim_latent=3,
        num_classes=0, frames=4,
    ),
}  # fmt: skip


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def unit(x: Tensor) -> Tensor:
    return x / x.pow(2).sum(-1, keepdim=True).sqrt().clamp_min(1e-12)


class Slow:
    """The reference's formulae, in float64, one token, head and offset at a time."""

    def __init__(self, config: CtClipConfig, state: dict[str, Tensor]) -> None:
        self.c = config
        self.state = {k.removeprefix("visual_transformer."): v.double() for k, v in state.items()}

    def patches(self, video: Tensor) -> Tensor:
        (t, h, w), (high, wide) = self.c.grid_thw, self.c.patch_hw
        pt = self.c.temporal_patch_size
        tokens = torch.zeros(len(video), t, h, w, self.c.dim, dtype=torch.float64)
        p = {k: self.state[f"to_patch_emb.{k}"] for k in
             ("1.weight", "1.bias", "2.weight", "2.bias", "3.weight", "3.bias")}  # fmt: skip
        for b, i, j, k in itertools.product(range(len(video)), range(t), range(h), range(w)):
            patch = video[b, :, i * pt : (i + 1) * pt, j * high : (j + 1) * high,
                          k * wide : (k + 1) * wide].reshape(-1)  # fmt: skip
            x = p["2.weight"] @ layer_norm(patch, p["1.weight"], p["1.bias"]) + p["2.bias"]
            tokens[b, i, j, k] = layer_norm(x, p["3.weight"], p["3.bias"])
        return tokens

    def bias(self, h: int, w: int) -> Tensor:
        places = list(itertools.product(range(h), range(w)))
        out = torch.zeros(self.c.heads, len(places), len(places), dtype=torch.float64)
        net = {k.removeprefix("spatial_rel_pos_bias.net."): v for k, v in self.state.items()}
        for (i, a), (j, b) in itertools.product(enumerate(places), enumerate(places)):
            delta = [a[axis] - b[axis] for axis in (0, 1)]
            x = torch.tensor([math.copysign(math.log(abs(d) + 1), d) for d in delta]).double()
            x = F.leaky_relu(net["0.0.weight"] @ x + net["0.0.bias"], 0.1)
            x = F.leaky_relu(net["1.0.weight"] @ x + net["1.0.bias"], 0.1)
            out[:, i, j] = net["2.weight"] @ x + net["2.bias"]
        return out

    def peg(self, x: Tensor, name: str) -> Tensor:
        """(b, t, h, w, d): each output is a sum over 27 neighbours, none of them later in t."""
        kernel = self.state[f"{name}.0.dsconv.weight"][:, 0]
        _, t, h, w, _ = x.shape
        out = self.state[f"{name}.0.dsconv.bias"].expand(x.shape).clone()
        for i, j, k in itertools.product(range(t), range(h), range(w)):
            for di, dj, dk in itertools.product(range(3), range(3), range(3)):
                a, b, c = i + di - 2, j + dj - 1, k + dk - 1
                if a >= 0 and 0 <= b < h and 0 <= c < w:
                    out[:, i, j, k] += kernel[:, di, dj, dk] * x[:, a, b, c]
        return out

    def attention(self, x: Tensor, name: str, bias: Tensor | None) -> Tensor:
        s = {k.removeprefix(f"{name}.1."): v for k, v in self.state.items() if f"{name}.1." in k}
        out = torch.zeros_like(x)
        for b in range(len(x)):
            normed = layer_norm(x[b], s["norm.gamma"], s["norm.beta"])
            q, (k, v) = normed @ s["to_q.weight"].T, (x[b] @ s["to_kv.weight"].T).chunk(2, -1)
            heads = []
            for head in range(self.c.heads):
                part = slice(head * self.c.dim_head, (head + 1) * self.c.dim_head)
                logits = (unit(q[:, part]) * s["q_scale"]) @ (unit(k[:, part]) * s["k_scale"]).T * 8
                logits = logits if bias is None else logits + bias[head]
                heads.append(logits.softmax(-1) @ v[:, part])
            out[b] = torch.cat(heads, -1) @ s["to_out.weight"].T
        return out

    def feed_forward(self, x: Tensor, name: str) -> Tensor:
        s = self.state
        hidden = layer_norm(x, s[f"{name}.3.0.weight"], s[f"{name}.3.0.bias"])
        first, second = (hidden @ s[f"{name}.3.1.weight"].T).chunk(2, -1)
        gelu = second * 0.5 * (1 + torch.erf(second / math.sqrt(2)))
        return (first * gelu) @ s[f"{name}.3.4.weight"].T

    def transformer(self, x: Tensor, name: str, depth: int, shape: Any, bias: Any) -> Tensor:
        for i in range(depth):
            layer = f"{name}.layers.{i}"
            x = x + self.peg(x.reshape(shape), layer).reshape(x.shape)
            x = x + self.attention(x, layer, bias)
            x = x + self.feed_forward(x, layer)
        return layer_norm(
            x, self.state[f"{name}.norm_out.gamma"], self.state[f"{name}.norm_out.beta"]
        )

    def __call__(self, video: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.patches(video.double())
        b, t, h, w, d = shape = x.shape
        x = self.transformer(x.reshape(b * t, h * w, d), "enc_spatial_transformer",
                             self.c.spatial_depth, shape, self.bias(h, w))  # fmt: skip
        x = x.reshape(shape).permute(0, 2, 3, 1, 4).reshape(b * h * w, t, d)
        x = self.transformer(x, "enc_temporal_transformer", self.c.temporal_depth, shape, None)
        encoded = x.reshape(b, h, w, t, d).permute(0, 3, 1, 2, 4)
        rows = self.state["vq._codebook.embed"][0]
        codes = (unit(encoded.reshape(b, -1, d)) @ unit(rows).T).argmax(-1)
        pooled = rows[codes].reshape(shape).mean(1).reshape(b, -1)
        return encoded, codes, unit(pooled @ self.state["to_visual_latent.weight"].T)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", CONFIGS)
def test_other_sizes_and_seeds_equal_the_formulae(name: str, batch: int) -> None:
    config = CONFIGS[name]
    for seed in (1, 2):
        state = random_state(config, seed)
        generator = torch.Generator().manual_seed(seed + 100)
        video = torch.rand(
            batch, config.channels, config.frames, *config.image_hw, generator=generator
        ) * 2 - 1  # fmt: skip
        video[..., :2] = -1  # padding: patches without any contrast
        network = build(config, state)
        seen: dict[str, Tensor] = {}
        out = network(video, lambda key, value: seen.update({key: value.clone()}))  # noqa: B023
        encoded, codes, latent = Slow(config, state)(video)
        assert_near(seen["after_temporal"], encoded)
        assert torch.equal(out.codes, codes)
        assert_near(out.latent, latent)


@pytest.mark.parametrize("name", CONFIGS)
def test_layers_given_one_after_the_other_are_the_whole_volume(name: str) -> None:
    config = CONFIGS[name]
    network = build(config, random_state(config, 3))
    video = torch.rand(1, config.channels, config.frames, *config.image_hw)
    slabs = [part.clone() for part in network.visual_transformer.slabs(video)]
    assert_near(network(slabs).latent, network(video).latent)


def test_pieces_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIGS["more slices than the image is wide"]
    network = build(config, random_state(config, 4))
    video = torch.rand(1, 1, 14, 16, 16)
    whole = network(video)
    monkeypatch.setattr(layers, "ROWS", 3)
    monkeypatch.setattr("rad3d.model.encoders.ctclip.network.SEARCH_ROWS", 5)
    pieces = network(video)
    assert torch.equal(pieces.codes, whole.codes)
    assert_near(pieces.latent, whole.latent)


def test_the_first_of_equal_codes_is_taken_and_its_raw_row_returned() -> None:
    quantiser = Quantiser(4, 2)
    rows = torch.tensor([[0.0, -1.0], [3.0, 0.0], [0.5, 0.0], [3.0, 0.0]])
    quantiser.load_state_dict({"_codebook.embed": rows[None]})
    found, codes = quantiser(torch.tensor([[2.0, 0.1]]))
    assert codes.tolist() == [1]
    assert found.tolist() == [[3.0, 0.0]]


def test_the_input_is_left_as_it_was(network: CtClip) -> None:
    video = torch.rand(1, 1, 40, 80, 80)
    before = video.clone()
    network(video)
    assert torch.equal(video, before)


def test_a_volume_of_another_size_is_refused(network: CtClip) -> None:
    for shape in ((1, 1, 40, 80, 64), (1, 1, 35, 80, 80), (1, 40, 80, 80), (1, 1, 0, 80, 80)):
        with pytest.raises(BadRequest, match="given"):
            network(torch.zeros(shape))


def test_without_a_head_there_is_no_diagnosis() -> None:
    config = CONFIGS["two channels, one layer of patches"]
    network = build(config, random_state(config, 5))
    with pytest.raises(MissingWeights, match="CT_LiPro_v2"):
        network.classify(torch.zeros(1, 3))


@pytest.mark.parametrize(
    "wrong",
    [{"frames": 41}, {"image_size": 70}, {"heads": 0}, {"image_size": (80, 0)}, {"dim": -3}],
)
def test_impossible_sizes_are_refused(wrong: dict[str, Any]) -> None:
    sizes = {"image_size": 80, "patch_size": 16, "frames": 40} | wrong
    with pytest.raises(BadRequest):
        CtClipConfig(**sizes)
