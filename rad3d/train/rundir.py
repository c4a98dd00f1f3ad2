"""The directory of a training run: configuration, log, checkpoint and best weights.

Every file is written beside its place and then moved there, so a process that is killed at any
moment leaves a directory from which the run goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rad3d.core.errors import BadRequest
from rad3d.core.files import whole_file, write_whole

CONFIG_FILE = "config.json"
CHECKPOINT_FILE = "checkpoint.pt"
LOG_FILE = "log.jsonl"


@dataclass
class RunState:
    """The state of a run.

    Attributes:
        step: optimiser steps done.
        seconds: spent in them.
        smoothed: moving average of the loss.
        best_step, best_loss: of the lowest loss on held-out data; no step where none was measured.
        worse: measurements on held-out data since then.
    """

    step: int = 0
    seconds: float = 0.0
    smoothed: float = math.nan
    best_step: int = 0
    best_loss: float = math.inf
    worse: int = 0

    def learned(self, loss: float) -> None:
        """Count one step with this loss."""
        self.step += 1
        self.smoothed = loss if math.isnan(self.smoothed) else 0.95 * self.smoothed + 0.05 * loss

    def validated(self, loss: float) -> bool:
        """Take in a loss on held-out data; True where it is the lowest so far."""
        better = loss < self.best_loss
        if better:
            self.best_step, self.best_loss, self.worse = self.step, loss, 0
        else:
            self.worse += 1
        return better


class RunDirectory:
    """Reads and writes the files of one run.

    Args:
        path: the directory; made if need be.
        writes: False in all but one of several processes.
    """

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        path.mkdir(parents=True, exist_ok=True)

    def claim(self, resolved: Mapping[str, Any]) -> None:
        """Write the resolved configuration, or check that a present one is the same.

        Raises:
            BadRequest: the directory holds a run with another configuration.
        """
        text = json.dumps(resolved, indent=2, sort_keys=True) + "\n"
        file = self.path / CONFIG_FILE
        if file.is_file() and file.read_text(encoding="utf-8") != text:
            raise BadRequest(
                f"{self.path} holds a run with another configuration.",
                "Choose another directory, or remove this one to start again.",
                code="other_run",
            )
        if self.writes:
            write_whole(file, text.encode())

    def restore(self, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> RunState:
        """Put the last checkpoint into model and optimisers; a new state where there is none."""
        file = self.path / CHECKPOINT_FILE
        if not file.is_file():
            return RunState()
        saved = torch.load(file, map_location="cpu", weights_only=True)
        load_trained(model, saved["model"])
        for optimizer, values in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        state = RunState(**saved["state"])
        self._forget_log_after(state.step)
        return state

    def save(self, model: nn.Module, optimizers: list[Any], state: RunState) -> None:
        """Write a checkpoint; best weights that it does not name are removed after it."""
        if not self.writes:
            return
        self._write(
            CHECKPOINT_FILE,
            {
                "model": trained_state(model),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "state": asdict(state),
            },
        )
        for file in self.path.glob("best-*.pt"):
            if file.name != _best_name(state.best_step):
                file.unlink()

    def save_best(self, model: nn.Module, step: int) -> None:
        """Keep the weights of this step until a better one has its checkpoint."""
        if self.writes:
            self._write(_best_name(step), trained_state(model))

    def restore_best(self, model: nn.Module, step: int) -> None:
        """Put the weights of the best step into the model."""
        saved = torch.load(self.path / _best_name(step), map_location="cpu", weights_only=True)
        load_trained(model, saved)

    def log(self, line: Mapping[str, Any]) -> None:
        """Append one line of JSON."""
        if self.writes:
            with (self.path / LOG_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def _forget_log_after(self, step: int) -> None:
        """Drop the lines of steps that will be done again, and a line that was cut off."""
        file = self.path / LOG_FILE
        if not self.writes or not file.is_file():
            return
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [ln for ln in lines if ln.endswith("}\n") and json.loads(ln)["step"] <= step]
        write_whole(file, "".join(kept).encode())

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        with whole_file(self.path / name) as stream:
            torch.save(content, stream)


def _best_name(step: int) -> str:
    return f"best-{step:06d}.pt"


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Trained parameters and the buffers beside them; a frozen part is not in a checkpoint."""
    wanted = {n for n, p in model.named_parameters() if p.requires_grad}
    wanted |= {n for n, _ in model.named_buffers()}
    return {k: v for k, v in model.state_dict().items() if k in wanted}


def load_trained(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """The inverse of :func:`trained_state`; raises BadRequest for weights of another model."""
    absent, unexpected = model.load_state_dict(saved, strict=False)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    if unexpected or trained & set(absent):
        raise BadRequest("The checkpoint belongs to another model.", code="other_run")
