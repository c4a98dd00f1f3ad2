"""Choose the device and precision of a language model for a machine, and say why.

The order of preference: float32 for small models, since less would gain nothing; bf16 where the
device computes in it; then 8 bit and 4 bit, by what fits into the memory that is free. Running out
of memory later is turned into a sentence with a smaller option (:func:`out_of_memory`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil
import torch

from rad3d.core.errors import BadRequest, Rad3dError
from rad3d.core.language_models import LANGUAGE_MODELS, PRECISIONS, weight_bytes
from rad3d.core.lookup import lookup
from rad3d.core.words import byte_text, capitalised
from rad3d.model.llm.architectures import Size
from rad3d.model.llm.bf16 import FASTER, bf16_gain

AUTO = "auto"

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "8bit": torch.bfloat16,
    "4bit": torch.bfloat16,
}
"""Precision -> dtype of what is not quantised, and of the computation."""

SMALL_BYTES = 2**30
"""Up to this much in float32, a model is loaded in float32."""

SLACK = 1.1
"""Loading and the allocator take up to a tenth more than the weights."""

WORKING_BYTES = 2**28
"""Memory for the key-value cache and the computation, on top of the weights."""


@dataclass(frozen=True)
class Machine:
    """A processor or GPU that a model can run on.

    Attributes:
        device: such as ``"cpu"`` or ``"cuda"``.
        name: for people.
        free_bytes: memory that can be used now; 0 where the system does not say.
        native_bf16: True where it computes in bf16 faster than in float32.
        quantises: True where bitsandbytes is there for 8 bit and 4 bit.
        bf16_gain: of a processor, how many times as fast as in float32 (:func:`bf16_gain`); 0 where
            that was not measured.
    """

    device: str
    name: str
    free_bytes: int
    native_bf16: bool
    quantises: bool
    bf16_gain: float = 0.0


@dataclass(frozen=True)
class Choice:
    """The device and precision in which a model is loaded.

    Attributes:
        device, precision: where and how.
        nbytes: memory of the weights.
        reason: one sentence for people.
    """

    device: str
    precision: str
    nbytes: int
    reason: str


def inspect_machine(device: str = AUTO) -> Machine:
    """This machine, seen from a torch device; ``"auto"`` is a GPU with CUDA, or else the CPU.

    Raises:
        BadRequest: there is no such device here.
    """
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == AUTO else device
    try:
        target = torch.device(kind)
    except RuntimeError:
        raise BadRequest(
            f"There is no device called {device!r}.", "Use auto, cpu or cuda.", code="bad_device"
        ) from None
    quantises = find_spec("bitsandbytes") is not None
    if target.type == "cpu":
        gain = bf16_gain()
        return Machine(
            "cpu", "the processor", available_memory(), gain >= FASTER, quantises, bf16_gain=gain
        )
    if target.type == "mps" and torch.backends.mps.is_available():
        return Machine("mps", "the Apple GPU", available_memory(), True, False)
    count = torch.cuda.device_count() if target.type == "cuda" else 0
    if (target.index or 0) >= count:
        raise BadRequest(
            f"This machine has no device {kind}.", "Set RAD3D_DEVICE=cpu.", code="bad_device"
        )
    free, _ = torch.cuda.mem_get_info(target)
    native = torch.cuda.get_device_capability(target) >= (8, 0)
    return Machine(kind, torch.cuda.get_device_name(target), int(free), native, quantises)


def choose(
    name: str, size: Size, machine: Machine, precision: str = AUTO, limit: int | None = None
) -> Choice:
    """Precision of one model on one machine.

    Args:
        name: of the model, for the sentences.
        size: its parameters.
        machine: where it will run.
        precision: ``"auto"``, or the one of ``PRECISIONS`` that was asked for.
        limit: bytes that weights may take at most; None is no limit.

    Raises:
        UnknownName: no such precision.
        BadRequest: nothing fits, or not what was asked for; the remedy names what does.
    """
    preferred = _preferred(size, machine)
    if precision != AUTO:
        lookup("precision", {AUTO: None, **PRECISIONS}, precision)
        if PRECISIONS[precision].quantised and not machine.quantises:
            raise BadRequest(
                f"{precision} needs bitsandbytes, which is not here for {machine.name}.",
                "pip install bitsandbytes, or choose bf16.",
                code="no_bitsandbytes",
            )
        if PRECISIONS[precision].quantised and not size.linear:
            raise cannot_shrink(name, precision)
    asked = (precision,) if precision != AUTO else preferred
    for candidate in asked:
        nbytes = weight_bytes(size.total, size.linear, candidate)
        if _fits(nbytes, machine, limit):
            reason = _reason(candidate, size, machine, limit, asked_for=precision != AUTO)
            return Choice(machine.device, candidate, nbytes, reason)
    raise _too_large(name, size, machine, limit, asked[-1], preferred)


def cannot_shrink(name: str, precision: str) -> BadRequest:
    """The error for families without linear layers that bitsandbytes can quantise."""
    return BadRequest(
        f"{name} has no layers that {precision} makes smaller.",
        "Choose bf16 or float16, or another model.",
        code="unusable_model",
    )


def _preferred(size: Size, machine: Machine) -> tuple[str, ...]:
    """Precisions to try in turn."""
    quantised = ("8bit", "4bit") if machine.quantises and size.linear else ()
    if weight_bytes(size.total, size.linear, "float32") <= SMALL_BYTES:
        return ("float32", "bf16", *quantised)
    if machine.native_bf16:
        return ("bf16", *quantised)
    if machine.device == "cpu":
        return ("float32", "bf16", *quantised)
    return ("float16", *quantised)


def _fits(nbytes: int, machine: Machine, limit: int | None) -> bool:
    if limit is not None and nbytes > limit:
        return False
    return not machine.free_bytes or nbytes * SLACK + WORKING_BYTES <= machine.free_bytes


def _reason(chosen: str, size: Size, machine: Machine, limit: int | None, asked_for: bool) -> str:
    nbytes = weight_bytes(size.total, size.linear, chosen)
    head = f"{chosen} on {machine.name}, {byte_text(nbytes)} of weights"
    if asked_for:
        return f"{head}: asked for."
    preferred = _preferred(size, machine)
    if chosen != preferred[0]:
        larger = preferred[preferred.index(chosen) - 1]
        need = byte_text(weight_bytes(size.total, size.linear, larger))
        room = byte_text(min(b for b in (machine.free_bytes, limit) if b))
        return f"{head}: {larger} would take {need}, and there is room for {room}."
    if chosen == "float32" and nbytes <= SMALL_BYTES:
        return f"{head}: a small model gains nothing from less."
    if chosen == "float32":
        if not machine.bf16_gain:
            return f"{head}: it fits, and this processor has no bf16."
        return f"{head}: it fits, and bf16 is {machine.bf16_gain:.1f} times as fast here."
    if chosen == "float16":
        return f"{head}: half of float32, and this GPU does not compute in bf16."
    fast = f" {machine.bf16_gain:.1f} times as fast" if machine.bf16_gain else ""
    return f"{head}: half of float32, and the device computes in it{fast}."


def _too_large(
    name: str,
    size: Size,
    machine: Machine,
    limit: int | None,
    tried: str,
    preferred: tuple[str, ...],
) -> BadRequest:
    """The refusal: what is needed, what there is, and what would fit."""
    nbytes = weight_bytes(size.total, size.linear, tried)
    limited = limit is not None and nbytes > limit
    room = limit if limited and limit is not None else machine.free_bytes
    others = [
        p for p in preferred if _fits(weight_bytes(size.total, size.linear, p), machine, limit)
    ]
    usable = room if limited else (room - WORKING_BYTES) / SLACK
    smaller = f"the precision {others[0]}" if others else smaller_option(usable, preferred[-1])
    return BadRequest(
        f"{name} needs {byte_text(nbytes)} in {tried}, "
        + (
            f"more than the {byte_text(room)} that models may use here."
            if limited
            else f"and {byte_text(room)} are free on {machine.name}."
        ),
        f"Choose {smaller}"
        + (", or raise RAD3D_MODEL_CACHE_MB." if limited else ", or free memory."),
        code="model_too_large",
    )


def smaller_option(room: float, precision: str = "4bit") -> str:
    """The largest listed model whose weights take at most ``room`` bytes, or a shipped one."""
    rows = [row for row in LANGUAGE_MODELS.values() if 0 < row.memory_bytes(precision) <= room]
    if not rows:
        return "a shipped model, such as phantom-s"
    best = max(rows, key=lambda row: row.parameters)
    need = byte_text(best.memory_bytes(precision))
    return f"a smaller model, such as {best.name} ({need} in {precision})"


def is_out_of_memory(error: BaseException) -> bool:
    """True for what torch and Python raise when memory is short, on a CPU or a GPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "allocate memory" in text or "out of memory" in text
    )


