"""Training steps and reports of a language model with random weights, timed on this machine."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from transformers import PreTrainedConfig

from rad3d.core.registry import PRECISIONS
from rad3d.core.types import GenerationOptions
from rad3d.model.llm.architectures import count, meta_model, quantise_, random_model
from rad3d.model.llm.cost import (
    Workload,
    autocast,
    check,
    estimate,
    random_batch,
    random_reporter,
    training_dtype,
)
from rad3d.model.llm.decoding import decode
from rad3d.model.llm.hub import Progress
from rad3d.model.llm.language import recompute_layers
from rad3d.model.llm.precision import Machine, processor_name
from rad3d.model.llm.training_memory import check_measuring
from rad3d.model.variants.reporter import PrefixReporter


@dataclass(frozen=True)
class Measured:
    """Times and memory measured with random weights.

    Attributes:
        machine: the processor or GPU.
        threads: of the processor that torch used.
        share: of these threads' time that the process really had, 1 where nothing else ran; on a
            GPU the processor mostly waits, and this says little.
        step_s: median seconds of a training step.
        steps: how many were timed.
        tokens_per_s: written one after the other, one report at a time, without the first.
        first_token_s: from the prefix to the first token.
    """

    machine: str
    threads: int
    share: float
    step_s: float
    steps: int
    tokens_per_s: float
    first_token_s: float


def measure(
    config: PreTrainedConfig,
    mode: str,
    precision: str,
    machine: Machine,
    load: Workload | None = None,
    *,
    seconds: float = 60.0,
    progress: Progress | None = None,
) -> Measured:
    """Train and write with random weights on this machine, and take the time.

    Args:
        config, mode, precision, load: as for :func:`estimate`.
        machine: where.
        seconds: after which no further step or token is begun; at least two steps and two tokens
            are.
        progress: told what is being done.

    Raises:
        BadRequest: it does not fit into the memory that is free.
    """
    load, tell = load or Workload(), progress or (lambda text, fraction: None)
    check(mode, precision)
    needed = estimate(config, mode, precision, load)
    check_measuring(needed, count(meta_model(config)), precision, machine, load)
    tell("Making random weights", 0.0)
    model = random_model(config, training_dtype(mode, precision), machine.device)
    if PRECISIONS[precision].quantised:
        quantise_(model, precision)
    reporter = random_reporter(model, mode, precision, load)
    if load.checkpointing:
        recompute_layers(reporter.language)
    tell("Timing training steps", 0.3)
    began = time.perf_counter(), time.process_time()
    steps = _time_steps(reporter, load, precision, seconds, tell)
    tell("Timing the writing of a report", 0.8)
    first, rate = _time_writing(reporter.eval(), load, seconds)
    wall, used = time.perf_counter() - began[0], time.process_time() - began[1]
    where = processor_name() if machine.device == "cpu" else machine.name
    threads = torch.get_num_threads()
    tell("Measured", 1.0)
    return Measured(
        machine=where,
        threads=threads,
        share=min(used / (wall * threads), 1.0),
        step_s=statistics.median(steps),
        steps=len(steps),
        tokens_per_s=rate,
        first_token_s=first,
    )


def _time_steps(
    reporter: PrefixReporter, load: Workload, precision: str, seconds: float, tell: Progress
) -> list[float]:
    """Seconds of each training step but the first, which warms up."""
    trained = list(reporter.trainable_parameters())
    optimiser = torch.optim.AdamW(trained, lr=1e-5)
    batch = random_batch(reporter, load)
    began = time.perf_counter()
    times: list[float] = []
    while len(times) < 6 and (len(times) < 2 or time.perf_counter() - began < seconds):
        start = time.perf_counter()
        with autocast(reporter, load, precision):
            loss = reporter.loss(*batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        _synchronise(reporter)
        times.append(time.perf_counter() - start)
        tell(f"A training step took {times[-1]:.2f} s", 0.3 + 0.08 * len(times))
    return times[1:]


@torch.inference_mode()
def _time_writing(reporter: PrefixReporter, load: Workload, seconds: float) -> tuple[float, float]:
    """Seconds to the first token, and tokens per second after it, of the second report."""
    embeds = reporter.conditioning(reporter.prefix(*random_batch(reporter, Workload(1, 1))[:2]))
    first, rate = 0.0, 0.0
    for tokens in (2, load.report_tokens + 1):
        options = GenerationOptions(max_new_tokens=min(max(tokens, 2), 1024))
        steps = decode(reporter.language, embeds, options)
        start = time.perf_counter()
        next(steps)
        _synchronise(reporter)
        first, written = time.perf_counter() - start, 0
        start = time.perf_counter()
        for _ in steps:
            written += 1
            if time.perf_counter() - start > seconds:
                break
        _synchronise(reporter)
        rate = written / (time.perf_counter() - start)
    return first, rate


def _synchronise(reporter: PrefixReporter) -> None:
    """A GPU works on its own; wait for it before looking at the clock."""
    if reporter.language.device.type == "cuda":
        torch.cuda.synchronize()
