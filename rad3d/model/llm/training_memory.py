"""Checks that a training step fits into a machine's memory, and names options that would."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import PreTrainedConfig

from rad3d.core.errors import BadRequest
from rad3d.core.language_models import PRECISIONS, weight_bytes
from rad3d.core.modes import MODES
from rad3d.core.words import byte_text
from rad3d.model.llm.architectures import count, meta_model
from rad3d.model.llm.cost import Cost, Workload, estimate
from rad3d.model.llm.precision import Machine

SHARE = 0.95
"""Maximum share of free memory for a training step."""


def _fits(nbytes: int, machine: Machine) -> bool:
    return not machine.free_bytes or nbytes <= SHARE * machine.free_bytes


def check_training(
    config: PreTrainedConfig,
    mode: str,
    precision: str,
    load: Workload,
    machine: Machine,
    accumulate: int = 1,
) -> Cost:
    """Count the cost of a training step and check that this machine has the memory.

    Args:
        config, mode, precision, load: as for :func:`estimate`.
        machine: where.
        accumulate: batches of a step, for the remedy.

    Raises:
        BadRequest: it does not fit; the remedy names what would.
    """
    needed = estimate(config, mode, precision, load)
    if _fits(needed.training, machine):
        return needed
    options = _Remedies(config, mode, machine, accumulate).of(precision, load)
    remedy = f"{', or '.join(options)} would fit" if options else "Choose a smaller model"
    raise BadRequest(
        f"A training step with {load.batch_size} reports of up to {load.report_tokens} tokens at "
        f"once takes {byte_text(needed.training)}, and {byte_text(machine.free_bytes)} are free "
        f"on {machine.name}.",
        f"{remedy}; --force tries it all the same.",
        code="model_too_large",
    )


class _Remedies:
    """Options of ``rad3d train`` that would fit where a training step does not.

    Counting takes seconds for a large model, so what differs in the weights' precision only is
    counted once, and batches between one pair and the whole batch follow from these two.
    """

    def __init__(
        self, config: PreTrainedConfig, mode: str, machine: Machine, accumulate: int
    ) -> None:
        self.config, self.mode = config, mode
        self.machine, self.accumulate = machine, accumulate
        self.size = count(meta_model(config))
        self._counted: dict[Any, Cost] = {}

    def of(self, precision: str, load: Workload) -> list[str]:
        """Each change that is enough by itself; or else the first combination that is."""
        again = replace(load, checkpointing=True)
        options = [self._smaller(precision, load)]
        if not load.checkpointing and self._room(precision, again):
            options.append("--gradient-checkpointing")
        lower = [] if MODES[self.mode].trains_llm else _below(precision, self.machine)
        options += [f"--llm-precision {p}" for p in lower[:1] if self._room(p, load)]
        if any(options):
            return [option for option in options if option]
        for candidate in (precision, *lower):
            if batch := self._smaller(candidate, again):
                changed = f"--llm-precision {candidate} " if candidate != precision else ""
                return [f"{changed}--gradient-checkpointing {batch}"]
        one = replace(again, batch_size=1)
        frozen = MODES[self.mode].trains_llm and self._room(precision, one, "v2")
        return ["--mode v2 --gradient-checkpointing --batch-size 1"] if frozen else []

    def _smaller(self, precision: str, load: Workload) -> str:
        """The options of the largest smaller batch; empty where even one pair is too much."""
        whole = self._bytes(precision, load)
        one = self._bytes(precision, replace(load, batch_size=1))
        each = (whole - one) / max(load.batch_size - 1, 1)
        sizes = [load.batch_size // 2**i for i in range(1, load.batch_size.bit_length())]
        fitting = (n for n in sizes if _fits(int(one + each * (n - 1)), self.machine))
        size = next(fitting, 0)
        together = load.batch_size * self.accumulate
        return f"--batch-size {size} --accumulate {-(-together // size)}" if size else ""

    def _room(self, precision: str, load: Workload, mode: str = "") -> bool:
        return _fits(self._bytes(precision, load, mode), self.machine)

    def _bytes(self, precision: str, load: Workload, mode: str = "") -> int:
        """Memory of a training step in bytes."""
        mode = mode or self.mode
        base = "float32" if precision == "float32" else "bf16"
        if (base, load, mode) not in self._counted:
            self._counted[base, load, mode] = estimate(self.config, mode, base, load)
        total, linear = self.size.total, self.size.linear
        trained = MODES[mode].trains_llm  # then the weights are in float32 in any case
        less = weight_bytes(total, linear, base) - weight_bytes(total, linear, precision)
        return self._counted[base, load, mode].training - (0 if trained else less)


def _below(precision: str, machine: Machine) -> list[str]:
    """Precisions with smaller weights, the more exact first."""
    names = [p for p in PRECISIONS if p != "float16"]
    lower = names[names.index(precision) + 1 :] if precision in names else []
    return [p for p in lower if machine.quantises or not PRECISIONS[p].quantised]