def out_of_memory(doing: str, precision: str = "", nbytes: int = 0) -> Rad3dError:
    """The error for running out of memory, with a smaller option.

    Args:
        doing: such as ``"write the report"``.
        precision: of the language model, where one is loaded.
        nbytes: memory of its weights.
    """
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # what the failed attempt took, for whoever comes next
    if precision:
        lower = _lower(precision)
        options = [f"set RAD3D_PRECISION={lower}"] if lower else []
        options.append(f"choose {smaller_option(0.7 * nbytes, precision)}")
        options.append("use fewer beams or a shorter report")
    else:
        options = ["choose a smaller model", "set a lower RAD3D_PRECISION", "free memory"]
    text = ", or ".join(options)
    return Rad3dError(
        f"There is not enough memory to {doing}.",
        f"{capitalised(text)}.",
        code="out_of_memory",
    )


def _lower(precision: str) -> str:
    """The next precision with smaller weights that can be had here; empty where there is none."""
    smaller = {"float32": "bf16", "bf16": "8bit", "float16": "8bit", "8bit": "4bit"}
    lower = smaller.get(precision, "")
    return lower if lower == "bf16" or find_spec("bitsandbytes") else ""


def available_memory() -> int:
    """Bytes that this process may still take: the system's, or its control group's if less."""
    free = [psutil.virtual_memory().available, *(_room(*group) for group in _CGROUPS)]
    return min(value for value in free if value > 0)


def total_memory() -> int:
    """Bytes of main memory, or of the process's control group if less."""
    total = [psutil.virtual_memory().total, *(_number(top / most) for top, most, _, _ in _CGROUPS)]
    return min(value for value in total if value > 0)


_CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (
        Path("/sys/fs/cgroup/memory"),
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)
"""Versions 2 and 1: mount point, limit, use, and the cached files in it that count as free. Inside
a container the mount is its own group."""

_UNLIMITED = 2**60


def _room(group: Path, most: str, used: str, cached: str) -> int:
    limit = _number(group / most)
    if not limit:
        return 0
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        lines = []
    files = next((int(line.split()[1]) for line in lines if line.startswith(f"{cached} ")), 0)
    return max(limit - _number(group / used) + files, 1)


def _number(path: Path) -> int:
    """A limit in bytes, 0 where there is none."""
    try:
        value = int(path.read_text())
    except (OSError, ValueError):
        return 0
    return value if value < _UNLIMITED else 0


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name and cores of the processor, such as ``"AMD EPYC, 2 cores"``."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, 'processor')}, {os.cpu_count()} cores"
