"""One training loop for encoders, base language models and variants, on top of accelerate.

A batch and the random numbers of a step are pure functions of the step number, so a run that was
interrupted and resumed ends with the weights of one that was not. Checkpoints hold model, optimiser
and state; the resolved configuration lies beside them (:mod:`rad3d.train.rundir`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor, nn

from rad3d.core.words import duration_text
from rad3d.model.llm.precision import inspect_machine
from rad3d.train.rundir import RunDirectory, RunState

Progress = Callable[[str, float], None]
"""Called with a line of text and the fraction done in [0, 1]."""

SILENT_S = 30
"""Seconds after which the next step is told of, whatever its number."""

Loss = Callable[[nn.Module, Any], Mapping[str, Tensor]]


@dataclass(frozen=True)
class LoopConfig:
    """Hyperparameters of the training loop.

    Attributes:
        steps: optimiser steps.
        learning_rate: peak, after a linear warm-up, then a cosine down to ``final`` of it.
        warmup: steps of linear warm-up.
        final: share of the peak that is left at the end; 1 keeps the rate.
        weight_decay: AdamW, on matrices only; 0 is Adam.
        beta2: of AdamW.
        clip: largest gradient norm.
        precision: ``"bf16"`` (autocast) or ``"no"`` (float32).
        muon_rate: peak learning rate of Muon (Jordan et al. 2024) for the weight matrices inside
            the layers; 0 leaves them to AdamW.
        accumulate: batches for each step and process, whose gradients are added up.
        seed: of weights initialised later and of dropout; data has its own seeds.
        save_every: steps between checkpoints.
        log_every: steps between log lines.
        validate_every: steps between measurements on held-out data, where there is some.
        patience: so many measurements without a better one end the run; 0 never does.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    final: float = 0.04
    weight_decay: float = 0.01
    beta2: float = 0.98
    clip: float = 1.0
    precision: str = "bf16"
    muon_rate: float = 0.0
    accumulate: int = 1
    seed: int = 0
    save_every: int = 200
    log_every: int = 50
    validate_every: int = 200
    patience: int = 0

    def factor(self, step: int) -> float:
        """Share of the peak learning rate at ``step`` (0-based)."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        half = (1 - self.final) / 2
        return 1 - half + half * math.cos(math.pi * min(done, 1.0))

    def ended(self, state: RunState) -> bool:
        """True after the last step, or when held-out data says so."""
        impatient = self.patience > 0 and state.worse >= self.patience
        return state.step >= self.steps or impatient


def fit(
    model: nn.Module,
    batch: Callable[[int], Any],
    loss: Loss,
    config: LoopConfig,
    directory: Path,
    *,
    name: str,
    facts: Mapping[str, Any] | None = None,
    device: str = "auto",
    weigh: Callable[[Any], float] = lambda batch: 1.0,
    held_out: Sequence[Any] = (),
    progress: Progress | None = None,
    on_step: Callable[[nn.Module, int], None] | None = None,
) -> dict[str, Any]:
    """Train the parameters of ``model`` that require gradients; resume where a run stopped.

    Under ``accelerate launch`` every process takes batches of its own, and their gradients are
    averaged.

    Args:
        model: trained in place; ends with the best weights on ``held_out``, or else the last.
        batch: number of a batch -> batch of CPU tensors (any nesting), deterministic.
        loss: (model, batch) -> named means; ``"loss"`` is minimised, the others are logged.
        config: the schedule.
        directory: of the run.
        name: shown in progress lines.
        facts: saved with the configuration; a resumed run must have the same.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        weigh: how much a batch's mean counts among those of its step, such as its tokens: then
            accumulated batches are one large batch.
        held_out: batches that are not learned from.
        progress: receives a line after the first step, at every log step, and whenever it has
            been silent for :data:`SILENT_S`.
        on_step: called after every step, for measurements along the way.

    Returns:
        Training facts: steps, seconds, final smoothed loss; the best one on held-out data.

    Raises:
        BadRequest: the directory holds a run with another configuration.
    """
    accelerator = _accelerator(config.precision, device)
    run = RunDirectory(directory, accelerator.is_main_process)
    resolved = {"loop": asdict(config), "facts": dict(facts or {})}
    if accelerator.num_processes > 1:
        resolved["processes"] = accelerator.num_processes
    with accelerator.main_process_first():
        run.claim(resolved)
    set_seed(config.seed)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizers = _optimizers(model, config)
    state = run.restore(model, optimizers)
    placed = next(model.parameters()).device.type == accelerator.device.type
    prepared = accelerator.prepare_model(model, device_placement=not placed)
    optimizers = [accelerator.prepare_optimizer(optimizer) for optimizer in optimizers]
    groups = [(g, g["lr"]) for g in _peak_groups(optimizers, config)]
    before, began = state.seconds, time.perf_counter()
    first, told = state.step + 1, began
    while not config.ended(state):
        _seed(config.seed, state.step, accelerator.process_index)
        for group, peak in groups:
            group["lr"] = peak * config.factor(state.step)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        values = _backward(accelerator, prepared, _batches(accelerator, batch, config, state.step),
                           loss, weigh)  # fmt: skip
        accelerator.clip_grad_norm_(trained, config.clip)
        for optimizer in optimizers:
            optimizer.step()
        state.learned(values["loss"])
        if on_step is not None:
            on_step(model, state.step)
        state.seconds = before + time.perf_counter() - began
        last = state.step == config.steps
        validated = bool(held_out) and (state.step % config.validate_every == 0 or last)
        if validated:
            values["validation"] = _validate(accelerator, model, held_out, loss, weigh)
            if state.validated(values["validation"]):
                run.save_best(model, state.step)
        logged = validated or state.step % config.log_every == 0 or last
        if logged:
            run.log(_line(values, state))
        now = time.perf_counter()
        if progress is not None and accelerator.is_main_process:
            if state.step == first:
                progress(_first(name, now - began, config), state.step / config.steps)
            if logged or now - told > SILENT_S:
                progress(_sentence(name, values, state, config), state.step / config.steps)
                told = now
        if validated or state.step % config.save_every == 0 or last:
            run.save(model, optimizers, state)
    if state.best_step:
        accelerator.wait_for_everyone()
        run.restore_best(model, state.best_step)
    return _facts(state, trained, accelerator.num_processes)


def shared(progress: Progress | None, loops: Sequence[LoopConfig], i: int) -> Progress | None:
    """Return what tells of loop ``i`` as its share of the steps of all loops."""
    if progress is None:
        return None
    total = sum(loop.steps for loop in loops)
    before = sum(loop.steps for loop in loops[:i])
    own = loops[i].steps
    return lambda text, done: progress(text, (before + done * own) / total)


def _accelerator(precision: str, device: str) -> Accelerator:
    """Make a new accelerator: one process may train in bf16 and then in float32."""
    machine = inspect_machine(device)
    alone = not torch.distributed.is_initialized()
    AcceleratorState._reset_state(reset_partial_state=alone)
    if machine.device.startswith("cuda:") and alone:
        torch.cuda.set_device(machine.device)
    return Accelerator(mixed_precision=precision, cpu=machine.device == "cpu")


def _seed(seed: int, step: int, process: int) -> None:
    """Seed dropout by the step, so that a resumed run draws the same numbers."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1)[0]))


