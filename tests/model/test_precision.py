"""Device and precision: what is chosen, why, and what a person reads when nothing fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.model.llm import bf16, precision
from rad3d.model.llm.architectures import Size
from rad3d.model.llm.bf16 import bf16_gain, processor_has_bf16
from rad3d.model.llm.precision import (
    Machine,
    available_memory,
    choose,
    inspect_machine,
    is_out_of_memory,
    out_of_memory,
    total_memory,
)

GB = 10**9
CPU = Machine("cpu", "the processor", 64 * GB, native_bf16=True, quantises=True)
GPU = Machine("cuda", "NVIDIA T4", 15 * GB, native_bf16=False, quantises=True)
SMALL = Size(5_000_000, 4_000_000)


def size(name: str) -> Size:
    row = LANGUAGE_MODELS[name]
    return Size(row.parameters, row.linear_parameters)


@pytest.mark.parametrize(
    ("model", "machine", "expected", "said"),
    [
        (SMALL, CPU, "float32", "a small model gains nothing from less"),
        (size("llama-3.2-1b"), CPU, "bf16", "the device computes in it"),
        (size("llama-3.2-1b"), replace(CPU, native_bf16=False), "float32", "has no bf16"),
        (size("llama-3.2-1b"), replace(CPU, bf16_gain=3.3), "bf16", "computes in it 3.3 times"),
        (
            size("llama-3.2-1b"),
            replace(CPU, native_bf16=False, bf16_gain=0.6),
            "float32",
            "bf16 is 0.6 times as fast here",
        ),
        (size("llama-3.2-1b"), GPU, "float16", "does not compute in bf16"),
        (size("llama-3.2-1b"), replace(GPU, native_bf16=True), "bf16", "computes in it"),
        (size("deepseek-r1-8b"), CPU, "bf16", "16.1 GB of weights"),
        (
            size("deepseek-r1-8b"),
            replace(CPU, free_bytes=12 * GB),
            "8bit",
            "bf16 would take 16.1 GB, and there is room for 12.0 GB",
        ),
        (size("deepseek-r1-8b"), replace(CPU, free_bytes=7 * GB), "4bit", "8bit would take 9.1 GB"),
        (size("deepseek-r1-8b"), replace(GPU, free_bytes=0), "float16", "16.1 GB"),
    ],
)
def test_the_most_exact_precision_that_fits_is_chosen_and_the_reason_said(
    model: Size, machine: Machine, expected: str, said: str
) -> None:
    choice = choose("It", model, machine)
    assert (choice.precision, choice.device) == (expected, machine.device)
    assert choice.reason.startswith(f"{expected} on {machine.name}")
    assert said in choice.reason


def test_a_limit_on_models_counts_as_memory_does() -> None:
    choice = choose("It", size("llama-3.2-1b"), CPU, limit=2 * GB)
    assert choice.precision == "8bit"
    assert "room for 2.0 GB" in choice.reason


def test_a_person_may_ask_for_another_precision() -> None:
    choice = choose("It", size("llama-3.2-1b"), CPU, "4bit")
    assert choice.precision == "4bit"
    assert choice.reason.endswith("asked for.")
    with pytest.raises(UnknownName, match="auto, float32, bf16"):
        choose("It", SMALL, CPU, "int3")
    with pytest.raises(BadRequest, match="bitsandbytes"):
        choose("It", SMALL, replace(CPU, quantises=False), "8bit")


def test_a_model_that_quantisation_leaves_as_it_is_is_not_called_quantised() -> None:
    odd = Size(4 * GB, 0)
    with pytest.raises(BadRequest, match="no layers that 8bit makes smaller"):
        choose("It", odd, CPU, "8bit")
    with pytest.raises(BadRequest, match=r"8\.0 GB in bf16, and 7\.0 GB are free"):
        choose("It", odd, replace(CPU, free_bytes=7 * GB))


@pytest.mark.parametrize(
    ("machine", "asked", "limit", "said"),
    [
        (
            replace(CPU, free_bytes=4 * GB), "auto", None,
            r"needs 5\.7 GB in 4bit, and 4\.0 GB are free.*smaller model, such as SmolLM2 1\.7B",
        ),
        (CPU, "auto", 4 * GB, r"4\.0 GB that models may use here.*raise RAD3D_MODEL_CACHE_MB"),
        (replace(CPU, free_bytes=20 * GB), "float32", None, r"32\.1 GB.*the precision bf16"),
        (replace(CPU, free_bytes=4 * GB, quantises=False), "auto", None, "such as BioGPT-Large"),
        (replace(CPU, free_bytes=10**8), "auto", None, "shipped model, such as phantom-s"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_would(
    machine: Machine, asked: str, limit: int | None, said: str
) -> None:
    with pytest.raises(BadRequest, match=said) as caught:
        choose("DeepSeek", size("deepseek-r1-8b"), machine, asked, limit)
    assert caught.value.code == "model_too_large"


def test_a_device_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert inspect_machine("auto").device == "cpu"
    with pytest.raises(BadRequest, match=r"no device cuda.*RAD3D_DEVICE=cpu"):
        inspect_machine("cuda")
    with pytest.raises(BadRequest, match="no device called 'gpu'"):
        inspect_machine("gpu")


def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (20 * GB, 24 * GB))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    machine = inspect_machine()
    assert (machine.device, machine.name, machine.free_bytes) == ("cuda", "A GPU", 20 * GB)
    assert machine.native_bf16
    assert inspect_machine("cpu").device == "cpu"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("flags\t: fpu avx512f avx512_bf16", True), ("flags : fpu avx2", False),
     ("Features : fp asimd bf16 i8mm", True), ("", False)],
)  # fmt: skip
def test_bf16_is_read_from_the_processors_flags(tmp_path: Path, flags: str, expected: bool) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor : 0\n{flags}\n")
    assert processor_has_bf16(path) is expected
    assert processor_has_bf16(tmp_path / "absent") is False


@pytest.mark.parametrize(
    ("gain", "native"), [(0.0, False), (0.6, False), (1.1, False), (3.3, True)]
)
def test_a_processor_computes_in_bf16_only_where_that_was_measured_to_be_faster(
    gain: float, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "bf16_gain", lambda: gain)
    assert inspect_machine("cpu").native_bf16 is native


def test_the_gain_is_that_of_the_product_and_nothing_without_bf16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([0.0, 6.0, 10.0, 12.0] * bf16.MOMENT_ROUNDS)
    monkeypatch.setattr(bf16.time, "thread_time", lambda: next(clock))
    monkeypatch.setattr(bf16, "processor_has_bf16", lambda: True)
    assert bf16_gain.__wrapped__() == 3.0
    monkeypatch.setattr(bf16, "processor_has_bf16", lambda: False)
    assert bf16_gain.__wrapped__() == 0.0


def test_free_memory_is_the_containers_where_that_is_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 200000\n")
    group = (tmp_path, "memory.max", "memory.current", "inactive_file")
    monkeypatch.setattr(precision, "_CGROUPS", (group,))
    assert available_memory() == 500_000, "cached files can be dropped"
    assert total_memory() == 1_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory() > 10**8


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 bytes"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_only_running_out_of_memory_counts_as_that(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_cpu_allocation_that_is_too_large_counts() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_running_out_of_memory_names_a_lower_precision_and_a_smaller_model() -> None:
    said = str(out_of_memory("write the report", "bf16", 2_471_628_800))
    assert "RAD3D_PRECISION=8bit" in said
    assert "such as GPT-2 Large (1.5 GB in bf16)" in said
    assert "RAD3D_PRECISION" not in str(out_of_memory("write the report", "4bit", 10**9))
    assert "smaller model" in str(out_of_memory("encode the scan"))
    assert "beams" not in str(out_of_memory("load the model")), "nothing is written yet"


def test_a_precision_that_cannot_be_had_is_not_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "find_spec", lambda name: None)
    assert "RAD3D_PRECISION" not in str(out_of_memory("write the report", "bf16", 10**9))
    assert "RAD3D_PRECISION=bf16" in str(out_of_memory("write the report", "float32", 10**9))
