"""Tells whether a processor gains from bf16, by its features and a short measurement."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional as F

from rad3d.model.threads import computing

FASTER = 1.2
"""Gain from which bf16 counts as faster on a processor."""

MOMENT_SHAPE, MOMENT_ROUNDS = (512, 512, 2752), 4
"""Rows, inputs and outputs of the product that is timed, and how often: 0.1 s in all."""


def processor_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """True where the processor multiplies in bf16 (AVX-512 BF16, AMX, or ARM's BF16)."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    flags = set(next(lines, "").split())
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


@cache
def bf16_gain() -> float:
    """The speed of matrix products in bf16 over float32 on this processor; 0 without bf16.

    Measured once for a moment, on a layer of CT-CLIP and one core, by the processor time of the
    calling thread, which other work on the machine changes little. Some processors that name bf16
    among their features take longer in it.
    """
    if not processor_has_bf16():
        return 0.0
    x, weight = torch.ones(MOMENT_SHAPE[:2]), torch.ones(MOMENT_SHAPE[2], MOMENT_SHAPE[1])
    half = weight.bfloat16()
    least = [float("inf")] * 2
    with computing(1), torch.inference_mode():
        for _ in range(MOMENT_ROUNDS):
            for side in (0, 1):
                began = time.thread_time()
                if side:
                    F.linear(x.bfloat16(), half).float()
                else:
                    F.linear(x, weight)
                least[side] = min(least[side], time.thread_time() - began)
    return least[0] / max(least[1], 1e-9)
