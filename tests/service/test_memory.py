"""Memory that a service has freed does not stay with the process."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

import pytest
from tiny_models import CountingEncoder, FakeEncoderStore

from rad3d.core.settings import Settings
from rad3d.service.service import Service

PIECE = 100_000
"""Bytes; smaller than what glibc maps on its own, so that it lies in the area of its thread."""


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def churn(seen: list[float]) -> None:
    """Allocate 100 MB in a thread of its own and free all but the last piece."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    pieces = [libc.malloc(PIECE) for _ in range(1000)]
    for piece in pieces:
        ctypes.memset(piece, 1, PIECE)
    seen.append(resident_mb())
    for piece in pieces[:-1]:  # the last one keeps the area from shrinking by itself
        libc.free(piece)


def test_what_threads_have_freed_is_given_back_at_the_sweep(models: Path) -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("the C library is not glibc")
    settings = Settings(models_dir=models)
    service = Service(settings, FakeEncoderStore(settings, CountingEncoder()), models)
    seen: list[float] = []
    thread = threading.Thread(target=churn, args=(seen,))
    thread.start()
    thread.join()
    assert seen[0] - resident_mb() < 20, "the C library keeps it"
    service.sweep()
    assert seen[0] - resident_mb() > 80
