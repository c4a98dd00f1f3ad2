"""The number of threads of torch, chosen separately for encoders and language models.

A network of some megabytes makes a token of hundreds of products that take microseconds each, and
threads meet after every one: they gain nothing, and where another process takes one of the cores,
each meeting waits for a time slice (a report of 0.5 s then took 4.5 s).

``torch.set_num_threads`` sets the number of the thread that calls it, and that with which later
threads begin; so the number is set where something is computed, not once at the start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rad3d.core.cores import free_cores

SMALL_BYTES = 2**28
"""Language models whose weights take less compute with one thread."""

CHOSEN_ELSEWHERE = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that torch itself follows; where one is set, nothing is chosen here."""


class Threads:
    """The choice for one process.

    Args:
        asked: threads for everything, as a person set them; 0 chooses.
    """

    def __init__(self, asked: int = 0) -> None:
        self._asked = asked
        if asked:
            torch.set_num_threads(asked)

    def for_encoder(self) -> int:
        """Threads for an encoder: as many as cores are free now, since its products are large."""
        return self._chosen() or free_cores()

    def for_language(self, nbytes: int) -> int:
        """1 for a small model, or as many as cores are free now.

        Args:
            nbytes: memory of its weights.
        """
        return self._chosen() or (1 if nbytes < SMALL_BYTES else free_cores())

    def _chosen(self) -> int:
        """The number that a person chose; 0 where nobody did."""
        # "7500m", as some hosts set it, is no number to torch either.
        first = (os.environ.get(name, "").partition(",")[0] for name in CHOSEN_ELSEWHERE)
        if self._asked or not any(text.strip().isdigit() for text in first):
            return self._asked
        return torch.get_num_threads()


@contextmanager
def computing(threads: int) -> Iterator[None]:
    """Within it, the calling thread computes with ``threads`` threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