def _batches(
    accelerator: Accelerator, batch: Callable[[int], Any], config: LoopConfig, step: int
) -> list[Any]:
    """The batches of one step that belong to this process."""
    each = config.accumulate
    first = (step * accelerator.num_processes + accelerator.process_index) * each
    return [batch(first + i) for i in range(each)]


def _backward(
    accelerator: Accelerator,
    model: nn.Module,
    batches: Sequence[Any],
    loss: Loss,
    weigh: Callable[[Any], float],
) -> dict[str, float]:
    """Add up the gradients of a step's batches; returns the weighted means of what was measured."""
    weights = [weigh(batch) for batch in batches]
    total = _sum(accelerator, sum(weights))
    sums: dict[str, float] = {}
    for i, (batch, weight) in enumerate(zip(batches, weights, strict=True)):
        with ExitStack() as stack:
            if i + 1 < len(batches):
                stack.enter_context(accelerator.no_sync(model))
            with accelerator.autocast():
                values = loss(model, _to(batch, accelerator.device))
            # Gradients are averaged over processes, so that each counts by its share of the whole.
            share = weight / total * accelerator.num_processes
            accelerator.backward(values["loss"] * share if share != 1 else values["loss"])
        for key, value in values.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach()) * weight
    return {key: _sum(accelerator, value) / total for key, value in sums.items()}


