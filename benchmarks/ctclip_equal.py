"""CT-CLIP of random sizes and weights: the published code against ours, stage by stage.

    pip install einops beartype vector-quantize-pytorch==1.1.2
    python benchmarks/ctclip_equal.py --published CHECKOUT --configs 60

One process runs both, so the Python needs what both need; CHECKOUT is one of
github.com/ibrahimethemhamamci/CT-CLIP. Every configuration has a seed of its own: numbers of
layers, heads, patches, slices, channels and codes, sides that are not equal, norms, shifts and
codebook rows that are not what they were initialised to, several scans at once, a rim of padding.
Printed are the largest difference of every kind of stage, over the largest number of that stage,
and how many codes differ.

Widths below 8 and heads of fewer than 4 numbers are left out: there a norm divides by differences
of rounding, and float32 is further than 1e-4 from float64 in the published code as well.
"""

from __future__ import annotations

import argparse
import random
import types
import warnings
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import torch
from ctclip_speed import published_network
from torch import Tensor

from rad3d.model.encoders.ctclip.checkpoint import build, sort_checkpoint
from rad3d.model.encoders.ctclip.config import CtClipConfig

PROMISED = 1e-4
"""Relative difference that is promised."""


def draw(rng: random.Random) -> CtClipConfig:
    """Sizes from the smallest that make sense to a few thousand tokens."""
    patch = rng.randint(1, 5), rng.randint(1, 5)
    slices = rng.choice([1, 2, 3, 4, 5, 7, 10])
    return CtClipConfig(
        dim=rng.choice([8, 16, 24, 30, 37, 64]),
        codebook_size=rng.choice([1, 2, 3, 17, 64, 300]),
        image_size=(patch[0] * rng.randint(1, 6), patch[1] * rng.randint(1, 7)),
        patch_size=patch,
        temporal_patch_size=slices,
        spatial_depth=rng.choice([1, 1, 2, 3, 5]),
        temporal_depth=rng.choice([1, 1, 2, 3, 4]),
        dim_head=rng.choice([4, 8, 16, 33, 64]),
        heads=rng.choice([1, 2, 3, 5, 8]),
        channels=rng.choice([1, 1, 1, 2, 3]),
        dim_latent=rng.choice([1, 2, 5, 32]),
        num_classes=0,
        frames=slices * rng.randint(1, 9),
    )


def perturb(network: Any, generator: torch.Generator) -> None:
    """Nothing stays a one, a zero or of unit length, so that everything that is read shows."""
    with torch.no_grad():
        for name, value in (*network.named_parameters(), *network.named_buffers()):
            if not value.numel() or name.endswith(("initted", "cluster_size")):
                continue
            noise = torch.randn(value.shape, generator=generator)
            if name.endswith("_codebook.embed"):
                value *= 0.1 + 3 * torch.rand((*value.shape[:-1], 1), generator=generator)
            elif value.ndim < 2:
                value += 0.3 * noise
            else:
                value += 0.5 * value.std().nan_to_num() * noise


def published_stages(clip: Any, video: Tensor) -> dict[str, Tensor]:
    """What the published code computes, by the names of our stages."""
    seen: dict[str, Tensor] = {}
    vit = clip.visual_transformer

    def keep(module: Any, name: str, residual: bool = False) -> None:
        module.register_forward_hook(
            lambda _, given, out: seen.update({name: out + given[0] if residual else out.clone()})
        )

    keep(vit.to_patch_emb, "patch_tokens")
    keep(vit.spatial_rel_pos_bias, "rel_pos_bias")
    for part in ("spatial", "temporal"):
        transformer = getattr(vit, f"enc_{part}_transformer")
        keep(transformer, f"after_{part}")
        for i, (peg, attention, _, feed_forward) in enumerate(transformer.layers):
            for module, step in ((peg, "peg"), (attention, "attn"), (feed_forward, "ff")):
                keep(module, f"{part}.{i}.after_{step}", residual=True)
    vit.vq.register_forward_hook(lambda _, given, out: seen.update(codes=out[1].clone()))
    keep(clip.to_visual_latent, "image_latent_raw")
    text = types.SimpleNamespace(
        input_ids=torch.zeros(len(video), 1, dtype=torch.long),
        attention_mask=torch.ones(len(video), 1),
    )
    with torch.no_grad():
        _, latent, tokens = clip(text, video, device=torch.device("cpu"), return_latents=True)
    return seen | {"image_latent": latent, "encoded_tokens": tokens}


def our_stages(config: CtClipConfig, state: dict[str, Tensor], video: Tensor) -> dict[str, Tensor]:
    sizes = {k: getattr(config, k) for k in ("frames", "channels", "image_size", "patch_size")}
    checkpoint = sort_checkpoint(state, **sizes)
    assert checkpoint.config == config, "the tensors tell other sizes"
    seen: dict[str, Tensor] = {}
    network = build(config, checkpoint.read)
    out = network(video, lambda name, value: seen.update({name: value.clone()}))
    # The published temporal transformer ends before the tokens are turned back.
    seen["after_temporal"] = seen["after_temporal"].permute(0, 2, 3, 1, 4).flatten(0, 2)
    return seen | {"codes": out.codes}


def compared(checkout: Path, seed: int) -> tuple[CtClipConfig, dict[str, float], int]:
    """A configuration, the relative difference of each of its stages, and codes that differ."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    config = draw(rng)
    clip = published_network(checkout, config.to_dict())
    perturb(clip, generator)
    shape = (rng.randint(1, 3), config.channels, config.frames, *config.image_hw)
    video = torch.rand(shape, generator=generator) * 2 - 1
    video[..., : rng.choice([0, 1, config.patch_hw[1]])] = -1
    theirs = published_stages(clip, video)
    ours = our_stages(config, clip.state_dict(), video)
    codes = ours["codes"].flatten() != theirs.pop("codes").flatten()
    far = {
        name: float((ours[name].reshape(value.shape) - value).abs().max() / value.abs().max())
        for name, value in theirs.items()
    }
    return config, far, int(codes.sum())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--published", type=Path, required=True, help="a checkout of the code")
    parser.add_argument("--configs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the first")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    worst: dict[str, float] = defaultdict(float)
    changed = above = 0
    for seed in range(args.seed, args.seed + args.configs):
        config, far, codes = compared(args.published, seed)
        for name, value in far.items():
            kind = name.split(".")[-1]
            worst[kind] = max(worst[kind], value)
        changed += codes
        if max(far.values()) > PROMISED or codes:
            above += 1
            print(f"seed {seed}: {max(far.values()):.1e}, {codes} codes differ; {config}")
    print(f"{date.today()}, n = {args.configs} configurations from seed {args.seed}")
    for kind, value in worst.items():
        print(f"  {kind:<18}{value:.1e}")
    print(f"{above} of {args.configs} above {PROMISED:.0e}, {changed} codes differ")


if __name__ == "__main__":
    main()
