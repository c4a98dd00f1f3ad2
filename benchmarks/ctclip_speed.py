"""CT-CLIP's preprocessing and encoder: seconds, processor seconds and peak memory, on random data.

    python benchmarks/ctclip_speed.py
    python benchmarks/ctclip_speed.py --published CHECKOUT --python CHECKOUT/.venv/bin/python

The second line compares with a checkout of the published code (github.com/ibrahimethemhamamci/
CT-CLIP), run by a Python that has torch, transformers, pandas, nibabel, einops, beartype and
vector-quantize-pytorch==1.1.2. Each run is a process of its own, ours and theirs in turn; medians
are printed, and how far the outputs lie apart. Weights are random, of the published sizes (2 GB in
a temporary folder); the published code is told to use the processor instead of CUDA.

"Path" is the processor time of the thread that leads the others: what the wall time would be on a
machine without other work, so that a busy one can be measured too.

The encoder is timed without loading; its memory is the peak of the process during the forward
pass, weights included. Preprocessing is timed from the file to the encoder's input; its memory is
the peak of the process. Published preprocessing applies the slope, intercept and spacing it is
given; ours also checks the values, looks for lungs and computes the hash of the voxels.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

Result = dict[str, Any]
SPACING_MM = (0.7, 0.7, 1.0)
SIZES = {
    "published": {},
    "small": {
        "dim": 128, "codebook_size": 1024, "image_size": 160, "dim_latent": 64, "frames": 80,
    },
}  # fmt: skip


def measured(work: Callable[[], Any]) -> tuple[Any, Result]:
    """What ``work`` gives, its seconds, and the peak memory while it ran."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")  # sets the peak back to what is held now
    wall, cpu, own = time.perf_counter(), time.process_time(), time.thread_time()
    out = work()
    facts = {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "path_seconds": time.thread_time() - own,
    }
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        facts["peak_mb"] = int(lines["VmHWM"].split()[0]) / 1024
    else:
        facts["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return out, facts


# --- what each process does


def ours_preprocess(args: argparse.Namespace) -> Result:
    from rad3d.volume import size_ratio  # noqa: F401 - so that importing it is not timed
    from rad3d.volume.grid import GridSpec, to_grid
    from rad3d.volume.load import read_volume

    spec = GridSpec(
        "LPS", (0.75, 0.75, 1.5), (480, 480, 240), axes="zxy", resampling="size_ratio",
        clip="before",
    )  # fmt: skip
    values, facts = measured(lambda: to_grid(read_volume(args.input), spec).values)
    np.save(args.output, values)
    return facts


def published_preprocess(args: argparse.Namespace) -> Result:
    sys.path.insert(0, str(Path(args.published) / "scripts"))
    import pandas as pd
    from data_inference_nii import CTReportDatasetinfer

    row = {
        "VolumeName": Path(args.input).name, "RescaleSlope": 1, "RescaleIntercept": 0,
        "XYSpacing": f"[{SPACING_MM[0]}, {SPACING_MM[1]}]", "ZSpacing": SPACING_MM[2],
    }  # fmt: skip
    convert = CTReportDatasetinfer.nii_img_to_tensor
    values, facts = measured(lambda: convert(None, args.input, pd.DataFrame([row])))
    np.save(args.output, values[0].numpy())
    return facts


def ours_encoder(args: argparse.Namespace) -> Result:
    import torch

    from rad3d.model.encoders.ctclip.encoder import CtClipEncoder

    torch.set_num_threads(args.threads)
    encoder = CtClipEncoder.from_pretrained(Path(args.weights))
    encoder.network.with_linear_dtype(getattr(torch, args.dtype))
    values = np.load(args.input)
    codes: list[torch.Tensor] = []
    encoder.network.visual_transformer.vq.register_forward_hook(
        lambda module, given, out: codes.append(out[1])
    )

    def work() -> tuple[Any, Any]:
        pooled = encoder.encode(values).pooled
        return pooled, encoder.diagnose(pooled).logits

    (latent, logits), facts = measured(work)
    np.savez(args.output, latent=latent, logits=logits, codes=codes[0].flatten())
    return facts


def published_encoder(args: argparse.Namespace) -> Result:
    import torch

    torch.set_num_threads(args.threads)
    clip = published_network(Path(args.published), json.loads(args.sizes))
    state = torch.load(Path(args.weights) / "published.pt", weights_only=True)
    plain = {k.removeprefix("trained_model."): v for k, v in state.items()}
    head = plain.pop("classifier.weight"), plain.pop("classifier.bias")
    clip.load_state_dict(plain, strict=True, assign=True)
    del state, plain
    codes: list[torch.Tensor] = []
    clip.visual_transformer.vq.register_forward_hook(
        lambda module, given, out: codes.append(out[1])
    )
    text = types.SimpleNamespace(
        input_ids=torch.zeros(1, 1, dtype=torch.long), attention_mask=torch.ones(1, 1)
    )
    video = torch.from_numpy(np.load(args.input))[None, None]

    def work() -> tuple[Any, Any]:
        _, latent, _ = clip(text, video, device=torch.device("cpu"), return_latents=True)
        return latent[0], torch.nn.functional.linear(torch.relu(latent), *head)[0]

    with torch.no_grad():
        (latent, logits), facts = measured(work)
    np.savez(args.output, latent=latent, logits=logits, codes=codes[0].flatten())
    return facts


def published_network(checkout: Path, sizes: Result) -> Any:
    """The published CTCLIP without its text encoder, on the processor."""
    ctvit, ctclip = published_classes(checkout)
    names = ("dim", "codebook_size", "image_size", "patch_size", "temporal_patch_size",
             "spatial_depth", "temporal_depth", "dim_head", "heads", "channels")  # fmt: skip
    vit = ctvit(**{k: tuple(sizes[k]) if isinstance(sizes[k], list) else sizes[k] for k in names})
    image = math.prod(a // b for a, b in zip(sizes["image_size"], sizes["patch_size"], strict=True))
    return ctclip(
        image_encoder=vit, text_encoder=no_text(), dim_image=image * sizes["dim"], dim_text=768,
        dim_latent=sizes["dim_latent"], extra_latent_projection=False, use_mlm=False,
        downsample_image_embeds=False, use_all_token_embeds=False,
    ).eval()  # fmt: skip


def no_text() -> Any:
    """In place of the text encoder, which takes no part in the image's latent."""
    import torch

    class NoText(torch.nn.Module):
        def forward(self, ids: Any, attention_mask: Any) -> tuple[Any]:
            return (torch.zeros(*ids.shape, 768),)

    return NoText()


@cache
def published_classes(checkout: Path) -> tuple[Any, Any]:
    """CTViT and CTCLIP of a checkout, told to use the processor; without what trains them."""
    import torch
    import transformers

    class OnProcessor(types.ModuleType):
        """torch, whose every device is the processor."""

        def __getattr__(self, name: str) -> Any:
            return (lambda *_: torch._C.device("cpu")) if name == "device" else getattr(torch, name)

    for name in ("torchvision", "torchvision.transforms", "torchvision.utils"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
    sys.modules["torchvision"].utils = sys.modules["torchvision.utils"]
    for folder, package in (("transformer_maskgit",) * 2, ("CT_CLIP", "ct_clip")):
        module = types.ModuleType(package)  # without what its __init__ imports for training
        module.__path__ = [str(checkout / folder / package)]
        sys.modules[package] = module
    for name in ("mlm", "visual_ssl"):
        sys.modules[f"ct_clip.{name}"] = training = types.ModuleType(name)
        training.MLM = training.SimSiam = training.SimCLR = None
    transformers.BertTokenizer.from_pretrained = lambda *_, **__: None
    import ct_clip.ct_clip
    import transformer_maskgit.attention
    import transformer_maskgit.ctvit

    for module in (ct_clip.ct_clip, transformer_maskgit.attention, transformer_maskgit.ctvit):
        module.torch = OnProcessor("torch")
        module.print = lambda *_, **__: None
    return transformer_maskgit.ctvit.CTViT, ct_clip.ct_clip.CTCLIP


CHILDREN = {
    "ours_preprocess": ours_preprocess,
    "published_preprocess": published_preprocess,
    "ours_encoder": ours_encoder,
    "published_encoder": published_encoder,
}


# --- what they are given


def write_weights(folder: Path, name: str) -> Result:
    """Random weights in the published layout and, converted, in ours; returns the sizes."""
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    from ctclip_states import published_shapes, unread_shapes

    from rad3d.model.encoders.ctclip.checkpoint import save_network, sort_checkpoint
    from rad3d.model.encoders.ctclip.config import CtClipConfig

    config = CtClipConfig(**SIZES[name])
    torch.manual_seed(0)
    state = {}
    for key, shape in (published_shapes(config) | unread_shapes(config, text_width=768)).items():
        value = torch.randn(shape)
        if key.endswith(("gamma", "_scale")) or (value.ndim == 1 and key.endswith("weight")):
            value = 1 + 0.1 * value
        elif value.ndim > 1:
            value *= max(value[0].numel(), 1) ** -0.5
        else:
            value *= 0.1
        state[key] = value
    state["visual_transformer.vq._codebook.initted"] = torch.ones(1)
    torch.save(state, folder / "published.pt")
    facts = {"grid": config.grid().to_dict(), "precision": "float32"}
    save_network(folder, sort_checkpoint(state, frames=config.frames), facts)
    return config.to_dict()


def write_scan(path: Path, slices: int) -> None:
    """A 512 x 512 trunk with two lungs and noise, int16, in LPS order."""
    import nibabel as nib

    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(512) - 256, np.arange(512) - 256, indexing="ij")
    hu = np.full((512, 512, slices), -1000, np.int16, order="F")
    for k in range(slices):
        plane = np.where((x / 230) ** 2 + (y / 160) ** 2 < 1, 40, -1000)
        size = max(0.1, 1 - ((k - slices / 2) / (0.57 * slices)) ** 2)
        for centre in (-105, 105):
            plane[((x - centre) / (80 * size)) ** 2 + (y / (110 * size)) ** 2 < 1] = -850
        hu[:, :, k] = plane + rng.normal(0, 25, (512, 512))
    image = nib.Nifti1Image(hu, np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


# --- how they are run and compared


def run_child(child: str, python: str, threads: int, **options: Any) -> Result:
    command = [python, __file__, "--child", child, "--threads", str(threads)]
    for key, value in options.items():
        command += [f"--{key}", str(value)]
    root = str(Path(__file__).resolve().parent.parent)
    # Threads that wait sleep, so that processor time is work, on a busy machine as well.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ,
                   "OMP_NUM_THREADS": str(threads), "PYTHONPATH": root}  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{child} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def medians(runs: list[Result]) -> Result:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def show(title: str, results: dict[str, list[Result]]) -> None:
    print(f"\n{title}")
    first = medians(results["published"]) if "published" in results else None
    for name, runs in results.items():
        m = medians(runs)
        line = (
            f"  {name:<14}{m['seconds']:8.2f} s {m['cpu_seconds']:8.2f} CPU s "
            f"{m['path_seconds']:8.2f} path s {m['peak_mb']:8.0f} MB   n = {len(runs)}"
        )
        if first and name != "published":
            line += (
                f"   {first['seconds'] / m['seconds']:.2f} times as fast, "
                f"{first['cpu_seconds'] / m['cpu_seconds']:.2f} by CPU seconds, "
                f"{first['path_seconds'] / m['path_seconds']:.2f} by path, "
                f"{m['peak_mb'] / first['peak_mb']:.0%} of the memory"
            )
        print(line, flush=True)


def compare_preprocessing(args: argparse.Namespace, folder: Path) -> None:
    for suffix in (".nii", ".nii.gz"):
        scan = folder / f"scan{suffix}"
        write_scan(scan, args.slices)
        results: dict[str, list[Result]] = {}
        for _ in range(args.repeats):
            for name, python in sides(args):
                out = folder / f"{name}.npy"
                facts = run_child(f"{name}_preprocess", python, args.threads, input=scan,
                                  output=out, published=args.published)  # fmt: skip
                results.setdefault(name, []).append(facts)
        show(f"Preprocessing 512 x 512 x {args.slices}, {suffix}", results)
        if args.published:
            far = np.abs(np.load(folder / "ours.npy") - np.load(folder / "published.npy")).max()
            print(f"  largest difference {far:.1e}")


def compare_encoders(args: argparse.Namespace, folder: Path) -> None:
    sizes = write_weights(folder, args.size)
    height, width = sizes["image_size"]
    rng = np.random.default_rng(1)
    shape = (sizes["frames"], height, width)
    smooth = rng.normal(size=[n // 10 for n in shape]).repeat(10, 0).repeat(10, 1).repeat(10, 2)
    values = np.clip(0.5 * smooth + rng.normal(0, 0.1, shape), -1, 1).astype(np.float32)
    np.save(folder / "input.npy", values)
    del smooth, values
    results: dict[str, list[Result]] = {}
    outputs: dict[str, Any] = {}
    runs = [(name, name, python, "float32") for name, python in sides(args)]
    runs += [("ours bfloat16", "ours", sys.executable, "bfloat16")] if args.bfloat16 else []
    for _ in range(args.repeats):
        for label, name, python, dtype in runs:
            out = folder / f"{label}.npz"
            facts = run_child(f"{name}_encoder", python, args.threads, dtype=dtype, output=out,
                              input=folder / "input.npy", weights=folder,
                              published=args.published, sizes=json.dumps(sizes))  # fmt: skip
            results.setdefault(label, []).append(facts)
            outputs[label] = dict(np.load(out))
    show(f"Encoder forward, {args.size} sizes, {args.threads} threads", results)
    base = "published" if args.published else "ours"
    for label, found in outputs.items():
        if label == base:
            continue
        flipped = int((found["codes"] != outputs[base]["codes"]).sum())
        far = {k: float(np.abs(found[k] - outputs[base][k]).max() / np.abs(outputs[base][k]).max())
               for k in ("latent", "logits")}  # fmt: skip
        print(
            f"  {label} against {base}: latent {far['latent']:.1e}, logits {far['logits']:.1e} "
            f"relative; {flipped} of {found['codes'].size} codes differ"
        )


def sides(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Published first, so that ratios can be shown."""
    ours = [("ours", sys.executable)]
    return [("published", args.python), *ours] if args.published else ours


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--published", default="", help="a checkout of the published code")
    parser.add_argument("--python", default=sys.executable, help="the Python that runs it")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", choices=SIZES, default="published")
    parser.add_argument("--part", choices=("encoder", "preprocessing"), help="only one of the two")
    parser.add_argument("--bfloat16", action="store_true", help="our encoder in bfloat16 as well")
    for name in ("child", "input", "output", "weights", "sizes", "dtype"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(CHILDREN[args.child](args)))
        return
    print(f"{date.today()}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="rad3d-benchmark-") as folder:
        if args.part != "encoder":
            compare_preprocessing(args, Path(folder))
        if args.part != "preprocessing":
            compare_encoders(args, Path(folder))


if __name__ == "__main__":
    main()
