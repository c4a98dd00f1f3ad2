"""``app.py`` as a Space on ZeroGPU starts it, with the real package ``spaces`` but without a GPU.

Whatever that package asks of a driver does nothing here, and what it moves to the GPU in the
process that has one comes back from its packed files to the CPU. The rest is its own: CUDA as it is
feigned before a GPU is lent, packing at the launch, asking, forking, streaming, releasing.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import torch

APP = Path(__file__).resolve().parent.parent / "app.py"


def _is_in_bad_fork() -> bool:
    return False


def _restore(callback: Callable[[int], None] | None = None) -> None:
    """As ``spaces.zero.torch.packing.pack_to_cuda`` does, to the CPU."""
    for pack in patching.tensor_packs:
        packed = [one for batch in pack.batches for one in batch] + pack.big_tensors
        with Path(pack.path()).open("rb") as file:
            for tensor, size, padded in packed:
                data = bytearray(file.read(padded)[:size])
                storage = torch.frombuffer(data, dtype=torch.uint8).untyped_storage()
                real = torch.empty(0, dtype=tensor.dtype)
                real.set_(storage, 0, tensor.shape, tensor.stride())  # type: ignore[call-overload]
                for feigned in pack.fakes[tensor]:
                    feigned.data = real


if __name__ == "__main__":
    torch.version.cuda = "13.0"
    torch._C._cuda_init = lambda: None  # type: ignore[attr-defined]
    _is_in_bad_fork.__module__ = "torch.cuda"  # it is pickled by name
    torch.cuda._is_in_bad_fork = _is_in_bad_fork  # type: ignore[attr-defined]
    import spaces.zero.torch as zero
    from spaces.zero.torch import patching

    zero.init = lambda uuid: None
    zero.move = _restore
    runpy.run_path(str(APP), run_name="__main__")
