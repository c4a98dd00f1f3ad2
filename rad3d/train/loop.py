"""One training loop for encoders, base language models and variants, on top of accelerate.

A batch is a pure function of the step number, so a run that was interrupted and resumed sees the
same data as one that was not. Checkpoints hold model, optimiser and step; the resolved
configuration lies beside them.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor, nn

from rad3d.errors import BadRequest

Progress = Callable[[str, float], None]
"""Called with a line of text and the fraction done in [0, 1]."""


@dataclass(frozen=True)
class LoopConfig:
    """How to train.

    Attributes:
        steps: optimiser steps.
        learning_rate: peak, after a linear warm-up, then a cosine down to a tenth.
        warmup: steps of linear warm-up.
        weight_decay: AdamW, on matrices only.
        clip: largest gradient norm.
        precision: ``"bf16"`` (autocast) or ``"no"`` (float32).
        muon_rate: peak learning rate of Muon (Jordan et al. 2024) for the weight matrices inside
            the layers; 0 leaves them to AdamW.
        seed: of weights initialised later and of dropout; data has its own seeds.
        save_every: steps between checkpoints.
        log_every: steps between log lines.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    precision: str = "bf16"
    muon_rate: float = 0.0
    seed: int = 0
    save_every: int = 200
    log_every: int = 50

    def factor(self, step: int) -> float:
        """Share of the peak learning rate at ``step`` (0-based)."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        return 0.52 + 0.48 * math.cos(math.pi * min(done, 1.0))


def fit(
    model: nn.Module,
    batch: Callable[[int], Any],
    loss: Callable[[nn.Module, Any], Mapping[str, Tensor]],
    config: LoopConfig,
    directory: Path,
    *,
    name: str,
    facts: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    on_step: Callable[[nn.Module, int], None] | None = None,
) -> dict[str, Any]:
    """Train the parameters of ``model`` that require gradients; resume where a run stopped.

    Args:
        model: trained in place.
        batch: step number -> batch of CPU tensors (any nesting), deterministic.
        loss: (model, batch) -> named scalars; ``"loss"`` is minimised, the others are logged.
        config: the schedule.
        directory: receives ``config.json``, ``log.jsonl`` and ``checkpoint.pt``.
        name: shown in progress lines.
        facts: saved in ``config.json``; a resumed run must have the same.
        progress: receives one line at every log step.
        on_step: called after every step, for measurements along the way.

    Returns:
        Training facts: steps, seconds, final smoothed loss.

    Raises:
        BadRequest: the directory holds a run with another configuration.
    """
    directory.mkdir(parents=True, exist_ok=True)
    AcceleratorState._reset_state()  # one process may train in bf16 and then in float32
    accelerator = Accelerator(mixed_precision=config.precision, cpu=not torch.cuda.is_available())
    set_seed(config.seed)
    resolved = {"loop": asdict(config), "facts": dict(facts or {})}
    _claim(directory / "config.json", resolved)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizers = _optimizers(model, config)
    checkpoint = directory / "checkpoint.pt"
    start, seconds, smoothed = 0, 0.0, math.nan
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        _restore(model, state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start, seconds, smoothed = state["step"], state["seconds"], state["smoothed"]
    prepared, *optimizers = accelerator.prepare(model, *optimizers)
    groups = [(g, g["lr"]) for g in _peak_groups(optimizers, config)]
    began = time.perf_counter()
    for step in range(start, config.steps):
        for group, peak in groups:
            group["lr"] = peak * config.factor(step)
        with accelerator.autocast():
            values = loss(prepared, _to(batch(step), accelerator.device))
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        accelerator.backward(values["loss"])
        accelerator.clip_grad_norm_(trained, config.clip)
        for optimizer in optimizers:
            optimizer.step()
        current = float(values["loss"].detach())
        smoothed = current if math.isnan(smoothed) else 0.95 * smoothed + 0.05 * current
        if on_step is not None:
            on_step(model, step + 1)
        spent = seconds + time.perf_counter() - began
        last = step + 1 == config.steps
        if (step + 1) % config.log_every == 0 or last:
            line = {k: round(float(v.detach()), 5) for k, v in values.items()}
            line |= {"step": step + 1, "smoothed": round(smoothed, 5), "seconds": round(spent, 1)}
            _log(accelerator, directory, line)
            if progress is not None:
                left = spent / (step + 1) * (config.steps - step - 1)
                progress(
                    f"{name}: step {step + 1}/{config.steps}, loss {smoothed:.4f}, "
                    f"about {left / 60:.1f} min left",
                    (step + 1) / config.steps,
                )
        if ((step + 1) % config.save_every == 0 or last) and accelerator.is_main_process:
            _save(checkpoint, model, optimizers, step + 1, spent, smoothed)
    total = seconds + time.perf_counter() - began
    return {
        "steps": config.steps,
        "seconds": round(total, 1),
        "final_loss": round(smoothed, 4),
        "trainable_parameters": sum(p.numel() for p in trained),
    }


def prefer_eager_attention(model: Any) -> None:
    """Where a transformers model trains on a CPU, take attention apart into matrix products.

    There the backward pass of fused attention is a third of a small model's step.
    """
    if not torch.cuda.is_available():
        model.set_attn_implementation("eager")


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
        betas=(0.9, 0.98),
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


def _restore(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Put trained parameters and buffers back; frozen ones are not in a checkpoint."""
    absent, unexpected = model.load_state_dict(saved, strict=False)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    if unexpected or trained & set(absent):
        raise BadRequest("The checkpoint belongs to another model.", code="other_run")


def _claim(path: Path, resolved: dict[str, Any]) -> None:
    """Write the resolved configuration, or check that a present one is the same."""
    text = json.dumps(resolved, indent=2, sort_keys=True) + "\n"
    if path.is_file() and path.read_text() != text:
        raise BadRequest(
            f"{path.parent} holds a run with another configuration.",
            "Choose another directory, or remove this one to start again.",
            code="other_run",
        )
    path.write_text(text)


def _save(
    path: Path, model: nn.Module, optimizers: list[Any], step: int, seconds: float, smoothed: float
) -> None:
    wanted = {n for n, p in model.named_parameters() if p.requires_grad}
    wanted |= {n for n, _ in model.named_buffers()}
    state = {
        "model": {k: v for k, v in model.state_dict().items() if k in wanted},
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "step": step,
        "seconds": seconds,
        "smoothed": smoothed,
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _log(accelerator: Accelerator, directory: Path, line: dict[str, Any]) -> None:
    if accelerator.is_main_process:
        with (directory / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def _to(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {k: _to(v, device) for k, v in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)(_to(v, device) for v in batch)
    return batch
