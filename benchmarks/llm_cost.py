"""The table of docs/cost.md: language models with random weights, timed on this machine.

    python benchmarks/llm_cost.py [--llm NAME ...] [--precision P ...] [--seconds S] [--threads N]

Each row runs in a process of its own. Prints a Markdown table: what a step of two pairs with 100
tokens takes in V-3 (counted), and the time of such a step and of writing (measured). The share is
how much of the threads' time the process had; times under other load are longer than they need be.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

MODELS = ("distilgpt2", "gpt2", "smollm2-360m", "biogpt", "llama-3.2-1b")
PRECISIONS = ("float32", "bf16", "8bit", "4bit")
PAIRS, TOKENS, MODE, STEPS = 2, 100, "v3", 6


def row(llm: str, precision: str, seconds: float) -> str:
    """One row of the table, or the reason why there is none."""
    import torch
    from tiny_models import random_model
    from transformers import AutoConfig

    from rad3d.core.errors import Rad3dError
    from rad3d.core.language_models import PRECISIONS as ROWS
    from rad3d.core.language_models import language_model
    from rad3d.model.llm import cost
    from rad3d.model.llm.precision import available_memory

    load = cost.Workload(PAIRS, TOKENS)
    config = AutoConfig.for_model(**language_model(llm).config)
    try:
        counted = cost.estimate(config, MODE, precision, load)
    except Rad3dError as error:
        return f"| {llm} | {precision} | {error.problem} | | | | | |"
    if counted.training > available_memory():
        return f"| {llm} | {precision} | too large for this machine | | | | | |"
    model = random_model(config, cost.training_dtype(MODE, precision))
    if ROWS[precision].quantised:
        quantise(model, precision)
    reporter = cost.random_reporter(model, MODE, precision, load)
    began = time.perf_counter(), time.process_time()
    step = train_seconds(reporter, load, precision, seconds)
    first, rate = write_seconds(reporter.eval(), seconds)
    wall, used = time.perf_counter() - began[0], time.process_time() - began[1]
    share = min(used / (wall * torch.get_num_threads()), 1.0)
    return (
        f"| {llm} | {precision} | {counted.weights / 1e9:.2f} GB | {counted.training / 1e9:.2f} GB "
        f"| {step:.2f} s | {first:.2f} s | {rate:.1f} | {share:.0%} |"
    )


def quantise(model: Any, precision: str) -> None:
    """Quantise the linear layers of a model with random weights, its output layer apart."""
    import bitsandbytes
    import torch
    from transformers.pytorch_utils import Conv1D

    output = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if module is output or not (type(module) is torch.nn.Linear or isinstance(module, Conv1D)):
            continue
        weight = module.weight.data.T if isinstance(module, Conv1D) else module.weight.data
        shape = (weight.shape[1], weight.shape[0], module.bias is not None)
        if precision == "8bit":
            layer = bitsandbytes.nn.Linear8bitLt(*shape, has_fp16_weights=False, device="meta")
            packed = bitsandbytes.nn.Int8Params(
                weight.contiguous(), requires_grad=False, has_fp16_weights=False
            )
        else:
            layer = bitsandbytes.nn.Linear4bit(
                *shape, compute_dtype=weight.dtype, quant_type="nf4", device="meta"
            )
            packed = bitsandbytes.nn.Params4bit(
                weight.contiguous(), requires_grad=False, quant_type="nf4"
            )
        layer.weight = packed.to("cpu")
        layer.bias = module.bias
        model.set_submodule(name, layer.requires_grad_(False))


def train_seconds(reporter: Any, load: Any, precision: str, seconds: float) -> float:
    """Median seconds of a training step, without the first, which warms up."""
    import torch

    from rad3d.model.llm import cost

    optimiser = torch.optim.AdamW(list(reporter.trainable_parameters()), lr=1e-5)
    batch = cost.random_batch(reporter, load)
    began = time.perf_counter()
    times: list[float] = []
    while len(times) < STEPS and (len(times) < 2 or time.perf_counter() - began < seconds):
        start = time.perf_counter()
        with cost.autocast(reporter, load, precision):
            loss = reporter(**batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def write_seconds(reporter: Any, seconds: float) -> tuple[float, float]:
    """Seconds to the first token, and tokens per second after it, of the second report."""
    import torch

    from rad3d.core.types import GenerationOptions
    from rad3d.model.llm.cost import Workload, random_batch
    from rad3d.model.llm.decoding import decode

    with torch.inference_mode():
        batch = random_batch(reporter, Workload(1, 1))
        given = (batch[name] for name in ("latent", "logits", "tokens", "bits"))
        prefix = reporter.prefix(*given)
        embeds = reporter.conditioning(prefix)
        for tokens in (2, TOKENS + 1):
            steps = decode(reporter.language, embeds, GenerationOptions(max_new_tokens=tokens))
            start = time.perf_counter()
            next(steps)
            first, written = time.perf_counter() - start, 0
            start = time.perf_counter()
            for _ in steps:
                written += 1
                if time.perf_counter() - start > seconds:
                    break
            rate = written / (time.perf_counter() - start)
    return first, rate


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llm", nargs="+", default=MODELS)
    parser.add_argument("--precision", nargs="+", default=PRECISIONS)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    print(time.strftime("%Y-%m-%d"))
    print("| LLM | precision | weights | step, memory | step | first token | tokens/s | share |")
    print("|---|---|---|---|---|---|---|---|")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        for llm in args.llm:
            for precision in args.precision:
                print(pool.submit(row, llm, precision, args.seconds).result(), flush=True)


if __name__ == "__main__":
    main()
