"""Training as processes: killed at any moment, and several at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_train_files import features, table
from tiny_models import save_language, save_shipped, tiny_language

from rad3d.core.language_models import language_model
from rad3d.model.variants.variant import VariantConfig, variant_directory

pytestmark = pytest.mark.slow

KILLED = """
import os, signal, sys
from pathlib import Path
from rad3d import cli
from rad3d.train import loop, rundir

what, when = sys.argv[1], int(sys.argv[2])
learned, move = rundir.RunState.learned, Path.replace
count = {"step": 0, "file": 0}

def die(kind):
    count[kind] += 1
    if kind == what and count[kind] == when:
        os.kill(os.getpid(), signal.SIGKILL)

def step(state, loss):
    learned(state, loss)
    die("step")

def file(part, target):
    die("file")
    return move(part, target)

rundir.RunState.learned, Path.replace = step, file
raise SystemExit(cli.main(sys.argv[3:]))
"""
"""Runs the command line and dies at a step, or when a file was written and is not in its place."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Features, reports, a language model with dropout, and a models folder with an encoder."""
    save_shipped(tmp_path / "models", modes=("v3",))
    save_language(tiny_language("gpt2"), tmp_path / "my-gpt2")
    features(tmp_path / "f.safetensors")
    table(tmp_path / "r.csv")
    return tmp_path


def arguments(place: Path, models: str, mode: str, *more: str) -> list[str]:
    return [
        "train", "--llm", str(place / "my-gpt2"), "--mode", mode, "--features",
        str(place / "f.safetensors"), "--reports", str(place / "r.csv"), "--id-column",
        "VolumeName", "--report-column", "Findings_EN", "--steps", "8", "--layers", "1",
        "--batch-size", "2", "--validate-every", "2", "--learning-rate", "1e-2", "--device", "cpu",
        "--precision", "no", "--run-dir", str(place / f"run-{models}"), *more,
    ]  # fmt: skip


def run(place: Path, models: str, line: list[str]) -> int:
    """The exit status of a process with a models folder of its own."""
    environment = {
        **os.environ,
        "RAD3D_MODELS_DIR": str(place / models),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, *line], env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def variant(place: Path, models: str, mode: str) -> tuple[VariantConfig, dict[str, torch.Tensor]]:
    """The configuration and all weights of a variant."""
    folder = variant_directory(
        place / models, f"{language_model(str(place / 'my-gpt2')).id}/{mode}"
    )
    files = sorted(folder.rglob("*.safetensors"))
    return VariantConfig.read(folder), {
        f"{path.name}:{key}": value for path in files for key, value in load_file(path).items()
    }


def test_a_training_killed_again_and_again_ends_with_the_same_weights(place: Path) -> None:
    line = ["-c", KILLED, "never", "0", *arguments(place, "models", "v1")]
    assert run(place, "models", line) == 0
    for what, when in (("step", 3), ("step", 1), ("file", 1), ("file", 3), ("file", 4)):
        line = ["-c", KILLED, what, str(when), *arguments(place, "killed", "v1")]
        assert run(place, "killed", line) == -signal.SIGKILL
    assert run(place, "killed", ["-m", "rad3d", *arguments(place, "killed", "v1")]) == 0
    (whole, expected), (config, found) = (variant(place, m, "v1") for m in ("models", "killed"))
    assert config.training["best_step"] == whole.training["best_step"]
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_two_processes_train_as_one_that_accumulates(place: Path) -> None:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
              "-m", "rad3d"]  # fmt: skip
    assert run(place, "two", [*launch, *arguments(place, "two", "v3")]) == 0
    line = ["-m", "rad3d", *arguments(place, "one", "v3", "--accumulate", "2")]
    assert run(place, "one", line) == 0
    (two, found), (one, expected) = (variant(place, m, "v3") for m in ("two", "one"))
    assert two.training["processes"] == 2
    assert two.training["validation_loss"] == pytest.approx(one.training["validation_loss"])
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-3, rtol=1e-2, msg=name)
