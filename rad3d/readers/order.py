"""The order in which a reader gets cases and reports: drawn from the seed, and balanced.

Within a case the systems follow a row of a Williams design (Williams 1949): over all rows every
system stands at every place equally often, and follows every other one equally often. Case ``c``
of reader ``r`` takes row ``c + r``, so that a reader sees every row equally often, and so does a
case over the readers. Which system has which letter of the design is drawn for each study. The
cases come in an order that is drawn for each reader.
"""

from __future__ import annotations

import random

from rad3d.readers.types import Screen


def williams_rows(n: int) -> list[list[int]]:
    """Return the rows of a Williams design for ``n`` systems: ``n`` where that is even, else 2n."""
    zigzag = [0]
    for step in range(1, n):
        zigzag.append((zigzag[-1] + (step if step % 2 else -step)) % n)
    rows = [[(each + start) % n for each in zigzag] for start in range(n)]
    return rows if n % 2 == 0 else rows + [row[::-1] for row in rows]


def screens_of(seed: int, reader: int, cases: int, systems: int, per_case: int) -> list[Screen]:
    """Return everything that a reader is asked to read, in order.

    Args:
        seed: of the study.
        reader: from 1.
        cases, systems: how many there are.
        per_case: reports on each scan.
    """
    rows = williams_rows(systems)
    names = list(range(systems))
    random.Random(f"systems {seed}").shuffle(names)
    random.Random(f"rows {seed}").shuffle(rows)
    order = list(range(cases))
    random.Random(f"cases {seed} {reader}").shuffle(order)
    return [
        Screen(place * per_case + slot, case, slot, names[letter])
        for place, case in enumerate(order)
        for slot, letter in enumerate(rows[(case + reader) % len(rows)][:per_case])
    ]