@torch.no_grad()
def _validate(
    accelerator: Accelerator,
    model: nn.Module,
    held_out: Sequence[Any],
    loss: Loss,
    weigh: Callable[[Any], float],
) -> float:
    """Weighted mean loss over held-out batches, shared out among the processes."""
    model.eval()
    value, total = 0.0, 0.0
    for batch in held_out[accelerator.process_index :: accelerator.num_processes]:
        with accelerator.autocast():
            mean = loss(model, _to(batch, accelerator.device))["loss"]
        value += float(mean) * weigh(batch)
        total += weigh(batch)
    model.train()
    return _sum(accelerator, value) / _sum(accelerator, total)


def _sum(accelerator: Accelerator, value: float) -> float:
    """Sum over all processes."""
    if accelerator.num_processes == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=accelerator.device)
    return float(accelerator.reduce(tensor, "sum"))


def _line(values: Mapping[str, float], state: RunState) -> dict[str, Any]:
    line: dict[str, Any] = {k: round(v, 5) for k, v in values.items()}
    return line | {
        "step": state.step, "smoothed": round(state.smoothed, 5), "seconds": round(state.seconds, 1)
    }  # fmt: skip


def _first(name: str, seconds: float, config: LoopConfig) -> str:
    """The first step also does what is done once, so it is no measure of the others."""
    return f"{name}: the first of {config.steps:,} steps took {seconds:.1f} s"


def _sentence(name: str, values: Mapping[str, float], state: RunState, config: LoopConfig) -> str:
    left = duration_text(state.seconds / state.step * (config.steps - state.step))
    held = f", held-out loss {values['validation']:.4f}" if "validation" in values else ""
    return (
        f"{name}: step {state.step}/{config.steps}, loss {state.smoothed:.4f}{held}, "
        f"about {left} left"
    )


def _facts(state: RunState, trained: Sequence[nn.Parameter], processes: int) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "steps": state.step,
        "seconds": round(state.seconds, 1),
        "final_loss": round(state.smoothed, 4),
        "trainable_parameters": sum(p.numel() for p in trained),
    }
    if state.best_step:
        facts |= {"best_step": state.best_step, "validation_loss": round(state.best_loss, 4)}
    return facts | ({"processes": processes} if processes > 1 else {})


EAGER_PARAMETERS = 50_000_000
"""Up to this size fused attention's backward pass is a third of a step on a CPU."""


def prefer_eager_attention(language: Any) -> None:
    """Use eager attention for a small transformers model that trains on a CPU.

    A large one keeps the fused kernel, which does not hold every pair of positions in memory.
    """
    small = sum(p.numel() for p in language.parameters()) <= EAGER_PARAMETERS
    if small and next(language.parameters()).device.type == "cpu":
        language.set_attn_implementation("eager")


def _optimizers(model: nn.Module, config: LoopConfig) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the inner weight matrices where it is asked for."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    inner = {
        n
        for n, p in named
        if config.muon_rate and p.ndim == 2 and "embed" not in n and ".layers." in n
    }
    rest = [p for n, p in named if n not in inner]
    adamw = torch.optim.AdamW(
        [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(0.9, config.beta2),
    )
    if not inner:
        return [adamw]
    matrices = [p for n, p in named if n in inner]
    return [adamw, torch.optim.Muon(matrices, lr=config.muon_rate, weight_decay=0.01)]


def _peak_groups(optimizers: list[Any], config: LoopConfig) -> list[dict[str, Any]]:
    """The parameter groups with their learning rates at the peak."""
    groups = []
    for optimizer, peak in zip(optimizers, (config.learning_rate, config.muon_rate), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = peak
            groups.append(group)
    return groups


def _to(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {k: _to(v, device) for k, v in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)(_to(v, device) for v in batch)
    return batch
