"""Threads of torch: by size, never more than the cores that are free, and as set where set."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_models import CountingEncoder, FakeEncoderStore, save_shipped, volume

from rad3d.core import cores
from rad3d.core.cores import free_cores, usable_cores
from rad3d.core.settings import Settings
from rad3d.core.types import GenerationOptions
from rad3d.model import engine as engine_module
from rad3d.model import threads as threads_module
from rad3d.model.engine import Engine
from rad3d.model.prefix_input import PrefixInput
from rad3d.model.threads import SMALL_BYTES, Threads, computing

V3 = "phantom-s/v3"
OPTIONS = GenerationOptions(max_new_tokens=4)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in threads_module.CHOSEN_ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# Cores


def group(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "350000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu.max": "nonsense"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
    ],
)
def test_the_share_of_a_container_counts(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_cores(group(tmp_path, files)) == expected


@pytest.mark.parametrize(("running", "expected"), [(1, 4), (2, 3), (3, 2), (4, 1), (50, 1)])
def test_cores_that_others_keep_busy_are_not_free(
    running: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = tmp_path / "stat"
    stat.write_text(f"cpu  1 2 3\nctxt 5\nprocs_running {running}\nprocs_blocked 0\n")
    monkeypatch.setattr(cores, "usable_cores", lambda: 4)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert free_cores(stat) == expected


def test_on_a_large_host_a_container_is_given_its_share_while_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = tmp_path / "stat"
    stat.write_text("procs_running 40\n")
    monkeypatch.setattr(cores, "usable_cores", lambda: 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert free_cores(stat) == 2


def test_where_the_system_does_not_say_all_usable_cores_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "usable_cores", lambda: 3)
    assert free_cores(tmp_path / "stat") == 3


# The choice


@pytest.fixture
def four_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "free_cores", lambda: 4)


@pytest.mark.usefixtures("four_free")
def test_a_small_language_model_has_one_thread_and_what_is_large_the_free_cores() -> None:
    threads = Threads()
    assert threads.for_language(11_000_000) == 1
    assert threads.for_language(SMALL_BYTES) == threads.for_encoder() == 4


@pytest.mark.usefixtures("four_free")
def test_what_a_person_sets_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert (Threads().for_language(1), Threads().for_encoder()) == (2, 2)
    asked = Threads(3)
    assert (asked.for_language(1), asked.for_encoder()) == (3, 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "7500m")
    assert Threads().for_encoder() == 4, "no number: torch does not follow it either"


def test_the_number_is_that_of_the_thread_that_computes() -> None:
    torch.set_num_threads(2)
    seen = {}

    def compute(count: int, meet: threading.Barrier) -> None:
        with computing(count):
            meet.wait(30)
            torch.ones(8) + 1
            seen[count] = torch.get_num_threads()

    meet = threading.Barrier(2)
    workers = [threading.Thread(target=compute, args=(n, meet)) for n in (1, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert seen == {1: 1, 3: 3}
    assert torch.get_num_threads() == 2


# In force


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    save_shipped(tmp_path)
    monkeypatch.setattr(threads_module, "free_cores", lambda: 3)
    return Engine(FakeEncoderStore(Settings(models_dir=tmp_path), CountingEncoder()))


@pytest.mark.slow
@pytest.mark.parametrize("asked", [0, 2])
def test_scan_encoder_and_language_model_compute_with_the_number_that_was_chosen(
    engine: Engine, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.store.threads = Threads(asked)
    seen: dict[str, set[int]] = {}

    def watch(owner: object, name: str, what: str) -> None:
        original = getattr(owner, name)

        def watched(*args: object, **kwargs: object) -> object:
            seen.setdefault(what, set()).add(torch.get_num_threads())
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    watch(engine_module, "to_grid", "scan")
    watch(engine.store.encoder(""), "encode", "encoder")
    watch(engine.store.variant(V3).llm, "forward", "language model")
    events = engine.stream(volume(), V3, OPTIONS)
    while True:  # each step in a thread of its own, as the app's server does it
        found: list[object] = []
        step = threading.Thread(target=lambda: found.append(next(events, None)))  # noqa: B023
        step.start()
        step.join()
        if found == [None]:
            break
    pooled = engine.features(volume()).pooled
    logits = engine.diagnose(engine.features(volume())).logits
    list(engine.generate_batches([PrefixInput(pooled, logits)], V3, OPTIONS))
    large, small = (asked, asked) if asked else (3, 1)
    assert seen == {"scan": {large}, "encoder": {large}, "language model": {small}}


def test_threads_that_wait_sleep_unless_a_person_says_otherwise() -> None:
    show = "import os, rad3d.model; print(os.environ['OMP_WAIT_POLICY'])"
    for given, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        plain = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
        done = subprocess.run(
            [sys.executable, "-c", show], env=plain | given, capture_output=True, text=True
        )
        assert done.stdout.strip() == expected
