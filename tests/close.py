"""Comparison of computed numbers that holds on every processor.

Processors, instruction sets and thread counts differ in the last bits of float32, and a sum of many
terms differs by more the larger the terms are: so what is allowed is a share of the values' scale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

ROUNDING = 1e-4
"""Largest difference between two ways of computing one float32 result, as a share of its scale."""


def assert_near(
    found: ArrayLike, expected: ArrayLike, share: float = ROUNDING, name: str = ""
) -> None:
    """The largest difference is at most ``share`` of the largest expected magnitude.

    Args:
        found: what was computed, of the shape of ``expected``; a tensor needs no gradient.
        expected: what it should be.
        share: allowed difference, relative to the largest magnitude in ``expected``.
        name: what is compared, for the message.
    """
    one, other = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert one.shape == other.shape, f"{name}: shape {one.shape}, expected {other.shape}"
    scale = float(np.abs(other).max(initial=0.0))
    difference = float(np.abs(one - other).max(initial=0.0))
    assert difference <= share * scale, (
        f"{name}: differs by {difference:.3g}, {difference / max(scale, 1e-30):.2g} of the scale "
        f"{scale:.3g}; allowed is {share:.2g}"
    )
