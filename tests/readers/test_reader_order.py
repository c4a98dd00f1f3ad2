"""The order in which readers get cases and reports is balanced and drawn."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from rad3d.readers.order import screens_of, williams_rows


@pytest.mark.parametrize("n", [2, 3, 4])
def test_every_system_stands_at_every_place_and_follows_every_other_equally_often(n: int) -> None:
    rows = williams_rows(n)
    places = Counter((place, each) for row in rows for place, each in enumerate(row))
    follows = Counter(pair for row in rows for pair in pairwise(row))
    assert len(places) == n * n
    assert len(follows) == n * (n - 1)
    assert len(set(places.values())) == len(set(follows.values())) == 1


@pytest.mark.parametrize(("systems", "per_case"), [(2, 1), (2, 2), (3, 2), (3, 3), (4, 2), (4, 4)])
def test_systems_are_read_equally_often_by_a_reader_and_on_a_case(
    systems: int, per_case: int
) -> None:
    cases = readers = 12
    screens = {r: screens_of(7, r, cases, systems, per_case) for r in range(1, readers + 1)}
    for of_reader in screens.values():
        for slot in range(per_case):
            counts = Counter(s.system for s in of_reader if s.slot == slot)
            assert counts == dict.fromkeys(range(systems), cases // systems)
    for case in range(cases):
        counts = Counter(s.system for each in screens.values() for s in each if s.case == case)
        assert counts == dict.fromkeys(range(systems), readers * per_case // systems)


def test_a_reader_reads_each_case_once_without_a_pause_and_no_report_twice() -> None:
    screens = screens_of(0, 3, cases=10, systems=3, per_case=2)
    assert [s.position for s in screens] == list(range(20))
    assert [s.slot for s in screens] == [0, 1] * 10
    assert all(a.case == b.case for a, b in zip(screens[::2], screens[1::2], strict=True))
    assert len({(s.case, s.system) for s in screens}) == 20


def test_orders_follow_from_the_seed_and_differ_between_readers_and_seeds() -> None:
    order = [s.case for s in screens_of(0, 1, 20, 2, 1)]
    assert order == [s.case for s in screens_of(0, 1, 20, 2, 1)]
    assert order != [s.case for s in screens_of(0, 2, 20, 2, 1)]
    assert order != [s.case for s in screens_of(1, 1, 20, 2, 1)]
