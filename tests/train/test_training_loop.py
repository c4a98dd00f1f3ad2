"""The training loop: accumulation, held-out data, and runs that are cut off."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from close import assert_near
from torch import Tensor, nn

from rad3d.train import loop, rundir
from rad3d.train.loop import LoopConfig, fit

pytestmark = pytest.mark.numeric

PLAIN = LoopConfig(12, 1e-2, warmup=2, precision="no", save_every=4)


class Dropping(nn.Module):
    """Two layers with dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def batch(number: int, size: int = 8) -> dict[str, Tensor]:
    x = torch.from_numpy(np.random.default_rng(number).normal(size=(size, 4))).float()
    return {"x": x, "y": x.sum(dim=1, keepdim=True)}


def square(model: nn.Module, data: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"loss": ((model(data["x"]) - data["y"]) ** 2).mean()}


def rows(data: dict[str, Tensor]) -> float:
    return float(len(data["x"]))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def run(
    directory: Path, config: LoopConfig = PLAIN, **more: Any
) -> tuple[nn.Module, dict[str, Any]]:
    model = Dropping().eval()  # as transformers load a language model
    facts = fit(model, batch, square, config, directory, name="x", **more)
    return model, facts


class Cut(Exception):
    """Stands for the death of the process."""


def cut_at(step: int) -> Callable[[nn.Module, int], None]:
    def stop(model: nn.Module, now: int) -> None:
        if now == step:
            raise Cut

    return stop


@pytest.mark.parametrize("step", [1, 3, 4, 11])
def test_dropout_is_the_same_in_a_resumed_run(tmp_path: Path, step: int) -> None:
    config, more = replace(PLAIN, validate_every=3), {"held_out": [batch(900)]}
    whole, _ = run(tmp_path / "whole", config, **more)
    with pytest.raises(Cut):
        run(tmp_path / "cut", config, on_step=cut_at(step), **more)
    resumed, _ = run(tmp_path / "cut", config, **more)
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("name", ["checkpoint.pt", "best-", "config.json"])
def test_a_run_that_dies_while_it_writes_a_file_goes_on(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = [batch(900)]
    config = replace(PLAIN, validate_every=3)
    whole, facts = run(tmp_path / "whole", config, held_out=held_out)
    real, count = Path.replace, []

    def die(part: Path, target: Path) -> Path:
        if target.name.startswith(name):
            count.append(target)
            if len(count) == (1 if name == "config.json" else 2):
                part.write_bytes(part.read_bytes()[:10])
                raise Cut
        return real(part, target)

    monkeypatch.setattr(rundir.Path, "replace", die)
    with pytest.raises(Cut):
        run(tmp_path / "cut", config, held_out=held_out)
    monkeypatch.undo()
    resumed, again = run(tmp_path / "cut", config, held_out=held_out)
    assert torch.equal(weights(resumed), weights(whole))
    assert again["best_step"] == facts["best_step"]


@pytest.mark.parametrize(("silent_s", "steps"), [(1e9, [12]), (0.0, list(range(1, 13)))])
def test_a_training_tells_of_its_first_step_and_is_never_silent_for_long(
    silent_s: float, steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SILENT_S", silent_s)
    told: list[str] = []
    run(tmp_path, replace(PLAIN, log_every=50), progress=lambda text, fraction: told.append(text))
    assert re.search(r"the first of 12 steps took [\d.]+ s", told[0])
    assert [int(re.findall(r"step (\d+)/12, loss", text)[0]) for text in told[1:]] == steps
    assert all(text.endswith("left") for text in told[1:])


def test_the_log_of_a_resumed_run_has_every_step_once(tmp_path: Path) -> None:
    config = replace(PLAIN, log_every=1)
    with pytest.raises(Cut):
        run(tmp_path, config, on_step=cut_at(7))
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 7, "lo')
    run(tmp_path, config)
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 13))


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    sizes = (3, 9, 4, 8)
    parts = {i: batch(100 + i, n) for i, n in enumerate(sizes * 3)}

    def whole(step: int) -> dict[str, Tensor]:
        four = [parts[4 * step + i] for i in range(4)]
        return {key: torch.cat([part[key] for part in four]) for key in ("x", "y")}

    results = []
    for name, make, accumulate in (("a", whole, 1), ("b", parts.__getitem__, 4)):
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        config = replace(PLAIN, steps=3, accumulate=accumulate, log_every=1)
        fit(model, make, lambda m, d: square(m, d), config, tmp_path / name, name=name, weigh=rows)
        results.append(weights(model))
    assert_near(results[0], results[1])
    logs = [(tmp_path / name / "log.jsonl").read_text(encoding="utf-8") for name in "ab"]
    losses = [[json.loads(line)["loss"] for line in log.splitlines()] for log in logs]
    assert_near(losses[0], losses[1])


def wrong(number: int) -> dict[str, Tensor]:
    """What is learned here is of no use there: after a while, held-out data gets worse."""
    data = batch(number)
    return {"x": data["x"], "y": data["y"] + 5}


@pytest.mark.slow
@pytest.mark.parametrize("cut", [0, 5, 9])
def test_the_best_weights_on_held_out_data_are_kept(tmp_path: Path, cut: int) -> None:
    held_out = [batch(900, 3), batch(901, 9)]
    seen: dict[int, tuple[float, Tensor]] = {}

    def look(model: nn.Module, step: int) -> None:
        model.eval()
        together = {k: torch.cat([part[k] for part in held_out]) for k in ("x", "y")}
        with torch.no_grad():
            seen[step] = square(model, together)["loss"].item(), weights(model)
        model.train()

    config = replace(PLAIN, steps=30, validate_every=2, learning_rate=5e-2)
    more: dict[str, Any] = {"name": "x", "held_out": held_out, "weigh": rows}
    if cut:
        with pytest.raises(Cut):
            fit(Dropping(), wrong, square, config, tmp_path, on_step=cut_at(cut), **more)
    model = Dropping()
    facts = fit(model, wrong, square, config, tmp_path, on_step=look, **more)
    fit(whole := Dropping(), wrong, square, config, tmp_path / "whole", **more)
    assert torch.equal(weights(model), weights(whole))
    assert 0 < facts["best_step"] < 30, "neither the first nor the last"
    if not cut:
        step = min((s for s in seen if s % 2 == 0), key=lambda s: seen[s][0])
        assert facts["best_step"] == step
        assert torch.equal(weights(model), seen[step][1])
        assert facts["validation_loss"] == pytest.approx(seen[step][0], rel=1e-4)
    assert [path.name for path in tmp_path.glob("best-*")] == [f"best-{facts['best_step']:06d}.pt"]


def test_patience_ends_a_run_that_gets_no_better(tmp_path: Path) -> None:
    config = replace(PLAIN, steps=200, validate_every=2, learning_rate=5e-2, patience=3)
    facts = fit(Dropping(), wrong, square, config, tmp_path, name="x", held_out=[batch(900)])
    assert facts["steps"] == facts["best_step"] + 6 < 200
    again = fit(Dropping(), wrong, square, config, tmp_path, name="x", held_out=[batch(900)])
    assert again["steps"] == facts["steps"], "an ended run does not go on"
